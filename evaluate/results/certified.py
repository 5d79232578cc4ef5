"""Which models rely on the designed evidence, by their certificates: only these have the truth that we know."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from .wording import reliance

WHY_NOT = {
    "part": "its certificate says that it relies on the evidence in part",
    "no": "its certificate says that it does not rely on the evidence",
    "unknown": "its certificate cannot tell whether it relies on the evidence",
}
NO_CERTIFICATE = "it has no certificate"


class CertifiedModels(NamedTuple):
    """The models of one architecture that are certified to rely on the evidence, and why the others are not."""

    architecture: str
    models: tuple[str, ...]
    left_out: tuple[tuple[str, str], ...]  # each model with the reason

    def to_document(self) -> dict[str, Any]:
        """The models and the reasons, ready for JSON."""
        left_out = [{"model": model, "reason": reason} for model, reason in self.left_out]
        return {"architecture": self.architecture, "models": [*self.models], "left_out": left_out}


def choose_certified(
    models: Sequence[tuple[str, str]], certificates: Iterable[Mapping[str, Any]]
) -> list[CertifiedModels]:
    """The certified models of each architecture, in the order of `models`: pairs of an architecture and a name.

    >>> sure = {"mean": 1.0, "low": 0.95, "high": 1.0}
    >>> choose_certified([("net", "net-seed0-1a")], [{"model": "net-seed0-1a", "flip_rate": sure, "stability": sure}])
    [CertifiedModels(architecture='net', models=('net-seed0-1a',), left_out=())]
    """
    outcomes = {certificate["model"]: reliance(certificate) for certificate in certificates}
    chosen = []
    for architecture in dict.fromkeys(architecture for architecture, _ in models):
        names = [name for kind, name in models if kind == architecture]
        why_not = {name: WHY_NOT.get(outcomes[name]) if name in outcomes else NO_CERTIFICATE for name in names}
        left_out = tuple((name, reason) for name, reason in why_not.items() if reason)
        chosen.append(CertifiedModels(architecture, tuple(n for n in names if not why_not[n]), left_out))
    return chosen
