"""The judging side: classifiers, explainers, metrics, audits.

`audit`, `explain` and `score` are the words of the command line as Python calls; they are loaded when they are used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .calls import audit as audit
    from .calls import explain as explain
    from .calls import score as score

__all__ = ["audit", "explain", "score"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from . import calls

    return getattr(calls, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
