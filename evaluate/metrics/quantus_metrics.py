"""Metrics of Quantus as metrics of ours: `quantus:PointingGame`, `quantus:PixelFlipping(features_in_step=16)`.

The code and the definition are Quantus', the rows, the chance level, the statistics and the page are ours.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from an8flower.errors import Refusal, WrongUsage
from an8flower.names import check_known, unknown

from ..case import Case
from ..models.elsewhere.ready import import_toolkit, mute_toolkit
from ..models.networks.random_state import seed_global_state
from ..options import QUANTUS, Arguments, format_arguments, parse_call
from .metric import Metric, Need

FAMILY = "quantus"
SOURCE = "Hedström et al., JMLR 24 (2023) 34: Quantus {version}, {name}"
FREE = (-math.inf, math.inf)
CORRELATION, SHARE = (-1.0, 1.0), (0.0, 1.0)
TYPED_BY_US = {"disable_warnings": True, "display_progressbar": False, "return_auc_per_sample": False}


class Kind(NamedTuple):
    """What a card says of a metric of Quantus that its class does not say."""

    bounds: tuple[float, float]
    definition: str
    asks_mask: bool = False
    asks_model: bool = False
    is_curve: bool = False  # the score is the area under what Quantus gives, at steps of 1, as its return_auc has it


def of_mask(bounds: tuple[float, float], definition: str) -> Kind:
    """A metric that compares maps with masks."""
    return Kind(bounds, definition, asks_mask=True)


def of_model(bounds: tuple[float, float], definition: str) -> Kind:
    """A metric that asks the model about changed pictures."""
    return Kind(bounds, definition, asks_model=True)


# Those that give a number for each row from maps, masks, pictures and the model.
KINDS: Mapping[str, Kind] = {
    "AttributionLocalisation": of_mask(SHARE, "The positive attribution inside the mask, as a share of all of it."),
    "AUC": of_mask(SHARE, "The area under the ROC curve of the attribution as a guess of the mask."),
    "PointingGame": of_mask(SHARE, "Whether the largest attribution lies inside the mask."),
    "RelevanceMassAccuracy": of_mask(FREE, "The attribution inside the mask over the attribution of the whole image."),
    "RelevanceRankAccuracy": of_mask(SHARE, "The share inside the mask of as many largest values as it has pixels."),
    "TopKIntersection": of_mask(SHARE, "The share inside the mask of the k largest values."),
    "Complexity": Kind((0.0, math.inf), "The entropy of the attribution's share of each pixel."),
    "EffectiveComplexity": Kind((0.0, math.inf), "The number of values above a threshold."),
    "Sparseness": Kind(SHARE, "The Gini index of the absolute attribution."),
    "FaithfulnessCorrelation": of_model(
        CORRELATION, "The correlation of the attribution of random pixels with the loss when these are replaced."
    ),
    "FaithfulnessEstimate": of_model(
        CORRELATION, "The correlation of attribution and loss when pixels are replaced, the largest first."
    ),
    "Infidelity": of_model(
        (0.0, math.inf), "The squared error of the loss that the attribution predicts when squares are replaced."
    ),
    "Monotonicity": of_model(SHARE, "Whether the output grows each time when pixels are added, the least first."),
    "MonotonicityCorrelation": of_model(
        CORRELATION, "The rank correlation of absolute attribution with the variance of the output over replacements."
    ),
    "PixelFlipping": of_model(
        FREE, "The area under the output's curve when pixels are replaced, the largest first."
    )._replace(is_curve=True),
}


@dataclass(frozen=True)
class QuantusScore:
    """The number that a metric of Quantus gives for each row, which it gets alone."""

    kind: str  # the name of the class
    arguments: str = ""  # literals, sorted by name

    def __call__(self, maps: Tensor, case: Case) -> Tensor:
        """The scores (B,) float32 of maps (B, H, W); NaN where the mask is empty, and where Quantus
        gives NaN or refuses the map.

        Raises:
            Refusal: Quantus gives something else than a number for a row.
        """
        metric, device = make(self.kind, self.arguments), str(maps.device)
        arrays = to_arrays(maps, case)
        scores = [
            self.score_row(metric, case, {key: values[row : row + 1] for key, values in arrays.items()}, row, device)
            for row in range(len(maps))
        ]
        return torch.tensor(scores, dtype=torch.float32, device=maps.device)

    def score_row(self, metric: Any, case: Case, row: Arrays, place: int, device: str) -> float:
        """The score of one row; what Quantus draws comes from the row's own seed."""
        kind = KINDS[self.kind]
        if kind.asks_mask and not row["s_batch"].any():
            return math.nan
        model, seed = case.classifier if kind.asks_model else None, int(case.query.seeds[place])
        try:
            values = call(metric, row, seed, model=model, device=device)
        except AssertionError:  # it refuses maps of zeros, or without a positive value
            self.refuse_arguments(metric, row, seed, model=model, device=device)
            return math.nan
        if kind.is_curve:
            from scipy.integrate import trapezoid  # here, as it takes a while to load

            return float(trapezoid(values))
        if len(values) != 1:
            raise Refusal(f"{QUANTUS}{self.kind} gives {len(values)} numbers for a row; expected one")
        return float(values[0])

    def refuse_arguments(self, metric: Any, row: Arrays, seed: int, **more: Any) -> None:
        """Raise a Refusal if a metric refuses any map of a row, as it does where an argument does not fit the size."""
        ramp = np.linspace(0.1, 1, row["a_batch"].size, dtype=np.float32).reshape(row["a_batch"].shape)
        try:
            call(metric, {**row, "a_batch": ramp}, seed, **more)
        except AssertionError as error:
            reason = " ".join(str(error).split())
            raise Refusal(f"{QUANTUS}{self.kind} refuses every map ({reason}); give it other arguments") from None


Arrays = Mapping[str, np.ndarray]


def call(metric: Any, row: Arrays, seed: int, **more: Any) -> np.ndarray:
    """What a metric of Quantus gives for one row, as numbers (n,)."""
    with mute_toolkit(), seed_global_state(seed), np.errstate(all="ignore"):
        return np.asarray(metric(**row, **more), dtype=float).reshape(-1)


def to_arrays(maps: Tensor, case: Case) -> dict[str, np.ndarray]:
    """The arrays that Quantus takes: x (B, 3, H, W), y (B,), a (B, 1, H, W), s (B, 1, H, W) bool, by its names."""
    return {
        "x_batch": case.query.images.detach().cpu().numpy().copy(),
        "y_batch": case.query.targets.cpu().numpy().copy(),
        "a_batch": maps.detach().cpu().numpy()[:, None].copy(),
        "s_batch": (case.truth.masks > 0).cpu().numpy()[:, None],
    }


@cache
def make(kind: str, arguments: str) -> Any:
    """The metric's object in Quantus."""
    typed = parse_call(f"{kind}({arguments})")[1]
    known = inspect.signature(kind_of(kind).__init__).parameters
    ours = {name: value for name, value in TYPED_BY_US.items() if name in known}
    with mute_toolkit():
        return kind_of(kind)(**{**ours, **typed})


def kind_of(kind: str) -> Any:
    """The class of a metric in Quantus."""
    return getattr(import_toolkit("quantus"), kind)


def parse_quantus(text: str) -> Metric:
    """The metric that `quantus:NAME(argument=VALUE)` names, called by that text.

    Raises:
        WrongUsage: no such metric or argument, or one that gives no number for a row of maps.
        Refusal: Quantus is not installed.
    """
    kind, arguments = parse_call(text.removeprefix(QUANTUS))
    quantus = import_toolkit("quantus")
    if kind not in KINDS and hasattr(quantus, kind):
        raise WrongUsage(
            f"{QUANTUS}{kind} gives no number for each row of maps, masks, pictures and model; "
            f"those that do are {', '.join(KINDS)}"
        )
    check_known("metric of quantus", kind, KINDS)
    check_arguments(kind, arguments)
    return to_metric(text, QuantusScore(kind, format_arguments(arguments)), quantus.__version__)


def check_arguments(kind: str, arguments: Arguments) -> None:
    """Raise WrongUsage unless the constructor takes all arguments, and makes a metric of them."""
    known = [name for name in inspect.signature(kind_of(kind).__init__).parameters if name not in ("self", "kwargs")]
    if strange := sorted(set(arguments) - set(known)):
        raise WrongUsage(f"{QUANTUS}{kind}: {unknown('argument', strange[0], known)}")
    try:
        make(kind, format_arguments(arguments))
    except Exception as error:  # what it checks, it checks in its own ways
        raise WrongUsage(f"{QUANTUS}{kind} does not take {format_arguments(arguments)} ({error})") from None


def to_metric(text: str, score: QuantusScore, version: str) -> Metric:
    """The metric with its card, which says whose it is."""
    kind, needs = KINDS[score.kind], ("model",) if KINDS[score.kind].asks_model else ()
    wanted: tuple[Need, ...] = needs  # type: ignore[assignment]
    return Metric(
        name=text,
        family=FAMILY,
        score=score,
        unit="as Quantus gives it",
        bounds=kind.bounds,
        higher_is_better=kind_of(score.kind).score_direction.value == "higher",
        sign="as Quantus has it: its argument abs says whether absolute values are taken",
        ties="as Quantus has it: mostly by the position of pixels",
        undefined="Quantus refuses the map or gives NaN" + (", or the mask is empty" if kind.asks_mask else ""),
        source=SOURCE.format(version=version, name=score.kind),
        version=1,
        definition=kind.definition,
        needs=wanted,
        further={
            "whose": f"Quantus {version}: the code and the definition are its own",
            "arguments": score.arguments or "those of Quantus",
            "quirks": "rows are given to it one at a time, since some of its metrics scale maps by their whole batch",
        },
    )
