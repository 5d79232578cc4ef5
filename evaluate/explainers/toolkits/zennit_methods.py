"""Any composite of Zennit as a method: `zennit:EpsilonPlusFlat(epsilon=1e-6)`."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from an8flower.errors import WrongUsage

from ...case import Query
from ...models.classifier import Classifier
from ...models.networks.modules import LINEAR, MAXIMA, MEANS, NORMS, Constant, Mean, Sum
from ...options import Arguments
from .copies import CountedCopy, canonical_copy
from .foreign import Foreign, Loan, Toolkit, required_parameters

BOUNDS = {"low": 0.0, "high": 1.0}  # of pixels; a composite needs them normalised


@dataclass(frozen=True)
class Zennit(Foreign):
    """What a composite of Zennit makes of the gradient of the target's logit, at the normalised image.

    The first relevance is 1 for the target. Batch norms are folded, and means and residual sums, which Zennit knows
    as its own modules only, get its rule for sums. The bounds `low` and `high` of a composite are black and white
    where they are not given. Layer-wise relevance propagation is patented.

    Source: Anders et al., arXiv 2106.13200.
    """

    toolkit: ClassVar[Toolkit] = Toolkit("zennit", "zennit", "zennit.composites")
    rowwise: ClassVar[frozenset[str]] = frozenset(
        [
            "BetaSmooth",
            "DeconvNet",
            "EpsilonAlpha2Beta1",
            "EpsilonAlpha2Beta1Flat",
            "EpsilonGammaBox",
            "EpsilonPlus",
            "EpsilonPlusFlat",
            "ExcitationBackprop",
            "GuidedBackprop",
        ]
    )

    def classes(self) -> Mapping[str, type]:
        """All composites of Zennit that need no more than bounds, by name."""
        module = self.toolkit.load()
        kinds = inspect.getmembers(module, inspect.isclass)
        return {
            name: kind
            for name, kind in kinds
            if issubclass(kind, module.LayerMapComposite) and required_parameters(kind.__init__) <= {*BOUNDS}
        }

    def check_arguments(self) -> None:
        """Check the arguments of the constructor."""
        self.share_out(self.toolkit_class.__init__)
        if self.layer is not None:
            raise WrongUsage(f"zennit:{self.kind} looks at no layer; leave layer={self.layer} out")

    def lend(self, classifier: Classifier) -> Loan:
        """Lend a copy that consists of modules that Zennit has rules for."""
        from zennit.types import Activation

        known = (*LINEAR, *MEANS, *NORMS, *MAXIMA, Constant, *Activation.__subclass__)
        network = canonical_copy(classifier, f"zennit:{self.kind}", known)
        return Loan(CountedCopy(classifier, network, normalises=False))

    def attribution(self, classifier: Classifier, loan: Loan, query: Query) -> Tensor:
        """The attribution to each channel of each pixel, (B, 3, H, W)."""
        from zennit.attribution import Gradient

        images = classifier.normalise(query.images).float()
        first = F.one_hot(query.targets, len(classifier.class_names)).float()
        with Gradient(loan.model, self.composite(classifier)) as attributor:
            return attributor(images, first)[1]

    def composite(self, classifier: Classifier) -> Any:
        """The toolkit's composite, with its rule for sums at the copy's sums and means too."""
        from zennit.layer import Sum as ZennitSum
        from zennit.rules import Pass

        composite = self.toolkit_class(**{**self.bounds(classifier), **self.parse_arguments()})
        rule = next((rule for types, rule in composite.layer_map if issubclass(ZennitSum, types)), None)
        if rule is not None:  # else its rules are those of a gradient, and so are these
            composite.layer_map = [((Sum, Mean), rule), ((Constant,), Pass()), *composite.layer_map]
        return composite

    def bounds(self, classifier: Classifier) -> Arguments:
        """The normalised bounds that the composite needs, by name."""
        black = torch.zeros(1, 3, 1, 1, device=classifier.device)
        names = required_parameters(self.toolkit_class.__init__)
        return {name: classifier.normalise(black + BOUNDS[name]).float() for name in names}
