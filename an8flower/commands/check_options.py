"""The options of the sanity checks, as the table of the checks says."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import click

from ..evaluate.results.checks import Switch, switches

Command = TypeVar("Command", bound=Callable[..., Any])


def check_options(command: Command) -> Command:
    """Decorator that gives a command the options of every check that has a switch."""
    for key, switch in reversed(switches().items()):
        for option in reversed(options_of(key, switch)):
            command = option(command)
    return command


def options_of(key: str, switch: Switch) -> list[Callable[[Any], Any]]:
    """The options of one check: `--KEY`, and a number where the check takes one; else `--KEY/--no-KEY`."""
    if switch.amount is None:
        words = f"--{key}/--no-{key}"
        return [click.option(words, default=switch.default, show_default=True, help=switch.help)]
    option, default, words = switch.amount
    number = click.option(f"--{option}", type=click.IntRange(min=1), default=default, show_default=True, help=words)
    return [click.option(f"--{key}", is_flag=True, default=switch.default, help=switch.help), number]


def values_of(typed: Mapping[str, Any]) -> dict[str, Any]:
    """The keys of the plan that the options stand for: a number where a check takes one and is asked for."""
    return {
        key: typed[key] if switch.amount is None else (typed[switch.amount.option] if typed[key] else None)
        for key, switch in switches().items()
        if key in typed
    }
