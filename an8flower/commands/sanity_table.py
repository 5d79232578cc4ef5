"""The sanity checks of methods as tables in a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import click

from ..evaluate.results.checks import score_words, verdict_words
from ..evaluate.results.sanity_outcomes import is_early, outcome_shown
from ..evaluate.results.wording import NAMES, failed_tests, method_name, model_words, number, open_reasons, scale_words
from .fitting import show


def show_sanity(document: Mapping[str, Any]) -> None:
    """Print what was randomised, the verdicts of all methods, and the walk down the network of a single one."""
    show_setting(document)
    results = document["results"]
    if results:
        show_verdicts(results)
    if len(results) == 1:
        show_similarities(results[0])
        for order, points in results[0]["curves"].items():
            show_curve(order, points)
    for entry in document["skipped"]:
        click.echo(f"skipped {entry['method']} on {entry['model']}: {entry['reason']}")
    for (unnoticed, models), methods in failed_tests([document]).items():
        notice = "notices" if len(methods) == 1 else "notice"
        click.echo(f"{', '.join(methods)} hardly {notice} {unnoticed} ({models})")
    for sentence in open_reasons(results):
        click.echo(sentence)


def show_setting(document: Mapping[str, Any]) -> None:
    """Print the model, which of its parameters were drawn anew, and how the model of permuted labels fared."""
    data, model, covered, labels = (document[name] for name in ("dataset", "model", "coverage", "labels"))
    draws = document["plan"]["draws"]
    click.echo(f"{data['name']}, {data['rows']} rows of {data['split']}, dealt among {draws} draws; target: predicted")
    click.echo(f"{model_words(model)}: accuracy {model['accuracy']:.2%}")
    sources = "; ".join(f"{count} by {source}" for source, count in covered["sources"].items())
    click.echo(
        f"drawn anew: {covered['parameters']} parameters with {covered['elements']:,} elements, "
        f"{covered['share']:.0%} of the network ({sources}); "
        f"{len(covered['constant'])} of them always start at the same value"
    )
    if "accuracy" in labels:
        click.echo(f"permuted labels: {labels['accuracy']:.0%} of {labels['rows']} training rows memorised")
    if labels["reason"]:
        click.echo(f"permuted labels: {labels['reason']}")


def show_verdicts(results: Sequence[Mapping[str, Any]]) -> None:
    """Print a line for each method: its scores, and the outcome of each test."""
    verdicts, headings = verdict_words(), score_words()
    tests = [test for test in verdicts if any(test in result["verdicts"] for result in results)]
    scores = [name for name in headings if any(name in result["scores"] for result in results)]
    rows = [
        [
            method_name(result),
            *(number(result["scores"][name]["mean"]) for name in scores),
            *(verdict_cell(result["verdicts"].get(test)) for test in tests),
        ]
        for result in results
    ]
    show(
        ["method", *(headings[name] for name in scores), *(verdicts[test] for test in tests)],
        rows,
        title="Spearman |map| on a scale: 0 = as unlike as maps of other images, 1 = the same map (95 % interval over "
        "draws); pass and fail: below and above 0.5, corrected for all tests of the method",
    )


def show_similarities(result: Mapping[str, Any]) -> None:
    """Print every similarity behind the verdicts on one method."""
    words = verdict_words()
    rows = [
        [
            words.get(test, test),
            NAMES[name],
            number(similar["mean"]),
            number(similar["unrelated"]),
            "1",
            number(similar["calibrated"]),
            f"{number(similar['low'])} to {number(similar['high'])}",
            str(verdict.get("draws", "-")),
            str(similar["n"]),
            str(similar["undefined"]),
        ]
        for test, verdict in result["verdicts"].items()
        for name, similar in verdict["similarities"].items()
    ]
    columns = [
        "test",
        "similarity",
        "raw",
        "other images",
        "same",
        "on the scale",
        "95 % interval",
        "draws",
        "n",
        "undefined",
    ]
    show(columns, rows)


def show_curve(order: str, points: Sequence[Mapping[str, Any]]) -> None:
    """Print how alike the maps are still after each step of randomisation."""
    rows = [
        [point["layer"], *(number(point[name]["mean"]) for name in NAMES), str(point["spearman_abs"]["undefined"])]
        for point in points
    ]
    show([order.replace("_", " "), *NAMES.values(), "undefined"], rows)


def verdict_cell(result: Mapping[str, Any] | None) -> str:
    """The outcome of a test as text, with the similarity of absolute maps; a dash if the test was not made."""
    if result is None:
        return "-"
    outcome = outcome_shown(result)[0]
    return outcome if is_early(result) else f"{outcome} {scale_words(result)[0]}".strip()
