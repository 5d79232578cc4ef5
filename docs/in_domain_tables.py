"""The tables of the page on faithfulness inside the data, from what `benchmarks/in_domain.py` measured."""

from __future__ import annotations

from believed_tables import _measured, _span
from markup import code, table

TAUS = (("tau", "tau"), ("tau without controls", "without controls"))


def in_domain_taus() -> str:
    """Kendall's tau of each metric with the truths, of all methods and of those that are no controls."""
    document = _measured("in_domain_agreement")
    rows = document["rows"]
    truths = list(dict.fromkeys(row["truth"] for row in rows))
    proxies = list(dict.fromkeys(row["metric"] for row in rows if row["proxy"]))
    by_pair = {(row["metric"], row["truth"]): row for row in rows}
    blocks = []
    for words, key in TAUS:
        low, high = ("low", "high") if key == "tau" else (f"{key}, low", f"{key}, high")
        cells = [
            [code(metric), *(_span(*(by_pair[metric, truth][name] for name in (key, low, high))) for truth in truths)]
            for metric in proxies
        ]
        blocks.append(table([words, *map(code, truths)], cells))
    return "\n\n".join(blocks)


def in_domain_scores() -> str:
    """The mean scores of each method, those of its blurred copy beside them."""
    rows = _measured("in_domain_scores")["rows"]
    names = [name for name in rows[0] if name != "method"]
    cells = [[code(row["method"]), *(_number(row[name]) for name in names)] for row in rows]
    return table(["method", *map(code, names)], cells)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value + 0.0:.3f}"


def in_domain_tuning() -> str:
    """What fine-tuning did to the loss on images that lack something."""
    about = _measured("in_domain_scores")["about"]
    lines = {words: value for words, value in about.items() if words.startswith("cross entropy")}
    names = {code(words.split("what ")[1].split(" takes")[0]): value for words, value in lines.items()}
    return table(["what is taken away", "mean cross entropy"], [[name, value] for name, value in names.items()])
