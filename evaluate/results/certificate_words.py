"""What a certificate says in sentences: whether a model relies on the evidence, and what it reads."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, TypeGuard

from an8flower.interventions import SUPPRESSOR

from .wording import HALF, HIGH, LEAK, describe_redundancy, high_of, low_of, reliance

RELIES = {
    "yes": "{model} relies on the designed evidence, the {parts} (the limits of the 95 % intervals decide):",
    "part": "{model} relies in part on the designed evidence, the {parts} (the limits of the 95 % intervals decide):",
    "no": "{model} does not rely on the designed evidence, the {parts} (the limits of the 95 % intervals decide):",
    "unknown": "{model}: whether it relies on the {parts} cannot be told;",
}
VOID = "the void pixels, the rim of the evidence and what else changes with it, which no metric counts"
NEVER = {"mean": 0.0, "low": 0.0, "high": 0.0}  # the share of a rim that is not known
SMALL, PART = 1 / 3, 2 / 3  # shares of the mask below which a small part, and a part, of the evidence is used


def describe(certificate: Mapping[str, Any]) -> str:
    """The certificate's document in a few sentences."""
    sentences = [
        _main(certificate),
        *_more_rows(certificate),
        *_halves(certificate),
        *_reads(certificate),
        *_uses(certificate),
        *_redundant(certificate),
        *_shortcut(certificate),
        *describe_suppressor(certificate),
    ]
    return " ".join(sentences)


def _main(certificate: Mapping[str, Any]) -> str:
    parts = " and ".join(certificate["evidence"])
    start = RELIES[reliance(certificate)].format(model=certificate["model"], parts=parts)
    return (
        f"{start} given the {parts} of another class, it predicts that class in {cases(certificate['flip_rate'])}; "
        f"with all else drawn again, it stays with its prediction in {cases(certificate['stability'])}."
    )


def _more_rows(certificate: Mapping[str, Any]) -> Iterator[str]:
    """Say so if the shares would do and the limits of their intervals do not, for lack of rows."""
    shares = [certificate.get(name) for name in ("flip_rate", "stability", "evidence_alone")]
    means = [share["mean"] or 0 for share in shares if share is not None]
    leaks = [certificate.get(name) for name in ("rim_alone", "rest_alone")]
    leaking = any(is_known(share) and share["mean"] > LEAK for share in leaks)
    if reliance(certificate) != "yes" and min(means) >= HIGH and not leaking:
        yield (
            f"The shares themselves would do, but a limit of {certificate['flip_rate']['n']} rows lies beyond "
            f"{HIGH:.0%} or {LEAK:.0%}: certify more rows."
        )


def _halves(certificate: Mapping[str, Any]) -> Iterator[str]:
    """What each part of the change does by itself."""
    if is_known(evidence := certificate.get("evidence_alone")) and is_known(rest := certificate.get("rest_alone")):
        rim = certificate.get("rim_alone")
        yield (
            f"If only the pixels of the evidence change, it follows in {cases(evidence)}; "
            f"{f'if only its rim does, in {cases(rim)}; ' if is_known(rim) else ''}"
            f"if only all other pixels do, in {cases(rest)}."
        )


def _reads(certificate: Mapping[str, Any]) -> Iterator[str]:
    """What the model reads, as far as the limits of the shares allow to say."""
    evidence, rest = certificate.get("evidence_alone"), certificate.get("rest_alone")
    rim = certificate.get("rim_alone") or NEVER
    if high_of(certificate["flip_rate"]) < HALF:
        yield from _reads_else(certificate)
    elif not (is_known(evidence) and is_known(rest)):
        return
    elif max(low_of(rest), low_of(rim)) > high_of(evidence):
        what = "what surrounds the evidence" if low_of(rest) >= low_of(rim) else VOID
        rather = "not" if high_of(evidence) < HALF else "more than"
        yield f"It reads {what}, {rather} the evidence itself."
    elif high_of(evidence) < HALF and high_of(rest) < HALF and high_if_known(rim) < HALF:
        yield "It reads the evidence and what surrounds it together: neither alone turns its prediction."
    elif low_of(rest) > LEAK:
        yield "It reads the evidence, and what surrounds it as well."
    elif low_of(rim) > LEAK:
        yield f"It reads the evidence, and {VOID}, as well."
    elif low_of(evidence) >= HALF and high_of(rest) <= LEAK:
        needed = "" if SUPPRESSOR in certificate["stability_by_group"] else ": no pixel beside it is needed"
        yield f"It reads the evidence{needed}."


def high_if_known(share: Mapping[str, Any]) -> float:
    """The upper limit of a share; 0 if nothing is known of it."""
    return high_of(share) if is_known(share) else 0.0


def _reads_else(certificate: Mapping[str, Any]) -> Iterator[str]:
    """The group of factors, drawn again by itself, that changes the prediction most often."""
    stays = {name: share for name, share in certificate["stability_by_group"].items() if high_of(share) < HIGH}
    if stays:
        name = min(stays, key=lambda group: stays[group]["mean"])
        verb = "are" if name in ("petals", "leaves", "distractors") else "is"
        yield (
            f"It reads something else: its prediction changes most often if the {name} {verb} drawn again, "
            f"in {percent(1 - stays[name]['mean'])} of the cases."
        )


def _uses(certificate: Mapping[str, Any]) -> Iterator[str]:
    """How much of the evidence the model uses."""
    use = certificate.get("use") or {}
    area, error, pieces, share = (use.get(name) for name in ("area", "error", "pieces", "piece_share"))
    if is_known(area):
        amount = next((word for limit, word in ((SMALL, "a small part"), (PART, "part")) if area["high"] < limit), None)
        start = f"It uses {amount} of the evidence: " if amount else ""
        limits = f"(95 %: {percent(area['low'])} to {percent(area['high'])})"
        yield f"{start}90% of the effect within the mask lies on {percent(area['mean'])} of it {limits}."
    elif is_known(error):
        yield f"Its gradients do not tell how much of it is used: they miss the effect by {percent(error['mean'])}."
    if is_known(pieces) and is_known(share):
        yield (
            f"Its prediction follows once {pieces['mean']:.1f} pieces of the evidence on average, "
            f"{percent(share['mean'])} of them, have changed."
        )


def _redundant(certificate: Mapping[str, Any]) -> Iterator[str]:
    """What each of several sufficient sets does by itself."""
    sets, best = certificate.get("sufficient_sets"), certificate.get("best_set")
    if not sets:
        return
    yield f"The data are redundant: {describe_redundancy([way['parts'] for way in sets])}."
    shares = ", ".join(f"the {' and '.join(way['parts'])} in {cases(way['flip_rate'])}" for way in sets)
    yield f"Changed alone, its prediction follows {shares}{'; most often the ' + ' and '.join(best) if best else ''}."


def _shortcut(certificate: Mapping[str, Any]) -> Iterator[str]:
    decision = certificate["shortcut"]
    if decision and is_known(decision["by_shortcut"]):
        tag, evidence = percent(decision["by_shortcut"]["mean"]), percent(decision["by_evidence"]["mean"])
        yield (
            f"Where {decision['factor']} speaks for another class, it decides {tag} of the cases, "
            f"the evidence {evidence}."
        )


def describe_suppressor(certificate: Mapping[str, Any]) -> Iterator[str]:
    """Whether the background is used against what a suppressor adds to the evidence."""
    groups = certificate["stability_by_group"]
    shared, alone = groups.get(SUPPRESSOR), groups.get("background")
    if not (is_known(shared) and is_known(alone)):
        return
    moved = f"It changes its mind in {percent(1 - alone['mean'])} of the cases if the background alone is drawn again"
    together = f"in {percent(1 - shared['mean'])} if evidence and background change by the same"
    if high_of(alone) < low_of(shared):
        yield f"{moved}, {together}: it uses the background, which tells no class, to read the evidence."
    elif low_of(alone) >= HIGH:
        yield f"{moved}, {together}: it goes by the evidence alone, as association has it."
    else:
        yield f"{moved}, {together}: whether it uses the background is open."


def is_known(share: Mapping[str, Any] | None) -> TypeGuard[Mapping[str, Any]]:
    """Whether a share is there and has a value."""
    return share is not None and share["mean"] is not None


def cases(share: Mapping[str, Any]) -> str:
    """A share of the cases with its limits, in words."""
    if share["mean"] is None:
        return "an unknown share of the cases"
    return f"{percent(share['mean'])} of the cases (95 %: {percent(share['low'])} to {percent(share['high'])})"


def percent(share: float) -> str:
    """A share in percent, with one decimal."""
    return f"{share:.1%}"
