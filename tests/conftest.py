"""What all tests share: one small rendered data set, and a command line that is called as a user would."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from an8flower import spec as specs
from an8flower.generate import generate
from an8flower.spec import DatasetSpec

# The same examples in every run, and no deadlines: these machines are shared.
settings.register_profile("project", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("project")

Run = Callable[..., subprocess.CompletedProcess[str]]


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


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Run `an8flower ...` in an empty folder, in a process of its own."""

    def call(*words: object, check: bool = True, cwd: Path = tmp_path) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "an8flower", *map(str, words)]
        done = subprocess.run(command, cwd=cwd, text=True, capture_output=True, check=False, timeout=500)
        assert not check or done.returncode == 0, done.stderr
        return done

    return call
