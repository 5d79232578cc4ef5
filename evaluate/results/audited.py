"""What a finished audit says of the methods on one of its models. No torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from an8flower.errors import Refusal

from .scopes import models_text

NUMBERS = ("calibrated", "calibrated_low", "calibrated_high")


def scores_of_model(summary: Mapping[str, Any], digest: str) -> list[dict[str, Any]]:
    """The calibrated scores of methods by the leading metric, from the boards of an audit that a model is on.

    A board's scores are means over its models. Of several boards of a data set the smallest counts, which is that of
    the model's own architecture.

    Args:
        summary: as in `summary.json`.
        digest: of the model.

    Raises:
        Refusal: the audit did not score this model.
    """
    entries = [entry for study in summary["studies"] for entry in _scores_on(study, digest)]
    if not entries:
        raise Refusal(
            f"the audit {summary.get('name', '')} did not score a model with the digest {digest[:8]}; name the folder "
            "of an audit of this very model"
        )
    return entries


def _scores_on(study: Mapping[str, Any], digest: str) -> Iterator[dict[str, Any]]:
    """The scores of methods on the smallest board of one data set that a model is on."""
    boards = [
        board
        for board in study["scores"].get("boards", ())
        if any(name.rpartition("-")[2] == digest[:8] for name in board["models"])
    ]
    if not boards:
        return
    board, metric = min(boards, key=lambda board: len(board["models"])), study["scores"]["leading"][0]
    names = {result["text"]: result["method"] for result in study["scores"]["results"]}
    about = {"dataset": study["dataset"]["name"], "metric": metric, "models": models_text(board["architectures"])}
    for row in board["methods"]:
        numbers = board["metrics"][metric]["results"][row["text"]]
        for text in (row["text"], *row["equal"]):
            yield {"method": names.get(text, text), "text": text, **about, **{key: numbers[key] for key in NUMBERS}}
