"""Plans: everything that decides the numbers of an audit, in one validated value, read from TOML. No torch.

Each stage of the audit adds a table to the plan, which stands in the file of the stage.
A plan says nothing about engines, devices or folders, since they change no number.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal, Optional, get_args

from pydantic import BaseModel, Field, ValidationError, create_model, model_validator

from an8flower.errors import Refusal, WrongUsage
from an8flower.names import unknown
from an8flower.toml import parse, read, sentence, tuples

from ..explainers.toolkits.adapters import is_foreign
from ..models.penalty_words import Distance, Scalar
from ..options import METHOD, is_of_quantus, is_stored
from ..registry import is_factory, is_from_elsewhere, names_code, takes_weights, variant_of
from ..results.checks import verdict_words
from ..results.decisions import WITHOUT_VERDICT
from ..results.requirements import Requirement, parse_requirement
from ..results.verdict_rules import VerdictRules
from .plan_table import Count, PlanTable, Seed
from .stage import Stage, stages_by_name
from .titles import title_of

SHIPPED = files("an8flower.evaluate.audits") / "plans"
QUICK = "quick"  # the plan of `--quick`
PLANTED = "planted"  # the plan for photographs with planted marks, if none is named


class Data(PlanTable):
    """A data set: a spec that is rendered where it is not there yet, or a file."""

    spec: str | None = None  # a preset, or a .toml file
    file: str | None = None  # an HDF5 file
    rows: Count | None = None  # in all, as `generate --rows`
    size: Count | None = None  # pixels
    seed: Seed | None = None
    agreement: Annotated[float, Field(ge=0, le=1)] | None = None  # of the spec's shortcut, in training and validation

    @model_validator(mode="after")
    def _check(self) -> Data:
        if (self.spec is None) == (self.file is None):
            raise ValueError("data: give either spec (a preset, or a .toml file) or file (an .h5 file)")
        if self.file and (self.rows or self.size or self.seed is not None or self.agreement is not None):
            raise ValueError(f"data: rows, size, seed and agreement are those of a spec; {self.file} is as it is")
        return self


# Keys of a model that go with `arch` alone.
TRAINING = ("init", "starts_from", "freeze", "learning_rate", "gradient_penalty")


class Models(PlanTable):
    """Classifiers: an architecture that is trained once for each seed, or a model that exists already."""

    arch: str | None = None
    seeds: Annotated[tuple[Seed, ...], Field(min_length=1)] = (0,)
    epochs: Count | None = None
    learning_rate: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    init: str | None = None  # a safetensors file: pretrained weights that training starts from
    starts_from: str | None = None  # a variant of this plan: training starts from its model of the same data and seed
    freeze: str | None = None  # the layer up to which nothing is trained
    source: str | None = None  # a safetensors file, package.module:factory, or timm:NAME and its like
    weights: str | None = None  # a safetensors file for a factory's network
    labels: str | None = None  # a file of class names, in the order of the network's outputs
    normalise: str | None = None  # imagenet, none, or M,M,M:S,S,S
    layer: str | None = None  # the layer that CAMs look at
    gradient_penalty: Distance | None = None  # added to the loss: how far input gradients are from guided ones
    strength: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None  # the weight of that penalty
    gradient_of: Scalar | None = None  # whose gradient the penalty is about

    @property
    def variant(self) -> str | None:
        """The name by which results group what is trained; None for a model that exists already."""
        return self.arch and variant_of(self.arch, self.gradient_penalty or "", self.freeze or "")

    @model_validator(mode="after")
    def _check(self) -> Models:
        if (self.arch is None) == (self.source is None):
            raise ValueError(
                "models: give either arch, which is trained, or source (a file, or package.module:factory)"
            )
        if self.weights and not self.source:
            raise ValueError("models: weights go with source = package.module:factory")
        if self.labels and not self.source:
            raise ValueError("models: labels go with source; what is trained has the classes of the data")
        if self.source and (keys := [key for key in TRAINING if getattr(self, key) is not None]):
            raise ValueError(f"models: {keys[0]} goes with arch, which is trained; {self.source} is as it is")
        if self.init and self.starts_from:
            raise ValueError("models: give either init (a file) or starts_from (what this plan trains)")
        if self.gradient_penalty is None and (self.strength is not None or self.gradient_of is not None):
            raise ValueError("models: strength and gradient_of go with gradient_penalty")
        return self


class Verdict(PlanTable):
    """The thresholds by which methods are trusted, or not; bounds of intervals are held against them."""

    skill: Annotated[float, Field(ge=0, lt=1)] = VerdictRules.skill
    best: Annotated[int, Field(ge=0, le=2)] = VerdictRules.best
    rows: Count = VerdictRules.rows
    silent: Annotated[float, Field(ge=0, le=1)] = VerdictRules.silent
    shortcut: Annotated[float, Field(gt=0, lt=1)] = VerdictRules.shortcut
    insane: tuple[str, ...] = VerdictRules.insane
    checked: bool = VerdictRules.checked

    @model_validator(mode="after")
    def _check(self) -> Verdict:
        known = [test for test in verdict_words() if test not in WITHOUT_VERDICT]
        if wrong := [test for test in self.insane if test not in known]:
            raise ValueError(f"verdict: {unknown('sanity test', wrong[0], known)}")
        return self


class Reduced(PlanTable):
    """The same plan at a size that two cores can do in minutes: what is not given stays.

    Stages add keys that replace some of their own table.
    """

    rows: Count | None = None  # scored
    data_rows: Count | None = None
    size: Count | None = None
    seeds: tuple[Seed, ...] | None = None
    epochs: Count | None = None
    archs: Mapping[str, str] | None = None  # an architecture that stands in for another


class Plan(PlanTable):
    """What an audit asks. Stages add a table each: `plan_type` has them all."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=60)]
    title: str = ""
    data: Annotated[tuple[Data, ...], Field(min_length=1)]
    models: Annotated[tuple[Models, ...], Field(min_length=1)]
    methods: Annotated[tuple[str, ...], Field(min_length=1)]
    metrics: Annotated[tuple[str, ...], Field(min_length=1)] = ("usual",)
    leading: tuple[str, ...] = ()  # of the metrics; iou_area and counterfactual_deletion if nothing is named
    split: str = "test"
    rows: Count | None = None  # all where None
    target: Literal["label", "predicted"] = "label"
    truth: Literal["association", "use"] = "association"  # what masks mark, of data with a suppressor
    seed: Seed = 0
    printed: tuple[str, ...] = ()  # tables from the literature that the page sets ours beside
    require: Mapping[str, tuple[str, ...]] = {}  # what has to hold: conditions by their subject
    verdict: Verdict = Verdict()
    reduced: Reduced | None = None

    @model_validator(mode="before")
    @classmethod
    def _take_tuned(cls, values: Any) -> Any:
        """Let an entry of `methods` be a table `{ method = "attnlrp", tune = true }`: it is then tuned as well."""
        return list_tuned(values) if isinstance(values, Mapping) else values

    @model_validator(mode="after")
    def _check_starts(self) -> Plan:
        for entry in self.models:
            if entry.starts_from is not None:
                _check_start(entry, self.models)
        return self

    @model_validator(mode="after")
    def _check_requirements(self) -> Plan:
        try:
            self.requirements()
        except WrongUsage as error:
            raise ValueError(f"require: {error}") from None
        return self

    def requirements(self) -> list[Requirement]:
        """What the results have to show; raises WrongUsage for a text that is no requirement."""
        texts = [f"{subject}: {text}" for subject, conditions in self.require.items() for text in conditions]
        return list(map(parse_requirement, texts))

    def document(self) -> dict[str, Any]:
        """The plan as a JSON document, with the defaults filled in."""
        return dict(json.loads(self.model_dump_json()))

    def own_code(self) -> list[str]:
        """The names in the plan whose modules would be imported, each once; the user has to trust them."""
        archs = [model.arch for model in self.models if model.arch]
        archs += (self.reduced.archs or {}).values() if self.reduced else ()
        places = [place for model in self.models for place in (model.source, model.weights) if place]
        tables = [table for key in stage_tables() if (table := getattr(self, key))]
        methods = [*self.methods, *(text for table in tables for text in getattr(table, "methods", None) or ())]
        names = [name for name in archs if names_code(name)]
        names += [place for place in places if may_be_imported(place)]
        names += [text for text in methods if is_own_code(text) and not is_foreign(text) and not is_stored(text)]
        names += [text for text in self.metrics if is_own_code(text) and not is_of_quantus(text)]
        return list(dict.fromkeys(names))

    def at_reduced_size(self) -> Plan:
        """The plan at its reduced size; raises Refusal if it has no table `[reduced]`."""
        if self.reduced is None:
            raise Refusal(f"{self.name}: has no [reduced] size; write one, or leave --reduced out")
        return _shrink(self, self.reduced)

    def instead(
        self,
        *,
        data: Sequence[str] = (),
        models: Sequence[str] = (),
        weights: Sequence[str] = (),
        settings: Mapping[str, str | None] | None = None,
        methods: Sequence[str] = (),
        metrics: Sequence[str] = (),
        rows: int | None = None,
        require: Sequence[str] = (),
    ) -> Plan:
        """A copy of the plan with values from the command line; an empty value leaves that of the plan.

        If there are other metrics, the plan's leading ones are forgotten. With other data, models or methods the plan's
        title would be false, and another is made. `settings` are labels, normalise and layer of the factories among the
        models. Requirements are added to those of the plan.
        """
        changed = self.with_changes(
            data=[_parse_data(text) for text in data] or None,
            models=_parse_models(models, weights, settings or {}) or None,
            methods=list(methods) or None,
            metrics=list(metrics) or None,
            leading=[] if metrics else None,
            rows=rows,
            require=_by_subject([*self.requirements(), *map(parse_requirement, require)]) if require else None,
        )
        return changed.with_changes(title=title_of(changed)) if data or models or methods else changed

    def with_changes(self, **changes: Any) -> Plan:
        """A validated copy of the plan with other values; None leaves that of the plan."""
        values = self.document() | {key: value for key, value in changes.items() if value is not None}
        return from_mapping(values, self.name)


def list_tuned(values: Mapping[str, Any]) -> dict[str, Any]:
    """A plan whose methods are texts; those that are tables with `tune = true` are listed in `[tune]` as well.

    >>> list_tuned({"methods": ("cam", {"method": "lrp", "tune": True})})
    {'methods': ('cam', 'lrp'), 'tune': {'methods': ('lrp',)}}
    """
    entries = values.get("methods")
    if not isinstance(entries, tuple | list) or not any(isinstance(entry, Mapping) for entry in entries):
        return dict(values)
    tables = [entry for entry in entries if isinstance(entry, Mapping)]
    if wrong := [entry for entry in tables if set(entry) - {"tune"} != {"method"}]:
        raise ValueError(f'methods: {dict(wrong[0])}; expected a text, or {{ method = "NAME", tune = true }}')
    texts = tuple(entry["method"] if isinstance(entry, Mapping) else entry for entry in entries)
    named = tuple(entry["method"] for entry in tables if entry.get("tune") is True)
    table = dict(values.get("tune") or {})
    tuned = {"tune": {**table, "methods": (*(table.get("methods") or ()), *named)}} if named else {}
    return {**values, "methods": texts, **tuned}


def stage_tables() -> dict[str, type[BaseModel]]:
    """The types of the tables that stages add to a plan, by their keys."""
    return {stage.key: table for stage in stages_by_name().values() if (table := stage.table())}


def tables() -> dict[str, type[BaseModel]]:
    """The type of every table of a plan by its key; the plan itself has the key "Plan"."""
    fields = plan_type().model_fields
    reduced = next(kind for kind in get_args(fields["reduced"].annotation) if kind is not type(None))
    return {
        "Plan": plan_type(),
        "data": Data,
        "models": Models,
        **stage_tables(),
        "verdict": Verdict,
        "reduced": reduced,
    }


def plan_type() -> type[Plan]:
    """The type `Plan` extended by the tables of all stages."""
    return _with_tables(tuple((stage, table) for stage in stages_by_name().values() if (table := stage.table())))


@cache
def _with_tables(stages: tuple[tuple[type[Stage], type[BaseModel]], ...]) -> type[Plan]:
    tables: dict[str, Any] = {stage.key: (table | None, stage.default) for stage, table in stages}
    smaller: dict[str, Any] = {
        key: (_optional(table, name), None) for stage, table in stages for key, name in stage.reduced.items()
    }
    reduced: Any = create_model("Reduced", __base__=Reduced, __doc__=Reduced.__doc__, **smaller)
    return create_model("Plan", __base__=Plan, __doc__=Plan.__doc__, reduced=(reduced | None, None), **tables)


def _optional(table: type[BaseModel], key: str) -> Any:
    """The type of one key of a table, made optional."""
    return Optional[table.model_fields[key].rebuild_annotation()]  # noqa: UP045


def is_own_code(text: str) -> bool:
    """Whether a method or metric is named as `package.module:attribute`, which is imported.

    >>> is_own_code("mine:Method"), is_own_code("mine:Method:a=1")
    (True, True)
    >>> is_own_code("smoothgrad:samples=5"), is_own_code("family:cam")
    (False, False)
    """
    match = METHOD.fullmatch(text)
    return match is not None and ":" in match["name"] and not text.startswith("family:")


def may_be_imported(place: str) -> bool:
    """Whether a model's place may be imported: a colon in it, unless it is a file that can be read in one way alone.

    `FACTORY with WEIGHTS` is read as two places, so that a file of that name proves nothing. What a toolkit makes is
    no code of a user's.
    """
    if is_from_elsewhere(place):
        return False
    return is_factory(place) or (":" in place and " with " in place)


def load(name: str) -> Plan:
    """Load a shipped plan by its name, or the plan in a .toml file."""
    if name in shipped_plans():
        return from_mapping(parse((SHIPPED / f"{name}.toml").read_text(encoding="utf-8")), name)
    if name.endswith(".toml"):
        return from_mapping(read(Path(name), "give a shipped plan's name or a .toml file"), name)
    raise WrongUsage(unknown("plan", name, shipped_plans()) + " (or give a .toml file)")


def shipped_plans() -> list[str]:
    """The names of the plans that come with the package."""
    return sorted(entry.name.removesuffix(".toml") for entry in SHIPPED.iterdir() if entry.name.endswith(".toml"))


def from_mapping(values: Mapping[str, Any], source: str) -> Plan:
    """Validate a mapping; raises Refusal with the place and the remedy. `source` names it in the message."""
    try:
        return plan_type().model_validate(tuples(values))
    except ValidationError as error:
        raise Refusal(f"{source}: {sentence(error, 'plan')}") from None


def _shrink(plan: Plan, to: Reduced) -> Plan:
    """A copy of a plan at its reduced size, under the name NAME-reduced."""
    stand_ins = to.archs or {}
    data = [entry if entry.file else _with(entry, rows=to.data_rows, size=to.size) for entry in plan.data]
    models = [
        _with(
            entry,
            arch=stand_ins.get(entry.arch),
            starts_from=stand_ins.get(entry.starts_from or ""),
            seeds=to.seeds,
            epochs=to.epochs,
        )
        if entry.arch
        else entry
        for entry in plan.models
    ]
    models = list(dict.fromkeys(models))  # two architectures may have one stand-in
    tables = {
        stage.key: _to_json(_with(table, **{key: getattr(to, name) for name, key in stage.reduced.items()}))
        for stage in stages_by_name().values()
        if stage.reduced and (table := getattr(plan, stage.key))
    }
    require = [
        replace(it, architecture=stand_ins.get(it.architecture or "", it.architecture)) for it in plan.requirements()
    ]
    tables |= {"rows": to.rows, "require": _by_subject(require)}
    name = f"{plan.name}-reduced"
    return plan.with_changes(name=name, data=list(map(_to_json, data)), models=list(map(_to_json, models)), **tables)


def _check_start(entry: Models, entries: Sequence[Models]) -> None:
    """Raise ValueError unless a plan trains what an entry starts from, once, by itself, and for all of its seeds."""
    bases = [other for other in entries if other.variant == entry.starts_from and other.starts_from is None]
    if len(bases) != 1:
        known = ", ".join(str(other.variant) for other in entries if other.arch and other.starts_from is None)
        raise ValueError(
            f"models: {entry.variant} starts from {entry.starts_from}, which is to be one of {known or 'none here'}"
        )
    if missing := sorted(set(entry.seeds) - set(bases[0].seeds)):
        raise ValueError(f"models: {entry.variant} starts from {entry.starts_from}, which lacks seed {missing[0]}")


def _by_subject(requirements: Sequence[Requirement]) -> dict[str, list[str]]:
    """The table `[require]` of a plan with these requirements, each once."""
    table: dict[str, list[str]] = {}
    for requirement in dict.fromkeys(requirements):
        table.setdefault(requirement.subject, []).append(requirement.condition)
    return table


def _with(table: Any, **changes: Any) -> Any:
    """A copy of a table with other values; None leaves that of the table."""
    return table.model_copy(update={key: value for key, value in changes.items() if value is not None})


def _parse_data(text: str) -> dict[str, Any]:
    """The entry of a plan for `--data TEXT`: an HDF5 file, or a spec that is rendered."""
    return {"file": text} if text.endswith((".h5", ".hdf5")) else {"spec": text}


def _parse_models(
    texts: Sequence[str], weights: Sequence[str], settings: Mapping[str, str | None]
) -> list[dict[str, Any]]:
    """The entries of a plan for `--model` and `--weights`: files, factories with weights, or archs to train."""
    factories = [text for text in texts if is_factory(text)]
    receivers = [text for text in texts if takes_weights(text)]
    if weights and len(weights) != len(receivers):
        raise WrongUsage(f"{len(weights)} --weights came for {len(receivers)} factories; give one for each, or none")
    said = {key: value for key, value in settings.items() if value is not None}
    if said and not factories:
        raise WrongUsage(
            f"--{next(iter(said))} is for --model package.module:factory; in a plan, it is a key of models"
        )
    by_factory = dict.fromkeys(factories, said)
    by_factory |= {text: {**said, "weights": place} for text, place in zip(receivers, weights, strict=False)}
    return [{"source": text, **by_factory.get(text, {})} if _is_source(text) else {"arch": text} for text in texts]


def _is_source(text: str) -> bool:
    """Whether a text names a file or a factory, and not an architecture."""
    return ":" in text or text.endswith(".safetensors")


def _to_json(table: BaseModel) -> Any:
    return json.loads(table.model_dump_json())
