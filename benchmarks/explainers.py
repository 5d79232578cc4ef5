"""What an explanation costs, in passes of the bare network, beside the same method of other toolkits.

Ours and theirs take turns within one run, with the bare forward pass timed in every turn, so that a busy machine slows
down all of them; ratios are taken turn by turn, and their medians are reported. `--cpu-time` counts the processor time
of one thread instead, on a machine that others use at the same time.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from statistics import median
from time import perf_counter, process_time
from typing import Any

import report
import torch
from peers import (
    Peer,
    captum_,
    captum_noise,
    folded_alone,
    grad_cam,
    guard_alone,
    ours,
    torch_cam,
    torch_cam_finer,
    torch_cam_legrad,
    torch_cam_refined,
)

from an8flower.evaluate.case import Query
from an8flower.evaluate.explaining.explain import explain
from an8flower.evaluate.explaining.methods import parse_method
from an8flower.evaluate.models.classifier import Classifier, build

THREADS, CLASSES = 2, 6
GUARD = "the guard alone, in which a borrowed model is compared with its copy, before and after"
CPU_TIME = "--cpu-time"
MASKED = 32  # images in flight in everybody's Score-CAM
ALONE = "the folded network alone, behind the shared convolution: what bounds ours"


@dataclass(frozen=True)
class Contest:
    """One method of ours, and the same of others."""

    method: str
    limit: str  # what we mean to reach
    peers: tuple[tuple[str, Peer], ...] = ()
    images: int | None = None  # fewer than the batch, where one image takes long already
    turns: int = 5
    in_flight: int | None = None  # masked images in the network at once, where others are asked for a number as well


@dataclass(frozen=True)
class Setting:
    """A network, and the images that it is asked about."""

    arch: str
    size: int
    batch: int
    contests: tuple[Contest, ...]
    name: str = ""  # of the results; the network's where empty

    @property
    def called(self) -> str:
        """The name by which results and the command line call the setting."""
        return self.name or self.arch


def family(name: str) -> tuple[tuple[str, Peer], ...]:
    """A gradient CAM of pytorch-grad-cam."""
    return ((f"pytorch-grad-cam {name}", grad_cam(name)),)


GRADIENT_CAMS = (
    Contest("gradcam", "1.15 F", (*family("GradCAM"), ("TorchCAM GradCAM", torch_cam("GradCAM")))),
    Contest("gradcam_pp", "1.15 F", family("GradCAMPlusPlus")),
    Contest("xgradcam", "1.15 F", family("XGradCAM")),
    Contest("layercam", "1.15 F", family("LayerCAM")),
    Contest("hirescam", "1.15 F", family("HiResCAM")),
    Contest("eigencam", "1.1 F", family("EigenCAM")),
)
SMALL = (
    *GRADIENT_CAMS,
    Contest("cam", "1.1 F"),
    Contest(
        "ablationcam", "3 F, 50 x", (("pytorch-grad-cam AblationCAM", grad_cam("AblationCAM")),), images=4, turns=3
    ),
    Contest(
        "scorecam",
        "1.1 x 513 F, 1.4 x",
        (
            ("pytorch-grad-cam ScoreCAM", grad_cam("ScoreCAM")),
            ("TorchCAM ScoreCAM", torch_cam("ScoreCAM", batch_size=MASKED)),
            (ALONE, folded_alone(513, batch=MASKED)),
        ),
        images=4,
        turns=3,
        in_flight=MASKED,
    ),
    Contest("scorecam:precision=bf16", "", images=4, turns=3),
    Contest("rise:masks=500", "1.1 x 500 F", images=8, turns=3),
    Contest("rise:masks=500,precision=bf16", "", images=8, turns=3),
    Contest(
        "occlusion:window=14,stride=7",
        "1.1 x 226 F, 1.4 x",
        (
            (
                "Captum Occlusion",
                captum_("Occlusion", sliding_window_shapes=(3, 14, 14), strides=(3, 7, 7), perturbations_per_eval=4),
            ),
        ),
        images=8,
        turns=3,
    ),
    Contest("gradient", "1.1 (F + B)", (("Captum Saliency", captum_("Saliency")),)),
    Contest(
        "integrated_gradients:steps=50",
        "1.1 x 50 (F + B), 1 x",
        (("Captum IntegratedGradients", captum_("IntegratedGradients", n_steps=50, internal_batch_size=32)),),
        images=8,
        turns=3,
    ),
    Contest(
        "smoothgrad:samples=25",
        "1.1 x 25 (F + B), 1 x",
        (("Captum NoiseTunnel of Saliency", captum_noise(25, 0.15)),),
        images=16,
        turns=3,
    ),
    Contest("opticam:iterations=100", "1.1 x 100 (F + B)", images=32, turns=1),
)
LARGE = (
    *(replace(each, turns=2) for each in GRADIENT_CAMS if each.method in ("gradcam", "layercam", "eigencam")),
    Contest("ablationcam", "3 F", turns=2),  # the peer takes minutes for one image
    Contest(
        "integrated_gradients:steps=10",
        "1.1 x 10 (F + B), 1 x",
        (("Captum IntegratedGradients", captum_("IntegratedGradients", n_steps=10, internal_batch_size=8)),),
        turns=1,
    ),
    Contest(
        "occlusion:window=56,stride=28",
        "1.1 x 50 F, 1.4 x",
        (
            (
                "Captum Occlusion",
                captum_("Occlusion", sliding_window_shapes=(3, 56, 56), strides=(3, 28, 28), perturbations_per_eval=4),
            ),
        ),
        images=4,
        turns=1,
    ),
    Contest("rise:masks=50", "1.1 x 50 F", images=4, turns=1),
)
TRANSFORMERS = (
    Contest("legrad", "1.2 (F + B)", (("TorchCAM LeGrad", torch_cam_legrad),)),
    Contest("generic_attention", "1.2 (F + B)"),
    Contest("attnlrp", "2 (F + B)"),
    Contest("cplrp", "2 (F + B)"),
    Contest("gradcam", "1.15 F and B / 4, through the last of 4 blocks"),
    Contest("finercam", "as gradcam", (("an8flower gradcam", ours("gradcam")),)),
)
CONTRAST = (
    Contest("gradcam", "1.15 F", (("TorchCAM GradCAM", torch_cam("GradCAM")), (GUARD, guard_alone))),
    Contest(
        "finercam",
        "as gradcam",
        (
            ("an8flower gradcam", ours("gradcam")),
            ("TorchCAM FinerCAM", torch_cam_finer),
            *family("FinerCAM"),
        ),
    ),
    Contest(
        "refinecam:base=gradcam,layer=layer3+layer4",
        "",
        (("TorchCAM RefineCAM", torch_cam_refined("layer3", "layer4")),),
    ),
)
SETTINGS = (
    Setting("resnet18", 112, 32, SMALL),
    Setting("flowervit", 112, 32, TRANSFORMERS),
    Setting("resnet18", 112, 32, CONTRAST, "contrast"),
    Setting("resnet50", 224, 8, LARGE),
    Setting("vgg16", 224, 8, tuple(each for each in LARGE if not each.method.startswith("ablation"))),
)


def asked(setting: Setting, device: torch.device) -> tuple[Classifier, Query]:
    """A classifier, and a batch of noise for it."""
    classifier = build(setting.arch, [str(each) for each in range(CLASSES)], setting.size, 0).eval().to(device)
    images = torch.rand(setting.batch, 3, setting.size, setting.size, generator=torch.Generator().manual_seed(0))
    rows = torch.arange(setting.batch)
    return classifier, Query(*(each.to(device) for each in (images, rows % CLASSES, rows)))


def seconds(work: Callable[[], object], device: torch.device) -> float:
    """The time of one call."""
    clock = process_time if CPU_TIME in sys.argv else perf_counter
    start = clock()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return clock() - start


@torch.no_grad()
def forward(classifier: Classifier, query: Query) -> None:
    """The bare pass."""
    classifier(query.images)


def both_ways(classifier: Classifier, query: Query) -> None:
    """A pass forwards, and one back to the pixels."""
    images = query.images.clone().requires_grad_()
    torch.autograd.grad(classifier(images).gather(1, query.targets[:, None]).sum(), images)


def turn(classifier: Classifier, whole: Query, contest: Contest) -> dict[str, float]:
    """Seconds per image of everybody in one contest."""
    device, some = classifier.device, Query(*(each[: contest.images] for each in whole))
    explainer = parse_method(contest.method).explainer

    def timed(work: Callable[[Classifier, Query], object], query: Query) -> float:
        return seconds(lambda: work(classifier, query), device) / len(query.images)

    taken = {"forward": timed(forward, whole), "both ways": timed(both_ways, whole)}
    taken["ours"] = timed(lambda model, query: explain(model, explainer, query, contest.in_flight), some)
    return taken | {name: timed(peer, some) for name, peer in contest.peers}


def rows(setting: Setting, device: torch.device) -> Iterator[dict[str, Any]]:
    """The lines of one network."""
    classifier, whole = asked(setting, device)
    for contest in setting.contests:
        if contest.turns > 1:
            turn(classifier, whole, contest)  # warm up
        turns = [turn(classifier, whole, contest) for _ in range(contest.turns)]
        print(setting.arch, contest.method, file=sys.stderr)
        yield from lines(setting, contest, turns)


def lines(setting: Setting, contest: Contest, turns: list[dict[str, float]]) -> Iterator[dict[str, Any]]:
    """Ours, then each peer; F is a bare forward pass, F + B one with its way back to the pixels."""
    for name in [each for each in turns[0] if each not in ("forward", "both ways")]:
        ours = name == "ours"
        yield {
            "network": f"{setting.arch}, {setting.size} px",
            "who": f"an8flower {contest.method}" if ours else name,
            "ms per image": 1000 * median(each[name] for each in turns),
            "in F": median(each[name] / each["forward"] for each in turns),
            "in F + B": median(each[name] / each["both ways"] for each in turns),
            "ours is faster, times": None if ours else median(each[name] / each["ours"] for each in turns),
            "to reach": contest.limit if ours else None,
        }


def main() -> None:
    """Measure the settings named on the command line, or all, and report."""
    names = [each for each in sys.argv[1:] if each != CPU_TIME]
    cpu_time = CPU_TIME in sys.argv
    threads = 1 if cpu_time else THREADS
    torch.set_num_threads(threads)
    device = torch.device("cuda" if torch.cuda.is_available() and not cpu_time else "cpu")
    wanted = [each for each in SETTINGS if each.called in names or not names]
    about = {
        "device": str(device),
        "threads": threads,
        **({"clock": "the processor time of the thread, since others used the machine"} if cpu_time else {}),
        "images": "noise; untrained weights; 32 a batch for resnet18 and flowervit, 8 for the others",
        "turns": "medians of 5, of 3 where an image takes long; of 2 or 1 for the large networks",
    }
    for setting in wanted:
        shared = any(contest.in_flight for contest in setting.contests)
        images = {"Score-CAM": f"{MASKED} masked images at once, in everybody's"} if shared else {}
        report.write(f"explainers-{setting.called}", list(rows(setting, device)), about | images)


if __name__ == "__main__":
    main()
