"""The tables of the page on known truths, from the table of networks and what `benchmarks/by_hand.py` measured."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from markup import code, plain, table

RESULTS = Path(__file__).parents[1] / "benchmarks" / "results"
SIGNS = {"pass": "pass", "FAILED": "**fail**", "undecided": "undecided", "not applicable": "-"}


class Reason(NamedTuple):
    """Why some methods fail on some networks; without methods, or without networks, it holds for all of them."""

    methods: tuple[str, ...]
    networks: tuple[str, ...]
    sentence: str


BLIND = ("center", "fakecam", "intensity", "mean_mask", "random")
NOISY = ("smoothgrad", "smoothgrad_squared")
SURROGATES = ("kernelshap", "lime")
GUIDED = ("guided_backprop", "guided_gradcam", "guided_gradcam_pp")
GRADIENTS = ("gradient", "gradient_x_input", *NOISY, "vargrad", "guided_backprop")
CAMS = ("finercam", "gradcam", "gradcam_pp", "hirescam", "layercam", "refinecam", "xgradcam", *GUIDED[1:])
REASONS = (
    Reason(BLIND, (), "They do not look at the model: no map can be right but by luck."),
    Reason(
        ("edges",),
        (),
        "It does not look at the model. The edges of the picture lie on petals and disc, so it passes by luck where "
        "the network happens to read these.",
    ),
    Reason(
        (*GRADIENTS, *CAMS),
        ("or",),
        "Both parts are there, so the unit that would notice that both are missing is off. Its gradient is 0, and so "
        "is all that is made of gradients at the picture.",
    ),
    Reason(
        ("deconvnet",),
        ("or",),
        "The gradient arrives at a ReLU with a negative sign, and this method lets only positive ones pass.",
    ),
    Reason(
        ("attnlrp", "cplrp", "deep_taylor", "excitation_backprop", "lrp"),
        ("or",),
        "The unit that would notice that both parts are missing is off: the logit is all bias, and no relevance is "
        "left to hand down.",
    ),
    Reason(
        ("ablationcam", "occlusion"),
        ("or",),
        "They take away one channel or window at a time, and the other part is enough.",
    ),
    Reason(
        ("deconvnet",),
        (),
        "It passes every ReLU whether or not that is on in this picture. Above convolutions of 1 x 1 that gives "
        "every pixel the same value.",
    ),
    Reason(
        ("eigencam",),
        ("and", "or"),
        "The first principal component of the features is the petals; the disc, which is smaller, is in the second.",
    ),
    Reason(
        ("eigencam", "upsam_act"),
        ("suppressor",),
        "They weigh channels without the class, and most of what the channels show is the background.",
    ),
    Reason(
        ("upsam_act",),
        ("cancelling",),
        "It adds up all channels, those that cancel each other in the logit included.",
    ),
    Reason(
        (
            "deep_taylor",
            "excitation_backprop",
            "gradcam_pp",
            "guided_backprop",
            "guided_gradcam_pp",
            "layercam",
            "refinecam",
        ),
        ("cancelling",),
        "They follow positive weights, or positive gradients, alone. Of the two channels that cancel each other the "
        "one with the positive weight is left, and shows the disc.",
    ),
    Reason(
        ("gradient", "gradient_x_input"),
        ("saturated",),
        "The channel of every pixel of the petals is clipped: a small change of the pixel changes nothing.",
    ),
    Reason(
        (*NOISY, "vargrad"),
        ("saturated", "disc", "and"),
        "The noise lifts pixels of other parts over the threshold of a detector, and there are more of them than of "
        "the disc; pixels of the petals that are clipped have no gradient with noise either.",
    ),
    Reason(
        ("vargrad",),
        (),
        "The gradient of a pixel that a detector sees for sure has no variance. It varies where noise may switch the "
        "detector, which is elsewhere.",
    ),
    Reason(
        ("gradient", *NOISY),
        ("suppressor",),
        "By default their maps have no sign, so pixels that speak against the class count as those that speak for it.",
    ),
    Reason(
        ("opticam",),
        ("suppressor",),
        "Its weights are a softmax, so the channel that speaks against can be made faint but not negative.",
    ),
    Reason(
        ("upsam_act_relevant", "vebi"),
        ("suppressor",),
        "They show the three filters of largest weight, each scaled by itself. One tells the class (weight 3.7 to "
        "4.1); the others are of the background (0.006 to 0.04), and count in pictures that have this background.",
    ),
    Reason(
        ("guided_gradcam", "guided_gradcam_pp"),
        ("and",),
        "They multiply two maps, and so square what the disc has more per pixel than the petals: 7 to 50 becomes 1 "
        "to 50.",
    ),
    Reason(
        SURROGATES,
        (),
        "By default a superpixel is hidden by its own mean colour. One that lies within the petals, the disc or the "
        "background keeps its colour, and the network does not notice; only those at borders count.",
    ),
    Reason(
        ("meaningful_perturbation",),
        (),
        "Pictures are blurred, so that a large part keeps its colour in the middle and lends it to its neighbours; "
        "and the mask is smooth, wider than the disc.",
    ),
    Reason(
        ("extremal_perturbation",),
        (),
        "A blurred flower keeps its colour, so nothing holds the mask in place, and the penalty of its area alone "
        "shapes it: `perturbation=black` is the question to ask here.",
    ),
    Reason(
        ("rise",),
        (),
        "Its map is a mean of masks, each weighed by a logit: it is nowhere near 0, and pixels that matter stand out "
        "by a few per cent at most. It ranks pixels, and its mass says nothing.",
    ),
    Reason(
        ("attention_flow", "rollout"),
        ("attention",),
        "They count what the first block attends to (all patches alike), though its values are multiplied by 0.",
    ),
    Reason(
        ("ablationcam", "eigencam", "gradcam_pp", "opticam", "refinecam", "scorecam", "upsam_act"),
        ("attention",),
        "Tokens hold each number beside its opposite, and one pair that is a hundred times larger. Weights that are "
        "never negative cancel the pairs or show the large one, and so does a principal component.",
    ),
)
"""Why methods fail: for each failure the first entry that fits."""


def handset_networks() -> str:
    """The networks that are set by hand, and what each reads."""
    from an8flower.evaluate.trust.by_hand.networks import HANDSET

    rows = [[code(network.name), plain(network.words), ", ".join(network.reads)] for network in HANDSET]
    return table(["network", "what it reads", "pixels that can speak for a class"], rows)


def verdicts_by_hand() -> str:
    """Every explainer on every hand-set network: the verdict, and where it stands on the scale."""
    details = _measured()["details"]
    networks = list(next(iter(details.values())))
    rows = [[code(method), *(_cell(details[method][network]) for network in networks)] for method in details]
    return table(["method", *map(code, networks)], rows)


def _cell(verdict: Mapping[str, Any]) -> str:
    skill = verdict["skill"]
    return SIGNS[verdict["status"]] + ("" if skill is None else f" {skill[0] + 0.0:.2f}".replace("-0.00", "0.00"))


def reasons_by_hand() -> str:
    """Why methods fail, or cannot be decided, on hand-set networks: a sentence for each failure."""
    failures = failures_by_hand()
    lines = [_line(reason, failures) for reason in REASONS]
    return table(["methods", "networks", "why"], [line for line in lines if line])


def failures_by_hand() -> dict[tuple[str, str], Reason | None]:
    """The reason of each failure by method and network; None where nobody has said why."""
    return {
        (method, network): reason_of(method, network)
        for method, verdicts in _measured()["details"].items()
        for network, verdict in verdicts.items()
        if verdict["status"] in ("FAILED", "undecided")
    }


def reason_of(method: str, network: str) -> Reason | None:
    """The first reason that holds for a method and a network."""
    fits = (r for r in REASONS if method in r.methods and (not r.networks or network in r.networks))
    return next(fits, None)


def _line(reason: Reason, failures: Mapping[tuple[str, str], Reason | None]) -> Sequence[str]:
    """The methods and networks that a reason explains, and its sentence; empty if there are none."""
    pairs = [pair for pair, why in failures.items() if why is reason]
    methods, networks = (dict.fromkeys(pair[side] for pair in pairs) for side in (0, 1))
    return [", ".join(map(code, methods)), ", ".join(map(code, networks)), plain(reason.sentence)] if pairs else []


def _measured() -> dict[str, Any]:
    document: dict[str, Any] = json.loads((RESULTS / "by_hand.json").read_text(encoding="utf-8"))
    return document
