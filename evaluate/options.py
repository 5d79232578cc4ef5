"""Options as users write them behind a name: `samples=50,sigma=0.1`, read with the types of a dataclass's fields."""

from __future__ import annotations

import ast
import re
import types
from contextlib import suppress
from dataclasses import MISSING, fields
from typing import Any, Union, get_args, get_origin, get_type_hints

from an8flower.errors import WrongUsage
from an8flower.names import unknown

# Names may contain colons themselves: the parameters begin behind the first colon that `word=` follows.
METHOD = re.compile(r"(?P<name>.+?)(?::(?P<parameters>\w+=.*))?", re.DOTALL)

Arguments = dict[str, Any]

QUANTUS = "quantus:"  # how the text of a metric begins that is a class of Quantus
USUAL = "usual"  # what is scored when nobody says: localisation by maps and masks alone, which costs next to nothing
STORED = "maps:"  # how the text of a method begins whose maps lie in files

TRUTHS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


def is_stored(text: str) -> bool:
    """Whether the text of a method names maps in files.

    >>> is_stored("maps:mine.npz"), is_stored("gradcam")
    (True, False)
    """
    return text.startswith(STORED)


def is_of_quantus(text: str) -> bool:
    """Whether a text names a metric of Quantus.

    >>> is_of_quantus("quantus:AUC"), is_of_quantus("iou")
    (True, False)
    """
    return text.startswith(QUANTUS)


def to_stored(path: object, name: str | None = None) -> str:
    """The text by which `--method` and plans name maps in a file or a folder.

    >>> to_stored("maps.npz", "mine")
    'maps:maps.npz:name=mine'
    """
    return f"{STORED}{path}" if name is None else f"{STORED}{path}:name={name}"


def parse_parameters(method: str, kind: type, text: str) -> dict[str, Any]:
    """The values in `samples=50,sigma=0.1`, with the types of a dataclass's fields."""
    hints, values = get_type_hints(kind), {}
    for assignment in filter(None, text.split(",")):
        name, equals, value = (piece.strip() for piece in assignment.partition("="))
        if name not in defaults(kind):
            raise WrongUsage(f"{method}: {unknown('parameter', name, defaults(kind))}")
        if not equals:
            raise WrongUsage(f"{method}: parameter {name} has no value; write {name}=VALUE")
        values[name] = parse_value(f"{method}: {name}", hints[name], value)
    return values


def parse_value(place: str, kind: Any, text: str) -> Any:
    """A value of a parameter's type: a number, a truth value, a text, or `none` if the type allows it."""
    kinds = get_args(kind) if get_origin(kind) in (Union, types.UnionType) else (kind,)
    if types.NoneType in kinds and text.lower() == "none":
        return None
    for member in kinds:
        with suppress(KeyError, ValueError, TypeError):
            return TRUTHS[text.lower()] if member is bool else member(text)
    expected = " or ".join("none" if member is types.NoneType else member.__name__ for member in kinds)
    raise WrongUsage(f'{place} is "{text}"; expected {expected}')


def defaults(kind: Any) -> dict[str, Any]:
    """The default of every parameter of a dataclass of parameters; MISSING if there is none."""
    factories = ((field, field.default_factory) for field in fields(kind) if field.init)
    return {field.name: field.default if make is MISSING else make() for field, make in factories}


def parse_call(text: str) -> tuple[str, Arguments]:
    """Parse name and keyword arguments of `Name` or `Name(a=1, b=(2, 3))`; values are literals, nothing is evaluated.

    >>> parse_call("Occlusion(strides=(3, 4, 4), show_progress=False)")
    ('Occlusion', {'strides': (3, 4, 4), 'show_progress': False})
    """
    try:
        tree = ast.parse(text.strip(), mode="eval").body
        name, keywords = (tree.func, tree.keywords) if isinstance(tree, ast.Call) else (tree, [])
        if isinstance(name, ast.Name) and not getattr(tree, "args", []):
            return name.id, {str(keyword.arg): literal(keyword) for keyword in keywords}
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        pass
    raise WrongUsage(f'"{text}" cannot be read; write Name(argument=VALUE, ...) with plain numbers, texts and tuples')


def literal(keyword: ast.keyword) -> Any:
    """The value of a keyword; raises ValueError where it is no literal."""
    if keyword.arg is None:
        raise ValueError("** is no name")
    return ast.literal_eval(keyword.value)


def format_arguments(arguments: Arguments) -> str:
    """Write arguments as text, sorted by name: the same for the same arguments.

    >>> format_arguments({"b": (1, 2), "a": "x"})
    "a='x', b=(1, 2)"
    """
    return ", ".join(f"{name}={arguments[name]!r}" for name in sorted(arguments))
