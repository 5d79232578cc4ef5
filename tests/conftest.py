"""What all tests share: one small rendered data set, and a command line that is called as a user would."""

from __future__ import annotations

import atexit
import gc
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from an8flower import spec as specs
from an8flower.generate import generate
from an8flower.spec import DatasetSpec
from tests.warm import WarmServer, start_server

# The same examples in every run, and no deadlines: these machines are shared. `make test-slow` asks for more of them.
for name, examples in (("project", 40), ("thorough", 200)):
    settings.register_profile(
        name, max_examples=examples, derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow]
    )
settings.load_profile("project")

gc.disable()  # until all is imported and collected

servers: dict[str, str] = {}  # the address of the warm server, if it is started for others

Run = Callable[..., subprocess.CompletedProcess[str]]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests whose parameter says cuda are for a GPU, those of the contract among them."""
    for item in items:
        if "cuda" in item.name.partition("[")[2].rstrip("]").split("-"):
            item.add_marker(pytest.mark.gpu)


def pytest_collection_finish() -> None:
    """What was imported stays: to look through it for garbage again and again takes a tenth of the time."""
    gc.freeze()
    gc.enable()
    atexit.register(gc.unfreeze)  # libraries take down what they hold, as at the end of any process


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """All workers of pytest-xdist share one warm server and what is compiled, which their starter has."""
    if sys.platform == "linux":
        if not servers:
            from tests.compiled import start_compiling

            stack = ExitStack()
            stack.enter_context(start_compiling())
            servers["warm_server"] = stack.enter_context(start_server())
            node.config.add_cleanup(stack.close)
        node.workerinput |= servers


@pytest.fixture(scope="session", autouse=True)
def _no_wait_for_the_disk() -> Iterator[None]:
    """No power fails in a test: each file that is written is waited for several milliseconds otherwise."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda handle: None)
        yield


@pytest.fixture(scope="session")
def small_spec() -> DatasetSpec:
    """single-6c in small: 120 rows of 40 px."""
    return specs.load("single-6c").with_changes(rows=120, size=40)


@pytest.fixture(scope="session")
def small_file(small_spec: DatasetSpec, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished file of the small data set; not to be changed."""
    path = tmp_path_factory.mktemp("data") / "small.h5"
    generate(small_spec, path, workers=2)
    return path


@pytest.fixture(scope="session")
def warm_server(request: pytest.FixtureRequest) -> Iterator[WarmServer | None]:
    """A process that has everything imported, and forks for each command; None where it cannot."""
    if sys.platform != "linux":
        yield None
        return
    with WarmServer(getattr(request.config, "workerinput", {}).get("warm_server")) as server:
        yield server


@pytest.fixture(scope="session")
def run_in(warm_server: WarmServer | None) -> Run:
    """Run `an8flower ...` in a folder, in a process of its own."""

    def call(*words: object, cwd: Path, check: bool = True) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "an8flower", *map(str, words)]
        if warm_server is None:
            done = subprocess.run(command, cwd=cwd, text=True, capture_output=True, check=False, timeout=1500)
        else:
            end = warm_server.run(
                command[3:], cwd, seconds=1500, environment=os.environ, memory=None, fork_readers=False
            )
            assert not end.timed_out
            done = subprocess.CompletedProcess(command, end.status, end.stdout, end.stderr)
        assert not check or done.returncode == 0, done.stderr
        return done

    return call


@pytest.fixture
def run(run_in: Run, tmp_path: Path) -> Run:
    """Run `an8flower ...` in an empty folder, in a process of its own."""

    def call(*words: object, check: bool = True, cwd: Path = tmp_path) -> subprocess.CompletedProcess[str]:
        return run_in(*words, cwd=cwd, check=check)

    return call
