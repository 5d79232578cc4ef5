"""The words of the code: names that say what a value is, docstrings of a sentence, one name for one class."""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from statistics import median

ROOT = Path(__file__).parents[1]
SOURCES = sorted(path for folder in ("an8flower", "evaluate") for path in (ROOT / folder).rglob("*.py"))

# Names that say where a value came from, and not what it is.
EMPTY_NAMES = {"found", "each", "asked", "own", "told"}
# Past participles that do not end in -ed: as names of functions they say what has happened, not what to do.
PARTICIPLES = {
    *("asked", "begun", "built", "chosen", "drawn", "found", "given", "held", "kept", "known", "left", "lent", "made"),
    *("meant", "redrawn", "said", "seen", "sent", "shown", "spelt", "taken", "thought", "told", "written"),
}
NOUNS_IN_ED = {"seed", "speed", "shed", "need", "feed", "embed"}


@cache
def nodes(path: Path) -> list[ast.AST]:
    """Every node of a file's syntax tree."""
    return list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))


def definitions() -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef]]:
    """Each function and class of the project, with its place."""
    for path in SOURCES:
        for node in nodes(path):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                yield f"{path.relative_to(ROOT)}:{node.lineno} {node.name}", node


def bound_names(path: Path) -> Iterator[tuple[int, str]]:
    """Each name that code gives to a variable, an argument or a function, with its line."""
    for node in nodes(path):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.lineno, node.id
        elif isinstance(node, ast.arg):
            yield node.lineno, node.arg
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.lineno, node.name


def is_participle(name: str) -> bool:
    word = name.strip("_")
    return word in PARTICIPLES or (word.endswith("ed") and word.isalpha() and word not in NOUNS_IN_ED)


def is_property(node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) -> bool:
    return any("property" in ast.unparse(decorator) for decorator in node.decorator_list)


def test_names_say_what_a_value_is() -> None:
    wrong = [
        f"{path.relative_to(ROOT)}:{line} {name}"
        for path in SOURCES
        for line, name in bound_names(path)
        if name.strip("_") in EMPTY_NAMES
    ]
    assert not wrong, "\n".join(wrong)


def test_functions_are_verbs_and_no_participles() -> None:
    wrong = [
        place
        for place, node in definitions()
        if not isinstance(node, ast.ClassDef) and is_participle(node.name) and not is_property(node)
    ]
    assert not wrong, "\n".join(wrong)


def test_no_docstring_has_fewer_than_four_words() -> None:
    wrong = [
        f"{place}: {text}"
        for place, node in definitions()
        if (text := ast.get_docstring(node)) is not None and len(re.findall(r"\w+", text)) < 4
    ]
    assert not wrong, "\n".join(wrong)


def test_one_name_means_one_class() -> None:
    counts = Counter(node.name for _, node in definitions() if isinstance(node, ast.ClassDef))
    wrong = [place for place, node in definitions() if isinstance(node, ast.ClassDef) and counts[node.name] > 1]
    assert not wrong, "\n".join(wrong)


def test_functions_are_short() -> None:
    lengths = [code_lines(node) for _, node in definitions() if not isinstance(node, ast.ClassDef)]
    assert median(lengths) <= 6
    assert sorted(lengths)[int(0.9 * len(lengths))] <= 15
    assert max(lengths) <= 50


def code_lines(node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) -> int:
    """The lines of a function without its docstring."""
    lines = (node.end_lineno or node.lineno) - node.lineno + 1
    if ast.get_docstring(node) is not None:
        first = node.body[0]
        lines -= (first.end_lineno or first.lineno) - first.lineno + 1
    return lines
