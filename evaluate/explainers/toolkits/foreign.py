"""What methods of other toolkits share: how they are typed, which of their arguments go where, and how they are run."""

from __future__ import annotations

import importlib
import inspect
import io
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from types import ModuleType
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from an8flower.errors import WrongUsage
from an8flower.names import check_known, unknown

from ...case import Query
from ...maps import POOLINGS, check_pooling, upsample
from ...models.classifier import Classifier
from ...models.networks.random_state import seed_global_state
from ...options import Arguments, parse_call


class Toolkit(NamedTuple):
    """Another toolkit: its name, and where its methods are."""

    name: str  # as typed before the colon
    package: str  # what pip installs
    module: str  # where its classes are

    def load(self) -> ModuleType:
        """Import the toolkit; raises WrongUsage where it is not installed."""
        try:
            with mute():
                return importlib.import_module(self.module)
        except ImportError as error:
            raise WrongUsage(
                f"{self.name} cannot be imported ({error}); install it with `pip install {self.package}`"
            ) from error


class Loan(NamedTuple):
    """A copy of the classifier's network, and a layer of it where the toolkit looks at one."""

    model: nn.Module
    layer: nn.Module | None = None


@dataclass(frozen=True)
class Foreign(ABC):
    """A method of another toolkit: the name of its class, and the arguments as text.

    Toolkits draw from global random states, print, warn and change the models that they are given: here they draw from
    each row's own seed, are muted, and work on a copy.
    """

    kind: str  # the name of the toolkit's class
    arguments: str = ""  # `n_steps=20, method='riemann_trapezoid'`: sorted by name, literals only
    pooling: str = "sum"  # over channels, where the toolkit's maps have some
    layer: str | None = None  # where the toolkit looks at one; the classifier's target layer where None

    toolkit: ClassVar[Toolkit]
    # Classes that treat each row as if it were alone, and draw nothing; all others get rows one at a time.
    rowwise: ClassVar[frozenset[str]] = frozenset()
    blind: ClassVar[frozenset[str]] = frozenset()  # classes that do not look at the target

    def __post_init__(self) -> None:
        check_pooling(self.pooling)
        self.check_arguments()

    def __call__(self, classifier: Classifier, query: Query) -> Tensor:
        """Maps (B, H, W), float32; rows are explained one at a time where the toolkit would draw for all at once."""
        size = len(query.images) if self.kind in self.rowwise else 1
        portions = zip(*(tensor.split(size) for tensor in query), strict=True)
        loan = self.lend(classifier)
        return torch.cat([self.explain_rows(classifier, loan, Query(*portion)) for portion in portions])

    def explain_rows(self, classifier: Classifier, loan: Loan, query: Query) -> Tensor:
        """Explain rows that go through the toolkit together: their maps (B, H, W)."""
        # Some toolkits differentiate twice, which the faster kinds of attention cannot.
        with seed_global_state(int(query.seeds[0])), mute(), sdpa_kernel(SDPBackend.MATH):
            attribution = self.attribution(classifier, loan, query)
        return self.pool(classifier, attribution.detach().float(), query)

    def pool(self, classifier: Classifier, attribution: Tensor, query: Query) -> Tensor:
        """Make maps (B, H, W) of an attribution (B, H, W), (B, K, h, w) or, of a token model's layer, (B, T, D)."""
        if attribution.shape == query.images[:, 0].shape:
            return attribution
        return upsample(POOLINGS[self.pooling](classifier.spatial(attribution)), query.images)

    @property
    def toolkit_class(self) -> Any:
        """The toolkit's class; raises WrongUsage with the nearest name if there is none."""
        known = self.classes()
        check_known(f"class of {self.toolkit.name}", self.kind, known)
        return known[self.kind]

    @property
    def class_sensitive(self) -> bool:
        """Whether another target gives another map."""
        return self.kind not in self.blind

    @abstractmethod
    def classes(self) -> Mapping[str, type]:
        """The classes of the toolkit that are methods, by name."""

    @abstractmethod
    def check_arguments(self) -> None:
        """Raise WrongUsage unless class and arguments are the toolkit's."""

    @abstractmethod
    def lend(self, classifier: Classifier) -> Loan:
        """Copy the part of the classifier that the toolkit needs, so that it cannot change the original."""

    @abstractmethod
    def attribution(self, classifier: Classifier, loan: Loan, query: Query) -> Tensor:
        """The attribution as the toolkit gives it, on the images' device."""

    def parse_arguments(self) -> Arguments:
        """Parse the arguments that were typed."""
        return parse_call(f"{self.kind}({self.arguments})")[1]

    def share_out(self, *calls: Callable[..., Any]) -> list[Arguments]:
        """Share out the arguments that were typed: each call gets those that it takes by name.

        Raises:
            WrongUsage: no call takes an argument of that name; gives the nearest one.
        """
        taken = [parameters(call).keys() - FILLED_IN for call in calls]
        shares: list[Arguments] = [{} for _ in calls]
        for name, value in self.parse_arguments().items():
            place = next((share for share, names in zip(shares, taken, strict=True) if name in names), None)
            if place is None:
                known = {*PSEUDO, *(name for names in taken for name in names)}
                raise WrongUsage(f"{self.toolkit.name}:{self.kind}: {unknown('argument', name, known)}")
            place[name] = value
        return shares


PSEUDO = ("layer", "pooling")  # arguments that are ours, not the toolkit's
# Arguments that an adapter fills in itself, whatever is typed.
FILLED_IN = {"model", "forward_func", "inputs", "target", "targets", "target_layers", "input_tensor", "composite"}


def parameters(call: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    """The parameters of a call that have a name."""
    kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    every = inspect.signature(call).parameters
    return {name: parameter for name, parameter in every.items() if parameter.kind in kinds and name != "self"}


def required_parameters(call: Callable[..., Any]) -> set[str]:
    """The names of a call's parameters that have no default."""
    return {name for name, parameter in parameters(call).items() if parameter.default is inspect.Parameter.empty}


@contextmanager
def mute() -> Iterator[None]:
    """A block without warnings, progress bars and prints: a toolkit's are not about what the user does."""
    with warnings.catch_warnings(), redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        warnings.simplefilter("ignore")
        yield
