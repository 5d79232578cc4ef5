"""What is required of the scores of a run: read before anything is scored, and decided when the scores are there."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from an8flower.errors import WrongUsage

from ..explaining.methods import Method
from ..metrics.naming import expand
from ..results.decisions import decide_all
from ..results.requirements import CERTIFICATE, SANE, Requirement, parse_requirement, refuse_unknown_names


def read_requirements(texts: Iterable[str], methods: Sequence[Method], metrics: Iterable[str]) -> list[Requirement]:
    """Read what has to hold of scores; raises WrongUsage for what a scoring run of these names cannot show."""
    requirements = [parse_requirement(text) for text in texts]
    for requirement in requirements:
        if requirement.subject == CERTIFICATE or requirement.quantity == SANE:
            raise WrongUsage(
                f"require: scores say nothing of {requirement.text!r}, since `score` certifies no model and checks no "
                "method's sanity; require it of `an8flower audit`"
            )
    refuse_unknown_names(
        requirements,
        methods=[method.text for method in methods],
        metrics=[name for text in metrics for name in expand(text)],
        sane=(),
        certifies=False,
        architectures=None,
    )
    return requirements


def decide_scores(requirements: Sequence[Requirement], document: Mapping[str, Any]) -> dict[str, Any]:
    """The document of a scoring run with its part `requirements`, each decided as in an audit."""
    return {**document, "requirements": decide_all(requirements, [_to_study(document)])}


def to_summary(document: Mapping[str, Any]) -> dict[str, Any]:
    """The document of a scoring run in the form of an audit's summary, for the files of verdicts."""
    return {
        "name": document["dataset"]["name"],
        "title": f"scores on {document['dataset']['name']}",
        "studies": [_to_study(document)],
        "requirements": document["requirements"],
        "failed": document["failed"],
    }


def _to_study(document: Mapping[str, Any]) -> dict[str, Any]:
    return {"dataset": document["dataset"], "scores": document}
