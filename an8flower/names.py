"""How the project answers a name that it does not know: with the nearest one that it does."""

from collections.abc import Collection, Iterable
from difflib import get_close_matches

from .errors import WrongUsage


def unknown(kind: str, name: str, known: Iterable[str]) -> str:
    """The sentence about an unknown name.

    >>> unknown("colour", "bleu", ["red", "blue"])
    'unknown colour "bleu"; did you mean "blue"?'
    >>> unknown("colour", "x", ["red", "blue"])
    'unknown colour "x"; known are: blue, red'
    """
    known = sorted(known)
    near = get_close_matches(name, known, n=1)
    remedy = f'did you mean "{near[0]}"?' if near else f"known are: {', '.join(known)}"
    return f'unknown {kind} "{name}"; {remedy}'


def check_known(kind: str, name: str, known: Collection[str]) -> None:
    """Raise WrongUsage with the nearest name where there is no such one."""
    if name not in known:
        raise WrongUsage(unknown(kind, name, known))
