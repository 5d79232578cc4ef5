"""Names of classes from a file: a line each, or JSON."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from an8flower.errors import Refusal
from an8flower.gate.documents import parse_json, read_text
from an8flower.gate.regular import FileKind, shorten

EXPECTED = "expected a class name a line in UTF-8, or a JSON list, or JSON {index: name}"
LABELS = FileKind("a file of class names", 2**24, EXPECTED)


def read_labels(path: Path) -> tuple[str, ...]:
    """The names of classes, in the order of the logits.

    A text file has one a line. A JSON file has a list, or an object from index to name, as `id2label` in the
    configuration of a Hugging Face model; a name may be a pair of identifier and name, as in ImageNet's class index.

    Raises:
        Refusal: no such file, not UTF-8, not JSON, a name that is empty or no text, an index that is left out.
    """
    text = read_text(path, LABELS)
    try:
        names = _from_json(parse_json(text)) if path.suffix.lower() == ".json" else text.rstrip().split("\n")
    except ValueError as error:
        raise Refusal(f"{path}: cannot be read as class names ({shorten(error)}); {EXPECTED}") from None
    for i, name in enumerate(names):
        if not isinstance(name, str) or not name.strip():
            raise Refusal(f"{path}: the name of class {i} is {shorten(repr(name))}; {EXPECTED}")
    return tuple(name.strip() for name in names)


def _from_json(document: Any) -> list[Any]:
    """The names in a JSON document, not checked yet; raises ValueError if it is neither list nor object."""
    if isinstance(document, dict):
        wanted = [str(i) for i in range(len(document))]
        if missing := [index for index in wanted if index not in document]:
            raise ValueError(f"{len(document)} names, and none for index {missing[0]}")
        document = [document[index] for index in wanted]
    if not isinstance(document, list):
        raise ValueError(f"it holds {type(document).__name__}")
    return [entry[-1] if isinstance(entry, list) and entry else entry for entry in document]
