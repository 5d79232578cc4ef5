"""What a data set holds must not change from one version to the next without anybody noticing.

`data/golden.json` has the sha256 of labels, factors, part maps and masks of some rows of every preset. Pictures are
left out: the last bit of a colour may differ between processors. Where a change is meant:
`python -P tests/test_golden.py` (Python 3.11 or later).
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from an8flower.generate import make_rows
from an8flower.spec import load, presets
from an8flower.writing import Block

GOLDEN = Path(__file__).parents[1] / "data" / "golden.json"


def checksums(name: str) -> dict[str, str]:
    """sha256 of what rows 0 to 24 of the test split hold, at 64 px."""
    rows = make_rows(load(name).with_changes(size=64), Block("test", 0, 24))._asdict()
    return {key: hashlib.sha256(rows[key].tobytes()).hexdigest() for key in ("labels", "factors", "parts", "masks")}


@pytest.mark.parametrize("name", presets())
def test_rows_are_those_of_the_last_version(name: str) -> None:
    assert checksums(name) == json.loads(GOLDEN.read_text())[name]


if __name__ == "__main__":
    GOLDEN.write_text(json.dumps({name: checksums(name) for name in presets()}, indent=2) + "\n")
