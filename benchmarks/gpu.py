"""What a GPU makes of this package, beside other toolkits on the same card: one command, about ten minutes, no network.

    python benchmarks/gpu.py                       # every step
    python benchmarks/gpu.py explainers metrics    # some of them
    python benchmarks/gpu.py --device cpu --tiny   # does it run at all? Its numbers say nothing.

Each step writes gpu-STEP.json and gpu-STEP.md. *Busy* is the share of the time in which the card computed: kernel time
by wall time, as torch's profiler tells it. Below a half, the host holds the card up.

No GPU was at hand when this was written: it has been run with `--device cpu --tiny` only.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import from_sources

from_sources.provide()

import numpy as np  # noqa: E402
import report  # noqa: E402
import torch  # noqa: E402
from torch.profiler import ProfilerActivity, profile  # noqa: E402

from an8flower import spec as specs  # noqa: E402
from an8flower.evaluate.audits import plan as plans  # noqa: E402
from an8flower.evaluate.audits.plan import Plan  # noqa: E402
from an8flower.evaluate.audits.run import How, audit  # noqa: E402
from an8flower.evaluate.case import Query  # noqa: E402
from an8flower.evaluate.data.world import World  # noqa: E402
from an8flower.evaluate.explaining.explain import explain  # noqa: E402
from an8flower.evaluate.explaining.methods import parse_method  # noqa: E402
from an8flower.evaluate.metrics.guarded import score_guarded  # noqa: E402
from an8flower.evaluate.models.classifier import Classifier, build  # noqa: E402
from an8flower.evaluate.models.networks.arithmetic import choose_arithmetic, describe_arithmetic  # noqa: E402
from an8flower.evaluate.models.training import train  # noqa: E402
from an8flower.evaluate.registry import metrics  # noqa: E402
from an8flower.evaluate.resources import Resources, settle_on  # noqa: E402
from an8flower.evaluate.scoring.judge import Judge  # noqa: E402
from an8flower.generate import generate  # noqa: E402
from an8flower.store import FlowerStore  # noqa: E402

FURTHER = (
    *("lrp", "deeplift", "lime:samples=200", "extremal_perturbation:iterations=50", "gradient_x_input"),
    *("meaningful_perturbation:iterations=50", "vargrad:samples=25", "guided_backprop"),
)
TINY = ("gradcam", "gradient", "integrated_gradients:steps=4", "rise:masks=16", "lrp")


@dataclass(frozen=True)
class Bench:
    """Where and how much is measured."""

    device: torch.device
    tiny: bool
    until: float  # by `time.perf_counter`, after which nothing more is begun
    folder: Path  # for data and runs

    @property
    def size(self) -> int:
        return 32 if self.tiny else 112

    @property
    def images(self) -> int:
        return 4 if self.tiny else 256

    def is_over(self, what: str) -> bool:
        """Whether there is no time left for something, which is then said."""
        over = time.perf_counter() > self.until
        if over:
            print(f"no time left for {what}", file=sys.stderr)
        return over

    def wait(self) -> None:
        """Wait until the card has done everything."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def seconds(self, work: Callable[[], Any], turns: int = 3) -> float:
        """The median wall time of a call, after one that warms up."""
        taken = []
        for _ in range((1 if self.tiny else turns) + 1):
            self.wait()
            began = time.perf_counter()
            work()
            self.wait()
            taken.append(time.perf_counter() - began)
        return median(taken[1:])

    def busy(self, work: Callable[[], Any]) -> float | None:
        """The share of a call's time in which kernels ran; None on a CPU."""
        if self.device.type != "cuda":
            return None
        self.wait()
        with profile(activities=[ProfilerActivity.CUDA]) as seen:
            began = time.perf_counter()
            work()
            self.wait()
            wall = time.perf_counter() - began
        return sum(event.self_device_time_total for event in seen.key_averages()) / 1e6 / wall

    def store(self, preset: str) -> FlowerStore:
        """A data set of a preset, of its own size or a tiny one."""
        spec = specs.load(preset)
        spec = spec.with_changes(rows=60, size=32) if self.tiny else spec
        path = self.folder / f"{preset}.h5"
        if not path.exists():
            generate(spec, path)
        return FlowerStore(path)

    def classifier(self, arch: str) -> Classifier:
        """An untrained classifier on the device."""
        return build(arch, "abcdef", self.size, 0).eval().to(self.device)


Rows = Iterator[dict[str, Any]]


def measure_ceilings(bench: Bench) -> Rows:
    """The bare pass of two networks by batch, precision and layout: no explanation can be faster."""
    for arch in ("flowernet",) if bench.tiny else ("flowernet", "resnet18"):
        network = bench.classifier(arch)
        for precision in ("float32", "tf32") if bench.device.type == "cuda" else ("float32",):
            choose_arithmetic(bench.device, precision)
            for layout in (torch.contiguous_format, torch.channels_last):
                network.to(memory_format=layout)
                for batch in (2,) if bench.tiny else (32, 128, 512, 2048):
                    images = torch.rand(batch, 3, bench.size, bench.size, device=bench.device)
                    seconds = bench.seconds(partial(forward, network, images.to(memory_format=layout)))
                    line = {"network": arch, "precision": precision, "layout": str(layout).removeprefix("torch.")}
                    yield {**line, "batch": batch, "us per image": 1e6 * seconds / batch}
        choose_arithmetic(bench.device)


@torch.no_grad()
def forward(network: Classifier, images: torch.Tensor) -> None:
    """A bare pass."""
    network(images)


def contests(bench: Bench) -> list[tuple[str, tuple[tuple[str, Callable[..., Any]], ...], int | None]]:
    """Each method with the same methods of others, and how many images it gets; alone if others are not installed."""
    if bench.tiny:
        return [(method, (), None) for method in TINY]
    try:
        import explainers
    except ImportError as error:
        print(f"without other toolkits: {error}", file=sys.stderr)
        return [(method, (), None) for method in (*TINY, *FURTHER)]
    beside = [(contest.method, contest.peers, contest.images and 8 * contest.images) for contest in explainers.SMALL]
    return [*beside, *((method, (), 64) for method in FURTHER)]


def measure_explainers(bench: Bench) -> Rows:
    """Ours and theirs in turns, ResNet-18 at 112 px."""
    classifier = bench.classifier("flowernet" if bench.tiny else "resnet18")
    rows = torch.arange(bench.images)
    images = torch.rand(bench.images, 3, bench.size, bench.size, generator=torch.Generator().manual_seed(0))
    whole = Query(*(tensor.to(bench.device) for tensor in (images, rows % 6, rows)))
    bare = bench.seconds(lambda: forward(classifier, whole.images)) / len(whole.images)
    for method, peers, count in contests(bench):
        if bench.is_over(method):
            return
        query, explainer = Query(*(tensor[:count] for tensor in whole)), parse_method(method).explainer
        works = {f"an8flower {method}": lambda: explain(classifier, explainer, query)}  # noqa: B023
        works |= {name: lambda peer=peer: peer(classifier, query) for name, peer in peers}  # noqa: B023
        ours = None
        for name, work in works.items():
            try:
                seconds = bench.seconds(work) / len(query.images)
            except Exception as error:  # others may not run on a GPU
                yield line_of(name, None, None, None, None, f"{type(error).__name__}: {error}"[:120])
                continue
            ours = ours or seconds
            faster = None if seconds == ours else seconds / ours
            yield line_of(name, 1000 * seconds, seconds / bare, faster, bench.busy(work), "")


def line_of(
    who: str, milliseconds: float | None, passes: float | None, faster: float | None, busy: float | None, failed: str
) -> dict[str, Any]:
    """A line of the table of explainers."""
    numbers = {"ms per image": milliseconds, "in F": passes, "ours is faster, times": faster, "busy": busy}
    return {"who": who, **numbers, "failed": failed}


def measure_metrics(bench: Bench) -> Rows:
    """Each metric on the maps of Grad-CAM, beside Quantus where it has the same."""
    store = bench.store("single-6c")
    resources = Resources(bench.device)
    judge = Judge(store["test"], "label", 0, (), resources, World.of(store["test"], bench.device))
    classifier = build("flowernet", store.class_names, store.size, 0).eval().to(bench.device)
    indices = np.arange(min(bench.images, len(store["test"])))
    case = judge.case(classifier, indices, judge.split.labels[indices])
    explainer = parse_method("gradcam").explainer
    maps = explain(classifier, explainer, case.query).maps
    case = case._replace(explain=lambda query: explain(classifier, explainer, query).maps)
    for name in metrics.names():
        metric = metrics[name].item
        if "threshold" in metric.needs:  # chosen on other rows, which is another cost
            continue
        if bench.is_over(name):
            return

        def work() -> None:
            with torch.no_grad(), classifier.holding(resources.in_flight):
                score_guarded([metric], maps, case)  # noqa: B023

        seconds = bench.seconds(work, 2) / len(maps)
        theirs = None if bench.tiny else quantus_seconds(bench, name, maps, case.truth.masks)
        beside = {"Quantus, ms per map": theirs and 1000 * theirs, "ours is faster, times": theirs and theirs / seconds}
        yield {"metric": name, "ms per map": 1000 * seconds, "busy": bench.busy(work), **beside}


def quantus_seconds(bench: Bench, name: str, maps: torch.Tensor, masks: torch.Tensor) -> float | None:
    """The seconds for a map of Quantus's counterpart, with maps that lie on the card; None if there is none."""
    try:
        import localisation
    except ImportError:
        return None
    if name not in localisation.PEERS:
        return None
    positive = maps - maps.amin((1, 2), keepdim=True)
    evidence = (masks > 0).to(torch.uint8)
    return bench.seconds(lambda: localisation.theirs(name, positive.cpu(), evidence.cpu()), 1) / len(maps)


def measure_training(bench: Bench) -> Rows:
    """Seconds until 99 % of the validation rows are right, and in all."""
    store = bench.store("single-6c")
    for arch in ("flowernet",) if bench.tiny else ("flowernet", "resnet18"):
        if bench.is_over(f"training {arch}"):
            return
        reached: list[float] = []
        result = train(
            store,
            arch,
            epochs=1 if bench.tiny else None,
            device=bench.device,
            on_epoch=lambda epoch: reached.append(epoch.seconds) if epoch.val_accuracy >= 0.99 else None,  # noqa: B023
        )
        yield {
            "network": arch,
            "to 99 % (s)": reached[0] if reached else None,
            "in all (s)": result.seconds,
            "epochs": result.epochs,
            "test accuracy": result.accuracy,
        }


def measure_plan(bench: Bench) -> Rows:
    """The whole plan `vebi-iou`, from nothing to the page."""
    plan = plans.load("vebi-iou")
    if bench.tiny:
        plan = shrink(plan, bench)
    began = time.perf_counter()
    how = How(device=str(bench.device), workers=1 if bench.tiny else None, data_folder=bench.folder / "data")
    outcome = audit(plan, bench.folder / "runs" / plan.name, how)
    seconds = time.perf_counter() - began
    cells = {"cells": outcome.done, "failed": len(outcome.failed)}
    yield {"plan": plan.name, "seconds": seconds, **cells, "seconds of computing": outcome.summary["seconds"]}


def shrink(plan: Plan, bench: Bench) -> Plan:
    """A plan of the same kind that takes seconds."""
    bench.store("single-6c")
    small = plan.at_reduced_size().instead(methods=["gradcam", "random"], metrics=["iou"], rows=6)
    return small.with_changes(
        data=[{"file": str(bench.folder / "single-6c.h5")}],
        models=[{"arch": "flowernet", "seeds": [0], "epochs": 1}],
        sanity=None,
        certificate=None,
    )


STEPS: dict[str, Callable[[Bench], Rows]] = {
    "ceilings": measure_ceilings,
    "explainers": measure_explainers,
    "metrics": measure_metrics,
    "training": measure_training,
    "plan": measure_plan,
}


def main() -> None:
    """Carry out the steps, and write a table of each."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("steps", nargs="*", choices=[*STEPS, []], help="all unless some are named")
    options.add_argument("--device", default="auto")
    options.add_argument("--tiny", action="store_true", help="a minute on a CPU, to see that it runs")
    options.add_argument("--seconds", type=float, default=600, help="after which nothing more is begun")
    options.add_argument("--output", type=Path, help="folder of the tables, benchmarks/results unless given")
    words = options.parse_args()
    if words.output:
        report.RESULTS = words.output
    device = settle_on(words.device)
    until = time.perf_counter() + words.seconds
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(device, words.tiny, until, Path(folder))
        for name in words.steps or STEPS:
            if not bench.is_over(name):
                began = time.perf_counter()
                lines = list(STEPS[name](bench))
                about = {**describe_arithmetic(device), "tiny": words.tiny, "took (s)": time.perf_counter() - began}
                report.write(f"gpu-{name}", lines, about)


if __name__ == "__main__":
    main()
