"""Results as tables in a terminal, and as CSV."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TextIO

from ..evaluate.results.scopes import models_text
from ..evaluate.results.wording import (
    BESIDE,
    LETTERS,
    NUMBERS,
    UNKNOWN,
    better_than,
    calibrated_ends,
    is_lower_better,
    letters,
    method_name,
    model_words,
    number,
)
from .fitting import console, show

Columns = dict[str, list[str]]  # cells by the heading of their column
SHARES = ("rows", "models", "residual")  # of the variance


def show_scores(document: Mapping[str, Any]) -> None:
    """Print what was scored, a table of all methods, how they compare, and what was left out."""
    data, results = document["dataset"], document["results"]
    _say(f"{data['name']}, {data['rows']} rows of {data['split']}, target: {document['target']}")
    for model in document["models"]:
        _say(f"{model_words(model)}: accuracy {model['accuracy']:.2%}{_reliance_words(model)}")
        for precision, error in model.get("precision_error", {}).items():
            _say(f"{precision}: probabilities are off by {error['mean']:.2g} on average, {error['max']:.2g} at most")
    if len(results) == 1:
        _show_one(results[0])
    elif results:
        for place, part in _by_board(document):
            _show_many(part["results"], document.get("families", {}), place)
    if results:
        for place, part in _by_board(document):
            _show_contrasts(part, place)
            if part.get("missing"):
                _say(f"Not ranked here, since not run on all of these models: {', '.join(part['missing'])}")
        _say_trained_anew(document)
    for cell in document["skipped"]:
        _say(f"skipped {cell['method']} on {cell['model']}: {cell['reason']}")
    for warning in document.get("warnings", []):
        _say(f"Warning: {warning}")
    for metric in document.get("left_out", []):
        _say(f"left out {metric['metric']}: {metric['reason']}")


def _by_board(document: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    """The document as it is for the models of each board, with their name in words; whole if it has one board or none.

    Methods that ran on different models never stand in one table.
    """
    boards = document.get("boards") or []
    if len(boards) < 2:
        board = boards[0] if boards else None
        return [("", _of_board(document, board) if board and len(document["results"]) > 1 else document)]
    return [(f"on {models_text(board['architectures'])}, ", _of_board(document, board)) for board in boards]


def _of_board(document: Mapping[str, Any], board: Mapping[str, Any]) -> dict[str, Any]:
    """The document for the methods of one board: their results, comparisons and ranks there."""
    by_text = {result["text"]: result for result in document["results"]}
    metrics = board["metrics"]
    results = []
    for text, equal in ((entry["text"], entry["equal"]) for entry in board["methods"]):
        numbers = {metric: metrics[metric]["results"][text] for metric in metrics}
        name = {"method": " = ".join([by_text[text]["method"], *equal])} if equal else {}
        results.append({**by_text[text], **name, "metrics": numbers})
    whole = len(board["models"]) == len(document["models"])
    return {
        **document,
        "results": results,
        "missing": board["missing"],
        "comparisons": {metric: part for metric, part in metrics.items() if len(results) > 1},
        "ranks": {metric: part["ranks"] for metric, part in metrics.items()},
        "power": {metric: part["pairs"] for metric, part in metrics.items()},
        "variance": document.get("variance", {}) if whole else {},
    }


def _say_trained_anew(document: Mapping[str, Any]) -> None:
    """What can be said of models trained anew by the leading metric, from the board that has most models."""
    boards = document.get("boards") or []
    if boards and len(document["results"]) > 1:
        _say(boards[-1]["metrics"][_leading(document)]["trained_anew"]["sentence"])


def _leading(document: Mapping[str, Any]) -> str:
    """The metric that ranks the methods, as the document says."""
    return str(document["leading"][0])


def write_csv(document: Mapping[str, Any], out: TextIO) -> None:
    """Write the scores as CSV, a line for each method and metric."""
    writer = csv.writer(out)
    writer.writerow(["method", "parameters", "metric", *NUMBERS, "seconds", "forwards", "backwards", *BESIDE])
    for result in document["results"]:
        parameters = ",".join(f"{key}={value}" for key, value in result["parameters"].items())
        for metric, numbers in result["metrics"].items():
            values = [numbers[key] for key in NUMBERS]
            beside = [numbers.get(key) for key in BESIDE]
            writer.writerow([result["method"], parameters, metric, *values, *result["cost"].values(), *beside])


def _reliance_words(model: Mapping[str, Any]) -> str:
    """In how many of the rows a model relies on the designed evidence, in words; empty if that was not measured."""
    reliance = model.get("reliance")
    return f", relies on the designed evidence in {reliance['share']:.1%} of the rows" if reliance else ""


def _show_one(result: Mapping[str, Any]) -> None:
    """Print one method's numbers, a line for each metric."""
    columns = ["metric", "mean", "95 % interval", "chance", "truth", "calibrated", "skill"]
    columns += ["of this picture", "where relied on", "n", "undefined"]
    rows = [
        [
            name + (" (lower is better)" if is_lower_better(m) else ""),
            number(m["mean"], 3),
            f"{number(m['low'], 3)} to {number(m['high'], 3)}",
            number(m["chance"], 3),
            number(m["oracle"], 3),
            number(m["calibrated"], 3),
            number(m.get("skill"), 3),
            number(m.get("of_this_picture"), 3),
            number((m.get("relying") or {}).get("calibrated"), 3),
            str(m["n"]),
            str(m["undefined"]),
        ]
        for name, m in result["metrics"].items()
    ]
    show(columns, rows, title=f"{method_name(result)}   ({_costs(result)})")


def _show_many(results: Sequence[Mapping[str, Any]], families: Mapping[str, str], place: str = "") -> None:
    """Print methods against metrics: calibrated means with half the width of their 95 % interval."""
    caption = (
        "calibrated: 0 = a random map, 1 = the truth; ± half of the 95 % interval; - undefined, or chance is the truth"
    )
    caption = _capitalise(f"{place}{caption}") if place else caption
    names = [result["method"] for result in results]
    methods = [method_name(result) if names.count(result["method"]) > 1 else result["method"] for result in results]
    scores = {name: [_calibrated_text(result["metrics"][name]) for result in results] for name in results[0]["metrics"]}
    costs = {"ms": [_milliseconds(result) for result in results]}
    room = console().width - _width({"method": methods, **costs}) - 2  # at the edges
    for i, part in enumerate(_split_to_fit(scores, families, room)):
        columns = {"method": methods, **part, **costs}
        title = f"{families.get(next(iter(part)), 'further metrics')}, likewise" if i else caption
        show(list(columns), list(zip(*columns.values(), strict=True)), title=title)


def _split_to_fit(columns: Columns, families: Mapping[str, str], room: int) -> list[Columns]:
    """Split columns into as few tables as fit the width; if it takes several, no table mixes families of metrics."""
    if _width(columns) <= room:
        return [columns]
    parts: list[Columns] = []
    for family in dict.fromkeys(families.get(name, "") for name in columns):
        part: Columns = {}
        for name, cells in columns.items():
            if families.get(name, "") == family:
                if part and _width({**part, name: cells}) > room:
                    parts.append(part)
                    part = {}
                part = {**part, name: cells}
        parts.append(part)
    return parts


def _width(columns: Columns) -> int:
    """The width of columns in a table, in characters, with the space between them."""
    return sum(max(map(len, [name, *cells])) + 3 for name, cells in columns.items())


def _show_contrasts(document: Mapping[str, Any], place: str = "") -> None:
    """Print for one leading metric which methods differ, how firm their order is, and where scores vary."""
    results = document["results"]
    metric = _leading(document)
    shares = document.get("variance", {}).get(metric, {})
    ranks, compared = (document.get(key, {}).get(metric) for key in ("ranks", "comparisons"))
    if not compared and not any(shares.values()):
        return
    columns = {"method": [_with_equals(result) for result in results]}
    if compared and ranks:
        columns |= _standing_columns(results, metric, ranks["methods"], compared)
    if any(shares.values()):
        columns |= {name: [_percent((m := shares.get(r["text"])) and m[name]) for r in results] for name in SHARES}
    title = _title(metric, results, compared)
    title = _capitalise(place + title) if place else title
    show(list(columns), list(zip(*columns.values(), strict=True)), title=title)
    for sentence in _firmness(document, metric):
        _say(sentence)


def _capitalise(sentence: str) -> str:
    return sentence[0].upper() + sentence[1:]


def _with_equals(result: Mapping[str, Any]) -> str:
    """A method as the plan calls it, with those whose maps are equal to its own."""
    _, _, others = str(result["method"]).partition(" = ")
    return f"{result['text']} = {others}" if others else str(result["text"])


def _title(metric: str, results: Sequence[Mapping[str, Any]], compared: Mapping[str, Any] | None) -> str:
    lower = " (lower is better)" if is_lower_better(results[0]["metrics"][metric]) else ""
    if not compared:
        return f"{metric}{lower}: shares of the variance"
    pairs = f"{len(compared['pairs'])} pair{'s' * (len(compared['pairs']) > 1)}"
    said = "methods with a common letter are tied" if _has_letters(compared) else "what each is known to be better than"
    return f"{metric}{lower}: {said} (Holm over {pairs}; these models, other rows)"


def _has_letters(compared: Mapping[str, Any]) -> bool:
    """Whether sets of tied methods have letters: there are few enough, or nothing else is known."""
    return len(compared["groups"]) <= len(LETTERS) or "better_than" not in compared


def _standing_columns(
    results: Sequence[Mapping[str, Any]], metric: str, standings: Mapping[str, Any], compared: Mapping[str, Any]
) -> Columns:
    """The columns with mean, interval, letters or what a method is better than, and rank of every method."""
    values = [result["metrics"][metric] for result in results]
    relied = [number(m["relying"]["mean"], 3) for m in values if _has_reliance(m)]
    places = [standings[result["text"]] for result in results]
    return {
        "mean": [number(m["mean"], 3) for m in values],
        "95 % interval": [f"{number(m['low'], 3)} to {number(m['high'], 3)}" for m in values],
        **_beside_columns(values),
        **({"where relied on": relied} if len(relied) == len(values) else {}),
        **_difference_columns(results, compared),
        "rank": [number(place and place["rank"], 1) for place in places],
        "95 % of ranks": [f"{place['low']:g} to {place['high']:g}" if place else "-" for place in places],
        "first": [_percent(place and place["first"]) for place in places],
    }


def _beside_columns(values: Sequence[Mapping[str, Any]]) -> Columns:
    """The columns of skill and of what is about the picture itself, if any method has a number there."""
    titles = {"skill": "skill", "of this picture": "of_this_picture"}
    return {
        title: [number(m.get(key), 2) for m in values]
        for title, key in titles.items()
        if any(m.get(key) is not None for m in values)
    }


def _has_reliance(m: Mapping[str, Any]) -> bool:
    """Whether it is known what a method scores on the rows where the models rely on the designed evidence."""
    return bool(m.get("relying"))


def _difference_columns(results: Sequence[Mapping[str, Any]], compared: Mapping[str, Any]) -> Columns:
    """Letters of tied methods; where they would be too many, what each method is better than."""
    if _has_letters(compared):
        return {"tied": [letters(result["text"], compared["groups"]) for result in results]}
    better = compared["better_than"]
    return {"better than": [better_than(better.get(result["text"])) or "-" for result in results]}


def _firmness(document: Mapping[str, Any], metric: str) -> Iterator[str]:
    """Sentences on the order of the methods, and on what would make it firmer."""
    ranks = document.get("ranks", {}).get(metric) or {}
    sentences = {"agreement": "redrawn rows: Kendall's W {}", "tau_seeds": "seeds: tau {}"}
    sentences["tau_architectures"] = "architectures: tau {}"
    known = [words.format(number(ranks[key], 2)) for key, words in sentences.items() if ranks.get(key) is not None]
    if known:
        yield f"How far orders agree (1 = the same order) over {'; '.join(known)}"
    tied = {(pair["a"], pair["b"]) for pair in _pairs(document, metric) if _is_tied(pair)}
    needed = [pair for pair in document.get("power", {}).get(metric, ()) if (pair["a"], pair["b"]) in tied]
    scored = document["dataset"]["rows"]  # fewer than these did not tell them apart, whatever the power says
    more = [pair for pair in needed if pair["rows"] and pair["rows"] > scored]
    for pair in sorted(more, key=lambda pair: pair["rows"])[:1]:
        yield f"The nearest to being told apart: {pair['a']} and {pair['b']}, with {pair['rows']} rows (power 80 %)"


def _is_tied(pair: Mapping[str, Any]) -> bool:
    """Whether two methods were compared and cannot be told apart."""
    return not pair["apart"] and bool(pair.get("compared", True))


def _pairs(document: Mapping[str, Any], metric: str) -> Sequence[Mapping[str, Any]]:
    pairs: Sequence[Mapping[str, Any]] = document.get("comparisons", {}).get(metric, {}).get("pairs", ())
    return pairs


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{share:.0%}"


def _calibrated_text(m: Mapping[str, Any]) -> str:
    """A calibrated mean and half of its interval; a dash if chance and the truth score too alike to calibrate."""
    if m["calibrated"] is None:
        return "-"
    ends = calibrated_ends(m)
    half = (ends[1] - ends[0]) / 2 if ends else UNKNOWN
    return f"{number(m['calibrated'], 2)}±{half:.2f}" if half < UNKNOWN else "-"


def _costs(result: Mapping[str, Any]) -> str:
    cost = result["cost"]
    if cost["seconds"] is None:
        return "of maps in files nobody knows the cost"
    return (
        f"{_milliseconds(result)} ms, {cost['forwards']:.3g} forward, {cost['backwards']:.3g} backward passes per image"
    )


def _milliseconds(result: Mapping[str, Any]) -> str:
    seconds = result["cost"]["seconds"]
    return "-" if seconds is None else f"{1000 * seconds:.2f}"


def _say(sentence: str) -> None:
    console().print(sentence, markup=False, highlight=False)
