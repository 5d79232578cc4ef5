"""Methods and metrics of third parties: which they are, and what is known of them without importing their code here."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any, NamedTuple

from an8flower.errors import Refusal, WrongUsage

from ..case import Query
from ..explaining import methods
from ..explaining.methods import Method, expand, family_of, parse_method, set_precision
from ..metrics import naming
from ..models.classifier import Classifier
from ..results.ledger import Cell
from .engines.task import Done, Engine, Task

PLAIN = (bool, int, float, str, type(None))


class StrangerWords(NamedTuple):
    """What a worker says of a stranger's method, in words that travel; or why it is refused."""

    text: str  # as it was asked for, with its precision
    name: str = ""
    identity: str = ""  # the repr of the explainer
    parameters: Any = None  # by their names
    class_sensitive: bool = True
    family: str = ""
    refusal: str = ""
    exit_code: int = 0  # of the refusal


class AbsentExplainer:
    """An explainer that lives in worker processes alone: what is here has its repr and its parameters."""

    __slots__ = ("__dict__", "_identity")  # so that `vars` gives the parameters and nothing else

    def __init__(self, identity: str, parameters: dict[str, Any]) -> None:
        self._identity = identity
        self.__dict__.update(parameters)

    def __repr__(self) -> str:
        return self._identity

    def __call__(self, classifier: Classifier, query: Query) -> Any:
        """Refuse to explain, since the code is not here."""
        raise Refusal(f"{self!r}: explains in a worker process alone")


def stranger_in(cell: Cell, metrics: tuple[str, ...]) -> str:
    """The names of the third parties whose code a cell may run: of its method, and of all metrics; empty if ours."""
    names = [methods.stranger_of(cell.about.get("method", "")), *_strange_metrics(metrics)]
    return " and ".join(filter(None, dict.fromkeys(names)))


@cache
def _strange_metrics(texts: tuple[str, ...]) -> list[str]:
    return [naming.stranger_of(name) for text in texts for name in naming.expand(text)]


def parse_methods_apart(texts: Iterable[str], precision: str, engine: Engine) -> list[Method]:
    """The methods that texts name, each once, as `parse_methods` gives them; strangers are read by a worker.

    Raises WrongUsage and Refusal as `parse_method` does, and Refusal if the worker dies or hangs while it imports one.
    """
    names = list(dict.fromkeys(name for text in texts for name in expand(text)))
    strange = [name for name in names if methods.stranger_of(name)]
    ours = {name: set_precision(parse_method(name), precision) for name in names if name not in strange}
    together = " and ".join(dict.fromkeys(map(methods.stranger_of, strange)))  # in one process: none explains anything
    tasks = [Task(name, describe_stranger, (name, precision), stranger=together) for name in strange]
    theirs = {done.task.name: _stand_in(_words_of(done)) for done in engine.run(tasks)}
    return [(ours | theirs)[name] for name in names]


def describe_stranger(text: str, precision: str) -> StrangerWords:
    """Read a stranger's method, which imports its code, and describe it for a process that does not."""
    try:
        method = set_precision(parse_method(text), precision)
    except Refusal as reason:
        return StrangerWords(text, refusal=str(reason), exit_code=reason.exit_code)
    parameters = {str(name): _plain(value) for name, value in vars(method.explainer).items()}
    identity, family = repr(method.explainer), family_of(method.name)
    return StrangerWords(method.text, method.name, identity, parameters, method.class_sensitive, family)


def _words_of(done: Done) -> StrangerWords:
    """What a worker said of a method; raises the refusal that it met."""
    if done.error is not None:
        raise Refusal(f"{done.task.name}: {done.error}")
    words: StrangerWords = done.value
    if words.refusal:
        raise (WrongUsage if words.exit_code == WrongUsage.exit_code else Refusal)(words.refusal)
    return words


def _stand_in(words: StrangerWords) -> Method:
    explainer: Any = AbsentExplainer(words.identity, words.parameters)
    return Method(words.text, words.name, explainer, words.class_sensitive, words.family)


def _plain(value: Any) -> Any:
    """A value that needs no stranger's class to be read: numbers, texts and sequences of them, else its repr."""
    if type(value) in PLAIN:
        return value
    if type(value) in (list, tuple):
        values: Sequence[Any] = value
        return type(value)(map(_plain, values))
    return repr(value)
