"""What a data set holds must not change from one version to the next without anybody noticing.

`data/golden.json` has the digest of every preset, and the sha256 of labels, factors, part maps, masks and coverage of
some rows. Of the factors it lists the columns that count: a factor that is added later changes nothing. Pictures are
left out: the last bit of a colour may differ between processors. Where a change is meant, raise `factors.CATALOGUE`,
and then: `python -P tests/test_golden.py` (Python 3.11 or later).
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from numpy.lib.recfunctions import repack_fields

from an8flower.factors import FACTORS
from an8flower.generate import make_rows
from an8flower.spec import load, presets
from an8flower.writing import Block

GOLDEN = Path(__file__).parents[1] / "data" / "golden.json"


def checksums(name: str, columns: list[str]) -> dict[str, str]:
    """The digest of a preset, and sha256 of what rows 0 to 24 of its test split hold, at 64 px."""
    spec = load(name)
    rows = make_rows(spec.with_changes(size=64), Block("test", 0, 24))
    assert rows.factors is not None
    assert rows.parts is not None
    assert rows.coverage is not None
    table: np.ndarray = repack_fields(rows.factors[columns])
    held = {
        "labels": rows.labels,
        "factors": table,
        "parts": rows.parts,
        "masks": rows.masks,
        "coverage": rows.coverage,
    }
    return {"digest": spec.digest} | {key: hashlib.sha256(data.tobytes()).hexdigest() for key, data in held.items()}


@pytest.mark.parametrize("name", presets())
def test_rows_are_those_of_the_last_version(name: str) -> None:
    golden = json.loads(GOLDEN.read_text())
    assert checksums(name, golden["factors"]) == golden["presets"][name]


if __name__ == "__main__":
    shipped = {name: checksums(name, list(FACTORS)) for name in presets()}
    GOLDEN.write_text(json.dumps({"factors": list(FACTORS), "presets": shipped}, indent=2) + "\n")
