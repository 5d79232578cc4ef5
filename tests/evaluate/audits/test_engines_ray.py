"""The engine of Ray gives what the others give, whatever befalls its workers. One small session serves all tests."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from an8flower.errors import Refusal
from an8flower.evaluate.audits.engines.choose import engine_named
from an8flower.evaluate.audits.engines.inline import Inline
from an8flower.evaluate.audits.engines.task import Done, Engine, Task

if find_spec("ray") is None:  # it is not imported here: that is to be done by the engine
    pytest.skip("Ray is not installed", allow_module_level=True)
FOLDER = Path(__file__).parent


@pytest.fixture(scope="module")
def work() -> Iterator[ModuleType]:
    """The tasks, as a module that workers can import."""
    sys.path.insert(0, str(FOLDER))
    import engine_tasks

    yield engine_tasks
    sys.path.remove(str(FOLDER))


@pytest.fixture(scope="module")
def two(work: ModuleType) -> Iterator[Engine]:
    with engine_named("ray", workers=2, time_limit=40.0, memory_limit=1.5) as engine:
        yield engine


def by_name(engine: Engine, *tasks: Task) -> dict[str, Done]:
    found = {done.task.name: done for done in engine.run(tasks)}
    assert len(found) == len(tasks)
    return found


@pytest.mark.slow
def test_faults_fail_their_own_tasks(
    two: Engine, work: ModuleType, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    found = by_name(
        two,
        Task("add", work.add, (1, 2)),
        Task("raises", work.fail, ()),
        Task("hangs", work.spin_in_c, ()),
        Task("leaves", work.leave, (0, tmp_path / "leaves")),
        Task("dies once", work.kill_self, (tmp_path / "once", 1)),
        Task("cannot travel", lambda: 1, ()),
        Task("cannot return", work.unpicklable, ()),
        Task("says", work.say, ("hello",)),
        Task("leaks", work.eat, ()),
    )
    assert found["add"].value == 3
    assert found["raises"].error == "ValueError: petals are missing"
    assert found["hangs"].error == "ran longer than 40 s and was ended; allow more with --time-limit"
    assert str(found["leaves"].error).startswith("its process died (WorkerCrashedError) in each of ")
    assert 3 <= (tmp_path / "leaves").read_text().count("tried") <= 10  # Ray may lose the sign that it has begun
    assert found["dies once"].value == 2
    assert "ickle" in str(found["cannot travel"].error)
    assert "ickle" in str(found["cannot return"].error)
    assert str(found["leaks"].error).startswith("out of memory: its process may hold 1.5 GiB, raise that with --memory")
    assert capfd.readouterr().out == ""


@pytest.mark.slow
def test_a_worker_killed_in_the_middle_changes_nothing(two: Engine, work: ModuleType, tmp_path: Path) -> None:
    tasks = [Task(str(seed), work.multiply_slowly, (seed, tmp_path / "pids")) for seed in range(6)]
    killer = threading.Thread(target=_kill_one, args=(tmp_path / "pids",))
    killer.start()
    found = by_name(two, *tasks)
    killer.join()
    tried = (tmp_path / "pids").read_text().split()
    assert len(tried) > len(tasks)  # the killed one was done again
    for done in Inline().run([Task(each.name, work.multiply, each.arguments[:1]) for each in tasks]):
        assert found[done.task.name].error is None
        assert np.array_equal(found[done.task.name].value, done.value)


@pytest.mark.slow
def test_a_run_that_is_given_up_leaves_the_workers_free(two: Engine, work: ModuleType) -> None:
    run = two.run([Task("quick", work.add, (1, 2)), *[Task("slow", work.sleep, (100.0,))] * 4])
    assert next(run).value == 3
    run.close()
    began = time.monotonic()
    assert by_name(two, Task("next", work.add, (2, 2)))["next"].value == 4
    assert time.monotonic() - began < 10


def test_without_ray_the_remedy_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(Refusal, match=r"Ray is not installed; `pip install an8flower\[ray\]`"):
        engine_named("ray")


def _kill_one(log: Path) -> None:
    """Kill the first worker that says that it is at work."""
    while not (log.exists() and log.read_text().split()):
        time.sleep(0.01)
    os.kill(int(log.read_text().split()[0]), signal.SIGKILL)
