"""Requirements: what the result of an audit has to show, written as one line of text. No torch in here.

`METHOD: METRIC >= NUMBER`, `METHOD: sane`, `METHOD: stable`, `certificate: relies`, `baseline: no worse`; a scale may
stand before the metric, and an architecture at the end: `gradcam: skill average_precision >= 0.2 on flowernet`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from an8flower.errors import WrongUsage
from an8flower.names import unknown

CERTIFICATE = "certificate"  # the subject of what is required of the models
BASELINE = "baseline"  # the subject of what is required of all methods beside an earlier run
SANE, STABLE, RELIES, NO_WORSE = "sane", "stable", "relies", "no worse"
CHECKS = {SANE: "sanity checks", STABLE: "agreement of maps"}  # the words that are required of a method, and of what
COSTS = ("seconds", "forwards", "backwards")
SHARES = ("accuracy", "flip_rate", "stability", "evidence_alone", "rim_alone", "rest_alone")
DECIDED_BY = ("by_shortcut", "by_evidence", "by_neither")  # where data have a shortcut that contradicts the evidence
MEAN = "mean"
SCALES = (MEAN, "calibrated", "skill", "of_this_picture")
TEXT = re.compile(
    r"\s*(?P<subject>\S(?:.*\S)?)\s*:\s+"
    rf"(?:(?P<word>{SANE}|{STABLE}|{RELIES}|no\s+worse)"
    rf"|(?:(?P<scale>{'|'.join(SCALES)})\s+)?(?P<quantity>[^\s<>]+)\s*"
    r"(?P<relation><=|>=|<|>)\s*(?P<bound>[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?))"
    r"(?:\s+on\s+(?P<architecture>\S+))?\s*"
)
SHORT = re.compile(r"\s*no\s+worse(\s+on\s+\S+)?\s*")  # `baseline: ` may be left out


@dataclass(frozen=True)
class Requirement:
    """One requirement: of a method or of the certificates, a number on one side of a bound, or a word."""

    subject: str  # a method as the plan writes it, CERTIFICATE or BASELINE
    quantity: str  # a metric as the plan writes it, one of COSTS, SHARES or DECIDED_BY, or one of the words
    scale: str = MEAN
    relation: str = ""  # <=, >=, < or >; empty for a word
    bound: float = 0.0
    architecture: str | None = None  # None: on every architecture

    @property
    def text(self) -> str:
        """The line that `parse_requirement` reads this requirement from."""
        return f"{self.subject}: {self.condition}"

    @property
    def condition(self) -> str:
        """The line without the subject, as it stands in the table `[require]` of a plan."""
        scale = "" if self.scale == MEAN else f"{self.scale} "
        comparison = f" {self.relation} {_write_number(self.bound)}" if self.relation else ""
        place = f" on {self.architecture}" if self.architecture else ""
        return f"{scale}{self.quantity}{comparison}{place}"

    @property
    def is_metric(self) -> bool:
        """Whether the quantity is a metric of a method."""
        return self.subject != CERTIFICATE and self.quantity not in (SANE, STABLE, NO_WORSE, *COSTS)


def _write_number(value: float) -> str:
    """The shortest text that is read as the same number.

    >>> _write_number(60.0), _write_number(0.1)
    ('60', '0.1')
    """
    return repr(value).removesuffix(".0")


def parse_requirement(text: str) -> Requirement:
    """Read a requirement from its line; raises WrongUsage with an example if it is none.

    >>> parse_requirement("gradcam: average_precision >= 0.5").bound
    0.5
    >>> parse_requirement("smoothgrad:samples=20: skill deletion:steps=28 > 0 on flowernet").architecture
    'flowernet'
    >>> parse_requirement("no worse").text
    'baseline: no worse'
    """
    if SHORT.fullmatch(text):
        text = f"{BASELINE}: {text}"
    match = TEXT.fullmatch(text)
    if match is None or not math.isfinite(float(match["bound"] or 0)):
        raise WrongUsage(
            f'"{text}" is no requirement; write METHOD: METRIC >= NUMBER, METHOD: {SANE} or {CERTIFICATE}: {RELIES}, '
            'as in "gradcam: average_precision >= 0.5"'
        )
    requirement = Requirement(
        match["subject"],
        " ".join((match["word"] or match["quantity"]).split()),
        match["scale"] or MEAN,
        match["relation"] or "",
        float(match["bound"] or 0),
        match["architecture"],
    )
    _refuse_wrong_pair(requirement, text)
    return requirement


def _refuse_wrong_pair(requirement: Requirement, text: str) -> None:
    """Raise WrongUsage if a subject does not have such a quantity."""
    of_models = requirement.subject == CERTIFICATE
    known = (RELIES, *SHARES, *DECIDED_BY)
    if of_models and requirement.quantity not in known:
        raise WrongUsage(f'"{text}": {unknown("share of a certificate", requirement.quantity, known)}')
    if not of_models and requirement.quantity == RELIES:
        raise WrongUsage(f'"{text}": only a model relies on the evidence; write {CERTIFICATE}: {RELIES}')
    if requirement.subject == BASELINE and requirement.quantity != NO_WORSE:
        raise WrongUsage(f'"{text}": beside an earlier run there is {NO_WORSE} alone; write {BASELINE}: {NO_WORSE}')
    if requirement.scale != MEAN and not requirement.is_metric:
        raise WrongUsage(f'"{text}": {requirement.scale} is a scale of metrics; leave it out')
    if requirement.quantity in COSTS and requirement.architecture:
        raise WrongUsage(f'"{text}": the cost of a method is a mean over all models; leave `on` out')


def refuse_unknown_names(
    requirements: Iterable[Requirement],
    *,
    methods: Collection[str],
    metrics: Collection[str],
    sane: Collection[str],
    stable: Collection[str] = (),
    certifies: bool,
    architectures: Collection[str] | None,
    compares: bool = False,
) -> None:
    """Raise WrongUsage for the first requirement that the results cannot speak about.

    Args:
        methods, metrics: what is scored, as the plan writes it.
        sane: the methods whose sanity is checked.
        stable: the methods whose maps are compared with each other.
        certifies: whether the models are certified.
        architectures: of the models; None if they are not known before the models are opened.
        compares: whether there is an earlier run to compare with.
    """
    for requirement in requirements:
        for kind, name, names in _names(requirement, methods, metrics, {SANE: sane, STABLE: stable}, architectures):
            if name not in names:
                raise WrongUsage(f"require: {_lack(kind, name, names)} (in {requirement.text!r})")
        if requirement.subject == CERTIFICATE and not certifies:
            raise WrongUsage(f"require: no model is certified here; leave {requirement.text!r} out")
        if requirement.quantity == NO_WORSE and not compares:
            raise WrongUsage(f"require: {requirement.text!r} than what? give the folder of an audit with --against")


def _lack(kind: str, name: str, names: Collection[str]) -> str:
    return unknown(kind, name, names) if names else f'{kind} "{name}" is not among the results'


def _names(
    requirement: Requirement,
    methods: Collection[str],
    metrics: Collection[str],
    checked: Mapping[str, Collection[str]],
    architectures: Collection[str] | None,
) -> Iterable[tuple[str, str, Collection[str]]]:
    """The names of a requirement that have to be known: what each is, the name, and those that are known."""
    if requirement.quantity in CHECKS:
        yield f"method of the {CHECKS[requirement.quantity]}", requirement.subject, checked[requirement.quantity]
    elif requirement.subject not in (CERTIFICATE, BASELINE):
        yield "method", requirement.subject, methods
    if requirement.is_metric:
        yield "metric", requirement.quantity, metrics
    if requirement.architecture and architectures is not None:
        yield "architecture", requirement.architecture, architectures
