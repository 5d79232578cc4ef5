"""The section of the page about variants: what changes where something is built into a network, and where not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from .numbers import DASH, between, between_shares, count_of, join_names, number, percent
from .reading import AuditFolder
from .sections import PageSection, add_section
from .study import StudyView

COLUMNS = (
    *("metric", "without", "with", "difference", "95 %, these models", "told apart"),
    *("95 %, trained anew", "told apart", "beyond controls", "95 %", "told apart"),
)
DETAILS = (
    *("metric", "method", "without", "with", "difference", "95 %, these models", "p (Holm)"),
    *("95 %, trained anew", "p (Holm)"),
)
SHARES = {
    "flip_rate": "follows the evidence",
    "stability": "stays when the rest changes",
    "rim_alone": "its rim alone",
    "rest_alone": "all other pixels alone",
}
TRENDS = (
    *("printed trend", "in rows", "ours", "difference", "95 %, these models", "holds"),
    *("95 %, trained anew", "holds", "beyond controls", "95 %"),
)


class PrintedView(NamedTuple):
    """The printed tables of a publication, and whether its trends hold in the numbers of the audit."""

    publication: Mapping[str, Any]
    methods: str  # by whose mean trends are decided
    trends: Sequence[Sequence[str]]


class VariantView(NamedTuple):
    """One variant beside its plain architecture, as the page shows it."""

    title: str
    sentence: str
    facts: Sequence[Sequence[str]]
    metrics: Sequence[Sequence[str]]
    details: Sequence[Sequence[str]]
    printed: Sequence[PrintedView]


@add_section
def show_variants(studies: Sequence[StudyView], summary: Mapping[str, Any], source: AuditFolder) -> PageSection | None:
    """Every variant beside its plain architecture; None if no architecture was scored in both ways."""
    by_study = [
        (study, list(map(_view, documents))) for study in studies if (documents := study.document.get("variants"))
    ]
    if not by_study:
        return None
    content = {
        "by_study": by_study,
        "columns": COLUMNS,
        "details": DETAILS,
        "facts": ("", "without", "with", "difference", "95 % over seeds"),
        "many": len(studies) > 1,
        "trends": TRENDS,
        "number": number,
    }
    return PageSection("variants", "With and without", content, "variants")


def _view(document: Mapping[str, Any]) -> VariantView:
    metrics = document["metrics"]
    return VariantView(
        title=f"{document['variant']} beside {document['without']}",
        sentence=_sentence(document),
        facts=_facts(document),
        metrics=[_metric_row(name, metric) for name, metric in metrics.items() if metric["all"]],
        details=[_detail(name, entry) for name, metric in metrics.items() for entry in metric["methods"]],
        printed=list(map(_beside_printed, document["printed"])),
    )


def _sentence(document: Mapping[str, Any]) -> str:
    """Which metrics get better or worse, for models trained anew if there are seeds enough."""
    metrics = {name: metric for name, metric in document["metrics"].items() if metric["all"]}
    scope = "anew" if all(metric["all"]["anew"] for metric in metrics.values()) else "these"
    outcomes: dict[str, list[str]] = {"better": [], "worse": []}
    for name, metric in metrics.items():
        if metric["all"][scope]["apart"]:
            up = (metric["all"]["difference"] > 0) == metric["higher_is_better"]
            outcomes["better" if up else "worse"].append(name)
    parts = [f"{outcome}: {join_names(names)}" for outcome, names in outcomes.items() if names]
    words = {"anew": "trained anew", "these": "these models"}[scope]
    seeds = count_of(len(document["seeds"]), "seed")
    return f"{seeds}, paired. By the mean of the methods ({words}), {'; '.join(parts) or 'no metric differs'}."


def _facts(document: Mapping[str, Any]) -> list[list[str]]:
    """Accuracy and certificates, without and with."""
    rows = [_share("test accuracy", document["accuracy"])]
    if certificates := document["certificates"]:
        rows += [_share(SHARES[name], share) for name, share in certificates["shares"].items()]
        counts = [f"{certificates[key]} of {len(document['seeds'])}" for key in ("relying_without", "relying_with")]
        rows.append(["certified to rely on the evidence", *counts, DASH, DASH])
    return rows


def _share(title: str, share: Mapping[str, Any]) -> list[str]:
    return [title, *(percent(share[key]) for key in ("without", "with", "difference")), between_shares(share)]


def _metric_row(name: str, metric: Mapping[str, Any]) -> list[str]:
    """One metric by the mean over the methods."""
    pooled, beyond = metric["all"], metric["beyond"]
    return [
        f"{name} {'↑' if metric['higher_is_better'] else '↓'}",
        number(pooled["without"]),
        number(pooled["with"]),
        number(pooled["difference"]),
        *_limits(pooled["these"]),
        *_limits(pooled["anew"]),
        number(beyond["difference"]) if beyond else DASH,
        *_limits(_widest(beyond)),
    ]


def _widest(pooled: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    """The test of a difference for models trained anew, else for these; None without a difference."""
    return (pooled["anew"] or pooled["these"]) if pooled else None


def _limits(test: Mapping[str, Any] | None, digits: int = 3) -> tuple[str, str]:
    """The interval of a difference in one scope, and whether it is told apart from 0."""
    return (between(test["low"], test["high"], digits), "yes" if test["apart"] else "no") if test else (DASH, DASH)


def _detail(name: str, entry: Mapping[str, Any]) -> list[str]:
    """One method by one metric."""
    tests = [entry[scope] or {"low": None, "high": None, "p_holm": None} for scope in ("these", "anew")]
    return [
        name,
        f"{entry['text']} (control)" if entry["control"] else entry["text"],
        *(number(entry[key]) for key in ("without", "with", "difference")),
        *(text for test in tests for text in (between(test["low"], test["high"]), number(test["p_holm"]))),
    ]


def _beside_printed(publication: Mapping[str, Any]) -> PrintedView:
    trends = publication["trends"]
    methods = list(dict.fromkeys(method for trend in trends for method in trend["methods"]))
    return PrintedView(publication, join_names(methods), [_trend(trend, publication["units"]) for trend in trends])


def _trend(trend: Mapping[str, Any], units: Mapping[str, str]) -> list[str]:
    """A printed trend, our difference by the mean over the printed methods, and whether the trend holds in it."""
    statement = f"{units[trend['metric']]} gets {'better' if trend['better'] else 'worse'}"
    printed, measured, beyond = trend["printed"], trend["measured"], trend["beyond"]
    if not measured:
        return [statement, *[DASH] * 4, trend["these"], DASH, trend["anew"], DASH, DASH]
    return [
        statement,
        f"{printed['hold']} of {printed['of']}",
        f"{number(measured['without'], 2)} → {number(measured['with'], 2)}",
        number(measured["difference"], 2),
        *(text for scope in ("these", "anew") for text in (_limits(measured[scope], 2)[0], trend[scope])),
        number(beyond["difference"], 2) if beyond else DASH,
        _limits(_widest(beyond), 2)[0],
    ]
