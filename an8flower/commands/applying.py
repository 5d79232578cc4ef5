"""What `an8flower methods --model` does: try each method on a network, and say which ones run and what they cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .printing import echo_json

ORDER = ("runs", "not tried", "does not apply", "fails")


def show_applicable(
    pattern: str,
    model: str,
    run: Path | None,
    as_json: bool,
    *,
    weights: Path | None,
    data: Path | None,
    rows: int,
    batch: int | None,
    device: str,
    in_process: bool,
    time_limit: float,
    memory_limit: float | None,
    **network: Any,
) -> None:
    """Try the methods that a text stands for on a model, and print what came of it."""
    from ..evaluate.audits.applicable import TriedModel, try_all
    from ..evaluate.models.sources import NetworkSettings, pair_with_weights
    from ..evaluate.resources import settle_on
    from .progress import filling
    from .workers import open_worker

    settings = NetworkSettings.read(**network)
    (source,) = pair_with_weights([model], [weights] if weights else [], settings)
    tried = TriedModel(source, data, rows, str(settle_on(device)), batch)
    with open_worker(in_process, time_limit, memory_limit) as engine, filling("trying") as progress:
        classifier, results = try_all(pattern, tried, engine, progress)
    entries = [result.to_document() for result in results]
    scores = _read_scores(run, classifier.digest) if run else []
    for entry in entries:
        entry["scores"] = [score for score in scores if score["method"] == entry["method"].partition(":")[0]]
    document = {
        "model": {"arch": classifier.variant, "seed": classifier.seed, "digest": classifier.digest},
        "pictures": {"data": None if data is None else str(data), "rows": rows},
        "methods": entries,
    }
    if as_json:
        echo_json(document)
    else:
        _show(document, entries, has_scores=bool(scores))


def _read_scores(run: Path, digest: str) -> list[dict[str, Any]]:
    """What an audit says of the methods on a model; raises Refusal if it did not score the model."""
    from ..evaluate.results.audited import scores_of_model
    from ..evaluate.results.notebook import AuditResult

    return scores_of_model(AuditResult.read(run).summary, digest)


def _show(document: Mapping[str, Any], entries: Sequence[Mapping[str, Any]], has_scores: bool) -> None:
    """Print a table of the methods that run, with their cost, and below it the others with their reasons."""
    from ..evaluate.results.wording import model_words, number
    from .fitting import console, show

    def say(sentence: str) -> None:
        console().print(sentence, markup=False, highlight=False, soft_wrap=True)

    place = document["pictures"]["data"]
    say(f"{model_words(document['model'])}, tried on {'rows of ' + place if place else 'noise'}")
    running = sorted((e for e in entries if e["status"] == "runs"), key=lambda entry: entry["seconds"])
    columns = ["method", "family", "seconds per image", "forwards", "backwards", *(["score"] if has_scores else [])]
    rows = [
        [
            entry["method"],
            entry["family"],
            f"{entry['seconds']:.2g}",
            number(entry["forwards"], 1),
            number(entry["backwards"], 1),
            _score_words(entry),
        ]
        for entry in running
    ]
    if rows:
        show(
            columns,
            [row[: len(columns)] for row in rows],
            title=f"{len(rows)} run{'s' * (len(rows) == 1)}, cheapest first",
        )
    if has_scores:
        say(_explain_scores(entries))
    others = sorted((e for e in entries if e["status"] != "runs"), key=lambda entry: ORDER.index(entry["status"]))
    for entry in others:
        say(f"{entry['status']}: {entry['method']}: {entry['reason']}")


def _score_words(entry: Mapping[str, Any]) -> str:
    """The calibrated scores of a method in an audit, each with its parameters and the data set if there are several."""
    from ..evaluate.results.wording import number

    several = len({score["dataset"] for score in entry["scores"]}) > 1
    words = []
    for score in entry["scores"]:
        parameters = score["text"].partition(":")[2]
        about = ", ".join(filter(None, [score["dataset"] if several else "", parameters]))
        ends = f"{number(score['calibrated_low'], 2)} to {number(score['calibrated_high'], 2)}"
        words.append(f"{number(score['calibrated'], 2)} ({ends}){f' [{about}]' if about else ''}")
    return "; ".join(words)


def _explain_scores(entries: Sequence[Mapping[str, Any]]) -> str:
    """The sentence that says what the scores are: the metric, and the models that they are means of."""
    abouts = {(s["dataset"], s["metric"], s["models"]): None for entry in entries for s in entry["scores"]}
    parts = [f"{metric} on {dataset}, the mean over {models}" for dataset, metric, models in abouts]
    return f"score: calibrated, 0 is a random map, 1 the truth, with its 95 % interval; {'; '.join(parts)}"
