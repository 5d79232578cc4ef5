"""The part of a summary that a comparison reads, so that a summary of another form is refused with the place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from an8flower.errors import Refusal
from an8flower.gate.regular import shorten


class Form(BaseModel):
    """A JSON object with these keys at least, and values that are not converted."""

    model_config = ConfigDict(extra="ignore", strict=True)


class DatasetForm(Form):
    """The data set of a study."""

    name: str
    digest: str
    split: str


class ModelForm(Form):
    """A model that was scored."""

    arch: str
    seed: int | None
    digest: str


class MethodForm(Form):
    """A method with its metrics."""

    text: str
    metrics: Mapping[str, Any]


class CardForm(Form):
    """The card of a metric."""

    name: str


class EqualMethodsForm(Form):
    """A method of a board, and those whose maps are equal."""

    text: str
    equal: Sequence[str]


class MeanForm(Form):
    """A mean with its interval."""

    mean: float | None = None
    low: float | None = None
    high: float | None = None


class BoardMetricForm(Form):
    """What methods score by one metric on a board."""

    results: Mapping[str, MeanForm]


class BoardForm(Form):
    """A board of methods that ran on the same models."""

    architectures: Mapping[str, int]
    methods: Sequence[EqualMethodsForm]
    metrics: Mapping[str, BoardMetricForm]


class ScoresForm(Form):
    """The scores of a study."""

    target: str
    truth: str = "association"
    families: Mapping[str, str]
    models: Sequence[ModelForm]
    results: Sequence[MethodForm]
    cards: Sequence[CardForm] = ()
    boards: Sequence[BoardForm] = ()


class LongRowsForm(Form):
    """Where the long rows of a study lie."""

    parts: Sequence[str]
    explainers: Mapping[str, str]


class StudyForm(Form):
    """One data set of a summary."""

    dataset: DatasetForm
    scores: ScoresForm
    long_rows: LongRowsForm | None = None


class SummaryForm(Form):
    """The summary of an audit."""

    studies: Sequence[StudyForm]


def refuse_other_form(summary: Mapping[str, Any], path: Path, remedy: str) -> None:
    """Raise a Refusal with the first place at which a summary is not what a comparison reads."""
    try:
        SummaryForm.model_validate(summary)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = shorten(".".join(map(str, first["loc"])))
        raise Refusal(
            f"{path}: not a summary that this version can compare with ({place}: {first['msg']}); carry out its plan "
            f"again, or {remedy}"
        ) from None
