"""The options of the sanity checks, made from the table of registered checks."""

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
    """The options of one check: `--KEY` and a number if the check takes a number; else `--KEY/--no-KEY`."""
    if switch.amount is None:
        words = f"--{key}/--no-{key}"
        return [click.option(words, default=switch.default, show_default=True, help=switch.help)]
    option, default, words = switch.amount
    number = click.option(f"--{option}", type=click.IntRange(min=1), default=default, show_default=True, help=words)
    return [click.option(f"--{key}", is_flag=True, default=switch.default, help=switch.help), number]


def values_of(options: Mapping[str, Any]) -> dict[str, Any]:
    """The values of the plan's table `[sanity]` by key, from the values of the options by name."""
    return {
        key: options[key] if switch.amount is None else (options[switch.amount.option] if options[key] else None)
        for key, switch in switches().items()
        if key in options
    }
