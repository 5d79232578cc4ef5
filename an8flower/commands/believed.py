"""What an audit says of its metrics, in the terminal: which of them may be believed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from shutil import get_terminal_size
from typing import Any

import click

from ..errors import Refusal
from ..names import check_known
from .printing import echo_json

WIDE = 84  # characters that a table with three columns takes


def show_believed(run: Path, metric: str | None, as_json: bool) -> None:
    """Print which metrics of an audit may be believed; of one metric alone if it is named.

    Raises Refusal if the folder holds no audit, one of before there was such a thing, or one without proxies or truths;
    WrongUsage if the audit does not know the metric.
    """
    from ..evaluate.report.reading import AuditFolder

    studies = AuditFolder(run).summary["studies"]
    if not all("metric_agreement" in study for study in studies):
        raise Refusal(
            f"{run}: its summary says nothing of metrics, since an earlier version wrote it; run the same audit again "
            "with -o, which does no cell twice"
        )
    documents = [_describe(study, metric) for study in studies]
    if not any(document["metric_agreement"] or document["metric_tests"] for document in documents):
        raise Refusal(
            f"{run}: has no metric that needs no truth beside one that knows it; run the plan `metrics`, or add "
            "insertion, deletion or average_drop to your plan's metrics"
        )
    if as_json:
        echo_json(documents)
        return
    for document in documents:
        _show_study(document)


def _describe(study: Mapping[str, Any], metric: str | None) -> dict[str, Any]:
    """The part of a study's summary about its metrics, or about one of them."""
    agreements, tests = study["metric_agreement"], study.get("metric_tests", [])
    if metric is not None:
        known = {pair["metric"] for entry in agreements for pair in entry["pairs"]}
        check_known("metric", metric, sorted(known.union(*(entry["metrics"] for entry in tests))))
        agreements = [_only(entry, "pairs", metric) for entry in agreements]
        tests = [_only(entry, "metrics", metric) for entry in tests]
    return {"dataset": study["dataset"]["name"], "metric_agreement": agreements, "metric_tests": tests}


def _only(entry: Mapping[str, Any], key: str, metric: str) -> dict[str, Any]:
    """An entry of one architecture with what it says of one metric alone."""
    if key == "metrics":
        return {**entry, key: {name: test for name, test in entry[key].items() if name == metric}}
    proxies = [name for name in entry["proxies"] if name == metric]
    return {**entry, "proxies": proxies, key: [pair for pair in entry[key] if pair["metric"] == metric]}


def _show_study(document: Mapping[str, Any]) -> None:
    """Print the tables of one data set."""
    from ..evaluate.results import metric_words as words

    for entry in document["metric_agreement"]:
        click.echo(f"{document['dataset']}, {entry['architecture']}. {words.about_words(entry)}")
        for truth in entry["truths"] if entry["pairs"] else ():
            rows = words.agreement_rows(entry, truth["metric"])
            title = f"Agreement with {truth['metric']} on the order of methods"
            if rows:
                show_columns(words.AGREEMENT_COLUMNS, rows, (0, 1, 2), title)
        said = [*words.agreement_sentences(entry), words.anew_sentence(entry), words.truth_sentence(entry)]
        for sentence in filter(None, said):
            click.echo(sentence)
    for entry in document["metric_tests"]:
        if entry["metrics"]:
            click.echo(f"{document['dataset']}, {entry['architecture']}. {words.about_words(entry)}")
            rows = words.known_map_rows(entry)
            show_columns(words.TEST_COLUMNS, rows, (0, 1, 2), "From the truth to noise")
            show_columns(words.TEST_COLUMNS, rows, (0, 3, 4), "Wrong maps")
            if sentence := words.misled_sentence(entry):
                click.echo(sentence)
        else:
            click.echo(f"{document['dataset']}, {entry['architecture']}: {entry['reason']}.")


def show_columns(columns: Sequence[str], rows: Sequence[Sequence[str]], places: Sequence[int], title: str) -> None:
    """Print some columns of a table; in a narrow terminal a table for each of them, with the first beside it."""
    from .fitting import show

    first, *others = places
    narrow = get_terminal_size((WIDE, 24)).columns < WIDE
    for chosen in [[first, other] for other in others] if narrow else [places]:
        shown = [[row[place].replace(" to ", ", ") for place in chosen] for row in rows]
        show([columns[place] for place in chosen], shown, title=title)
