"""What the model says of masked images once it is fine-tuned on such images, so that they are none of a kind unseen."""

from __future__ import annotations

from an8flower.errors import WrongUsage

from ..models.fine_tuning import RandomRemoval
from .masking import Masking, require_classifier

TUNED = (
    "a copy of the network, fine-tuned for six epochs at a third of its learning rate on training rows of which "
    "something is taken away at random; made once for each model and kept beside it as `MODEL.tuned-....safetensors`"
)
TUNING_COST = "once for each model, six epochs of training"


def ask_tuned(masking: Masking, removal: RandomRemoval) -> Masking:
    """The same maps and images, and the answers of the model fine-tuned without what a removal takes away.

    Raises WrongUsage if the case has no training rows.
    """
    case = masking.case
    if case.tune is None:
        raise WrongUsage("the case has no training rows; give Case(tune=...), which fine-tunes the classifier")
    tuned = case.tune(removal)
    tuned.in_flight = require_classifier(case.classifier).in_flight
    return Masking.of(masking.maps, case._replace(classifier=tuned))
