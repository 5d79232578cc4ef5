"""Engines under attack: what a task does to its process harms no other task, and every wait has an end."""

from __future__ import annotations

import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from an8flower.errors import Refusal
from an8flower.evaluate.audits.engines import birth, slot
from an8flower.evaluate.audits.engines import ray as on_ray
from an8flower.evaluate.audits.engines.inline import Inline
from an8flower.evaluate.audits.engines.local import Local
from an8flower.evaluate.audits.engines.task import Done, Engine, Task

FOLDER = Path(__file__).parent


@pytest.fixture(scope="module")
def hostile() -> Iterator[ModuleType]:
    """The tasks, as a module that workers can import."""
    sys.path.insert(0, str(FOLDER))
    import hostile_tasks

    yield hostile_tasks
    sys.path.remove(str(FOLDER))


@pytest.fixture(scope="module")
def engine() -> Iterator[Local]:
    with Local(1, time_limit=30.0) as one_worker:
        yield one_worker


def outcome(engine: Engine, call: Callable[..., Any], *arguments: Any) -> Done:
    """What comes of a task between two others, which have to be done whatever it does."""
    names = ("before", "after")
    before, after = (Task(name, os.getenv, ("NO_SUCH_VARIABLE", name)) for name in names)
    outcomes = {done.task.name: done for done in engine.run([before, Task("it", call, arguments), after])}
    assert [outcomes[name].value for name in names] == ["before", "after"]
    return outcomes["it"]


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("raise_own", "OwnError: petals"),
        ("raise_unspeakable", "Unspeakable: its text cannot be had, as that raises OwnError"),
        ("raise_generator_exit", "GeneratorExit"),
        ("raise_interrupt", "KeyboardInterrupt"),
    ],
)
def test_whatever_is_raised_is_a_sentence(engine: Local, hostile: ModuleType, name: str, sentence: str) -> None:
    assert outcome(engine, getattr(hostile, name)).error == sentence
    if name != "raise_interrupt":  # which ends a run in this process, as Ctrl-C does
        assert outcome(Inline(), getattr(hostile, name)).error == sentence


@pytest.mark.parametrize("seconds", [0.0, 0.3])
def test_the_answer_of_a_forked_copy_is_never_taken(
    engine: Local, hostile: ModuleType, tmp_path: Path, seconds: float
) -> None:
    """Neither for that of its own task nor for that of the next one."""
    tasks = [Task("it", hostile.fork, (seconds, tmp_path / "log")), *(Task(str(i), time.sleep, (0.3,)) for i in (1, 2))]
    assert [(done.task.name, done.value, done.error) for done in engine.run(tasks)] == [
        ("it", "worker", None),
        ("1", None, None),
        ("2", None, None),
    ]
    assert (tmp_path / "log").read_text() == "the copy came back"


def test_a_forked_copy_files_nothing(engine: Local, hostile: ModuleType, tmp_path: Path) -> None:
    assert outcome(engine, hostile.file, tmp_path / "any").value == "done"
    assert [path.name for path in tmp_path.iterdir()] == ["worker"]


def test_a_process_whose_copy_lives_on_is_known_to_have_died(hostile: ModuleType, tmp_path: Path) -> None:
    began = time.monotonic()
    with Local(1) as engine:
        done = outcome(engine, hostile.fork_and_die, tmp_path / "log")
    for line in (tmp_path / "log").read_text().split():
        with suppress(ProcessLookupError):
            os.kill(int(line), signal.SIGKILL)
    assert str(done.error).startswith("its process left with exit code 3 in each of 3 tries")
    assert time.monotonic() - began < 25


@pytest.mark.parametrize("name", ["close_everything", "close_everything_and_stay"])
def test_closing_all_descriptors_fails_the_task_alone(engine: Local, hostile: ModuleType, name: str) -> None:
    assert str(outcome(engine, getattr(hostile, name)).error).startswith("its process ")


def test_junk_in_the_pipe_ends_no_run(engine: Local, hostile: ModuleType) -> None:
    outcome(engine, hostile.write_junk)


def test_no_process_runs_the_code_of_two_strangers(hostile: ModuleType) -> None:
    strangers = ["", "", "a", "a", "b", ""]
    with Local(1) as engine:
        tasks = [Task(str(i), hostile.pid, (), stranger=stranger) for i, stranger in enumerate(strangers)]
        first, second, third, fourth, fifth, sixth = (done.value for done in engine.run(tasks))
    assert first == second == third == fourth  # ours leave nothing behind that a stranger could suffer from
    assert len({fourth, fifth, sixth}) == 3


def test_a_worker_that_never_gets_ready_is_told(hostile: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(birth, "_live", hostile.never_ready)
    monkeypatch.setattr(slot, "STARTING", 1.0)
    with Local(1) as engine, pytest.raises(Refusal, match="started: 3 in a row did not get ready in 1 s"):
        list(engine.run([Task("it", os.getpid, ())]))
    assert engine._slots[0]._process is None


def test_a_machine_without_room_for_a_process_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(process: Any) -> None:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(BaseProcess, "start", refuse)
    with Local(1) as engine, pytest.raises(Refusal, match=r"can be started \(Resource temporarily unavailable\)"):
        list(engine.run([Task("it", os.getpid, ())]))


# Joining a cluster, with something in the place of Ray.


def fake_ray(join: Callable[..., None]) -> Any:
    class RayError(Exception):
        pass

    return SimpleNamespace(init=join, exceptions=SimpleNamespace(RayError=RayError))


def test_a_closed_port_is_told_at_once() -> None:
    began = time.monotonic()
    with pytest.raises(Refusal, match=r'no cluster could be joined at "127.0.0.1:1" \(.*refused\); start it with'):
        on_ray._join(fake_ray(lambda *_, **__: time.sleep(900)), "127.0.0.1:1")
    assert time.monotonic() - began < 10


def test_a_silent_cluster_is_told_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its port is open, and nobody there says a word."""
    monkeypatch.setattr(on_ray, "JOINING", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        with pytest.raises(Refusal, match=rf'"{address}" \(no answer in 0.5 s\)'):
            on_ray._join(fake_ray(lambda *_, **__: time.sleep(10)), address)


def test_a_silent_head_is_given_up_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Once it answers again, its silence is forgotten."""
    monkeypatch.setattr(on_ray, "LOST", 0.3)
    monkeypatch.setattr(on_ray, "PULSE", 0.1)
    monkeypatch.setattr(on_ray, "sleep", lambda seconds: time.sleep(0.2))
    with socket.create_server(("127.0.0.1", 0)) as server:
        host, port = server.getsockname()
        head = on_ray._Head(f"{host}:{port}")
        assert head.answers()
    assert not head.answers()
    with socket.create_server((host, port)):
        assert head.answers()
    assert not head.answers()
    with pytest.raises(Refusal, match=rf"the head of the Ray cluster at {host}:{port} has not answered for 0 s; start"):
        while True:
            head.answers()
    assert head.is_lost


def test_all_waits_for_a_cluster_end_within_a_minute() -> None:
    assert on_ray.PROBING < on_ray.JOINING < 60


def test_a_cluster_that_wants_a_token_is_told_as_such() -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise RuntimeError("Token authentication is enabled but no authentication token was found")

    with pytest.raises(Refusal, match=r"RAY_AUTH_MODE=token with RAY_AUTH_TOKEN"):
        on_ray._join(fake_ray(refuse), "auto")


def test_ray_on_this_machine_gets_a_token_that_no_file_keeps(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.setenv(name, "x")  # so that what is there now comes back
        monkeypatch.delenv(name)
    tokens: list[str] = []
    ray = fake_ray(lambda *_, **__: tokens.append(os.environ["RAY_AUTH_TOKEN"]))
    on_ray._start_here(ray, 1)
    assert len(tokens[0]) == 64
