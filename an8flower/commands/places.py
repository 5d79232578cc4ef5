"""Where data sets, models and scores lie unless a command names another place."""

from __future__ import annotations

from pathlib import Path

DEFAULT_DATA, DEFAULT_ARCH = "single-6c", "flowernet"


def data_path(name: str) -> Path:
    """The file of a data set."""
    return Path("data") / f"{name}.h5"


def run_folder(data: Path) -> Path:
    """The folder of the models and scores of a data set."""
    return Path("runs") / data.stem
