"""The commands about audits: carry out a plan and write its page, or write the page again."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..errors import Refusal
from .changes import show_changes
from .options import FILE, as_json, batch_option, device_option, precision_option
from .printing import echo_json, warn
from .requirements import Gate, end_by_requirements, requirement_options, show_requirements, write_verdict_files
from .verdicts import show_verdicts

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from ..evaluate.audits.plan import Plan
    from ..evaluate.audits.run import AuditOutcome

STALE = "the signature there is that of an earlier manifest; sign the audit again with `an8flower sign`"
REPLACES = "Repeatable; replaces what the plan says."


@click.command()
@click.argument("plan", required=False)
@click.option("--quick", is_flag=True, help="Carry out the built-in small plan; the same as without PLAN.")
@click.option("--reduced", is_flag=True, help="Carry out the small version that the plan describes.")
@click.option("-o", "--output", type=FILE, help="Folder of the run.  [default: runs/NAME]")
@click.option("--fresh", is_flag=True, help="Compute everything anew, and use no results of this or another run.")
@click.option("--data", "data", multiple=True, help=f"A preset, a spec .toml or an .h5 file. {REPLACES}")
@click.option(
    "--model",
    "models",
    multiple=True,
    help=f"An arch, a file, package.module:factory, or timm:NAME and its like. {REPLACES}",
)
@click.option("--weights", multiple=True, help="A safetensors file for each factory of --model, in the same order.")
@click.option(
    "--class-names",
    "--labels",
    "labels",
    help="A file of the class names in the order of the outputs of the factories of --model.",
)
@click.option("--normalise", help="For the factories of --model: imagenet, none, or M,M,M:S,S,S.  [default: imagenet]")
@click.option("--layer", help="For the factories of --model: the layer that CAMs look at.")
@click.option("--method", "methods", multiple=True, help=REPLACES)
@click.option("--metric", "metrics", multiple=True, help=REPLACES)
@click.option("--rows", type=click.IntRange(min=1), help="How many rows are scored; replaces what the plan says.")
@click.option(
    "--against",
    type=FILE,
    help='Folder of a finished audit that every cell is compared with; see also --require "no worse".',
)
@click.option("--sign", type=FILE, help="Sign the audit with this private key (Ed25519, PEM), as `sign` does.")
@requirement_options
@click.option(
    "--trust",
    is_flag=True,
    help="Let PLAN and files of models import Python modules that they name, which runs their code.",
)
@click.option(
    "--download",
    is_flag=True,
    help="Download the weights of timm:NAME, torchvision:NAME or hf:NAME, unless they are there.",
)
@click.option(
    "--engine",
    default="local",
    show_default=True,
    help="Where work is done: local (processes), inline (this process), or ray.",
)
@click.option("--ray-address", help="Address of a Ray cluster.  [default: one is started on this machine]")
@click.option(
    "--workers",
    type=click.IntRange(min=1),
    help="Number of processes.  [default: one for each core, on GPUs up to 8 for each]",
)
@click.option(
    "--threads", type=click.IntRange(min=1), default=1, show_default=True, help="CPU threads of each process."
)
@click.option(
    "--time-limit",
    type=float,
    default=1800,
    show_default=True,
    help="Seconds that one method may take on one block of rows.",
)
@click.option("--memory-limit", type=float, help="GiB of memory for each process.  [default: what the machine has]")
@click.option("--keep-maps", is_flag=True, help="Keep the raw maps as well, for `score --maps` to read.")
@batch_option
@device_option
@precision_option
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
    against: Path | None,
    sign: Path | None,
    gate: Gate,
    trust: bool,
    as_json: bool,
    **more: Any,
) -> None:
    """Carry out a plan, and write one page of results: report.html.

    PLAN is the name of a shipped plan, or a .toml file with data sets, models and their seeds, methods, metrics and
    checks. Without it, it is the quick one, or `planted` if all --data are files of `an8flower plant`. Ctrl-C stops the
    audit, and the same command continues it: finished work is never done again, whether it was done in this run or in
    a run in a neighbouring folder.

    What the plan or --require asks for is decided by the bounds of 95 % intervals: it holds, fails, or is undecided.
    The exit code is 3 if something fails, with --strict 4 if something is undecided, and 1 if a part of the audit
    failed, so that less was measured than asked.

    With --against, every data set, model, method and metric is paired with that of an earlier audit, row by row, and is
    better, worse, equal, new or gone, or cannot be told.

    \b
    Example:  an8flower audit --quick
              an8flower audit vebi-iou --reduced
              an8flower audit --data mine.h5 --model mine.nets:factory --method gradcam
    """
    from ..evaluate.audits.run import How
    from ..evaluate.audits.run import audit as carry_out
    from .progress import Stages

    if quick and plan:
        raise click.UsageError("give either PLAN or --quick")
    wanted = _read_plan(plan or _choose_plan(quick, data), reduced, trust).instead(
        data=data,
        models=models,
        weights=weights,
        settings={key: more.pop(key) for key in ("labels", "normalise", "layer")},
        methods=methods,
        metrics=metrics,
        rows=rows,
        require=gate.require,
    )
    _fetch_weights(wanted, more.pop("download"))
    key = _open_key(sign)
    with Stages() as stages:
        outcome = carry_out(
            wanted,
            output,
            How(**more, trust=trust),
            fresh=fresh,
            reporter=stages,
            command=_command_line(),
            warn=warn,
            against=against,
        )
    _conclude(outcome, gate, key, as_json)


def _fetch_weights(plan: Plan, wanted: bool) -> None:
    """Download the weights of the plan's networks from elsewhere, if that is wanted."""
    from ..evaluate.models.elsewhere.opening import fetch

    if wanted:
        fetch(entry.source for entry in plan.models if entry.source)


def _open_key(path: Path | None) -> Ed25519PrivateKey | None:
    """The private key of a file, before anything is computed; None without a file."""
    from ..evaluate.results.signature import open_private_key

    return None if path is None else open_private_key(path)


def _conclude(outcome: AuditOutcome, gate: Gate, key: Ed25519PrivateKey | None, as_json: bool) -> None:
    """Sign, write and print what came out, and end with the exit code that the requirements give."""
    from ..evaluate.results.signature import sign_run

    if key is not None:
        sign_run(outcome.folder, key)
    write_verdict_files(outcome.summary, gate)
    _print_outcome(outcome, as_json)
    end_by_requirements(outcome.summary["requirements"], gate.strict)


def _choose_plan(quick: bool, data: tuple[str, ...]) -> str:
    """The plan where none is named: that for planted marks if all data have some, else the quick one."""
    from ..evaluate.audits import plan as plans

    return plans.PLANTED if not quick and data and all(map(_is_planted, data)) else plans.QUICK


def _is_planted(place: str) -> bool:
    """Whether an .h5 file holds planted photographs; what is no such file is told of later."""
    from ..planted import planting_of
    from ..store import FlowerStore

    try:
        return Path(place).suffix in (".h5", ".hdf5") and planting_of(FlowerStore(place)) is not None
    except Refusal:
        return False


def _read_plan(name: str | None, reduced: bool, trust: bool) -> Plan:
    """The plan of that name or file, the quick one for None, unless it wants code to run that is not trusted."""
    from ..evaluate.audits import plan as plans
    from ..evaluate.calls import refuse_untrusted

    plan = plans.load(name or plans.QUICK)
    refuse_untrusted(name or plans.QUICK, plan.own_code(), trust, "--trust")
    return plan.at_reduced_size() if reduced else plan


def _command_line() -> str:
    """The command line that the user typed, quoted for a shell; the page shows it."""
    import shlex
    import sys

    return shlex.join(["an8flower", *sys.argv[1:]])


def _print_outcome(outcome: AuditOutcome, as_json: bool) -> None:
    """Print what an audit did; raises Refusal if some of its cells failed."""
    if as_json:
        echo_json(outcome.summary)
    else:
        show_verdicts(outcome.summary)
        click.echo(f"{outcome.page}: {outcome.done} cells done, {outcome.reused} taken as they were")
        show_changes(outcome.summary.get("against"))
        show_requirements(outcome.summary["requirements"])
    if failed := outcome.failed:
        where = " on ".join(failed[0][key] for key in ("method", "model") if key in failed[0])
        first = f"{where}: {failed[0]['reason']}"
        raise Refusal(f"{len(failed)} cells failed, the rest is on the page; the first: {first}")


@click.command()
@click.argument("folder", type=FILE)
def report(folder: Path) -> None:
    """Write the page and the cards of an audit again, from the results in its FOLDER. Needs no torch.

    \b
    Example:  an8flower report runs/quick
    """
    from ..evaluate.report.page import write_page
    from ..evaluate.report.summary_cards import write_cards
    from ..evaluate.results.manifest import renew_page
    from ..evaluate.results.signature import is_signed

    page = write_page(folder)
    write_cards(folder)
    changed = renew_page(folder)
    click.echo(str(page))
    if changed and is_signed(folder):
        warn(STALE)
