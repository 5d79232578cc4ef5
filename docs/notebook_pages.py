"""The notebooks as pages of the manual: their words and their code, without outputs, which are not kept."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

NOTEBOOKS = Path(__file__).parent / "notebooks"


def render_notebook(name: str) -> str:
    """The page of a notebook; below its title stands where the notebook itself is."""
    document = json.loads((NOTEBOOKS / f"{name}.ipynb").read_text(encoding="utf-8"))
    title, *rest = [_cell(cell["cell_type"], "".join(cell["source"])) for cell in document["cells"]]
    heading, _, opening = title.partition("\n")
    note = f"This page is the notebook [`{name}.ipynb`](notebooks/{name}.ipynb); run it to see what comes out."
    return "\n\n".join([heading, note, opening.strip(), *rest])


def _cell(kind: str, text: str) -> str:
    return f"```python\n{text}\n```" if kind == "code" else text


def page_of(name: str) -> str:
    """The file of the page of a notebook."""
    return f"notebook-{name}.md"


NOTEBOOK_PAGES: Mapping[str, Callable[[], str]] = {
    page_of(place.stem): partial(render_notebook, place.stem) for place in sorted(NOTEBOOKS.glob("*.ipynb"))
}
