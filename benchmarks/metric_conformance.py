"""How far our scores are from those of other toolkits, on the same maps of a trained network.

`python benchmarks/metric_conformance.py` trains the default classifier on a small data set first (in a temporary
folder). Where definitions differ, one line shows by how much and says why, and a line below it feeds the peer so that
they meet.
"""

from __future__ import annotations

import contextlib
import copy
import io
import tempfile
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import MethodType
from typing import Any, NamedTuple

import captum.metrics
import numpy as np
import quantus
import report
import sklearn.metrics
import torch
import torchcam.metrics
from conformance import IMAGES, amplified, trained
from pytorch_grad_cam.metrics import arcc, cam_mult_image, perturbation_confidence, road
from pytorch_grad_cam.utils.model_targets import ClassifierOutputSoftmaxTarget
from torch import Tensor, nn

from an8flower.evaluate.case import Case, Query, Truth
from an8flower.evaluate.explaining.explain import explain
from an8flower.evaluate.explaining.methods import parse_method
from an8flower.evaluate.maps import normalise_range
from an8flower.evaluate.metrics.masking import Masking, blur_like_rise
from an8flower.evaluate.metrics.naming import parse_metric
from an8flower.evaluate.metrics.robustness import Perturbed, uniform
from an8flower.evaluate.models.classifier import Classifier
from an8flower.evaluate.trust.sanity import mprt
from an8flower.evaluate.trust.sanity.layers import layers_of, steps_of
from an8flower.evaluate.trust.sanity.randomisation import RandomisableCopy, RedrawnParameter, redraw
from an8flower.evaluate.trust.sanity.similarity import ComparedMaps
from an8flower.store import FlowerStore

Score = Callable[[Case, Tensor], Any]  # (case, maps (B, H, W) float32) -> a score per row (B,)

ORDERS = 100  # random ones of equal pixels
STEPS = 28  # of curves: they divide the pixels, as Quantus wants it
NOISES = 10  # perturbations of infidelity and maximum sensitivity
INFIDELITY = f"infidelity:samples={NOISES}"
NOISE = f"{INFIDELITY},perturbation=noise,spread=0.2,scaled=false"
QUIETER = 0.15  # what the logits are multiplied by: the network is so sure that most probabilities would be 1
EXPLAINER = parse_method("integrated_gradients:steps=10").explainer


class Peer(NamedTuple):
    """A metric of another toolkit, and other ways to feed it."""

    name: str
    score: Score

    def on(self, change: Callable[[Tensor], Tensor]) -> Peer:
        """It is given changed maps."""
        return Peer(self.name, lambda case, maps: self.score(case, change(maps)))

    def untied(self) -> Peer:
        """Its mean over random orders of equal pixels."""
        return Peer(self.name, lambda case, maps: np.mean([self.score(case, each) for each in orders(maps)], 0))

    def in_our_order(self) -> Peer:
        """It is given the place of each pixel in our order, in which chance tells equal ones apart."""
        return Peer(self.name, lambda case, maps: self.score(case, -Masking.of(maps, case).ranks.float()))


class Pair(NamedTuple):
    """One score of ours and its counterpart, on one kind of input."""

    metric: str
    given: str  # a name among `inputs`
    peer: Peer
    note: str = ""
    ours: Score | None = None  # where it is no metric by that name


# What both sides are given


def inputs(classifier: Classifier, query: Query, truth: Truth) -> dict[str, tuple[Case, Tensor]]:
    """Cases and maps by a short name."""
    case = Case(classifier, query, truth, partial(ask, classifier))
    signed, rectified = ask(classifier, query), explain(classifier, parse_method("gradcam").explainer, query).maps
    nowhere = case._replace(truth=truth._replace(masks=torch.zeros_like(truth.masks)))
    return {
        "IG": (case, signed),
        "IG in eighths": (case, normalise_range(signed).mul(8).round().div(8)),
        "IG, no evidence": (nowhere, signed),
        "IG, one of zeros": (case, torch.cat([torch.zeros_like(signed[:1]), signed[1:]])),
        "Grad-CAM": (case, normalise_range(rectified)),
    }


def ask(classifier: Classifier, query: Query) -> Tensor:
    """Maps (B, H, W), by the method that explains everything here."""
    return explain(classifier, EXPLAINER, query).maps


def orders(maps: Tensor) -> Iterator[Tensor]:
    """Maps (B, H, W) without equal pixels, in the order of these, equal ones by chance."""
    values, source = maps.flatten(1), torch.Generator().manual_seed(0)
    for _ in range(ORDERS):
        shuffled = torch.rand(values.shape, generator=source).argsort(1)
        order = shuffled.gather(1, values.gather(1, shuffled).argsort(dim=1, stable=True))
        places = torch.arange(values.shape[1], dtype=torch.float32).expand(values.shape)
        yield torch.empty_like(places).scatter_(1, order, places).view_as(maps)


def model_of(case: Case) -> Classifier:
    """The classifier of a case, which normalises inside: to it, black is 0."""
    assert case.classifier is not None, "every case here has one"
    return case.classifier


def belief(case: Case) -> np.ndarray:
    """The probability of each row's target on the image, (B,)."""
    with torch.no_grad():
        shares = model_of(case)(case.query.images).softmax(1)
    return shares.gather(1, case.query.targets[:, None])[:, 0].numpy()


def masks(case: Case) -> np.ndarray:
    """Of the truth, (B, H, W) bool."""
    return (case.truth.masks > 0).numpy()


def singles(case: Case, maps: Tensor) -> Iterator[tuple[Case, Tensor]]:
    """Each row as a batch of its own, for peers that only tell a mean."""
    for row in range(len(maps)):
        one = slice(row, row + 1)
        truth = Truth._make(None if values is None else values[one] for values in case.truth)
        yield case._replace(query=Query._make(each[one] for each in case.query), truth=truth), maps[one]


def nearby(case: Case, number: int) -> Tensor:
    """One of the images (B, 3, H, W) that our maximum sensitivity explains."""
    images = case.query.images
    return (images + 0.02 * uniform(number, case.query.seeds.tolist(), images)).clamp(0, 1)


def perturbations(metric: str) -> list[Perturbed]:
    """What infidelity changes in an image, one after the other."""
    return parse_metric(metric).options.perturbations()


def shown(metric: str, case: Case, number: int) -> Tensor:
    """One of the images (B, 3, H, W) that infidelity shows to the network."""
    images = case.query.images
    return perturbations(metric)[number].images(Masking.of(images[:, 0], case), torch.arange(len(images)))


def taken(case: Case, number: int) -> Tensor:
    """What infidelity multiplies the map by, a third of it for each colour: (B, 3, H, W)."""
    images = case.query.images
    found = perturbations(INFIDELITY)[number].amounts(Masking.of(images[:, 0], case), torch.arange(len(images)))
    return (found / 3)[:, None].expand(-1, 3, -1, -1)


# Quantus


def quantus_(name: str, **arguments: Any) -> Peer:
    """A metric of Quantus, called as its documentation does; an argument that is a function is given the case."""

    def score(case: Case, maps: Tensor) -> np.ndarray:
        given = {key: value(case) if callable(value) else value for key, value in arguments.items()}
        return np.asarray(asked(name, case, maps, **given), dtype=float).ravel()

    return Peer(f"Quantus {name}", score)


def asked(name: str, case: Case, maps: Tensor, call: dict[str, Any] | None = None, **arguments: Any) -> Any:
    """What a metric of Quantus says; `call` goes into the call, all else into the constructor."""
    metric = getattr(quantus, name)(disable_warnings=True, display_progressbar=False, **arguments)
    given = {
        "model": model_of(case),
        "x_batch": case.query.images.numpy().copy(),
        "y_batch": case.query.targets.numpy(),
        "a_batch": maps.numpy()[:, None].copy(),
        "s_batch": masks(case)[:, None],
        "explain_func": ask_for_quantus,
        "batch_size": len(maps),
    }
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return metric(**{**given, **(call or {})})


def ask_for_quantus(model: Classifier, inputs: np.ndarray, targets: np.ndarray, **_: Any) -> np.ndarray:
    """Maps (B, 1, H, W) of images that may have left [0, 1]."""
    images = torch.as_tensor(inputs, dtype=torch.float32).clamp(0, 1)
    return ask(model, Query(images, torch.as_tensor(targets), torch.arange(len(images)))).numpy()[:, None]


def top_of_mask_size(case: Case, maps: Tensor) -> list[float]:
    """TopKIntersection with as many pixels as each mask has."""
    return [asked("TopKIntersection", *each, k=int(masks(each[0]).sum()))[0] for each in singles(case, maps)]


def flipped(case: Case, maps: Tensor) -> np.ndarray:
    """The area under PixelFlipping's curve as documented; its own sum wants `np.trapz`, which numpy 2.4 has not."""
    curve = asked("PixelFlipping", case, maps, {"softmax": True}, features_in_step=maps[0].numel() // STEPS)
    return np.trapezoid(curve, dx=1 / (STEPS * 3 - 1), axis=1)


def flipped_alike(case: Case, maps: Tensor) -> np.ndarray:
    """The same over whole pixels that turn 0, the image itself being the curve's first point."""
    visible = np.ones((len(maps), 1, *maps.shape[1:]), np.float32)
    call = {"model": Seen(case).eval(), "x_batch": visible, "softmax": True}
    curve = asked("PixelFlipping", case, maps, call, features_in_step=maps[0].numel() // STEPS, perturb_baseline=0.0)
    return np.trapezoid(np.column_stack([belief(case), curve]), dx=1 / STEPS, axis=1)


class Seen(nn.Module):
    """Logits of a case's images, each pixel as far visible as (B, 1, H, W) says: one feature a pixel, not three."""

    def __init__(self, case: Case) -> None:
        super().__init__()
        self.classifier, self.images = model_of(case), case.query.images

    def forward(self, visible: Tensor) -> Tensor:
        """(B, C)."""
        return self.classifier(self.images * visible)


def in_turn(images: Callable[[Case, int], Tensor], case: Case) -> Callable[..., np.ndarray]:
    """A perturbation for Quantus that gives the next of our images at each call."""
    numbers = iter(range(NOISES))
    return lambda arr, **_: images(case, next(numbers)).flatten(1).numpy().astype(arr.dtype)


def on_our_noise(case: Case, maps: Tensor) -> np.ndarray:
    """Quantus' Infidelity of a third of the map in each colour; a patch as large as the image makes one a sample."""
    patch, noise = [maps.shape[-1]], in_turn(partial(shown, NOISE), case)
    given = {"n_perturb_samples": NOISES, "perturb_patch_sizes": patch, "perturb_func": noise}
    return asked("Infidelity", case, maps / 3, {"softmax": False}, **given)


def resettable(case: Case) -> Classifier:
    """A copy of the model whose layers take on our draw when they are reset, and leave running statistics alone."""
    model, drawn = copy.deepcopy(model_of(case)), draw(case)
    for name, module in model.network.named_modules():
        own = [key for key, _ in module.named_parameters(recurse=False)]
        if own:
            module.drawn = {key: drawn[f"{name}.{key}"].value for key in own}
            module.reset_parameters = MethodType(take_on, module)  # a method, so that copies reset themselves
    return model


def take_on(module: Any) -> None:
    """Give a module the parameters that were drawn for it."""
    with torch.no_grad():
        for key, value in module.drawn.items():
            getattr(module, key).copy_(value)


def mprt_on_our_draw(case: Case, maps: Tensor) -> np.ndarray:
    """The mean that MPRT takes itself."""
    return np.asarray(asked("MPRT", case, maps, {"model": resettable(case)}, return_average_correlation=True))


def mprt_of_layers(case: Case, maps: Tensor) -> np.ndarray:
    """The mean over MPRT's layers, without the model as it is."""
    found = asked("MPRT", case, maps, {"model": resettable(case)})
    return np.mean([values for name, values in found.items() if name != "original"], 0)


def efficient_mprt(case: Case, maps: Tensor) -> np.ndarray:
    """By how much the entropy of the map's histogram rises."""
    return np.asarray(asked("EfficientMPRT", case, maps, {"model": resettable(case), "softmax": True}))


# Ours, where it is no metric of its own


def draw(case: Case) -> dict[str, RedrawnParameter]:
    """Every parameter drawn anew."""
    return redraw(model_of(case), 0)


def randomisation(case: Case) -> mprt.Randomisation:
    """The model drawn anew, a layer a step."""
    steps = steps_of(layers_of(model_of(case)), 1000)
    return mprt.Randomisation(RandomisableCopy(model_of(case)), tuple(steps), (draw(case),))


def cascade(case: Case, maps: Tensor) -> np.ndarray:
    """The mean likeness down the cascade."""
    points = mprt.walk_down(randomisation(case), ask, case.query, ComparedMaps(maps), known={})["cascading"]
    return np.mean([point.likeness["spearman_abs"] for point in points], 0)


def rise(case: Case, maps: Tensor) -> np.ndarray:
    """What the efficient test reads."""
    return mprt.randomise_fully(randomisation(case), ask, case.query, ComparedMaps(maps)).rise


# scikit-learn, Captum


def sklearn_(name: str, **arguments: Any) -> Peer:
    """A score of scikit-learn of the pixels' values, row by row."""

    def score(case: Case, maps: Tensor) -> list[float]:
        pairs = zip(masks(case), maps.numpy(), strict=True)
        return [getattr(sklearn.metrics, name)(mask.ravel(), values.ravel(), **arguments) for mask, values in pairs]

    return Peer(f"scikit-learn {name}", score)


def above_mean(maps: Tensor) -> Tensor:
    """Which pixels are, bool."""
    return maps > maps.mean((1, 2), keepdim=True)


def every(case: Case, images: Callable[[Case, int], Tensor]) -> Tensor:
    """All perturbed images, those of a row side by side, as Captum wants them: (B * NOISES, 3, H, W)."""
    return torch.stack([images(case, number) for number in range(NOISES)], 1).flatten(0, 1)


def captum_infidelity(case: Case, maps: Tensor) -> Tensor:
    """On our squares."""
    changed, gone = every(case, partial(shown, INFIDELITY)), every(case, taken)
    given = {"target": case.query.targets, "n_perturb_samples": NOISES, "normalize": True}
    alike = maps[:, None].expand(-1, 3, -1, -1)
    return captum.metrics.infidelity(model_of(case), lambda _: (gone, changed), case.query.images, alike, **given)


def captum_sensitivity(case: Case, maps: Tensor) -> Tensor:
    """On our images."""

    def again(images: Tensor | tuple[Tensor, ...]) -> tuple[Tensor]:
        (images,) = images if isinstance(images, tuple) else (images,)
        targets, seeds = (each.repeat_interleave(len(images) // len(maps), 0) for each in case.query[1:])
        return (ask(model_of(case), Query(images, targets, seeds)),)

    noise = lambda _: every(case, nearby)  # noqa: E731
    return captum.metrics.sensitivity_max(again, case.query.images, noise, n_perturb_samples=NOISES)


# TorchCAM, pytorch-grad-cam


def entered(case: Case, normalised: bool) -> tuple[nn.Module, Tensor]:
    """Our classifier and images in [0, 1], or as documented: the network alone and normalised images."""
    model, images = model_of(case), case.query.images
    return (model.network, model.normalise(images)) if normalised else (model, images)


class Given:
    """Stands for TorchCAM's CAM extractors, and hands out maps that are there already."""

    def __init__(self, model: nn.Module, maps: Tensor) -> None:
        self.model, self.maps = model, maps

    def __call__(self, *_: Any) -> list[Tensor]:
        """As extractors do, a map for each layer."""
        return [self.maps]

    def fuse_cams(self, cams: list[Tensor]) -> Tensor:
        """The only one."""
        return cams[0]

    def _hooks_off(self) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext()


def torchcam_(name: str, said: str, normalised: bool = False, **arguments: Any) -> Peer:
    """What a metric of TorchCAM says of the softmax, row by row."""

    def of_row(case: Case, maps: Tensor) -> float:
        network, images = entered(case, normalised)
        metric = getattr(torchcam.metrics, name)(Given(network, maps), partial(torch.softmax, dim=-1), **arguments)
        metric.update(images, case.query.targets.tolist())
        return metric.summary()[said]

    return Peer(f"TorchCAM {name}", lambda case, maps: [of_row(*one) for one in singles(case, maps)])


def grad_cam(metric: Any, normalised: bool = False, **arguments: Any) -> Peer:
    """What a metric of pytorch-grad-cam says of the softmax."""

    def score(case: Case, maps: Tensor) -> np.ndarray:
        network, images = entered(case, normalised)
        targets = [ClassifierOutputSoftmaxTarget(target) for target in case.query.targets.tolist()]
        return metric(**arguments)(images, maps.numpy(), targets, network)

    return Peer(f"pytorch-grad-cam {metric.__name__}", score)


def adcc(case: Case, maps: Tensor) -> np.ndarray:
    """The harmonic mean of pytorch-grad-cam's coherency and complexity and TorchCAM's average drop."""

    def again(input_tensor: Tensor, targets: object) -> np.ndarray:
        # As its own CAMs are: beside values as small as raw ones, its epsilon of 1e-8 would count.
        return normalise_range(ask(model_of(case), case.query._replace(images=input_tensor))).numpy()

    coherency = arcc.Coherency()(case.query.images, maps.numpy(), [], model_of(case), again)
    lost, drop = arcc.Complexity()(maps.numpy()), np.array(CAM_DROP.score(case, maps))
    return 3 / (1 / coherency + 1 / (1 - lost) + 1 / (1 - drop))


def accuracy(case: Case, maps: Tensor) -> np.ndarray:
    """Whether the label is still predicted, the mean over as many black pixels as ours takes."""
    pixels = maps[0].numel()
    kept = [pixels - pixels * tenth // 10 for tenth in range(1, 10)]
    average = perturbation_confidence.AveragerAcrossThresholds(right, [100 * (k - 0.5) / (pixels - 1) for k in kept])
    targets = [lambda logits, label=label: logits.argmax() == label for label in case.truth.labels]
    return average(case.query.images, maps.numpy(), targets, model_of(case))


def right(percentile: float) -> Callable[..., np.ndarray]:
    """pytorch-grad-cam's perturbation with black above a percentile."""
    black = perturbation_confidence.RemoveMostRelevantFirst(percentile, torch.mul)
    return partial(perturbation_confidence.PerturbationConfidenceMetric(black), return_diff=False)


def road_combined(case: Case, maps: Tensor, noise: float = 0.0) -> np.ndarray:
    """Twice what ROADCombined is: without the least relevant pixels, less without the most, on the classifier itself.

    Percentiles lie between two pixels, so that as many go as ours takes.
    """
    pixels = maps[0].numel()
    targets = [ClassifierOutputSoftmaxTarget(target) for target in case.query.targets.tolist()]
    remaining = [pixels - pixels * tenth // 10 for tenth in range(1, 10)]
    least, most = (
        perturbation_confidence.AveragerAcrossThresholds(
            lambda percentile, kind=kind: perturbation_confidence.PerturbationConfidenceMetric(
                kind(percentile, road.NoisyLinearImputer(noise))
            ),
            [100 * (k - 0.5) / (pixels - 1) for k in remaining],
        )(case.query.images, maps.numpy(), targets, model_of(case))
        for kind in (perturbation_confidence.RemoveLeastRelevantFirst, perturbation_confidence.RemoveMostRelevantFirst)
    )
    return least - most


def quantus_road(case: Case, maps: Tensor) -> np.ndarray:
    """By how much the accuracy on each image falls without the largest pixels, filled in as Quantus does.

    Its ROAD itself takes the pixels of all three channels for places, and ends in an IndexError.
    """
    pixels, targets = maps[0].numel(), case.query.targets
    order = (-maps).flatten(1).argsort(dim=1, stable=True).numpy()
    fill = quantus.functions.perturb_func.noisy_linear_imputation
    shares = []
    with torch.no_grad():
        for tenth in range(1, 10):
            pairs = zip(case.query.images.numpy(), order, strict=True)
            filled = np.stack([fill(image, places[: pixels * tenth // 10], noise=0.0) for image, places in pairs])
            shares.append((model_of(case)(torch.from_numpy(filled).float()).argmax(1) == targets).double().numpy())
        right_before = (model_of(case)(case.query.images).argmax(1) == targets).double().numpy()
    return right_before - np.mean(shares, axis=0)


# What is compared

POINTING, MASS = quantus_("PointingGame"), quantus_("RelevanceMassAccuracy")
RANK, ENERGY = quantus_("RelevanceRankAccuracy"), quantus_("AttributionLocalisation")
TOP, TOP_ALIKE = quantus_("TopKIntersection"), Peer("Quantus TopKIntersection", top_of_mask_size)
AUC, ROC, PRECISION = quantus_("AUC"), sklearn_("roc_auc_score"), sklearn_("average_precision_score")
AGREEMENT, JACCARD = sklearn_("accuracy_score"), sklearn_("jaccard_score", average="macro")
ANY = "any of the equal maxima inside is a hit; ours: their share inside"
CHANCE = f"equal pixels in {ORDERS} random orders, the mean"

LOCALISATION = (
    Pair("pointing", "IG", POINTING),
    Pair("pointing", "IG in eighths", POINTING, ANY),
    Pair("pointing", "IG in eighths", POINTING.untied(), CHANCE),
    Pair(
        "pointing",
        "IG, one of zeros",
        POINTING,
        "so that a constant map always hits; ours: the mask's share of the image",
    ),
    Pair(
        "pointing", "IG, no evidence", POINTING, "an empty mask is a hit: NaN is written into booleans; ours: undefined"
    ),
    Pair("relevance_mass", "IG", MASS, "negative values are counted; ours: as 0"),
    Pair("relevance_mass", "IG", MASS.on(torch.relu), "fed max(M, 0)"),
    Pair("relevance_rank", "IG", RANK),
    Pair("relevance_rank", "IG in eighths", RANK, "equal pixels as its sort leaves them; ours: by their share inside"),
    Pair("relevance_rank", "IG in eighths", RANK.untied(), CHANCE),
    Pair("relevance_rank", "IG", TOP, "1000 pixels, whatever the size of the mask"),
    Pair("relevance_rank", "IG", TOP_ALIKE, "fed the size of each mask"),
    Pair("energy_pointing", "IG", ENERGY, "of magnitudes; ours: of M - min M"),
    Pair("energy_pointing", "IG", ENERGY.on(normalise_range), "fed M - min M"),
    Pair("auroc", "IG", AUC),
    Pair("auroc", "IG in eighths", AUC),
    Pair("auroc", "IG in eighths", ROC),
    Pair("average_precision", "IG", PRECISION),
    Pair("average_precision", "IG in eighths", PRECISION),
    Pair("pixel_accuracy", "IG", AGREEMENT.on(above_mean), "fed M > mean of M"),
    Pair("miou", "IG", JACCARD.on(above_mean), "fed M > mean of M"),
)

CLASSIFICATION, CURVES = partial(torchcam_, "ClassificationMetric"), partial(torchcam_, "DeletionInsertionMetric")
CAM_DROP, GREY_DROP = CLASSIFICATION("avg_drop"), CLASSIFICATION("avg_drop", True)
CAM_RISE, GREY_RISE = CLASSIFICATION("conf_increase"), CLASSIFICATION("conf_increase", True)
PART, RAW_GREY = grad_cam(cam_mult_image.DropInConfidence), grad_cam(cam_mult_image.DropInConfidence, True)
MORE, MORE_GREY = grad_cam(cam_mult_image.IncreaseInConfidence), grad_cam(cam_mult_image.IncreaseInConfidence, True)
RELATIVE = Peer(PART.name, lambda case, maps: PART.score(case, maps) / belief(case))
DELETED, DELETED_GREY = CURVES("deletion_auc", steps=STEPS), CURVES("deletion_auc", True, steps=STEPS)
INSERTED = CURVES("insertion_auc", steps=STEPS)
INSERTED_BLUR = CURVES("insertion_auc", steps=STEPS, baseline=blur_like_rise)
FLIPPED, FLIPPED_ALIKE = Peer("Quantus PixelFlipping", flipped), Peer("Quantus PixelFlipping", flipped_alike)
ROAD = grad_cam(road.ROADMostRelevantFirst, percentile=75)
COMBINED = Peer("pytorch-grad-cam ROADCombined", road_combined)
COMBINED_NOISY = Peer("pytorch-grad-cam ROADCombined", partial(road_combined, noise=0.01))
QUANTUS_ROAD, FALL = Peer("Quantus noisy_linear_imputation", quantus_road), "road:order=most,output=accuracy,noise=0"
LABEL = Peer("pytorch-grad-cam AveragerAcrossThresholds", accuracy)
ADCC = Peer("pytorch-grad-cam arcc, TorchCAM", adcc)
SPARSENESS, COMPLEXITY = quantus_("Sparseness"), quantus_("Complexity")
UNFAITHFUL = Peer("Captum infidelity", captum_infidelity)
PATCHES = quantus_("Infidelity", n_perturb_samples=1, perturb_patch_sizes=[16])
UNFAITHFUL_TOO = Peer("Quantus Infidelity", on_our_noise)
SENSITIVE = Peer("Captum sensitivity_max", captum_sensitivity)
SENSITIVE_FAR = quantus_("MaxSensitivity", nr_samples=NOISES)
SENSITIVE_TOO = quantus_("MaxSensitivity", nr_samples=NOISES, perturb_func=partial(in_turn, nearby))

DELETION, INSERTION = f"deletion:steps={STEPS}", f"insertion:steps={STEPS}"
GREY = "as documented, on normalised images: masked pixels turn grey"
OURS = "equal pixels as ours draws them"
INSIDE = "on the classifier, which normalises inside"
COLOURS = "each colour is a feature, black the least value of an image, and the curve lacks its beginning"
PATCHED = "of the probability; 16 x 16 px after another turn black, and each colour has the whole map"
QUESTION = "another question: a quarter is filled in from its neighbours, and the change of the probability is taken"
FAR = "noise of up to 0.2, which may leave [0, 1], from the global generator; ours: 0.02"

FAITHFULNESS = (
    Pair("average_drop", "Grad-CAM", GREY_DROP, GREY),
    Pair("average_drop", "Grad-CAM", CAM_DROP, INSIDE),
    Pair("average_drop", "Grad-CAM", RAW_GREY, f"{GREY}; not divided by p"),
    Pair("average_drop", "Grad-CAM", RELATIVE, f"{INSIDE}; divided by p"),
    Pair("average_increase", "Grad-CAM", GREY_RISE, GREY),
    Pair("average_increase", "Grad-CAM", CAM_RISE, INSIDE),
    Pair("average_increase", "Grad-CAM", MORE_GREY, GREY),
    Pair("average_increase", "Grad-CAM", MORE, INSIDE),
    Pair("adcc", "IG", ADCC.on(normalise_range), "their parts, put together"),
    Pair(DELETION, "IG", DELETED_GREY, GREY),
    Pair(DELETION, "IG", DELETED.in_our_order(), f"{INSIDE}; {OURS}"),
    Pair(DELETION, "IG in eighths", DELETED, "equal pixels by their place; ours: by chance"),
    Pair(DELETION, "IG in eighths", DELETED.in_our_order(), OURS),
    Pair(DELETION, "IG", FLIPPED, COLOURS),
    Pair(DELETION, "IG", FLIPPED_ALIKE.in_our_order(), f"one feature a pixel, 0 for black, the image first; {OURS}"),
    Pair(INSERTION, "IG", INSERTED, "begins in black unless told otherwise; ours: blurred"),
    Pair(INSERTION, "IG", INSERTED_BLUR.in_our_order(), f"told to begin blurred; {OURS}"),
    Pair(f"{INSERTION},baseline=black", "IG", INSERTED.in_our_order(), OURS),
    Pair("perturbation_positive", "IG", ROAD, QUESTION),
    Pair("perturbation_positive", "IG", LABEL.in_our_order(), f"black, as many pixels, asked for the label; {OURS}"),
    Pair("road:noise=0", "IG", COMBINED.in_our_order(), f"twice ROADCombined without its noise; {INSIDE}; {OURS}"),
    Pair("road", "IG", COMBINED_NOISY.in_our_order(), f"twice ROADCombined, noise from the global generator; {OURS}"),
    Pair(FALL, "IG", QUANTUS_ROAD.in_our_order(), f"its imputation: its ROAD fails on three channels; {OURS}"),
    Pair("sparseness", "IG", SPARSENESS, "adds 1e-7 to all values, the largest of the data set being 1"),
    Pair("sparseness", "IG, one of zeros", SPARSENESS, "so that a map of zeros scores 0; ours: undefined"),
    Pair("complexity", "IG", COMPLEXITY, "adds 1e-12 in the logarithm"),
    Pair(INFIDELITY, "IG", UNFAITHFUL, "fed our squares, 1 / 3 in each colour of a pixel that is gone; normalize=True"),
    Pair(NOISE, "IG", PATCHES, PATCHED),
    Pair(NOISE, "IG", UNFAITHFUL_TOO, "fed our noise, logits, and a third of the map for each colour"),
    Pair("max_sensitivity", "IG", SENSITIVE, "fed our noise"),
    Pair("max_sensitivity", "IG", SENSITIVE_FAR, FAR),
    Pair("max_sensitivity", "IG", SENSITIVE_TOO, "fed our noise"),
)

MPRT, MPRT_ALIKE = quantus_("MPRT", return_average_correlation=True), Peer("Quantus MPRT", mprt_on_our_draw)
MPRT_LAYERS, EFFICIENT = Peer("Quantus MPRT", mprt_of_layers), Peer("Quantus EfficientMPRT", efficient_mprt)
CASCADE = "MPRT, cascading: mean Spearman correlation of magnitudes"
EDGES = "reset to our draws; a value on the edge of two bins may be rounded into either"
ORIGINAL = "reset to our draws; its mean counts the model as it is, at 1: it leaves out `orig`, not `original`"

SANITY = (
    Pair(CASCADE, "IG", MPRT, "other draws, and running statistics are reset, which ours keep", cascade),
    Pair(CASCADE, "IG", MPRT_ALIKE, ORIGINAL, cascade),
    Pair(CASCADE, "IG", MPRT_LAYERS, "reset to our draws, the mean over its layers", cascade),
    Pair("MPRT, efficient: rise of the entropy", "IG", EFFICIENT, EDGES, rise),
)


def compared(pairs: tuple[Pair, ...], given: dict[str, tuple[Case, Tensor]]) -> Iterator[dict[str, Any]]:
    """A line of the table for every pair."""
    for pair in pairs:
        case, maps = given[pair.given]
        with torch.no_grad():
            ours = np.asarray((pair.ours or by_name(pair.metric))(case, maps), dtype=float)
        theirs = np.asarray(pair.peer.score(case, maps), dtype=float).ravel()
        yield {
            "metric": pair.metric if pair.ours else f"`{pair.metric}`",
            "maps": pair.given,
            "peer": pair.peer.name,
            "ours": told(ours),
            "theirs": told(theirs),
            "largest deviation": worst(np.abs(ours - theirs)),
            "note": pair.note,
        }


def by_name(metric: str) -> Score:
    """A metric of ours."""
    return lambda case, maps: parse_metric(metric).score(maps, case)


def told(values: np.ndarray) -> float | str:
    """The mean, and in how many rows there is none."""
    missing = int(np.isnan(values).sum())
    if missing == len(values):
        return "undefined"
    mean = float(np.nanmean(values))
    return f"{mean:.3g}; undefined in {missing} of {len(values)}" if missing else mean


def worst(deviations: np.ndarray) -> float | None:
    """The largest, of the rows in which both have a value; none where there is no such row."""
    return None if np.isnan(deviations).all() else float(np.nanmax(deviations))


def beside_truth(folder: Path) -> tuple[Classifier, Query, Truth]:
    """A trained classifier, flowers that it has not seen, and where their evidence is."""
    classifier, query = trained(folder)
    rows = FlowerStore(folder / "flowers.h5")["test"].rows(0, IMAGES)
    truth = Truth(torch.arange(IMAGES), query.targets, torch.from_numpy(rows.masks), torch.from_numpy(rows.parts))
    return amplified(classifier, QUIETER).eval(), query, truth


def main() -> None:
    """Train, compare, and report."""
    torch.set_num_threads(2)
    torch.manual_seed(0)  # some peers draw from the global generators
    np.random.seed(0)
    with tempfile.TemporaryDirectory() as folder:
        given = inputs(*beside_truth(Path(folder)))
    about = {
        "network": f"flowernet, trained on single-6c; its logits times {QUIETER}, so that not all probabilities are 1",
        "images": f"{IMAGES} of the test split",
        "maps": "IG: integrated gradients, 10 steps, signed; in eighths: rounded, so that many pixels are equal",
        "ours, theirs": "means over the images; the largest deviation is that of any single image",
        "notes": "what the peer does otherwise, as its documentation calls it; or how it is fed so that both meet",
        "left out": "SmoothMPRT of Quantus draws its noise from the global generator, so that numbers cannot agree",
    }
    report.write("conformance-metrics", list(compared((*LOCALISATION, *FAITHFULNESS, *SANITY), given)), about)


if __name__ == "__main__":
    main()
