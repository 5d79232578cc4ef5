"""Any class of TorchCAM that looks at one layer, as a method: `torchcam:LayerCAM`, `torchcam:SSCAM(num_samples=10)`."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from an8flower.errors import Refusal, WrongUsage
from an8flower.names import unknown

from ...case import Query
from ...maps import upsample
from ...models.classifier import Classifier
from ...options import Arguments
from .copies import CountedCopy, copy_network, find_layer
from .foreign import Foreign, Loan, Toolkit, parameters

WRAPPED = "base_method"  # the class that another one wraps, by its name
SEVERAL = {"LeGrad", "RefineCAM"}  # these look at several layers; ours are legrad and refinecam
GIVEN = {"target_layer", "input_shape", "fc_layer", "class_idx", "scores", "targets"}  # by this adapter


@dataclass(frozen=True)
class TorchCam(Foreign):
    """A class activation map of TorchCAM for the target's logit, in [0, 1] and positive, as it scales them.

    Arguments go to the constructor or to the call, whichever takes them; `normalized=False` leaves maps as they are.
    They are enlarged as ours are, which TorchCAM leaves to its users.

    Source: Fernandez, TorchCAM: class activation explorer, github.com/frgfm/torch-cam, 2020.
    """

    toolkit: ClassVar[Toolkit] = Toolkit("torchcam", "torchcam", "torchcam.methods")
    rowwise: ClassVar[frozenset[str]] = frozenset(
        ["CAM", "GradCAM", "GradCAMpp", "XGradCAM", "LayerCAM", "ScoreCAM", "ISCAM"]
    )

    def classes(self) -> Mapping[str, type]:
        """All classes of TorchCAM that look at one layer, by name."""
        kinds = inspect.getmembers(self.toolkit.load(), inspect.isclass)
        return {name: kind for name, kind in kinds if explains_one_layer(kind)}

    def check_arguments(self) -> None:
        """Check the arguments of constructor and call."""
        constructor, call = self.share_out(*self.calls())
        if typed := sorted({*constructor, *call} & GIVEN):
            known = {name for call in self.calls() for name in parameters(call)} - GIVEN
            raise WrongUsage(f"torchcam:{self.kind}: {unknown('argument', typed[0], known)}")
        if WRAPPED in constructor and constructor[WRAPPED] not in self.classes():
            raise WrongUsage(unknown("class of torchcam", str(constructor[WRAPPED]), self.classes()))

    def calls(self) -> tuple[Any, Any]:
        """What takes the arguments: the constructor and the call."""
        kind = self.toolkit_class
        return kind.__init__, kind.__call__

    def lend(self, classifier: Classifier) -> Loan:
        """Lend a plain copy of the network, and the layer in it."""
        network = copy_network(classifier)
        layer = find_layer(network, classifier, self.layer)
        return Loan(CountedCopy(classifier, network).requires_grad_(False).eval(), layer)

    def attribution(self, classifier: Classifier, loan: Loan, query: Query) -> Tensor:
        """The maps (B, H, W) as the toolkit scales them, enlarged."""
        constructor, call = self.share_out(*self.calls())
        images = query.images.detach().clone().requires_grad_()  # the layer has to be part of a graph
        try:
            method = self.toolkit_class(
                loan.model,
                loan.layer,
                input_shape=tuple(images.shape[1:]),
                **self.fill_in(classifier, constructor),
            )
        except (TypeError, ValueError) as error:
            raise Refusal(f"torchcam:{self.kind} cannot look at {classifier.arch} ({error})") from error
        with method as extractor:
            (maps,) = extractor(query.targets.tolist(), loan.model(images), **call)
        return upsample(maps.detach(), query.images)

    def fill_in(self, classifier: Classifier, constructor: Arguments) -> Arguments:
        """The constructor's arguments besides the model and its layer."""
        names = parameters(self.toolkit_class.__init__)
        defaults = {"batch_size": classifier.in_flight} if "batch_size" in names else {}
        inner = {WRAPPED: self.classes()[constructor[WRAPPED]]} if WRAPPED in constructor else {}
        return {**defaults, **constructor, **inner}


def explains_one_layer(kind: type) -> bool:
    """Whether a class of TorchCAM is a method, and takes a model and one layer of it."""
    public = not kind.__name__.startswith("_") and kind.__module__.startswith("torchcam.methods")
    return public and kind.__name__ not in SEVERAL and "target_layer" in parameters(kind.__init__)  # type: ignore[misc]
