"""The commands of the audit: a plan in, a page out; and the page once more."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..errors import Refusal
from .options import FILE, as_json, batch_option, device_option
from .printing import echo_json

if TYPE_CHECKING:
    from ..evaluate.audits.run import AuditOutcome

MEANT = "Repeatable; instead of the plan's."


@click.command()
@click.argument("plan", required=False)
@click.option("--quick", is_flag=True, help="The built-in small plan, which is what is done without PLAN.")
@click.option("--reduced", is_flag=True, help="The plan at the size that it calls reduced.")
@click.option("-o", "--output", type=FILE, help="Folder of the run.  [default: runs/NAME]")
@click.option("--fresh", is_flag=True, help="Do everything anew: nothing is taken from this or another run.")
@click.option("--data", "data", multiple=True, help=f"A preset, a spec .toml or an .h5 file. {MEANT}")
@click.option("--model", "models", multiple=True, help=f"An arch, a file, or package.module:factory. {MEANT}")
@click.option("--weights", multiple=True, help="A safetensors file for each factory of --model, in their order.")
@click.option("--method", "methods", multiple=True, help=MEANT)
@click.option("--metric", "metrics", multiple=True, help=MEANT)
@click.option("--rows", type=click.IntRange(min=1), help="Rows that are scored, instead of the plan's.")
@click.option("--trust", is_flag=True, help="Import the modules that PLAN names (factories, methods, metrics).")
@click.option("--engine", default="local", show_default=True, help="local (processes), inline, or ray.")
@click.option("--ray-address", help="A running cluster; else --engine ray starts one here.")
@click.option("--workers", type=click.IntRange(min=1), help="Processes.  [default: one a core, or one a GPU]")
@click.option("--threads", type=click.IntRange(min=1), default=1, show_default=True, help="Of each process.")
@click.option("--time-limit", type=float, default=1800, show_default=True, help="Seconds that a cell may take.")
@click.option("--memory-limit", type=float, help="GiB that a process may hold.  [default: what the machine has]")
@click.option("--keep-maps", is_flag=True, help="Also keep the raw maps, in half precision.")
@batch_option
@device_option
@as_json
def audit(
    plan: str | None,
    quick: bool,
    reduced: bool,
    output: Path | None,
    fresh: bool,
    data: tuple[str, ...],
    models: tuple[str, ...],
    weights: tuple[str, ...],
    methods: tuple[str, ...],
    metrics: tuple[str, ...],
    rows: int | None,
    trust: bool,
    as_json: bool,
    **how: Any,
) -> None:
    """Do everything that a plan asks, and write one page: report.html.

    PLAN is a shipped plan's name or a .toml file: data sets, models and their seeds, methods, metrics, checks. What is
    done already is not done again, be it in this run or in one beside it; Ctrl-C stops, and the same command goes on.

    \b
    Example:  an8flower audit --quick
              an8flower audit vebi-iou --reduced
              an8flower audit --data mine.h5 --model mine.nets:factory --method gradcam
    """
    from ..evaluate.audits import plan as plans
    from ..evaluate.audits.run import How
    from ..evaluate.audits.run import audit as carry_out
    from .progress import Stages

    if quick and plan:
        raise click.UsageError("give either PLAN or --quick")
    wanted = plans.load(plan or plans.QUICK)
    if names := wanted.own_code():
        _refuse_untrusted(names, trust)
    wanted = wanted.at_reduced_size() if reduced else wanted
    wanted = wanted.instead(data=data, models=models, weights=weights, methods=methods, metrics=metrics, rows=rows)
    with Stages() as stages:
        outcome = carry_out(wanted, output, How(**how), fresh=fresh, reporter=stages, command=_typed())
    _tell(outcome, as_json)


def _refuse_untrusted(named: list[str], trusted: bool) -> None:
    if not trusted:
        raise Refusal(
            f"the plan would have {', '.join(named)} imported, which runs code; read it, and add --trust if it is meant"
        )


def _typed() -> str:
    """The command as it was typed, for the page."""
    import shlex
    import sys

    return shlex.join(["an8flower", *sys.argv[1:]])


def _tell(outcome: AuditOutcome, as_json: bool) -> None:
    if as_json:
        echo_json(outcome.summary)
    else:
        click.echo(f"{outcome.page}: {outcome.done} cells done, {outcome.reused} taken as they were")
    if failed := outcome.failed:
        first = f"{failed[0]['method']} on {failed[0]['model']}: {failed[0]['reason']}"
        raise Refusal(f"{len(failed)} cells failed, the rest is on the page; the first: {first}")


@click.command()
@click.argument("folder", type=FILE)
def report(folder: Path) -> None:
    """Write the page of an audit once more, from what lies in its FOLDER. Wants no torch.

    \b
    Example:  an8flower report runs/quick
    """
    from ..evaluate.report.page import write_page

    click.echo(str(write_page(folder)))
