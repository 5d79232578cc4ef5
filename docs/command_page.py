"""The page of the command line: every command with its help, as `--help` prints it."""

from __future__ import annotations

import inspect
import re

import click
from markup import code, plain, table

PROGRAM = "an8flower"
EXAMPLE = re.compile(r"\n*\x08\n(Examples?:.*)", re.DOTALL)


def commands() -> str:
    """Every command with its help, as `--help` prints it."""
    from an8flower.__main__ import main

    context = click.Context(main, info_name=PROGRAM, **main.context_settings)
    opening = """# Command line

Results go to standard output, progress and remarks to standard error. `--json` prints one JSON document and nothing
else. The exit status is 0 where all is done, 1 where something failed (one sentence says what), and 2 where the words
of the call are wrong; an unknown name is answered with the nearest one. Paths are relative to the current folder."""
    rows = [[f"[`{name}`](#{name})", _first_sentence(str(command.help))] for name, command in main.commands.items()]
    sections = [_command(command, context) for command in main.commands.values()]
    return "\n\n".join([opening, table(["command", "does"], rows), *sections])


def _command(command: click.Command, parent: click.Context) -> str:
    """One command: what it does, how it is called, an example, its options."""
    context = click.Context(command, info_name=command.name, parent=parent)
    words = " ".join([PROGRAM, str(command.name), *command.collect_usage_pieces(context)])
    text, example = split_help(str(command.help))
    parts = [f"## {command.name}", plain(text), f"```text\n{words}\n```"]
    parts += [f"```console\n{example}\n```"] if example else []
    options = [record for option in command.get_params(context) if (record := option.get_help_record(context))]
    rows = [[code(declared), _option_help(text)] for declared, text in options]
    return "\n\n".join([*parts, table(["option", "what it is"], rows)])


def split_help(text: str) -> tuple[str, str]:
    """The prose of a help text, and its examples without the word before them."""
    text = inspect.cleandoc(text)
    match = EXAMPLE.search(text)
    if not match:
        return text, ""
    lines = re.sub(r"Examples?:", "", match[1], count=1).splitlines()
    whole = "\n".join(line.strip() for line in lines if line.strip())
    return text[: match.start()].strip(), re.sub(rf"\n(?!{PROGRAM} )", " \\\\\n    ", whole)


def _option_help(text: str) -> str:
    """The help of an option, with its default and range in round brackets."""
    return plain(re.sub(r"\s*\[((?:default|required|x[<>=]|\d)[^\]]*)\]", r" (\1)", text))


def _first_sentence(text: str) -> str:
    return plain(re.split(r"(?<=[.?:])\s", " ".join(text.split()), maxsplit=1)[0].rstrip(".:"))
