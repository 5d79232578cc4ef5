"""Reads the folder of an audit: its summary, and the arrays that the summary names. Nothing that is read is run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from an8flower.errors import Refusal
from an8flower.gate.documents import parse_json
from an8flower.gate.regular import FileKind, check_regular, shorten

from ..results.answers import take_seal
from ..results.arrays import ARRAYS, read_arrays

LARGEST = 2**27  # bytes of a summary
Arrays = dict[str, np.ndarray]


class Missing(NamedTuple):
    """Stands for arrays that cannot be shown, and says why."""

    reason: str


class AuditFolder:
    """The folder of a finished audit: its summary, and the arrays beside it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.text = _text(folder / "summary.json")  # the bytes on disk
        self.summary = _summary(folder / "summary.json", self.text)

    def arrays(self, name: object, needed: Mapping[str, int], later: Mapping[str, int] = {}) -> Arrays | Missing:
        """The arrays of a file of the folder, or the reason why they cannot be shown.

        Args:
            name: the path of the file within the folder.
            needed: the arrays that must be there, with their numbers of dimensions.
            later: the same of arrays that files of earlier versions lack; those that are there are given as well.
        """
        place = (self.folder / str(name)).resolve()
        if not place.is_relative_to(self.folder.resolve()):
            return Missing(f"{shorten(name)} lies outside the folder of the audit")
        try:
            check_regular(place, ARRAYS)
        except Refusal:
            return Missing(f"{shorten(name)} is missing")
        arrays = read_arrays(place)
        if arrays is None or not needed.keys() <= arrays.keys():
            return Missing(f"{name} cannot be read: run the audit again after deleting it")
        if not take_seal(place, arrays):
            return Missing(f"{name} holds what is not of its cell: run the audit again")
        wanted = {key: ndim for key, ndim in {**needed, **later}.items() if key in arrays}
        odd = [key for key, ndim in wanted.items() if arrays[key].ndim != ndim]
        if odd:
            return Missing(f"{name}: {odd[0]} has another shape than expected")
        return {key: arrays[key] for key in wanted}


def _text(place: Path) -> bytes:
    absent = f"this is no folder of a finished audit; {_remedy(place)}"
    check_regular(place, FileKind("the summary of an audit", LARGEST, _remedy(place), absent))
    return place.read_bytes()


def _summary(place: Path, text: bytes) -> dict[str, Any]:
    """The summary of an audit; raises Refusal if the text is not one."""
    try:
        summary = parse_json(text.decode())
    except ValueError as error:
        raise Refusal(f"{place}: cannot be read as JSON ({shorten(error)}); {_remedy(place)}") from error
    if not isinstance(summary, dict) or not isinstance(summary.get("studies"), list):
        raise Refusal(f"{place}: not the summary of an audit: it has no list of studies; {_remedy(place)}")
    return summary


def _remedy(place: Path) -> str:
    folder = str(place.parent) if len(str(place.parent)) < 100 else "FOLDER"  # a message has an end
    return f"run `an8flower audit PLAN.toml -o {folder}` again: what is done already is not done twice"
