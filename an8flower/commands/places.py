"""The default places of data sets, models and scores on disk."""

from __future__ import annotations

from pathlib import Path

DEFAULT_DATA, DEFAULT_ARCH = "single-6c", "flowernet"


def data_path(name: str) -> Path:
    """The file of the data set with this name."""
    return Path("data") / f"{name}.h5"


def run_folder(data: Path) -> Path:
    """The folder for the models and scores of a data set."""
    return Path("runs") / data.stem
