"""Makes the package importable from the sources alone, on a machine where it is not installed and nothing can be.

The folder `evaluate/` is installed as `an8flower.evaluate`; here a folder of links does the same. Worker processes get
it by PYTHONPATH.
"""

from __future__ import annotations

import importlib.util
import os
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
NEEDED = (
    "torch",
    "torchvision",
    "numpy",
    "numba",
    "scipy",
    "skimage",
    "h5py",
    "isal",
    "filelock",
    "pydantic",
    "pyarrow",
)
NEEDED += ("pandas", "PIL", "safetensors", "zennit", "jinja2", "matplotlib", "click", "rich")


def provide() -> None:
    """Put the package on the path unless it is installed; ends with a sentence where what it needs is missing."""
    if missing := [name for name in NEEDED if importlib.util.find_spec(name) is None]:
        sys.exit(f"{', '.join(missing)}: not installed for {sys.executable}; install them, or use another Python")
    if not is_installed():
        folder = link(Path(tempfile.mkdtemp(prefix="an8flower-")))
        sys.path.insert(0, str(folder))
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH")]))


def is_installed() -> bool:
    """Whether the package can be imported already."""
    try:
        return importlib.util.find_spec("an8flower.evaluate") is not None
    except ModuleNotFoundError:
        return False


def link(folder: Path) -> Path:
    """Lay links to both sides of the package into a folder, which is then one to import from."""
    package = folder / "an8flower"
    package.mkdir()
    for entry in (ROOT / "an8flower").iterdir():
        if entry.name != "__pycache__":
            (package / entry.name).symlink_to(entry)
    (package / "evaluate").symlink_to(ROOT / "evaluate")
    return folder
