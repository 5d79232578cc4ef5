"""Pages, tables and pictures of the manual that are made from the code, so that they say what the code does.

`python docs/generate.py` (or `make docs`) writes them beside the pages that are written by hand, so that the manual can
be read as it lies in the repository. A test says when they are stale.
"""

from __future__ import annotations

import io
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from api_page import api
from believed_tables import adversaries, known_maps, proxy_taus, proxy_verdicts, quick_taus, row_taus
from by_hand_tables import handset_networks, reasons_by_hand, verdicts_by_hand
from catalogue import archs, checks, methods, metric_cards
from command_lists import LISTING, listing
from command_page import commands
from data_pages import colours, factors, pictures, presets
from in_domain_tables import in_domain_scores, in_domain_taus, in_domain_tuning
from notebook_pages import NOTEBOOK_PAGES
from plan_tables import plan, plans
from ruler_tables import blind_maps, criterion, measured_ruler, right_maps

DOCS = Path(__file__).parent
NOTE = "<!-- Made from the code by docs/generate.py: edits are lost. -->"
ALIKE = 2.0  # grey levels by which a picture may differ in the mean: encoders differ between versions
TABLE = re.compile(r"(<!-- table: (\w+) -->\n).*?(<!-- end of table -->)", re.DOTALL)

PAGES: Mapping[str, Callable[[], str]] = {
    "commands.md": commands,
    "metrics.md": metric_cards,
    "methods.md": methods,
    "presets.md": presets,
    "api.md": api,
    **NOTEBOOK_PAGES,
}
TABLES: Mapping[str, Callable[[], str]] = {
    table.__name__: table
    for table in (
        *(factors, colours, archs, checks, plan, plans, right_maps, blind_maps, criterion, measured_ruler),
        *(proxy_taus, proxy_verdicts, quick_taus, row_taus, known_maps, adversaries),
        *(in_domain_taus, in_domain_scores, in_domain_tuning),
        *(handset_networks, verdicts_by_hand, reasons_by_hand),
    )
}
"""What a page may ask for by a pair of lines: `<!-- table: factors -->` and `<!-- end of table -->`."""


def fill(markdown: str) -> str:
    """A page with the tables that it asks for, brought up to date."""
    return TABLE.sub(lambda match: f"{match[1]}\n{TABLES[match[2]]()}\n\n{match[3]}", markdown)


def texts() -> dict[Path, str]:
    """Every page that is made, and every written page with its tables filled in, by its place."""
    written = {path: fill(path.read_text(encoding="utf-8")) for path in DOCS.glob("*.md") if path.name not in PAGES}
    made = {DOCS / name: f"{page()}\n\n{NOTE}\n" for name, page in PAGES.items()}
    return written | made | {LISTING: listing()}


def stale() -> list[Path]:
    """The pages and pictures in the repository that do not say what the code says now."""
    return [*_stale_texts(), *_stale_pictures()]


def _stale_texts() -> list[Path]:
    return [path for path, text in texts().items() if not path.is_file() or path.read_text(encoding="utf-8") != text]


def _stale_pictures() -> list[Path]:
    return [DOCS / name for name, content in pictures() if not _looks_like(DOCS / name, content)]


def _looks_like(path: Path, content: bytes) -> bool:
    """Whether a file shows the same picture, whatever encoder wrote it."""
    import numpy as np
    from PIL import Image

    if not path.is_file():
        return False
    ours, theirs = (np.asarray(Image.open(source), dtype=float) for source in (path, io.BytesIO(content)))
    return ours.shape == theirs.shape and float(np.abs(ours - theirs).mean()) <= ALIKE


def write() -> list[Path]:
    """Write what is stale, and nothing else; returns what was written."""
    contents = {path: text.encode() for path, text in texts().items()}
    contents |= {DOCS / name: content for name, content in pictures()}
    outdated = stale()
    for path in outdated:
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(contents[path])
    return outdated


if __name__ == "__main__":
    for path in write():
        sys.stdout.write(f"{path.relative_to(DOCS.parent)}\n")
