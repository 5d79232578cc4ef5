"""The checks of explainers on networks of which it is known what they can use: set by hand, or cut so."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import Refusal
from .ensure import ensure_default_data, ensure_default_model
from .printing import echo_json

if TYPE_CHECKING:
    from PIL.Image import Image

    from ..evaluate.trust.by_architecture.judge import CanvasVerdict
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
        _save(_draw(examined), picture)
    verdicts = [examination.verdict for examination in examined]
    if as_json:
        echo_json({"method": name, "by_hand": [verdict.document() for verdict in verdicts]})
    else:
        _show(verdicts)
    if all(verdict.status == "not applicable" for verdict in verdicts):
        raise Refusal(f"{name} is not applicable to any of the networks set by hand: {verdicts[0].reason}")


def check_on_canvases(
    name: str,
    model_and_data: tuple[str | None, Path | None],
    in_process: bool,
    limits: tuple[float, float | None],
    picture: Path | None,
    as_json: bool,
) -> None:
    """Judge an explainer on canvases of a model's pictures, print the scores, and draw the maps if a file is named.

    Args:
        model_and_data: None stands for the default data set, and its default model.
        limits: seconds for a setting, and GiB of memory, of the worker process that runs a stranger's code.
    """
    from ..evaluate.audits.checked_on_canvases import examine_on_canvases
    from ..evaluate.trust.by_architecture.sheet import draw_canvases
    from .workers import open_worker

    model, data = model_and_data
    data = data or ensure_default_data()
    place = model or str(ensure_default_model(data, "cpu"))
    with open_worker(in_process, *limits, threads=1) as engine:
        examined = list(examine_on_canvases(name, place, data, engine))
    if picture is not None:
        _save(draw_canvases(examined), picture)
    verdicts = [examination.verdict for examination in examined]
    if as_json:
        echo_json({"method": name, "model": place, "canvases": [verdict.document() for verdict in verdicts]})
    else:
        _show_canvases(verdicts)
    if all(verdict.status == "not applicable" for verdict in verdicts):
        raise Refusal(f"{name} is not applicable to canvases of this model: {verdicts[0].reason}")


def _draw(examined: Sequence[ExaminedByHand]) -> Image:
    from ..evaluate.trust.by_hand.sheet import draw_sheet

    return draw_sheet(examined)


def _save(sheet: Image, picture: Path) -> None:
    """Write a picture; raises Refusal if that cannot be done."""
    try:
        sheet.save(picture)
    except (OSError, ValueError) as error:
        raise Refusal(f"{picture}: no picture can be written there ({error}); name a .png in a folder") from None


def _show_canvases(verdicts: Sequence[CanvasVerdict]) -> None:
    """Print a line for each setting: the verdict, the share in the cell, and the reason."""
    from ..evaluate.trust.by_architecture.networks import SETTINGS
    from .fitting import show

    rows = [
        [verdict.setting, SETTINGS[verdict.setting], verdict.status, _interval(verdict.score), verdict.reason]
        for verdict in verdicts
    ]
    show(["setting", "what the logits read", "verdict", "in the cell, 95 % (chance 0.25)", "why"], rows)


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
