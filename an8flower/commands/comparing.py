"""The command that puts finished runs side by side."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from ..errors import Refusal
from .options import FILE, as_json
from .printing import echo_json


@click.command()
@click.argument("runs", nargs=-1, required=True, type=FILE)
@click.option("--metric", "metrics", multiple=True, help="A metric to show; repeatable.  [default: the leading one]")
@click.option("-o", "--output", type=FILE, help="Also write a page: one HTML file with all metrics.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of the intervals.")
@as_json
def compare(runs: tuple[Path, ...], metrics: tuple[str, ...], output: Path | None, seed: int, as_json: bool) -> None:
    """Put finished runs side by side: each cell of the first with that of every other.

    RUNS are two or more folders of finished audits, of scores, or of their exports. A cell is a data set, a model (by
    its architecture and seed), a method and a metric. Rows that all runs scored are paired: a later run is better or
    worse than the first, equal, or cannot be told. What cannot be compared (other data, another split or target, a
    metric that was computed in another way) is named with the reason, and a run without anything that can is refused.

    \b
    Example:  an8flower compare runs/before runs/after -o comparison.html
    """
    from ..evaluate.audits.comparison import compare as put_side_by_side

    document = put_side_by_side(*runs, seed=seed)
    _refuse_unknown(metrics, document)
    if output is not None:
        _write_page(document, output)
    if as_json:
        echo_json(document)
    else:
        _show(document, metrics)
        if output is not None:
            click.echo(str(output))


def _refuse_unknown(metrics: tuple[str, ...], document: Mapping[str, Any]) -> None:
    """Raise WrongUsage for a metric that is not compared."""
    from ..names import check_known

    known = list(dict.fromkeys(name for study in document["studies"] for name in study["metrics"]))
    for name in metrics:
        check_known("metric", name, known)


def _write_page(document: Mapping[str, Any], output: Path) -> None:
    from ..evaluate.report.comparison import write_comparison

    try:
        write_comparison(document, output)
    except OSError as error:
        raise Refusal(f"{output}: cannot be written ({error.strerror}); choose another place with -o") from None


def _show(document: Mapping[str, Any], metrics: tuple[str, ...]) -> None:
    """Print the runs, a table for each data set and metric, the counts, and what was left out."""
    from ..evaluate.results import comparison_words as words
    from .fitting import show

    show(words.RUN_COLUMNS, words.run_rows(document))
    for study in document["studies"]:
        for metric in words.metrics_to_show(study, metrics):
            better = "higher is better" if study["higher_is_better"][metric] else "lower is better"
            title = f"{metric} ({better}) on {words.describe_study(study)}"
            show(words.cell_columns(study), words.cell_rows(study, metric), title=title)
    for sentence in [*words.count_sentences(document), *words.remarks(document)]:
        click.echo(click.wrap_text(sentence, subsequent_indent="  "))
    if left_out := words.left_out_rows(document):
        show(words.LEFT_OUT_COLUMNS, left_out)
