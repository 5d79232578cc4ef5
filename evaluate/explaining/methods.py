"""Methods as users write them: `smoothgrad:samples=50,sigma=0.1`, `family:cam`, `all`, `package.module:attribute`.

Those of other toolkits are written as their classes are called: `captum:Occlusion(sliding_window_shapes=(3,8,8))`.
Maps that lie in files are a method as well: `maps:FILE`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import MISSING, is_dataclass, replace
from typing import Any, NamedTuple, cast

from an8flower.errors import Refusal, WrongUsage
from an8flower.names import unknown

from ..case import Explainer
from ..explainers.ranges import describe_ranges
from ..explainers.toolkits.adapters import is_foreign, parse_foreign
from ..options import METHOD, defaults, is_stored, parse_parameters
from ..registry import explainers


class Method(NamedTuple):
    """An explainer, and the words with which the user asked for it."""

    text: str  # as typed: name and parameters
    name: str
    explainer: Explainer
    class_sensitive: bool = True  # whether another target gives another map, as its owner says
    family: str | None = None  # if it is known without asking the registry


def parse_methods(texts: Iterable[str]) -> list[Method]:
    """The methods that texts name, each once; `all` and `family:NAME` stand for several.

    Raises WrongUsage as `parse_method` does, and for an unknown family.
    """
    wanted = [name for text in texts for name in expand(text)]
    return [parse_method(text) for text in dict.fromkeys(wanted)]


def set_precisions(methods: Iterable[Method], precision: str) -> list[Method]:
    """Give this precision to all methods that have such a parameter and whose user left it at its default.

    Raises WrongUsage for an unknown precision.
    """
    return [set_precision(method, precision) for method in methods]


def set_precision(method: Method, precision: str) -> Method:
    """Give a method this precision, if it has such a parameter and the user left it at its default."""
    kind: Any = type(method.explainer)
    if not is_dataclass(kind) or "precision" not in defaults(kind) or "precision=" in method.text:
        return method
    if precision == defaults(kind)["precision"]:
        return method
    text = f"{method.text}{':' if method.text == method.name else ','}precision={precision}"
    return method._replace(text=text, explainer=replace(cast(Any, method.explainer), precision=precision))


def expand(text: str) -> list[str]:
    """The names that `all`, `family:NAME` or a folder of maps stands for; anything else stands for itself.

    Plug-ins that do not work are left out: `broken_plug_ins` tells which. What has two names, that of an entry point
    and that which it registered itself under, is there once.
    """
    if is_stored(text):
        from .stored_maps import expand_stored  # here, as it loads what reads files of tables

        return expand_stored(text)
    kind, _, family = text.partition(":")
    if text != "all" and kind != "family":
        return [text]
    broken = broken_plug_ins()
    names = {explainers[name].item: name for name in explainers.names() if name not in broken}
    families = {name: family_of(name) for name in names.values()}
    if text == "all":
        return [*families]
    if family not in families.values():
        raise WrongUsage(unknown("family", family, set(families.values())))
    return [name for name in families if families[name] == family]


def family_of(name: str) -> str:
    """The family that a method is registered in; a method that is not registered is a third party's."""
    known = name in explainers.names()
    return str(explainers[name].about.get("family", "third party")) if known else "third party"


def stranger_of(text: str) -> str:
    """The name of the toolkit, the plug-in or the attribute of a module whose code a method runs; empty for ours.

    Nothing is imported for it.

    >>> stranger_of("mine.methods:Method:a=1"), stranger_of("captum:Saliency"), stranger_of("smoothgrad:samples=5")
    ('mine.methods:Method', 'captum', '')
    """
    if is_foreign(text):
        return text.partition(":")[0]
    if is_stored(text):
        return ""
    match = METHOD.fullmatch(text)
    return explainers.stranger_of(match["name"]) if match else ""


def broken_plug_ins() -> dict[str, str]:
    """The plug-ins that cannot be had by their bare name, with the sentence that says why."""
    reasons = {name: trouble_with(name) for name in explainers.plug_ins()}
    return {name: reason for name, reason in reasons.items() if reason is not None}


def trouble_with(text: str) -> str | None:
    """The reason why a method cannot be used; None if it can."""
    try:
        parse_method(text)
    except Refusal as reason:
        return str(reason)
    return None


def parse_method(text: str) -> Method:
    """Parse the text of a method: its explainer with the parameters that the text gives.

    Raises:
        WrongUsage: an unknown name or parameter, or a value of another type than the parameter's.
        Refusal: a plug-in that cannot be loaded.
    """
    if is_foreign(text):
        foreign = parse_foreign(text)
        return Method(text, f"{foreign.toolkit.name}:{foreign.kind}", foreign, foreign.class_sensitive)
    if is_stored(text):
        from .stored_maps import parse_stored  # here, for the same reason

        name, maps, family = parse_stored(text)
        return Method(text, name, maps, family=family)
    match = METHOD.fullmatch(text)
    if match is None:
        raise WrongUsage("an empty name of a method came; see `an8flower methods`")
    name, parameters = match["name"], match["parameters"]
    kind, about = explainers[name].item, explainers[name].about
    if not (isinstance(kind, type) and is_dataclass(kind)):
        raise WrongUsage(f"{name} is {kind!r}; expected a frozen dataclass of the method's parameters")
    values = parse_parameters(name, kind, parameters or "")
    if missing := [option for option in defaults(kind) if option not in values and defaults(kind)[option] is MISSING]:
        raise WrongUsage(f"{name}: parameter {missing[0]} has no default; write {name}:{missing[0]}=VALUE")
    return Method(text, name, make_explainer(name, kind, values), about.get("class_sensitive", True))


def make_explainer(name: str, kind: type, values: dict[str, Any]) -> Explainer:
    """Make an explainer of these parameters; raises WrongUsage if its class does not take them."""
    try:
        return cast(Explainer, kind(**values))
    except WrongUsage as error:
        raise WrongUsage(str(error) if name in str(error) else f"{name}: {error}") from None
    except Refusal:
        raise
    except Exception as error:  # foreign code raises whatever it likes
        raise WrongUsage(f"{name} does not take {values} ({type(error).__name__}: {error})") from error


def describe_methods() -> list[dict[str, Any]]:
    """Describe every method as `an8flower methods` prints it: family, parameters and defaults, source and needs.

    A plug-in that does not work is there too, with an `error`.
    """
    broken = broken_plug_ins()
    return [
        describe_broken_plug_in(name, broken[name]) if name in broken else describe_method(name)
        for name in explainers.names()
    ]


def describe_method(name: str) -> dict[str, Any]:
    """Describe one method; a parameter without default is shown as None.

    `ranges` has the values of a parameter that are worth a try: `low` and `high` (with `log` where factors count),
    `values`, or in words what depends on the `network`.
    """
    entry = explainers[name]
    known = defaults(entry.item) if is_dataclass(entry.item) else {}
    note = {"note": entry.about["note"]} if entry.about.get("note") else {}  # on its licence
    return {
        "name": name,
        "family": family_of(name),
        "parameters": {option: None if value is MISSING else value for option, value in known.items()},
        "ranges": describe_ranges(entry.item),
        "source": entry.about.get("source", ""),
        "needs": entry.about.get("needs", ""),
        "class_sensitive": entry.about.get("class_sensitive", True),
        **note,
    }


def describe_broken_plug_in(name: str, error: str) -> dict[str, Any]:
    """Describe a plug-in of which nothing is known but that it does not work."""
    unsaid: dict[str, Any] = {
        "family": "third party",
        "parameters": {},
        "ranges": {},
        "source": "",
        "needs": "",
        "class_sensitive": None,
    }
    return {"name": name, **unsaid, "error": error}
