"""Plan: what an audit asks, in one validated value, read from TOML. No torch in here.

Everything in a plan changes the numbers, and nothing else does: where and how fast it is done is said elsewhere.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from an8flower.errors import Refusal, WrongUsage
from an8flower.names import unknown
from an8flower.toml import parse, read, sentence, tuples

from ..explainers.toolkits.adapters import is_foreign
from ..options import METHOD
from ..registry import is_factory

SHIPPED = files("an8flower.evaluate.audits") / "plans"
QUICK = "quick"  # the plan of `--quick`

Count = Annotated[int, Field(ge=1)]
Seed = Annotated[int, Field(ge=0)]


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Data(_Model):
    """A data set: a spec that is rendered where it is not there yet, or a file."""

    spec: str | None = None  # a preset, or a .toml file
    file: str | None = None  # an HDF5 file
    rows: Count | None = None  # in all, as `generate --rows`
    size: Count | None = None  # pixels
    seed: Seed | None = None

    @model_validator(mode="after")
    def _check(self) -> Data:
        if (self.spec is None) == (self.file is None):
            raise ValueError("data: give either spec (a preset, or a .toml file) or file (an .h5 file)")
        if self.file and (self.rows or self.size or self.seed is not None):
            raise ValueError(f"data: rows, size and seed are those of a spec; {self.file} is as it is")
        return self


class Models(_Model):
    """Classifiers: an architecture that is trained once for each seed, or one that is there."""

    arch: str | None = None
    seeds: Annotated[tuple[Seed, ...], Field(min_length=1)] = (0,)
    epochs: Count | None = None
    source: str | None = None  # a safetensors file, or package.module:factory
    weights: str | None = None  # a safetensors file for a factory's network

    @model_validator(mode="after")
    def _check(self) -> Models:
        if (self.arch is None) == (self.source is None):
            raise ValueError(
                "models: give either arch, which is trained, or source (a file, or package.module:factory)"
            )
        if self.weights and not self.source:
            raise ValueError("models: weights go with source = package.module:factory")
        return self


class Certificate(_Model):
    """What the models rely on."""

    rows: Count = 300  # or all where there are fewer


class Sanity(_Model):
    """Whether methods notice that a model is randomised."""

    methods: tuple[str, ...] | None = None  # those of the plan where None
    rows: Count = 30
    steps: Count = 8  # of the walks, at most
    draws: Count = 3  # of the whole network
    labels: bool = False  # whether a model memorises permuted labels as well, which takes minutes


class Pictures(_Model):
    """What is shown."""

    rows: Count = 6  # in the gallery
    extremes: Count = 3  # the best and the worst rows of each method


class Reduced(_Model):
    """The same plan at a size that two cores can do in minutes: what is not given stays."""

    rows: Count | None = None  # scored
    data_rows: Count | None = None
    size: Count | None = None
    seeds: tuple[Seed, ...] | None = None
    epochs: Count | None = None
    archs: Mapping[str, str] | None = None  # an architecture that stands in for another
    sanity_rows: Count | None = None
    labels: bool | None = None  # of the sanity checks


class Plan(_Model):
    """What an audit asks."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=60)]
    title: str = ""
    data: Annotated[tuple[Data, ...], Field(min_length=1)]
    models: Annotated[tuple[Models, ...], Field(min_length=1)]
    methods: Annotated[tuple[str, ...], Field(min_length=1)]
    metrics: Annotated[tuple[str, ...], Field(min_length=1)] = ("usual",)
    split: str = "test"
    rows: Count | None = None  # all where None
    target: Literal["label", "predicted"] = "label"
    seed: Seed = 0
    certificate: Certificate | None = Certificate()
    sanity: Sanity | None = None
    pictures: Pictures | None = Pictures()
    printed: tuple[str, ...] = ()  # tables from the literature that the page sets ours beside
    reduced: Reduced | None = None

    def document(self) -> dict[str, Any]:
        """All that it says, defaults filled in, ready for JSON."""
        return dict(json.loads(self.model_dump_json()))

    def own_code(self) -> list[str]:
        """The names in the plan whose modules would be imported, each once: this is what has to be trusted."""
        archs = [model.arch for model in self.models if model.arch]
        archs += (self.reduced.archs or {}).values() if self.reduced else ()
        places = [place for model in self.models for place in (model.source, model.weights) if place]
        methods = [*self.methods, *((self.sanity.methods or ()) if self.sanity else ())]
        names = [name for name in archs if ":" in name]
        names += [place for place in places if may_be_imported(place)]
        names += [text for text in methods if is_own_code(text) and not is_foreign(text)]
        names += [text for text in self.metrics if is_own_code(text)]
        return list(dict.fromkeys(names))

    def at_reduced_size(self) -> Plan:
        """The plan at the size that it calls reduced; raises Refusal where it calls none so."""
        if self.reduced is None:
            raise Refusal(f"{self.name}: has no [reduced] size; write one, or leave --reduced out")
        return _reduced(self, self.reduced)

    def instead(
        self,
        *,
        data: Sequence[str] = (),
        models: Sequence[str] = (),
        weights: Sequence[str] = (),
        methods: Sequence[str] = (),
        metrics: Sequence[str] = (),
        rows: int | None = None,
    ) -> Plan:
        """The same with what a user names instead, by the words of the command line; what is empty stays."""
        return self.changed(
            data=[_data_named(text) for text in data] or None,
            models=_models_named(models, weights) or None,
            methods=list(methods) or None,
            metrics=list(metrics) or None,
            rows=rows,
        )

    def changed(self, **changes: Any) -> Plan:
        """The same with other values, validated; those that are None stay."""
        given = self.document() | {key: value for key, value in changes.items() if value is not None}
        return from_mapping(given, self.name)


def is_own_code(text: str) -> bool:
    """Whether a method or metric is asked for as `package.module:attribute`, which is imported.

    >>> is_own_code("mine:Method"), is_own_code("mine:Method:a=1")
    (True, True)
    >>> is_own_code("smoothgrad:samples=5"), is_own_code("family:cam")
    (False, False)
    """
    match = METHOD.fullmatch(text)
    return match is not None and ":" in match["name"] and not text.startswith("family:")


def may_be_imported(place: str) -> bool:
    """Whether a model's place may be imported: a colon in it, unless it is a file that can be read in one way alone.

    `FACTORY with WEIGHTS` is read as two places, so that a file of that name proves nothing.
    """
    return is_factory(place) or (":" in place and " with " in place)


def load(name: str) -> Plan:
    """A shipped plan by its name, or the plan in a .toml file."""
    if name in shipped():
        return from_mapping(parse((SHIPPED / f"{name}.toml").read_text(encoding="utf-8")), name)
    if name.endswith(".toml"):
        return from_mapping(read(Path(name), "give a shipped plan's name or a .toml file"), name)
    raise WrongUsage(unknown("plan", name, shipped()) + " (or give a .toml file)")


def shipped() -> list[str]:
    """The names of the plans that come with the package."""
    return sorted(entry.name.removesuffix(".toml") for entry in SHIPPED.iterdir() if entry.name.endswith(".toml"))


def from_mapping(given: Mapping[str, Any], source: str) -> Plan:
    """Validate a mapping; raises Refusal with the place and the remedy. `source` names it in the message."""
    try:
        return Plan.model_validate(tuples(given))
    except ValidationError as error:
        raise Refusal(f"{source}: {sentence(error, 'plan')}") from None


def _reduced(plan: Plan, to: Reduced) -> Plan:
    stand_ins = to.archs or {}
    data = [each if each.file else _with(each, rows=to.data_rows, size=to.size) for each in plan.data]
    models = [
        _with(each, arch=stand_ins.get(each.arch), seeds=to.seeds, epochs=to.epochs) if each.arch else each
        for each in plan.models
    ]
    sanity = plan.sanity and _told([_with(plan.sanity, rows=to.sanity_rows, labels=to.labels)])[0]
    name = f"{plan.name}-reduced"
    return plan.changed(name=name, data=_told(data), models=_told(models), rows=to.rows, sanity=sanity)


def _with(given: Any, **changes: Any) -> Any:
    return given.model_copy(update={key: value for key, value in changes.items() if value is not None})


def _data_named(text: str) -> dict[str, Any]:
    """A file of rows, or what is rendered."""
    return {"file": text} if text.endswith((".h5", ".hdf5")) else {"spec": text}


def _models_named(texts: Sequence[str], weights: Sequence[str]) -> list[dict[str, Any]]:
    """A file or a factory, the latter with its weights, or an architecture that is trained."""
    factories = [text for text in texts if is_factory(text)]
    if weights and len(weights) != len(factories):
        raise WrongUsage(f"{len(weights)} --weights came for {len(factories)} factories; give one for each, or none")
    given = dict(zip(factories, weights, strict=False))
    return [
        {"source": text, "weights": given.get(text)} if ":" in text or text.endswith(".safetensors") else {"arch": text}
        for text in texts
    ]


def _told(models: Iterable[BaseModel]) -> list[Any]:
    return [json.loads(each.model_dump_json()) for each in models]
