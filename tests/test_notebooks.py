"""The notebooks of the manual: kept without outputs, and carried out whole."""

from __future__ import annotations

import ast
import json
import warnings
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(__file__).parents[1] / "docs" / "notebooks"
PLACES = sorted(FOLDER.glob("*.ipynb"))


def cells_of(place: Path) -> list[dict[str, Any]]:
    return list(json.loads(place.read_text(encoding="utf-8"))["cells"])


def test_there_are_three() -> None:
    assert [place.stem for place in PLACES] == ["explainer", "network", "verdict"]


@pytest.mark.parametrize("place", PLACES, ids=lambda place: place.stem)
def test_outputs_are_stripped(place: Path) -> None:
    """What came out is not kept: it would differ with each run, and pictures would fill the repository."""
    cells = cells_of(place)
    assert len({cell["id"] for cell in cells}) == len(cells)
    for cell in cells:
        assert cell["metadata"] == {}
        if cell["cell_type"] == "code":
            assert (cell["outputs"], cell["execution_count"]) == ([], None)
            ast.parse("".join(cell["source"]))
        else:
            assert cell["cell_type"] == "markdown"
            assert "attachments" not in cell


@pytest.mark.parametrize("place", PLACES, ids=lambda place: place.stem)
def test_a_page_of_the_manual_has_all_of_it(place: Path) -> None:
    page = (FOLDER.parent / f"notebook-{place.stem}.md").read_text(encoding="utf-8")
    for cell in cells_of(place)[1:]:
        assert "".join(cell["source"]) in page
    assert f"(notebooks/{place.name})" in page


@pytest.mark.slow  # each trains a network, and scores with it
@pytest.mark.parametrize("place", PLACES, ids=lambda place: place.stem)
def test_it_runs(place: Path, tmp_path: Path) -> None:
    """All cells, in a kernel of their own, in an empty folder; each but those that only prepare shows something."""
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    notebook = nbformat.read(place, 4)
    nbformat.validate(notebook)
    resources = {"metadata": {"path": str(tmp_path)}}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        nbclient.NotebookClient(notebook, timeout=900, kernel_name="python3", resources=resources).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert len(outputs) >= 3
    assert not [output for output in outputs if output.output_type == "error" or output.get("name") == "stderr"]
    tables = [output.data["text/html"] for output in outputs if "text/html" in output.get("data", {})]
    assert tables
    assert all("NaN" not in text for text in tables[:1])
