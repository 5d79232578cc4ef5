"""Engines: whatever a task does, it comes back as one sentence, and every other task is done as if alone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from an8flower.errors import Refusal, WrongUsage
from an8flower.evaluate.audits.engines.choose import engine_named
from an8flower.evaluate.audits.engines.inline import Inline
from an8flower.evaluate.audits.engines.local import Local
from an8flower.evaluate.audits.engines.task import Done, Engine, Task

FOLDER = Path(__file__).parent
SPARE = 0.25  # GiB that a worker may take before it is replaced


@pytest.fixture(scope="module")
def work() -> Iterator[ModuleType]:
    """The tasks, as a module that workers can import."""
    sys.path.insert(0, str(FOLDER))
    import engine_tasks

    yield engine_tasks
    sys.path.remove(str(FOLDER))


@pytest.fixture(scope="module")
def limit(work: ModuleType) -> float:
    """GiB that a worker may hold: it is replaced at half of that, and holds its imports from the beginning."""
    with Local(1) as engine:
        (done,) = engine.run([Task("imports", work.private_gib, ())])
    return round(2 * (done.value + SPARE), 1)


@pytest.fixture(scope="module")
def two(limit: float) -> Iterator[Local]:
    """Two workers; whatever tests do to them, they serve the next one."""
    with Local(2, time_limit=3.0, memory_limit=limit) as engine:
        yield engine


def task(call: Callable[..., Any], *arguments: Any, name: str = "") -> Task:
    return Task(name or call.__name__, call, arguments)


def only(engine: Engine, call: Callable[..., Any], *arguments: Any) -> Done:
    """What comes of a task between two others, which have to be done whatever it does."""
    before, after = (Task(name, os.getenv, ("NO_SUCH_VARIABLE", name)) for name in ("before", "after"))
    found = {done.task.name: done for done in engine.run([before, task(call, *arguments, name="it"), after])}
    assert (found["before"].value, found["after"].value) == ("before", "after")
    assert len(found) == 3
    return found["it"]


def test_raising_is_told_with_its_traceback(two: Local, work: ModuleType) -> None:
    for engine in (two, Inline()):
        done = only(engine, work.fail)
        assert done.error == "ValueError: petals are missing"
        assert 'raise ValueError("petals are missing")' in done.traceback
        assert done.value is None


def test_leaving_python_is_a_failure(two: Local, work: ModuleType) -> None:
    for engine in (two, Inline()):
        assert only(engine, work.leave_python).error == "SystemExit: enough"


@pytest.mark.parametrize("how", ["spin", "spin_in_c", "sleep"])
def test_hanging_ends_at_the_time_limit(two: Local, work: ModuleType, how: str) -> None:
    began = time.monotonic()
    arguments = [100.0] if how == "sleep" else []
    done = only(two, getattr(work, how), *arguments)
    assert done.error == "ran longer than 3 s and was ended; allow more with --time-limit"
    assert time.monotonic() - began < 100


def test_starting_a_process_is_not_the_tasks_time(work: ModuleType) -> None:
    with Local(1, time_limit=0.05) as engine:
        assert only(engine, work.add, 1, 2).value == 3


@pytest.mark.parametrize("code", [0, 3])
def test_leaving_by_the_back_door_is_tried_three_times(two: Local, work: ModuleType, tmp_path: Path, code: int) -> None:
    done = only(two, work.leave, code, tmp_path / "log")
    assert done.error is not None
    assert done.error.startswith(f"its process left with exit code {code} in each of 3 tries; if memory ran out")
    assert (tmp_path / "log").read_text().count("tried") == 3


def test_a_segmentation_fault_fails_its_task_alone(two: Local, work: ModuleType, tmp_path: Path) -> None:
    done = only(two, work.crash, tmp_path / "log")
    assert done.error is not None
    assert done.error.startswith("its process was killed by SIGSEGV in each of 3 tries")


@pytest.mark.parametrize(("times", "value"), [(1, 2), (2, 3), (3, None)])
def test_a_killed_process_is_replaced_twice(
    two: Local, work: ModuleType, tmp_path: Path, times: int, value: int | None
) -> None:
    done = only(two, work.kill_self, tmp_path / "log", times)
    assert done.value == value
    assert (done.error is None) == (times < 3)


def test_a_worker_that_died_while_idle_is_replaced(work: ModuleType) -> None:
    with Local(1) as engine:
        (first,) = engine.run([task(work.pid)])
        os.kill(first.value, signal.SIGKILL)
        (second,) = engine.run([task(work.pid)])
        assert second.value != first.value
        assert second.error is None


def test_memory_without_bound_ends_at_the_limit(work: ModuleType, limit: float) -> None:
    with Local(1, memory_limit=limit) as engine:
        done = only(engine, work.eat)
        assert done.error == (
            f"out of memory: its process may hold {limit:g} GiB, raise that with --memory-limit (MemoryError)"
        )
        assert "engine_tasks" in done.traceback


def test_tensors_without_bound_end_at_the_limit(work: ModuleType, limit: float) -> None:
    with Local(1, memory_limit=limit) as engine:
        error = only(engine, work.eat_tensors).error
        assert error is not None
        assert error.startswith(f"out of memory: its process may hold {limit:g} GiB, raise that with --memory-limit (")


def test_a_leak_harms_no_later_task(work: ModuleType, limit: float) -> None:
    """Ten times 100 MiB are held on to where a quarter of a GiB may be: processes are replaced in between."""
    with Local(1, memory_limit=limit) as engine:
        found = list(engine.run([task(work.leak, 100) for _ in range(10)]))
    assert [done.error for done in found] == [None] * 10
    assert 3 <= len({done.value for done in found}) <= 5  # each serves until it holds more than 256 MiB of its own


def test_what_cannot_travel_is_told(two: Local, work: ModuleType) -> None:
    for call in (work.unpicklable, lambda: 1, work.spiteful):
        done = only(two, call)
        assert done.error is not None
        assert done.traceback
    assert "pickle" in str(only(two, lambda: 1).error)
    assert only(two, work.spiteful).error == "ValueError: petals are missing"


def test_printing_does_not_reach_the_results(two: Local, work: ModuleType, capfd: pytest.CaptureFixture[str]) -> None:
    with Local(1) as engine:  # a process that inherits the captured streams
        assert only(engine, work.say, "hello").value == "hello"
    out, err = capfd.readouterr()
    assert out == ""
    assert err.count("hello") == 2
    assert next(Inline().run([task(print, "hello")])).error is None
    assert capfd.readouterr() == ("", "hello\n")


def test_results_come_in_the_order_in_which_they_end(work: ModuleType) -> None:
    with Local(2) as engine:
        list(engine.run([task(work.sleep, 0.2)] * 2))  # both have started
        tasks = [task(work.sleep, 1.0), *(task(work.sleep, i / 1000) for i in range(6))]
        values = [done.value for done in engine.run(tasks)]
    assert values == [i / 1000 for i in range(6)] + [1.0]


def test_processes_live_over_runs_and_end_with_the_engine(work: ModuleType) -> None:
    with Local(1) as engine:
        first, second = ([done.value for done in engine.run([task(work.pid)] * 2)] for _ in range(2))
        assert first == second
        assert first[0] != os.getpid()
    assert not Path(f"/proc/{first[0]}").exists()


def test_no_more_processes_than_tasks(work: ModuleType) -> None:
    with Local(4) as engine:
        list(engine.run([task(work.pid)]))
        assert sum(slot._process is not None for slot in engine._slots) == 1


def test_a_run_that_is_given_up_leaves_nothing_behind(two: Local, work: ModuleType) -> None:
    run = two.run([task(work.add, 1, 2), task(work.sleep, 100.0), task(work.sleep, 100.0)])
    assert next(run).value == 3
    run.close()
    began = time.monotonic()
    assert only(two, work.add, 2, 2).value == 4
    assert time.monotonic() - began < 100


def test_each_worker_has_a_device_of_its_own(work: ModuleType) -> None:
    with Local(2, devices=["cuda:0", "cuda:1"]) as engine:
        tasks = [task(work.device, 0.5)] * 2
        assert sorted(done.value for done in engine.run(tasks)) == ["cuda:0", "cuda:1"]
    with Local(1) as engine:
        assert only(engine, work.device).value == "cpu"


def test_workers_have_as_many_threads_as_they_were_given(work: ModuleType) -> None:
    with Local(1, threads=2) as engine:
        assert only(engine, work.threads).value == ("2", 2)


def test_the_same_values_in_a_process_of_its_own(work: ModuleType) -> None:
    tasks = [task(work.convolve, seed, name=str(seed)) for seed in range(3)]
    with Local(1) as engine:
        found = {done.task.name: done.value for done in engine.run(tasks)}
    assert len(found) == 3
    for done in Inline().run(tasks):
        assert torch.equal(found[done.task.name], done.value)


def test_names_of_engines() -> None:
    with engine_named("inline") as engine:
        assert isinstance(engine, Inline)
    with engine_named("local", workers=2) as engine:
        assert isinstance(engine, Local)
    with pytest.raises(WrongUsage, match='unknown engine "locl"; did you mean "local"?'):
        engine_named("locl")
    with pytest.raises(WrongUsage, match="--time-limit -1: has to be above 0"):
        engine_named("local", time_limit=-1)


SCRIPT = """
import signal, sys
from pathlib import Path
sys.path.insert(0, {folder!r})
import engine_tasks
from an8flower.evaluate.audits.engines.local import Local
from an8flower.evaluate.audits.engines.task import Task

def main():
    signal.signal(signal.SIGINT, signal.default_int_handler)  # tests may run in a background job, which ignores it
    marks = [Path({marks!r}, str(i)) for i in range(2)]
    with Local(2) as engine:
        for done in engine.run([Task("it", engine_tasks.spin_in_c, (mark,)) for mark in marks]):
            print(done)
"""
GUARDED = SCRIPT + "\nif __name__ == '__main__':\n    main()\n"


@pytest.fixture
def hanging(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], list[int]]]:
    """A process whose two workers hang where Python has no say, and the workers' ids."""
    script = tmp_path / "script.py"
    script.write_text(GUARDED.format(folder=str(FOLDER), marks=str(tmp_path)))
    process = subprocess.Popen([sys.executable, script], stderr=subprocess.PIPE, text=True, start_new_session=True)
    try:
        yield process, [int(_awaited(tmp_path / str(i))) for i in range(2)]
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("whom", ["process", "group"])
def test_an_interruption_ends_all_soon(hanging: tuple[subprocess.Popen[str], list[int]], whom: str) -> None:
    process, workers = hanging
    assert all(_alive(worker) for worker in workers)
    (os.kill if whom == "process" else os.killpg)(process.pid, signal.SIGINT)
    _, told = process.communicate(timeout=60)
    assert process.returncode != 0
    assert told.count("KeyboardInterrupt") == 1  # of the parent alone
    _assert_gone(workers)


def test_a_worker_that_is_just_starting_is_not_interrupted(two: Local, work: ModuleType) -> None:
    assert only(two, work.is_deaf).value is True
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, [])  # the parent is


def test_workers_do_not_outlive_a_killed_parent(hanging: tuple[subprocess.Popen[str], list[int]]) -> None:
    process, workers = hanging
    process.kill()
    process.wait(timeout=60)
    _assert_gone(workers)


def test_processes_that_cannot_start_are_told_once(tmp_path: Path) -> None:
    """A script without the guard is run again by each worker that starts."""
    script = tmp_path / "script.py"
    script.write_text(SCRIPT.format(folder=str(FOLDER), marks=str(tmp_path)) + "\nmain()\n")
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 1
    assert "Refusal: no worker process can be started: 3 in a row left with exit code 1 at once" in done.stderr
    assert 'if __name__ == "__main__"' in done.stderr.split("Refusal:")[-1]


def _awaited(place: Path) -> str:
    deadline = time.monotonic() + 120
    while not (place.exists() and place.read_text()):
        assert time.monotonic() < deadline, f"{place} was never written"
        time.sleep(0.02)
    return place.read_text()


def _alive(process: int) -> bool:
    """Whether a process is there, zombies aside."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def _assert_gone(processes: list[int]) -> None:
    deadline = time.monotonic() + 60
    while left := [process for process in processes if _alive(process)]:
        assert time.monotonic() < deadline, f"still there: {left}"
        time.sleep(0.02)


def test_refusals_keep_their_own_words() -> None:
    (done,) = Inline().run([Task("it", _refuse, ())])
    assert done.error == "no such layer; take another"


def _refuse() -> None:
    raise Refusal("no such layer; take another")
