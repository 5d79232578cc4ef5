"""Pages of the manual that are made from the code each time it is built, so that they say what the code does.

`hooks.py` hands them to mkdocs; none of them lies in the repository.
"""

from __future__ import annotations

import inspect
import io
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import click
from markup import code, field_comments, plain, prose, table
from plan_tables import plan, plans

ROOT = Path(__file__).parents[1]
PROGRAM = "an8flower"
SHOWN = 12  # pictures of each data set
COLUMNS = 6
EXAMPLE = re.compile(r"\n*\x08\n(Examples?:.*)", re.DOTALL)

FAMILIES = {
    "baselines": "What an explanation has to beat. They ask the model nothing, or next to nothing.",
    "gradients": "How the logit of the target reacts to the pixels.",
    "cam": "Weighted sums of the feature maps of a layer, brought to the size of the picture.",
    "perturbation": "What the model says when parts of the picture are hidden.",
    "relevance": "The logit is handed down layer by layer, each layer sharing out what it received.",
    "attention": "What the tokens of a vision transformer attend to.",
    "interpretation": "Filters that tell the classes are found once for a model and a data set, and shown.",
    "localisation": "Does the map lie where the evidence is? They need maps and masks; a few ask the model as well.",
    "faithfulness": "What does the model say when pixels are masked by the map? Most of them need no ground truth.",
    "intervention": "What does the model say when the same scene is rendered with one thing changed? They need a spec.",
}


# The command line.


def commands() -> str:
    """Every command with its help, as `--help` prints it."""
    from an8flower.__main__ import main

    context = click.Context(main, info_name=PROGRAM, **main.context_settings)
    opening = """# Command line

Results go to standard output, progress and remarks to standard error. `--json` prints one JSON document and nothing
else. The exit status is 0 where all is done, 1 where something failed (one sentence says what), and 2 where the words
of the call are wrong; an unknown name is answered with the nearest one. Paths are relative to the current folder."""
    listed = [[f"[`{name}`](#{name})", _first_sentence(str(each.help))] for name, each in main.commands.items()]
    sections = [_command(command, context) for command in main.commands.values()]
    return "\n\n".join([opening, table(["command", "does"], listed), *sections])


def _command(command: click.Command, parent: click.Context) -> str:
    """One command: what it does, how it is called, an example, its options."""
    context = click.Context(command, info_name=command.name, parent=parent)
    words = " ".join([PROGRAM, str(command.name), *command.collect_usage_pieces(context)])
    text, example = split_help(str(command.help))
    parts = [f"## {command.name}", plain(text), f"```text\n{words}\n```"]
    parts += [f"```console\n{example}\n```"] if example else []
    options = [record for each in command.get_params(context) if (record := each.get_help_record(context))]
    rows = [[code(declared), _option_help(said)] for declared, said in options]
    return "\n\n".join([*parts, table(["option", "what it is"], rows)])


def split_help(text: str) -> tuple[str, str]:
    """The prose of a help text, and its examples without the word before them."""
    text = inspect.cleandoc(text)
    found = EXAMPLE.search(text)
    if not found:
        return text, ""
    lines = re.sub(r"Examples?:", "", found[1], count=1).splitlines()
    whole = "\n".join(line.strip() for line in lines if line.strip())
    return text[: found.start()].strip(), re.sub(rf"\n(?!{PROGRAM} )", " \\\\\n    ", whole)


def _option_help(said: str) -> str:
    """What an option is, with its default and range set off."""
    return plain(re.sub(r"\s*\[((?:default|required|x[<>=]|\d)[^\]]*)\]", r" (\1)", said))


def _first_sentence(text: str) -> str:
    return plain(re.split(r"(?<=[.?:])\s", " ".join(text.split()), maxsplit=1)[0].rstrip(".:"))


# Metrics.


def metric_cards() -> str:
    """Every metric's card, by family."""
    from an8flower.evaluate.metrics.naming import parse_metrics

    cards = [metric.card() for metric in parse_metrics(["all"])]
    opening = """# Metric cards

What has to be known of a metric before its numbers are read. The same cards travel with every result: in
`summary.json`, at the foot of the report, and in `an8flower metrics NAME`.

M is a map (larger means more evidence), G the set of its mask's pixels, N the number of pixels. Chance is the expected
score of a map of independent uniform noise. [Reading the page](report.md) says what calibrated scores are;
[Writing a metric](metric.md) says how a metric of one's own gets a card."""
    families = list(dict.fromkeys(["localisation", "faithfulness", "intervention", *(c["family"] for c in cards)]))
    return "\n\n".join([opening, *(_family_of_cards(name, cards) for name in families)])


def _family_of_cards(family: str, cards: Sequence[Mapping[str, Any]]) -> str:
    own = [card for card in cards if card["family"] == family]
    listed = [[f"[`{card['name']}`](#{card['name']})", plain(card["definition"])] for card in own]
    head = f"## {family.capitalize()}\n\n{FAMILIES.get(family, '')}\n\n{table(['metric', 'what it is'], listed)}"
    return "\n\n".join([head, *map(_card, own)])


def _card(card: Mapping[str, Any]) -> str:
    """One card as a table."""
    low, high = ("any" if bound is None else f"{bound:g}" for bound in card["bounds"])
    told = {
        "unit": f"{card['unit']}, from {low} to {high}" if "any" not in (low, high) else _open(card["unit"], low, high),
        "better": "higher" if card["higher_is_better"] else "lower",
        "parameters": ", ".join(f"{name}={value}" for name, value in card["parameters"].items()),
        "needs": ", ".join(card["needs"]) or "maps and masks alone",
        "value": "one for each row" if card["level"] == "row" else "one for the data set, from the curves of all rows",
    }
    said = {"name", "family", "definition", "unit", "bounds", "higher_is_better", "parameters", "needs", "level"}
    told |= {name: str(value) for name, value in card.items() if name not in said}
    rows = [[name, plain(value)] for name, value in told.items() if value]
    return f"### {card['name']} {{: #{card['name']} }}\n\n{plain(card['definition'])}\n\n{table(['card', ''], rows)}"


def _open(unit: str, low: str, high: str) -> str:
    """A unit whose bounds are not both there."""
    ends = [f"{word} {end}" for word, end in (("at least", low), ("at most", high)) if end != "any"]
    return ", ".join([unit, *ends]) if ends else f"{unit}, any number"


# Methods.


def methods() -> str:
    """Every method by family, with its parameters."""
    from an8flower.evaluate.explaining.methods import describe

    found = describe()
    opening = """# Methods

The explainers that come with an8flower. A method is asked for by its name, with parameters behind a colon:
`smoothgrad:samples=20,spread=0.1`. `family:cam` stands for a family, `all` for everything. A method of one's own is
written `package.module:attribute` ([Writing an explainer](explainer.md)); a class of Captum, pytorch-grad-cam or Zennit
is written as it is called there, `captum:Occlusion(sliding_window_shapes=(3,8,8))`.

A method that a network cannot have is skipped, and the reason is told.

![Every method on six flowers, flowernet](gallery-flowernet.png)

*Every method on the same six flowers with `flowernet`: what speaks for the class, each map scaled to its own largest
value. [The same with `flowervit`](gallery-flowervit.png).*"""
    order = list(dict.fromkeys([*FAMILIES, *(each["family"] for each in found)]))
    families = [name for name in order if any(each["family"] == name for each in found)]
    return "\n\n".join([opening, *(_family_of_methods(name, found) for name in families)])


def _family_of_methods(family: str, found: Sequence[Mapping[str, Any]]) -> str:
    own = [_method(each) for each in found if each["family"] == family and not each.get("error")]
    return "\n\n".join([f"## {family.capitalize()}", FAMILIES.get(family, ""), *own])


def _method(about: Mapping[str, Any]) -> str:
    """One method: what it is, where it comes from, what it needs, its parameters."""
    from an8flower.evaluate.registry import explainers

    kind = explainers[about["name"]].thing
    facts = {
        "Source": about["source"],
        "Needs": about["needs"],
        "Target": "" if about["class_sensitive"] else "the map is the same for every class",
    }
    lines = "  \n".join(f"{name}: {plain(value)}" for name, value in facts.items() if value)
    parts = [f"### {about['name']} {{: #{about['name']} }}", prose(kind), lines]
    comments = field_comments(kind)
    rows = [[code(name), code(value), plain(comments.get(name, ""))] for name, value in about["parameters"].items()]
    return "\n\n".join([*parts, *([table(["parameter", "default", "what it is"], rows)] if rows else [])])


# Data sets.


def presets() -> str:
    """Every preset with its picture and its spec."""
    from an8flower import spec as specs

    opening = """# Data sets

The specs that ship with an8flower. `an8flower generate NAME` renders one. Below each picture stands the same picture
with all but the evidence faded: outlined in crimson what is seen and tells the class, in blue where a part would be
whose absence tells it.

Everything that is not named under `classes` or `shortcut` varies in the same way in every class."""
    return "\n\n".join([opening, *map(_preset, map(specs.load, specs.presets()))])


def _preset(spec: Any) -> str:
    from an8flower.spec import PRESETS

    picture = f"![Flowers of {spec.name}, and below each the evidence for its class](presets/{spec.name}.png)"
    source = (PRESETS / f"{spec.name}.toml").read_text(encoding="utf-8").strip()
    evidence = f"Evidence: {plain('; '.join(evidence_of(spec)))}."
    return "\n\n".join(
        [
            f"## {spec.name}",
            f"{plain(spec.title)}. {plain(spec.purpose)}",
            picture,
            evidence,
            _folded(spec.name, source),
        ]
    )


def _folded(name: str, source: str) -> str:
    """A spec that opens on a click."""
    indented = "\n".join(f"    {line}".rstrip() for line in f"```toml\n{source}\n```".splitlines())
    return f'??? note "{name}.toml"\n\n{indented}'


def evidence_of(spec: Any) -> list[str]:
    """Which parts tell which classes, classes that are told alike together."""
    from an8flower.evidence import sufficient_sets

    told: dict[str, list[str]] = {}
    for label, name in enumerate(spec.class_names):
        sets = " or ".join(sorted(" and ".join(sorted(one)) for one in sufficient_sets(spec, label)))
        told.setdefault(sets, []).append(name)
    return list(told) if len(told) == 1 else [f"{sets} ({', '.join(names)})" for sets, names in told.items()]


def factors() -> str:
    """The catalogue of factors, as a table for the page on specs."""
    from an8flower.factors import FACTORS

    rows = [
        [code(name), factor.kind, _values(factor), code(_as_toml(factor.default))] for name, factor in FACTORS.items()
    ]
    return table(["factor", "kind", "values", "where a spec is silent"], rows)


def _values(factor: Any) -> str:
    if factor.kind == "colour":
        return "a colour"
    return ", ".join(map(code, factor.choices)) or f"{factor.low:g} to {factor.high:g}"


def _as_toml(value: Any) -> str:
    if isinstance(value, tuple):
        return f"{{ from = {value[0]}, to = {value[1]} }}"
    return f'"{value}"' if isinstance(value, str) else str(value)


def colours() -> str:
    """The named colours as a table."""
    from an8flower.factors import COLOURS

    swatch = '<span class="swatch" style="background: {0}"></span> `{0}`'
    return table(["name", "value"], [[code(name), swatch.format(value)] for name, value in COLOURS.items()])


def pictures() -> Iterator[tuple[str, bytes]]:
    """The contact sheet of every preset as PNG, rendered on the spot: (path, bytes)."""
    from an8flower import spec as specs
    from an8flower.generate import make_rows
    from an8flower.sheet import contact_sheet
    from an8flower.writing import Block

    for name in specs.presets():
        rows = make_rows(specs.load(name), Block("test", 0, SHOWN))
        stream = io.BytesIO()
        contact_sheet(rows.images, rows.masks, COLUMNS).save(stream, "PNG", optimize=True)
        yield f"presets/{name}.png", stream.getvalue()


# Architectures, changes.


def archs() -> str:
    """The architectures as a table."""
    from an8flower.evaluate.registry import archs as registered

    rows = []
    for name in registered.names():
        entry = registered[name]
        rows.append([code(name), prose(entry.thing), code(entry.about["layer"]), plain(entry.about["source"])])
    return table(["name", "what it is", "layer of the CAMs", "source"], rows)


def checks() -> str:
    """The contract of explainers as a table."""
    from an8flower.evaluate.explaining.contract import CHECKS

    return table(["check", "promise"], [[each.name, plain(each.promise)] for each in CHECKS])


def changelog() -> str:
    """CHANGELOG.md as it is."""
    return (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


PAGES: Mapping[str, Callable[[], str]] = {
    "commands.md": commands,
    "metrics.md": metric_cards,
    "methods.md": methods,
    "presets.md": presets,
    "changelog.md": changelog,
}
TABLES: Mapping[str, Callable[[], str]] = {
    each.__name__: each for each in (factors, colours, archs, checks, plan, plans)
}
"""What a page may ask for by a line of its own: `<!-- table: factors -->`."""


def filled(markdown: str) -> str:
    """A page with the tables that it asks for."""
    return re.sub(r"^<!-- table: (\w+) -->$", lambda found: TABLES[found[1]](), markdown, flags=re.MULTILINE)
