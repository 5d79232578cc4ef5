"""The contract of explainers: a table of checks on three small networks that anybody can run.

`an8flower check NAME` runs it, and so do the tests, for every method that is registered.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from copy import deepcopy
from dataclasses import fields, is_dataclass, replace
from functools import cache, cached_property
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn

from an8flower.errors import NotApplicable, Refusal, WrongUsage

from ..case import Explainer, Query
from ..models.classifier import Classifier
from ..models.networks.guard import NETWORK, put_back, read_aspects
from ..models.networks.process_state import QUIET, RANDOM, SETTINGS
from ..models.networks.random_state import preserve_random_state
from .contract_networks import CLASSES, NETWORKS, SIZE, SPECIAL, networks_for
from .explain import check_maps, explain, name_of
from .fitting import TensorExamples, prepare

LENT = (*SETTINGS, *NETWORK)
ROWS, MORE_ROWS = 3, 4  # images in the query that all checks start from, and in the enlarged one
EXAMPLES = 16  # images for methods that are fitted
TOLERANCE = 1e-4  # of a map's largest magnitude
ALIKE = 0.5  # the mean correlation with the float32 maps that bfloat16 must reach: it keeps but 8 bits
ALIKE_ON_CUDA = 0.9


class CallRecord(NamedTuple):
    """The maps that a call of an explainer gave, and all that the call left changed."""

    maps: Tensor
    changed: list[str]  # the aspects of the model and of the process that it changed
    random: list[str]  # the global random states that it changed
    inputs: list[str]  # the tensors of the query that it changed


class Stumble(Exception):
    """An error raised in the middle of a pass, to see what an explainer leaves behind then."""


class Trial:
    """One explainer on one of the networks; every run gets a new classifier."""

    def __init__(self, explainer: Explainer, network: str, class_sensitive: bool = True) -> None:
        self.unfitted = hasten(explainer)
        self.network = network
        self.class_sensitive = class_sensitive

    @property
    def name(self) -> str:
        """The name of the explainer in messages."""
        return name_of(self.unfitted)

    @cached_property
    def explainer(self) -> Explainer:
        """The explainer, fitted on random images if it learns from examples; their masks are where they are bright."""
        pictures = make_query(EXAMPLES)
        masks = (pictures.images.mean(1) > 0.5).to(torch.uint8)
        examples = TensorExamples(pictures.images, pictures.targets % len(CLASSES), masks=masks)
        return prepare(self.unfitted, self.classifier(), examples, EXAMPLES)

    def classifier(self) -> Classifier:
        """A new classifier around the network, in eval mode."""
        return deepcopy(build_once(self.network)).eval()

    @cached_property
    def reference(self) -> CallRecord:
        """The first run, which most checks look at or compare with."""
        return run(self.explainer, self.classifier(), make_query(ROWS))

    def maps(self, query: Query, batch: int = MORE_ROWS) -> Tensor:
        """The saliency maps for another query, explained in batches."""
        classifier = self.classifier()
        portions = zip(*(tensor.split(batch) for tensor in query), strict=True)
        return torch.cat([run(self.explainer, classifier, Query(*portion)).maps for portion in portions])


@cache
def build_once(network: str) -> Classifier:
    """The classifier of one of the contract's networks, to be copied: to build it takes ten times as long."""
    return {**NETWORKS, **SPECIAL}[network]()


class ContractCheck(NamedTuple):
    """One promise of the contract, and the function that judges it."""

    name: str
    promise: str
    judge: Callable[[Trial], None]  # raises a Refusal that says what was broken, or NotApplicable


class ContractVerdict(NamedTuple):
    """The result of one check on one network."""

    network: str
    check: str
    status: str  # ok, not applicable, FAILED
    reason: str = ""


def make_query(rows: int, device: str = "cpu") -> Query:
    """Random images with one target after another; fewer rows are the first ones of more."""
    images = [torch.rand(3, SIZE, SIZE, generator=torch.Generator().manual_seed(5 + row)) for row in range(rows)]
    query = Query(torch.stack(images), torch.arange(rows), torch.arange(rows) + 7)
    return Query(*(tensor.to(device) for tensor in query))


def run(explainer: Explainer, classifier: Classifier, query: Query) -> CallRecord:
    """Call an explainer as `explain` does, but note what it leaves behind instead of refusing it."""
    copies = Query(*(tensor.clone() for tensor in query))
    changed: list[str] = []
    with preserve_random_state():
        before = [aspect.read(classifier) for aspect in RANDOM]
        with torch.enable_grad(), watching(classifier, changed), classifier.counting():
            maps = explainer(classifier, copies)
        random = [state.name for state, value in zip(RANDOM, before, strict=True) if state.read(classifier) != value]
    inputs = [name for name in Query._fields if not torch.equal(getattr(copies, name), getattr(query, name))]
    return CallRecord(maps.detach() if isinstance(maps, Tensor) else maps, changed, random, inputs)


@contextmanager
def watching(classifier: nn.Module, changed: list[str]) -> Iterator[None]:
    """A block after which model and process are put back, and what had changed is named in a list, also on an error."""
    lent, quiet = read_aspects(LENT, classifier), read_aspects(QUIET, classifier)
    try:
        yield
    finally:
        changed += put_back(lent, classifier)
        put_back(quiet, classifier)


def name_changes(changed: list[str]) -> str:
    """What changed, in words: of the model, or of the whole process."""
    settings = {aspect.name for aspect in SETTINGS}
    return " and ".join(name if name in settings else f"{name} of the model" for name in changed)


def hasten(explainer: Explainer) -> Explainer:
    """The explainer with the values of its class's `quick` in place of defaults: the contract does not need many steps.

    `quick` is a class variable, a dict of parameters; what a user has set stays.
    """
    quick = getattr(explainer, "quick", None)
    if not (quick and is_dataclass(explainer)):
        return explainer
    untouched = {field.name for field in fields(explainer) if getattr(explainer, field.name) == field.default}
    return cast(Explainer, replace(explainer, **{name: quick[name] for name in untouched & {*quick}}))


# The promises.


def gives_maps(trial: Trial) -> None:
    """One finite float32 map a row, on the images' device."""
    check_maps(trial.explainer, trial.reference.maps, make_query(ROWS))


def heeds_target(trial: Trial) -> None:
    """Another target gives another saliency map."""
    if not trial.class_sensitive:
        raise NotApplicable(f"{trial.name} says itself that its maps do not depend on the target")
    query = make_query(ROWS)
    if difference(trial.maps(query._replace(targets=query.targets + 1)), trial.reference.maps) <= TOLERANCE:
        raise Refusal(
            f"{trial.name} gives the same maps for other targets; have it read query.targets, "
            "or register it with class_sensitive=False"
        )


def draws_from_seeds(trial: Trial) -> None:
    """The same seeds give the same maps, whatever the global random state is."""
    remedy = "draw from `an8flower.evaluate.seeds.generator(seed)` of each row's own seed"
    if trial.reference.random:
        raise Refusal(f"{trial.name} draws from {' and '.join(trial.reference.random)}; {remedy}")
    with preserve_random_state():
        torch.manual_seed(99)
        again = trial.maps(make_query(ROWS))
    if difference(again, trial.reference.maps) > TOLERANCE:
        raise Refusal(f"{trial.name} gives other maps when it is called again with the same seeds; {remedy}")


def ignores_company(trial: Trial) -> None:
    """Splitting, permuting or enlarging the batch changes no map."""
    remedy = "compute nothing over the whole batch, and read each row's own target and seed"
    apart = difference(trial.maps(make_query(ROWS), batch=2), trial.reference.maps)
    if apart > TOLERANCE:
        raise Refusal(f"{trial.name} gives other maps when the batch is split, by {apart:.1g} of their range; {remedy}")
    order = torch.tensor([3, 1, 0, 2])
    maps = trial.maps(Query(*(tensor[order] for tensor in make_query(MORE_ROWS))))
    apart = difference(maps[order.argsort()][:ROWS], trial.reference.maps)
    if apart > TOLERANCE:
        raise Refusal(
            f"{trial.name} gives other maps when rows are permuted and one is added, by {apart:.1g} of their range; "
            f"{remedy}"
        )


def gives_model_back(trial: Trial) -> None:
    """Model and process are the same after the call as before: weights, hooks, attributes, modes, torch's settings."""
    if trial.reference.changed:
        raise Refusal(
            f"{trial.name} leaves {name_changes(trial.reference.changed)} changed; "
            "have it put back what it borrows, or work on a copy"
        )


def gives_model_back_on_error(trial: Trial) -> None:
    """The model is given back as it was when a pass raises in the middle."""
    classifier, query = trial.classifier(), make_query(ROWS)
    run(trial.explainer, classifier, query)  # what is prepared once is prepared now, so that it stumbles in the middle
    last = [module for module in classifier.modules() if isinstance(module, nn.Linear)][-1]
    last.register_forward_hook(stumble)
    copies, changed = Query(*(tensor.clone() for tensor in query)), list[str]()
    with preserve_random_state(), suppress(Exception), watching(classifier, changed), torch.enable_grad():
        trial.explainer(classifier, copies)
    if changed:
        raise Refusal(
            f"{trial.name} leaves {name_changes(changed)} changed when a pass raises an error; "
            "have it put back what it borrows in a `finally` block"
        )


def stumble(module: nn.Module, inputs: Any, output: Any) -> None:
    """A forward hook that raises an error in the middle of a pass."""
    raise Stumble


def leaves_inputs(trial: Trial) -> None:
    """Images, targets and seeds are the same after the call as before."""
    if trial.reference.inputs:
        raise Refusal(f"{trial.name} changed {' and '.join(trial.reference.inputs)} in place; have it work on a copy")


def works_anywhere(trial: Trial) -> None:
    """Frozen parameters, and torch.no_grad or torch.inference_mode around, change no map."""
    classifier = trial.classifier().requires_grad_(False)
    with torch.no_grad(), torch.inference_mode():
        maps = explain(classifier, trial.explainer, make_query(ROWS), MORE_ROWS).maps.clone()
    apart = difference(maps, trial.reference.maps)
    if apart > TOLERANCE:
        raise Refusal(
            f"{trial.name} gives other maps with frozen parameters under torch.inference_mode, by {apart:.1g} of their "
            "range; take gradients with torch.autograd.grad with respect to the images or the layer"
        )


def works_in_bfloat16(trial: Trial) -> None:
    """A bfloat16 model gives finite maps, much like the maps of the float32 model."""
    maps = run(trial.explainer, trial.classifier().bfloat16(), make_query(ROWS)).maps
    check_maps(trial.explainer, maps, make_query(ROWS))
    alike = likeness(maps, trial.reference.maps)
    if alike < ALIKE:
        raise Refusal(
            f"{trial.name} gives maps with a bfloat16 model that correlate with those in float32 by {alike:.2f} only; "
            "compute in float32 whatever is summed, divided or sorted"
        )


def works_on_cuda(trial: Trial) -> None:
    """A GPU gives maps much like the maps of the CPU."""
    if not torch.cuda.is_available():
        raise NotApplicable("there is no CUDA device on this machine")
    query = make_query(ROWS, "cuda")
    maps = run(trial.explainer, trial.classifier().cuda(), query).maps
    check_maps(trial.explainer, maps, query)
    alike = likeness(maps.cpu(), trial.reference.maps)
    if alike < ALIKE_ON_CUDA:
        raise Refusal(
            f"{trial.name} gives maps on a GPU that correlate with those of the CPU by {alike:.2f} only; "
            "draw on the CPU and move what was drawn"
        )


CHECKS = (
    ContractCheck("maps", "one finite float32 map a row", gives_maps),
    ContractCheck("target", "another target gives another map", heeds_target),
    ContractCheck(
        "seeds", "the same seeds give the same maps, and global random state is left alone", draws_from_seeds
    ),
    ContractCheck("batch", "splitting, permuting, enlarging the batch changes no map", ignores_company),
    ContractCheck("model", "the model and the process are given back as they were", gives_model_back),
    ContractCheck("error", "so it is when a pass raises", gives_model_back_on_error),
    ContractCheck("inputs", "images, targets and seeds are left as they were", leaves_inputs),
    ContractCheck(
        "frozen", "works with frozen parameters, inside torch.no_grad and torch.inference_mode", works_anywhere
    ),
    ContractCheck("bfloat16", "a bfloat16 model gives finite maps much like the float32 ones", works_in_bfloat16),
    ContractCheck("cuda", "a GPU gives what the CPU gives", works_on_cuda),
)

UNWATCHED = (
    "what it does in larger batches, on larger images or on other networks than these",
    "what it leaves running or changed outside the networks: threads, processes, files, the folder, signals",
    "random numbers of its own that are not drawn anew in a second call",
    "what it reads beyond its arguments, such as the caller's variables",
)
"""What the checks cannot watch; whoever scores a method trusts its author for this."""


# Judging.


def difference(maps: Tensor, expected: Tensor) -> float:
    """The largest difference of maps (B, H, W), as a share of the larger magnitude in their row."""
    scale = torch.maximum(maps.abs(), expected.abs()).amax((1, 2), keepdim=True)
    return float(torch.where(scale > 0, (maps - expected).abs() / scale, 0.0).max())


def likeness(maps: Tensor, expected: Tensor) -> float:
    """The mean correlation of maps (B, H, W) with the expected ones; two constant maps are alike."""
    ours, theirs = (values.flatten(1) - values.flatten(1).mean(1, keepdim=True) for values in (maps, expected))
    spread = ours.norm(dim=1) * theirs.norm(dim=1)
    both_flat = (ours.norm(dim=1) == 0) & (theirs.norm(dim=1) == 0)
    correlation = torch.where(spread > 0, (ours * theirs).sum(1) / spread, both_flat.float())
    return float(correlation.mean())


def check_explainer(explainer: Explainer, class_sensitive: bool = True) -> Iterator[ContractVerdict]:
    """Put an explainer through the table on every network; nothing that it raises comes through.

    Where it gives no maps on a network, the other checks have nothing to judge there, and are left out.
    """
    for network in networks_for(explainer):
        yield from check_on(explainer, network, class_sensitive)


def check_on(explainer: Explainer, network: str, class_sensitive: bool = True) -> Iterator[ContractVerdict]:
    """Put an explainer through the table on one network."""
    trial = Trial(explainer, network, class_sensitive)
    first = judge(trial, CHECKS[0])
    yield first
    if first.status == "ok":
        yield from (judge(trial, check) for check in CHECKS[1:])


def judge(trial: Trial, check: ContractCheck) -> ContractVerdict:
    """The verdict of one check; whatever the explainer raises is part of it."""
    try:
        check.judge(trial)
    except (NotApplicable, WrongUsage) as reason:  # wrong usage: a layer that this network does not have
        return ContractVerdict(trial.network, check.name, "not applicable", str(reason))
    except Refusal as reason:
        return ContractVerdict(trial.network, check.name, "FAILED", str(reason))
    except Exception as error:  # foreign code raises whatever it likes
        said = f"{trial.name} raised {type(error).__name__}: {' '.join(str(error).split())}"
        return ContractVerdict(trial.network, check.name, "FAILED", said)
    return ContractVerdict(trial.network, check.name, "ok")


def outcome(name: str, verdicts: list[ContractVerdict]) -> str | None:
    """A sentence that says why an explainer, or a metric, does not keep its contract; None if it does."""
    failed = [verdict for verdict in verdicts if verdict.status == "FAILED"]
    if failed:
        return f"{name} fails {len(failed)} of {len(verdicts)} checks; the first: {failed[0].reason}"
    if not any(verdict.status == "ok" for verdict in verdicts if verdict.check == verdicts[0].check):
        return f"{name} is not applicable to any of the networks, so that nothing was checked: {verdicts[0].reason}"
    return None
