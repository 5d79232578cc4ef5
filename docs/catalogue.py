"""The pages of metrics and methods, and the tables of architectures and checks: what the registries hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from markup import code, field_comments, plain, prose, table

FAMILIES = {
    "baselines": "What an explanation has to beat. They ask the model nothing, or next to nothing.",
    "gradients": "How the logit of the target reacts to the pixels.",
    "cam": "Weighted sums of the feature maps of a layer, brought to the size of the picture.",
    "perturbation": "What the model says when parts of the picture are hidden.",
    "relevance": "The logit is handed down layer by layer, each layer sharing out what it received.",
    "attention": "What the tokens of a vision transformer attend to.",
    "prototypes": "Networks that reason by prototypes: where they find them, and what their prototypes stand for.",
    "interpretation": "Filters that tell the classes are found once for a model and a data set, and shown.",
    "localisation": "Does the map lie where the evidence is? They need maps and masks; a few ask the model as well.",
    "faithfulness": "What does the model say when pixels are masked by the map? Most of them need no ground truth.",
    "intervention": "What does the model say when the same scene is rendered with one thing changed? They need a spec.",
    "effect": "Does the map order pixels as this model uses them? They need a spec.",
}


LEVELS = {
    "row": "one for each row",
    "data set": "one for the data set, from the curves of all rows",
    "prototypes": "one for each prototype, and their mean for the model",
    "rows": "one for each row, and their mean for the model",
    "weights": "one for the model",
    "model": "one for the model",
}
"""What a metric has a value for, in words."""


def metric_cards() -> str:
    """Every metric's card, by family."""
    from an8flower.evaluate.metrics.naming import parse_metrics
    from an8flower.evaluate.results.prototype_cards import MEASURES

    cards = [metric.card() for metric in (*parse_metrics(["all"]), *MEASURES)]
    opening = """# Metric cards

What has to be known of a metric before its numbers are read. The same cards travel with every result: in
`summary.json`, at the foot of the report, and in `an8flower metrics NAME`.

M is a map (larger means more evidence), G the set of its mask's pixels, N the number of pixels. Chance is the expected
score of a map of independent uniform noise. [Reading the page](report.md) says what calibrated scores are;
[Writing a metric](metric.md) says how a metric of one's own gets a card."""
    families = list(
        dict.fromkeys(["localisation", "faithfulness", "intervention", "effect", *(c["family"] for c in cards)])
    )
    return "\n\n".join([opening, *(_family_of_cards(name, cards) for name in families)])


def _family_of_cards(family: str, cards: Sequence[Mapping[str, Any]]) -> str:
    members = [card for card in cards if card["family"] == family]
    rows = [[f"[`{card['name']}`](#{card['name']})", plain(card["definition"])] for card in members]
    head = f"## Family: {family}\n\n{FAMILIES.get(family, '')}\n\n{table(['metric', 'what it is'], rows)}"
    return "\n\n".join([head, *map(_card, members)])


def _card(card: Mapping[str, Any]) -> str:
    """One card as a table."""
    low, high = ("any" if bound is None else f"{bound:g}" for bound in card["bounds"])
    lines = {
        "unit": f"{card['unit']}, from {low} to {high}" if "any" not in (low, high) else _open(card["unit"], low, high),
        "better": "higher" if card["higher_is_better"] else "lower",
        "parameters": ", ".join(f"{name}={value}" for name, value in card["parameters"].items()),
        "needs": ", ".join(card["needs"]) or "maps and masks alone",
        "value": LEVELS[card["level"]],
    }
    shown = {"name", "family", "definition", "unit", "bounds", "higher_is_better", "parameters", "needs", "level"}
    lines |= {name: str(value) for name, value in card.items() if name not in shown}
    rows = [[name, plain(value)] for name, value in lines.items() if value]
    return f"### {card['name']}\n\n{plain(card['definition'])}\n\n{table(['card', ''], rows)}"


def _open(unit: str, low: str, high: str) -> str:
    """A unit whose bounds are not both there."""
    ends = [f"{word} {end}" for word, end in (("at least", low), ("at most", high)) if end != "any"]
    return ", ".join([unit, *ends]) if ends else f"{unit}, any number"


def methods() -> str:
    """Every method by family, with its parameters."""
    from an8flower.evaluate.explaining.methods import describe_methods

    listed = describe_methods()
    opening = """# Methods

The explainers that come with an8flower. A method is asked for by its name, with parameters behind a colon:
`smoothgrad:samples=20,spread=0.1`. `family:cam` stands for a family, `all` for everything. A method of one's own is
written `package.module:attribute` ([Writing an explainer](explainer.md)); a class of Captum, pytorch-grad-cam,
TorchCAM or Zennit is written as it is called there, `captum:Occlusion(sliding_window_shapes=(3,8,8))` or
`torchcam:SSCAM(num_samples=10)`. Of these, `captum:LRP`, `captum:LayerLRP` and the composites of `zennit:` are
layer-wise relevance propagation, which is patented ([see `lrp`](#lrp)).

A method that cannot run on a network is skipped, and the reason is printed; `an8flower methods --model FILE` tries all
of them on a network beforehand, says which ones run, and what a map costs. A parameter's range has the values that are
worth a try: `an8flower tune` looks for the best of them ([Tuning](tuning.md)).

![Every method on six flowers, flowernet](gallery-flowernet.png)

*Every method on the same six flowers with `flowernet`: what speaks for the class, each map scaled to its own largest
value. [The same with `flowervit`](gallery-flowervit.png).*"""
    order = list(dict.fromkeys([*FAMILIES, *(method["family"] for method in listed)]))
    families = [name for name in order if any(method["family"] == name for method in listed)]
    return "\n\n".join([opening, *(_family_of_methods(name, listed) for name in families)])


def _family_of_methods(family: str, listed: Sequence[Mapping[str, Any]]) -> str:
    members = [_method(method) for method in listed if method["family"] == family and not method.get("error")]
    return "\n\n".join([f"## Family: {family}", FAMILIES.get(family, ""), *members])


def _method(about: Mapping[str, Any]) -> str:
    """One method: what it is, where it comes from, what it needs, its parameters."""
    from an8flower.evaluate.registry import explainers
    from an8flower.evaluate.results.wording import range_words

    kind = explainers[about["name"]].item
    facts = {
        "Source": about["source"],
        "Needs": about["needs"],
        "Note": about.get("note", ""),
        "Target": "" if about["class_sensitive"] else "the map is the same for every class",
    }
    lines = "  \n".join(f"{name}: {plain(value)}" for name, value in facts.items() if value)
    parts = [f"### {about['name']}", prose(kind), lines]
    comments = field_comments(kind)
    rows = [
        [code(name), code(value), plain(range_words(about["ranges"].get(name, {}))), plain(comments.get(name, ""))]
        for name, value in about["parameters"].items()
    ]
    return "\n\n".join([*parts, *([table(["parameter", "default", "range", "what it is"], rows)] if rows else [])])


def archs() -> str:
    """The architectures as a table."""
    from an8flower.evaluate.registry import archs as registered

    rows = []
    for name in registered.names():
        entry = registered[name]
        rows.append([code(name), prose(entry.item), code(entry.about["layer"]), plain(entry.about["source"])])
    return table(["name", "what it is", "layer of the CAMs", "source"], rows)


def checks() -> str:
    """The contract of explainers as a table."""
    from an8flower.evaluate.explaining.contract import CHECKS

    return table(["check", "promise"], [[check.name, plain(check.promise)] for check in CHECKS])
