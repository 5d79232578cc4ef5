"""The command line: a group that prints a refusal as one sentence, and the commands that it holds."""

from __future__ import annotations

from typing import Any

import click

from . import __version__
from .commands import (
    audit,
    comparing,
    data,
    explaining,
    exporting,
    factors,
    methods,
    models,
    planting,
    prototypes,
    scoring,
    shards,
    signing,
    trust,
    tuning,
)
from .errors import Refusal
from .names import unknown

COMMANDS = (
    *(data.generate, data.presets, data.inspect, data.verify, data.import_, planting.plant),
    exporting.export,
    factors.factors,
    *(shards.shard, shards.merge),
    *(models.train, models.archs),
    *(methods.methods, methods.check, methods.metrics),
    explaining.explain,
    *(trust.certify, scoring.score, trust.sanity, prototypes.prototypes),
    tuning.tune,
    *(audit.audit, audit.report, comparing.compare, signing.sign),
)


class Commands(click.Group):
    """A group of commands that prints a refusal as one sentence, and answers an unknown name with the nearest one."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command that was named; raises UsageError with the nearest name if there is none."""
        if args[0] not in self.commands and not args[0].startswith("-"):
            raise click.UsageError(unknown("command", args[0], self.commands))
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; a refusal ends it with its own exit code."""
        try:
            return super().invoke(ctx)
        except Refusal as refusal:
            click.echo(f"Error: {refusal}", err=True)
            ctx.exit(refusal.exit_code)
        except KeyboardInterrupt:
            click.echo("Interrupted. What is finished is kept: the same command goes on from there.", err=True)
            ctx.exit(1)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="an8flower")
def main() -> None:
    """Which visual explanations of an image classifier can be trusted?

    Flowers are rendered whose class-discriminative parts are known to the pixel; classifiers are trained on them; any
    explainer is scored against the truth.

    \b
    Example:  an8flower score --method gradcam --method random
    """


for command in COMMANDS:
    main.add_command(command)


if __name__ == "__main__":
    main(prog_name="an8flower")
