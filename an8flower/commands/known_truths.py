"""The checks of explainers on networks of which it is known what they can use: set by hand."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import Refusal
from .printing import echo_json

if TYPE_CHECKING:
    from ..evaluate.trust.by_hand.judge import ExaminedByHand, HandVerdict


def check_by_hand(
    name: str, in_process: bool, limits: tuple[float, float | None], picture: Path | None, as_json: bool
) -> None:
    """Judge an explainer on every hand-set network, print the verdicts, and draw the maps if a file is named.

    Args:
        limits: seconds for a network, and GiB of memory, of the worker process that runs a stranger's code.
    """
    from ..evaluate.audits.checked_by_hand import examine_by_hand
    from .workers import open_worker

    with open_worker(in_process, *limits, threads=1) as engine:
        examined = list(examine_by_hand(name, engine))
    if picture is not None:
        _draw(examined, picture)
    verdicts = [examination.verdict for examination in examined]
    if as_json:
        echo_json({"method": name, "by_hand": [verdict.document() for verdict in verdicts]})
    else:
        _show(verdicts)
    if all(verdict.status == "not applicable" for verdict in verdicts):
        raise Refusal(f"{name} is not applicable to any of the networks set by hand: {verdicts[0].reason}")


def _draw(examined: Sequence[ExaminedByHand], picture: Path) -> None:
    from ..evaluate.trust.by_hand.sheet import draw_sheet

    try:
        draw_sheet(examined).save(picture)
    except (OSError, ValueError) as error:
        raise Refusal(f"{picture}: no picture can be written there ({error}); name a .png in a folder") from None


def _show(verdicts: Sequence[HandVerdict]) -> None:
    """Print a line for each network: what it reads, the verdict, the share on used pixels, and the reason."""
    from ..evaluate.trust.by_hand.networks import handset
    from .fitting import show

    rows = [
        [
            verdict.network,
            handset(verdict.network).words,
            verdict.status,
            _number(verdict.share),
            _number(verdict.chance),
            _interval(verdict.skill),
            verdict.reason,
        ]
        for verdict in verdicts
    ]
    show(["network", "what it reads", "verdict", "on used", "others", "on the scale, 95 %", "why"], rows)


def _number(value: float) -> str:
    return "-" if value != value else f"{value:.2f}"


def _interval(skill: Any) -> str:
    return "-" if skill is None else f"{skill.mean:.2f} ({skill.low:.2f} to {skill.high:.2f})"
