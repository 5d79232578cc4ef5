"""The saved form of judged prototypes: in the schema of summaries as in the types, and the same after a round trip.

`python -P tests/evaluate/results/test_prototype_results.py` writes the types into the schema anew.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from an8flower.evaluate.results import summary_schema as schema_module
from an8flower.evaluate.results.prototype_results import (
    KEY,
    Box,
    ClassWeight,
    JudgedModel,
    JudgedPrototype,
    ModelScore,
    PrototypePatch,
    PrototypeScore,
    PrototypesDocument,
)
from an8flower.evaluate.results.prototype_words import card_rows, score_rows, summary_sentence, undefined_words
from an8flower.evaluate.results.summary_schema import summary_schema

PATCH = PrototypePatch(
    row=3, label=1, cell=(2, 5), box=Box(8, 20, 12, 24), window=Box(6, 18, 14, 26), value=2.5, part="petals", share=0.75
)


def example() -> PrototypesDocument:
    number = ModelScore(mean=0.75, low=0.5, high=1.0, n=2, over="prototypes", chance=0.1)
    seen = JudgedPrototype(
        number=0,
        label=1,
        class_name="blue",
        weight=2.0,
        classes=(ClassWeight(label=1, class_name="blue", weight=2.0), ClassWeight(label=0, class_name="red", weight=1)),
        largest=2.5,
        rows_found=0.5,
        shares={"disc": 0.25, "petals": 0.75},
        scores={"purity": PrototypeScore(value=0.75, chance=0.1, part="petals")},
        patches=(PATCH, PATCH.model_copy(update={"part": "disc", "label": 0})),
        source=PATCH,
        pushed=True,
    )
    unseen = JudgedPrototype(
        number=4,
        label=0,
        class_name="red",
        weight=-0.5,
        classes=(),
        largest=0.0,
        rows_found=0.0,
        shares={},
        scores={"purity": PrototypeScore(value=None, reason="it is found in no row")},
        patches=(),
    )
    model = JudgedModel(
        model="net",
        architecture="net",
        total=9,
        grid=(7, 7),
        size=28,
        class_names=("red", "blue"),
        scores={"purity": number, "size": ModelScore(mean=2.0, n=9, over="model")},
        prototypes=(seen, unseen),
        examples=(),
    )
    return PrototypesDocument(rows=6, split="test", strongest=10, published=False, results=(model,), skipped=())


def test_a_document_is_the_same_after_json() -> None:
    document = example()
    assert PrototypesDocument.model_validate_json(document.model_dump_json()) == document
    assert PrototypesDocument.model_validate(document.model_dump(mode="json")) == document
    with pytest.raises(ValidationError):
        PrototypesDocument.model_validate({**document.model_dump(), "more": 1})


def test_words_of_tables() -> None:
    (model,) = example().results
    assert summary_sentence(model) == (
        "net: 2 of 9 prototypes have a weight; a patch is one of 7 x 7 cells of 28 px. "
        "Purity 0.75 (0.50 to 1.00); patches drawn at random: 0.10."
    )
    assert score_rows(model) == [
        ["purity", "0.75", "0.50 to 1.00", "0.10", "2 prototypes", "0", "more"],
        ["size", "2", "-", "-", "9 prototypes", "0", "less"],
    ]
    source, shows = "row 3, y 8-11, x 20-23", "petals 75%"
    assert card_rows(model) == [
        ["4", "red -0.50", "-", "-", "-", "-", "-", "0%", "-"],
        [
            *("0", "blue +2.00, red +1.00", source, shows, "petals"),
            *("0.75", "0.10", "50%", "blue 1, red 1: petals 1, disc 1"),
        ],
    ]
    assert undefined_words(model) == ["no purity of prototypes 4: it is found in no row"]


def snake(name: str) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()


def without_titles(schema: Any) -> Any:
    """A schema of pydantic in the words of ours: without titles, and with names in lower case."""
    if isinstance(schema, list):
        return [without_titles(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        schema = {**schema, "$ref": "#/$defs/" + snake(schema["$ref"].rpartition("/")[2])}
    return {key: without_titles(value) for key, value in schema.items() if key != "title" or not isinstance(value, str)}


def definitions() -> dict[str, Any]:
    """The definitions of the types, by the names that they have in the schema."""
    whole = PrototypesDocument.model_json_schema(mode="serialization")
    parts = {**whole.pop("$defs"), PrototypesDocument.__name__: whole}
    return {snake(name): without_titles(part) for name, part in parts.items()}


def test_the_schema_of_summaries_has_the_types() -> None:
    jsonschema = pytest.importorskip("jsonschema")
    schema = summary_schema()
    for name, definition in definitions().items():
        assert schema["$defs"][name] == definition, name
        fields = definition.get("properties", {}).values()
        assert all("description" in field for field in fields), name
    assert schema["$defs"]["study"]["properties"][KEY] == {"$ref": "#/$defs/prototypes_document"}
    validator = jsonschema.Draft202012Validator({"$ref": "#/$defs/prototypes_document", "$defs": schema["$defs"]})
    document = example().model_dump(mode="json")
    validator.validate(document)
    document["results"][0]["prototypes"][0]["patches"][0]["box"].pop()
    assert not validator.is_valid(document)


def write() -> None:
    place = Path(schema_module.__file__).with_name("summary.schema.json")
    schema = json.loads(place.read_text(encoding="utf-8"))
    schema["$defs"]["study"]["properties"][KEY] = {"$ref": "#/$defs/prototypes_document"}
    schema["$defs"] |= definitions()
    place.write_text(json.dumps(schema, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    write()
