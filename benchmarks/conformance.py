"""How far our maps are from those of other toolkits, on a trained network.

`python benchmarks/conformance.py` trains the default classifier on a small data set first (in a temporary folder).
Where definitions differ, the table says how, and both are compared up to the step at which they part.
"""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import captum.attr
import pytorch_grad_cam
import report
import torch
import torchcam.methods
import zennit.composites
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from torch import Tensor, nn
from zennit.canonizers import SequentialMergeBatchNorm

from an8flower.evaluate.case import Query
from an8flower.evaluate.explaining.explain import explain
from an8flower.evaluate.explaining.methods import parse_method
from an8flower.evaluate.maps import upsample
from an8flower.evaluate.models.classifier import Classifier
from an8flower.evaluate.models.training import train
from an8flower.generate import generate
from an8flower.spec import load
from an8flower.store import FlowerStore

IMAGES = 12


@dataclass(frozen=True)
class Pair:
    """One method of ours and its counterpart, as maps (B, H, W) on the same query."""

    method: str
    peer: str
    theirs: Callable[[Classifier, Query], Tensor]
    note: str = ""
    louder: float = 1.0  # what the logits are multiplied by, for both


def summed(attribution: Tensor) -> Tensor:
    """Over the colours."""
    return attribution.sum(1)


def averaged(attribution: Tensor) -> Tensor:
    """Over the colours."""
    return attribution.mean(1)


def captum_(
    name: str, note: str = "", pool: Callable[[Tensor], Tensor] = summed, **arguments: Any
) -> tuple[str, Callable[[Classifier, Query], Tensor], str]:
    """An attribution of Captum, on a copy without in-place ReLUs, which Captum cannot hook."""

    def theirs(classifier: Classifier, query: Query) -> Tensor:
        model = plain(classifier)
        given = {key: value(model) if callable(value) else value for key, value in arguments.items()}
        layer = [given.pop("layer")] if "layer" in given else []
        method = getattr(captum.attr, name)(model, *layer)
        images = query.images.clone().requires_grad_()
        return pool(method.attribute(images, target=query.targets, **given).detach())

    return f"Captum {name}", theirs, note


def upright(maps: Tensor) -> Tensor:
    """Maps (B, h, w) with the sign that makes the extreme of larger magnitude positive."""
    return torch.where(maps.amin((1, 2), keepdim=True) + maps.amax((1, 2), keepdim=True) < 0, -maps, maps)


def grad_cam(
    name: str, note: str = "", finish: Callable[[Tensor], Tensor] = torch.relu
) -> tuple[str, Callable[[Classifier, Query], Tensor], str]:
    """The weighted sum of pytorch-grad-cam, rectified and resized by us: it would normalise first and resize then."""

    def theirs(classifier: Classifier, query: Query) -> Tensor:
        model = plain(classifier)
        layer = model.network.get_submodule(classifier.target_layer)
        targets = [ClassifierOutputTarget(target) for target in query.targets.tolist()]
        with getattr(pytorch_grad_cam, name)(model=model, target_layers=[layer]) as cam:
            cam.batch_size = 64
            logits = cam.activations_and_grads(query.images.clone().requires_grad_())
            logits.gather(1, query.targets[:, None]).sum().backward()
            recorder = cam.activations_and_grads
            seen = [recorder.activations[0].numpy(), recorder.gradients[0].numpy()]
            maps = cam.get_cam_image(query.images, layer, targets, *seen, eigen_smooth=False)
        return upsample(finish(torch.from_numpy(maps)), query.images)

    return f"pytorch-grad-cam {name}", theirs, note


def torch_cam_finer(classifier: Classifier, query: Query) -> Tensor:
    """TorchCAM's FinerCAM of Grad-CAM, before its normalisation, resized by us."""
    model, shape = plain(classifier), tuple(query.images.shape[1:])
    with torchcam.methods.FinerCAM(model, f"network.{classifier.target_layer}", shape) as cam:
        (maps,) = cam(query.targets.tolist(), model(query.images.clone()), normalized=False)
    return upsample(maps.detach().relu(), query.images)


def torch_cam_refined(*layers: str) -> Callable[[Classifier, Query], Tensor]:
    """TorchCAM's RefineCAM of Grad-CAM at some layers, resized by us."""

    def theirs(classifier: Classifier, query: Query) -> Tensor:
        model, shape = plain(classifier), tuple(query.images.shape[1:])
        names: list[Any] = [f"network.{layer}" for layer in layers]
        with torchcam.methods.RefineCAM(model, names, shape, base_method=torchcam.methods.GradCAM) as cam:
            (maps,) = cam(query.targets.tolist(), model(query.images.clone()))
        return upsample(maps.detach(), query.images)

    return theirs


def zennit_(
    name: str, start: Callable[[Tensor], Tensor], note: str = "", at_layer: bool = False, **arguments: Any
) -> tuple[str, Callable[[Classifier, Query], Tensor], str]:
    """A composite of Zennit on the normalised images, with its canonizer; `start` is the relevance of the logits."""

    def theirs(classifier: Classifier, query: Query) -> Tensor:
        model = plain(classifier)
        given = {key: value(model, query) if callable(value) else value for key, value in arguments.items()}
        composite = getattr(zennit.composites, name)(canonizers=[SequentialMergeBatchNorm()], **given)
        images = model.normalise(query.images).requires_grad_()
        with composite.context(model.network) as network:
            seen: list[Tensor] = []
            network.get_submodule(classifier.target_layer).register_forward_hook(lambda _m, _i, out: seen.append(out))
            logits = network(images)
            place = seen[-1] if at_layer else images
            one = nn.functional.one_hot(query.targets, logits.shape[1])
            (relevance,) = torch.autograd.grad(logits, place, start(logits.detach()) * one)
        return upsample(relevance.sum(1), query.images)

    return f"Zennit {name}", theirs, note


def plain(classifier: Classifier) -> Classifier:
    """A copy in eval mode without in-place operations."""
    model = copy.deepcopy(classifier).eval()
    for module in model.modules():
        if isinstance(module, nn.ReLU):
            module.inplace = False
    return model


def amplified(classifier: Classifier, factor: float) -> Classifier:
    """A copy whose logits are so many times as large."""
    model = copy.deepcopy(classifier)
    last = [module for module in model.modules() if isinstance(module, nn.Linear)][-1]
    with torch.no_grad():
        last.weight *= factor
        last.bias *= factor
    return model


def low(model: Classifier, query: Query) -> Tensor:
    """What black is for the network."""
    return model.normalise(torch.zeros_like(query.images))


def high(model: Classifier, query: Query) -> Tensor:
    """What white is for the network."""
    return model.normalise(torch.ones_like(query.images))


def itself(logits: Tensor) -> Tensor:
    """Relevance starts as the logit."""
    return logits


RESIZED = "compared before its normalisation: it scales each map to [0, 1] before resizing, we resize first"
PAIRS = (
    Pair("gradient:pooling=sum", *captum_("Saliency", abs=False)),
    Pair("gradient_x_input", *captum_("InputXGradient")),
    Pair("integrated_gradients:steps=50", *captum_("IntegratedGradients", n_steps=50)),
    Pair("deconvnet:pooling=sum", *captum_("Deconvolution")),
    Pair("guided_backprop:pooling=sum", *captum_("GuidedBackprop")),
    Pair(
        "guided_gradcam:pooling=sum",
        *captum_(
            "GuidedGradCam",
            "Captum resizes by nearest neighbours unless told otherwise; compared bilinear",
            layer=lambda model: model.network.get_submodule(model.target_layer),
            interpolate_mode="bilinear",
        ),
    ),
    Pair(
        "occlusion:window=16,stride=8",
        *captum_(
            "Occlusion",
            "Captum gives each colour the same value; compared with their mean",
            averaged,
            sliding_window_shapes=(3, 16, 16),
            strides=(3, 8, 8),
        ),
    ),
    Pair("deeplift", *captum_("DeepLift")),
    Pair("gradcam", *grad_cam("GradCAM", RESIZED)),
    Pair("gradcam_pp", *grad_cam("GradCAMPlusPlus", RESIZED + "; logits times 1e4: see the next line"), louder=1e4),
    Pair(
        "gradcam_pp",
        *grad_cam("GradCAMPlusPlus", RESIZED + "; its epsilon of 1e-6 outweighs the squared gradients, ours has none"),
    ),
    Pair("xgradcam", *grad_cam("XGradCAM", RESIZED)),
    Pair("layercam", *grad_cam("LayerCAM", RESIZED)),
    Pair("hirescam", *grad_cam("HiResCAM", RESIZED)),
    Pair("ablationcam:relative=true", *grad_cam("AblationCAM", RESIZED)),
    Pair(
        "eigencam:centre=true", *grad_cam("EigenCAM", RESIZED + "; it leaves the sign to chance, and centres", upright)
    ),
    Pair("finercam", "TorchCAM FinerCAM", torch_cam_finer, "compared before its normalisation"),
    Pair(
        "refinecam:base=gradcam,layer=features.2+features",
        "TorchCAM RefineCAM",
        torch_cam_refined("features.2", "features"),
    ),
    Pair("lrp:composite=epsilon_plus", *zennit_("EpsilonPlus", itself)),
    Pair("lrp:composite=epsilon_plus_flat", *zennit_("EpsilonPlusFlat", itself)),
    Pair("lrp:composite=epsilon_gamma_box", *zennit_("EpsilonGammaBox", itself, low=low, high=high)),
    Pair("lrp:composite=alpha2_beta1", *zennit_("EpsilonAlpha2Beta1", itself)),
    Pair(
        "excitation_backprop",
        *zennit_(
            "ExcitationBackprop",
            torch.ones_like,
            "it gives biases a share of the relevance and stabilises by 1e-6; equal where there are none",
            at_layer=True,
        ),
    ),
)


def trained(folder: Path) -> tuple[Classifier, Query]:
    """A classifier that tells the flowers apart, and flowers that it has not seen."""
    generate(load("single-6c"), folder / "flowers.h5", workers=2)
    store = FlowerStore(folder / "flowers.h5")
    classifier = train(store, "flowernet", epochs=4).classifier
    rows = store["test"].rows(0, IMAGES)
    images = torch.from_numpy(rows.images).permute(0, 3, 1, 2).float().div(255).contiguous()
    return classifier, Query(images, torch.from_numpy(rows.labels), torch.arange(IMAGES))


def compared(classifier: Classifier, query: Query) -> Iterator[dict[str, Any]]:
    """A line of the table for every pair."""
    for pair in PAIRS:
        model = amplified(classifier, pair.louder)
        ours = explain(model, parse_method(pair.method).explainer, query).maps
        theirs = pair.theirs(model, query).float()
        scale = float(theirs.abs().max())
        yield {
            "method": f"`{pair.method}`",
            "peer": pair.peer,
            "largest value": scale,
            "largest deviation": float((ours - theirs).abs().max()),
            "relative": float((ours - theirs).abs().max()) / scale,
            "note": pair.note,
        }


def main() -> None:
    """Train, compare, and report."""
    torch.set_num_threads(2)
    with tempfile.TemporaryDirectory() as folder:
        rows = list(compared(*trained(Path(folder))))
    about = {
        "network": "flowernet (batch norm, in-place ReLUs), trained on single-6c",
        "images": f"{IMAGES} of the test split",
        "relative": "the largest deviation of any pixel, as a share of the peer's largest value",
    }
    report.write("conformance-explainers", rows, about)


if __name__ == "__main__":
    main()
