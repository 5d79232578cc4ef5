"""The page of the Python API: every name of `an8flower.evaluate` with signature, arguments and errors."""

from __future__ import annotations

import inspect
import re
import textwrap
from collections.abc import Iterator
from dataclasses import MISSING, fields, is_dataclass
from typing import Any

from markup import code, field_comments, plain, table

OPENING = """# Python API

Everything that programs, plug-ins and this manual import from `an8flower.evaluate`. [Python](python.md) shows the calls
at work. The reader of data sets is `an8flower.store.FlowerStore` ([The files](data.md)), and errors are
`an8flower.errors.Refusal`, `WrongUsage` and `NotApplicable`. Any other module is an inner one and may change."""

GROUPS = {
    "The words of the command line": (
        *("explain", "score", "tune", "audit"),
        *("Explanation", "ScoreResult", "TuningResult", "AuditResult"),
    ),
    "Data, maps and results for other programs": (
        *("dataset", "save_maps", "export_run", "read_scores", "compare", "summary_schema"),
    ),
    "Classifiers": (
        "load",
        "train",
        "GradientPenalty",
        "train_seeds",
        "TrainingResult",
        "SeedsResult",
        "build",
        "wrap",
        "Classifier",
        "Card",
        "register_arch",
    ),
    "Explainers": (
        *("Explainer", "Query", "register_explainer", "parse_method", "Method"),
        *("explain_batch", "check_explainer", "outcome"),
        *("Between", "Choices", "Layers", "Numbered", "Pixels"),
    ),
    "Metrics": ("Metric", "Reading", "Asking", "Case", "Truth", "register_metric", "parse_metric", "score_all"),
    "Seeds": ("generator", "seed_of"),
}
SECTIONS = {"Args": ["argument", "what it is"], "Raises": ["raises", "when"], "Returns": ["returns", ""]}
SECTION = re.compile(r"^(Args|Raises|Returns|Source):[ ]*\n((?:[ ]+.*\n?|\n)*)", re.MULTILINE)
ITEM = re.compile(r"^(\S[^:]*): (.*(?:\n[ ]+.*)*)", re.MULTILINE)
EXAMPLE = re.compile(r"^(?:>>>.*\n?(?:(?!\n|>>>).*\n?)*)+", re.MULTILINE)


def api() -> str:
    """Every name of the door, in groups; a name that is in no group breaks the page."""
    from an8flower import evaluate

    listed = {name for names in GROUPS.values() for name in names}
    assert listed == set(evaluate.__all__), listed ^ set(evaluate.__all__)
    groups = [
        f"## {title}\n\n" + "\n\n".join(_entry(evaluate, name) for name in names) for title, names in GROUPS.items()
    ]
    return "\n\n".join([OPENING, *groups])


def _entry(module: Any, name: str) -> str:
    """One name: how it is called, and what it is."""
    item = getattr(module, name)
    parts = [f"### {name}", *_signature(item, name), *docstring(inspect.cleandoc(item.__doc__ or ""))]
    if inspect.isclass(item):
        parts += [*_fields(item), *_members(item)]
    return "\n\n".join(parts)


def _signature(item: Any, name: str) -> Iterator[str]:
    """The call as a block of code, an argument a line where one line is too short; nothing for a protocol."""
    if getattr(item, "_is_protocol", False):
        return
    signature = inspect.signature(item)
    parameters = [parameter for parameter in signature.parameters.values() if parameter.name != "self"]
    short = str(signature.replace(parameters=parameters, return_annotation=inspect.Signature.empty))
    result = "" if inspect.isclass(item) or not signature.return_annotation else f" -> {signature.return_annotation}"
    call = f"{name}{_unquoted(short)}{_unquoted(result)}"
    yield f"```python\n{call if len(call) <= 100 else _one_a_line(name, parameters, _unquoted(result))}\n```"


def _one_a_line(name: str, parameters: list[inspect.Parameter], result: str) -> str:
    lines = [_unquoted(str(parameter)) for parameter in parameters]
    keyword = next((i for i, p in enumerate(parameters) if p.kind is p.KEYWORD_ONLY), None)
    if keyword is not None:
        lines.insert(keyword, "*")
    return f"{name}(\n" + "".join(f"    {line},\n" for line in lines) + f"){result}"


def _unquoted(text: str) -> str:
    """A signature without the quotes around annotations, and without the addresses of default functions."""
    text = re.sub(r"ForwardRef\('([^']*)'\)", r"\1", text)
    text = re.sub(r"(: |-> )'([^']*)'", r"\1\2", text)
    return re.sub(r"<function [\w.]*(<lambda>)? at 0x\w+>|<factory>", "...", text)


def docstring(text: str) -> Iterator[str]:
    """A docstring as Markdown: prose, examples as blocks of code, arguments and errors as tables."""
    sections = dict(SECTION.findall(text + "\n"))
    text = SECTION.sub("", text + "\n").strip()
    yield plain(EXAMPLE.sub("", text).strip())
    for example in EXAMPLE.findall(text):
        yield f"```python\n{_example(example)}\n```"
    for title, head in SECTIONS.items():
        if title in sections:
            items = ITEM.findall(textwrap.dedent(sections[title]).strip())
            yield table(head, [[_codes(names), plain(words)] for names, words in items])


def _example(text: str) -> str:
    """The lines of a doctest without prompts; what it prints is a comment."""
    lines = [re.sub(r"\s*# doctest:.*", "", line) for line in text.strip().splitlines()]
    return "\n".join(line[4:] if line.startswith((">>> ", "... ")) else f"# {line}" for line in lines)


def _codes(names: str) -> str:
    return ", ".join(map(code, names.split(", ")))


def _fields(kind: type) -> Iterator[str]:
    """The fields of a dataclass or a named tuple, with the comments behind them."""
    if is_dataclass(kind):
        defaults = {field.name: field.default for field in fields(kind)}
        kinds = {field.name: field.type for field in fields(kind)}
    elif hasattr(kind, "_fields"):
        defaults = {name: kind._field_defaults.get(name, MISSING) for name in kind._fields}  # type: ignore[attr-defined]
        kinds = {name: vars(kind)["__annotations__"][name] for name in defaults}
    else:
        return
    comments = field_comments(kind)
    rows = [[code(name), code(_type(kinds[name])), plain(comments.get(name, ""))] for name in defaults]
    yield table(["field", "type", "what it is"], rows)


def _type(annotation: Any) -> str:
    return getattr(annotation, "__forward_arg__", annotation if isinstance(annotation, str) else str(annotation))


def _members(kind: type) -> Iterator[str]:
    """The public methods and properties of a class, each with the first sentence of its docstring."""
    members = {name: member for name, member in vars(kind).items() if _is_public(kind, name, member)}
    rows = [[code(_call(name, member)), plain(_first_sentence(member))] for name, member in members.items()]
    if rows:
        yield table(["member", "what it is"], rows)


def _is_public(kind: type, name: str, member: Any) -> bool:
    if name == "__call__":
        return bool(getattr(kind, "_is_protocol", False))
    return not name.startswith("_") and bool(getattr(member, "__doc__", None)) and not _is_field(kind, name)


def _is_field(kind: type, name: str) -> bool:
    return name in getattr(kind, "_fields", ()) or name in getattr(kind, "__dataclass_fields__", {})


def _call(name: str, member: Any) -> str:
    function = getattr(member, "__func__", member)
    if not inspect.isfunction(function):
        return name
    parameters = list(inspect.signature(function).parameters.values())[1:]
    bare = [parameter.replace(annotation=inspect.Parameter.empty) for parameter in parameters]
    return f"{name}{_unquoted(str(inspect.Signature(bare)))}".replace("__call__", "")


def _first_sentence(member: Any) -> str:
    text = inspect.cleandoc(member.__doc__ or "").split("\n\n")[0]
    return re.split(r"(?<=[.?])\s", " ".join(text.split()), maxsplit=1)[0]
