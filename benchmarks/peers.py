"""The methods of other toolkits, called as their documentation does: (classifier, query) -> whatever they return."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import captum.attr
import pytorch_grad_cam
import torch
import torchcam.methods
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

from an8flower.evaluate.case import Query
from an8flower.evaluate.explaining.explain import explain
from an8flower.evaluate.explaining.methods import parse_method
from an8flower.evaluate.models.classifier import Classifier
from an8flower.evaluate.models.linear_stem import cut_stem
from an8flower.evaluate.models.networks.guard import guard
from an8flower.evaluate.models.streamlined import streamline

Peer = Callable[[Classifier, Query], Any]


def grad_cam(name: str) -> Peer:
    """A class of pytorch-grad-cam at the classifier's target layer; those that mask do so in batches of 32."""

    def run(classifier: Classifier, query: Query) -> Any:
        layer = classifier.network.get_submodule(classifier.target_layer)
        with getattr(pytorch_grad_cam, name)(model=classifier, target_layers=[layer]) as cam:
            cam.batch_size = 32
            return cam(query.images.clone(), [ClassifierOutputTarget(target) for target in query.targets.tolist()])

    return run


def torch_cam(name: str, **arguments: Any) -> Peer:
    """A class of TorchCAM at the classifier's target layer."""

    def run(classifier: Classifier, query: Query) -> Any:
        cam = getattr(torchcam.methods, name)(classifier, f"network.{classifier.target_layer}", **arguments)
        try:
            with torch.no_grad() if name == "ScoreCAM" else torch.enable_grad():
                return cam(query.targets.tolist(), classifier(query.images.clone()))
        finally:
            cam.remove_hooks()

    return run


def torch_cam_finer(classifier: Classifier, query: Query) -> Any:
    """TorchCAM's FinerCAM of Grad-CAM at the classifier's target layer."""
    shape = tuple(query.images.shape[1:])
    with torchcam.methods.FinerCAM(classifier, f"network.{classifier.target_layer}", shape) as cam:
        return cam(query.targets.tolist(), classifier(query.images.clone()))


def torch_cam_refined(*layers: str) -> Peer:
    """TorchCAM's RefineCAM of Grad-CAM at some layers."""

    def run(classifier: Classifier, query: Query) -> Any:
        names: list[Any] = [f"network.{layer}" for layer in layers]
        kind, shape = torchcam.methods.GradCAM, tuple(query.images.shape[1:])
        with torchcam.methods.RefineCAM(classifier, names, shape, base_method=kind) as cam:
            return cam(query.targets.tolist(), classifier(query.images.clone()))

    return run


def ours(method: str) -> Peer:
    """Another method of ours, timed beside one that is to cost the same."""
    explainer = parse_method(method).explainer
    return lambda classifier, query: explain(classifier, explainer, query)


def folded_alone(passes: int, batch: int) -> Peer:
    """So many passes an image of the folded network behind its first convolution, and nothing else: a bound of ours."""

    def run(classifier: Classifier, query: Query) -> None:
        network = cut_stem(streamline(classifier), overwriting=True)
        with torch.no_grad():
            features = network.stem(query.images[:1].expand(batch, -1, -1, -1))
            for _ in range(math.ceil(passes * len(query.images) / batch)):
                network.behind(features.clone())

    return run


def guard_alone(classifier: Classifier, query: Query) -> None:
    """The guard that every explanation of ours is made under, around nothing: what is paid for a borrowed model."""
    with guard(classifier, "nothing"):
        pass


def torch_cam_legrad(classifier: Classifier, query: Query) -> Any:
    """TorchCAM's LeGrad over all blocks of torchvision's vision transformer, which flowervit is."""
    network: Any = classifier.network
    with torchcam.methods.LeGrad(network, [*network.encoder.layers]) as cam:
        return cam(query.targets.tolist(), network(classifier.normalise(query.images)))


def captum_(name: str, **arguments: Any) -> Peer:
    """An attribution of Captum."""

    def run(classifier: Classifier, query: Query) -> Any:
        return getattr(captum.attr, name)(classifier).attribute(query.images, target=query.targets, **arguments)

    return run


def captum_noise(samples: int, spread: float) -> Peer:
    """SmoothGrad as Captum has it: a fixed standard deviation, absolute; the cost is what is compared."""

    def run(classifier: Classifier, query: Query) -> Any:
        tunnel = captum.attr.NoiseTunnel(captum.attr.Saliency(classifier))
        return tunnel.attribute(
            query.images, target=query.targets, nt_samples=samples, nt_samples_batch_size=1, stdevs=spread, abs=False
        )

    return run
