"""What is run on the pretended GPU, and on the CPU beside it; a process of its own, which prints one JSON document.

python -P tests/pretend_gpu_runs.py [NAME ...]   # all runs where no name, or start of a name, is given
python -P tests/pretend_gpu_runs.py --write      # all, and writes what was counted into the table of the tests
"""

from __future__ import annotations

import copy
import gc
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

sys.path.insert(0, str(Path(__file__).parent))

import pretend_gpu
from pretend_gpu import DOUBLE, DOWNLOAD, LOG, MISTAKE, UPLOAD, WAIT, Everywhere

sys.path.pop(0)  # there is a folder of tests that is called as the package is
if __name__ == "__main__":
    pretend_gpu.replace_inference_mode()
    sys.meta_path.insert(0, pretend_gpu.RenamingFinder())

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from an8flower import spec as specs
from an8flower.errors import NotApplicable, Refusal
from an8flower.evaluate.audits.filters import filters_of
from an8flower.evaluate.case import Query
from an8flower.evaluate.data.world import World
from an8flower.evaluate.explaining.contract import ROWS, Trial, make_query
from an8flower.evaluate.explaining.explain import explain
from an8flower.evaluate.explaining.methods import parse_method
from an8flower.evaluate.metrics.interventions import reliance
from an8flower.evaluate.metrics.metric import Metric
from an8flower.evaluate.metrics.naming import parse_metric
from an8flower.evaluate.models import training, training_loss
from an8flower.evaluate.models.classifier import Classifier, build
from an8flower.evaluate.models.fine_tuning import RandomRemoval
from an8flower.evaluate.models.prototypes import protopnet_loss
from an8flower.evaluate.models.training import train
from an8flower.evaluate.registry import explainers, metrics
from an8flower.evaluate.resources import Resources, settle_on
from an8flower.evaluate.scoring.fine_tuned import FineTuner
from an8flower.evaluate.scoring.judge import Judge
from an8flower.evaluate.scoring.thresholds import method_thresholds
from an8flower.evaluate.trust import use
from an8flower.evaluate.trust.certificate import certify
from an8flower.evaluate.trust.sanity.plan import sanity_plan
from an8flower.evaluate.trust.sanity.run import ModelSanity, sanity
from an8flower.generate import generate
from an8flower.store import FlowerStore

WHOLE = tempfile.TemporaryDirectory()
Run = Callable[[str], Any]  # the device -> tensors, arrays, numbers, or containers of them
SIZE, FEW = 32, np.arange(3)
SHORTER = {
    **dict.fromkeys(("deletion", "insertion"), "steps=16"),
    "infidelity": "samples=10",
    "ffidelity": "steps=3,samples=2",
    "max_sensitivity": "samples=3",
}


@cache
def store(preset: str) -> FlowerStore:
    """A small data set of a preset."""
    path = Path(WHOLE.name) / f"{preset}.h5"
    generate(specs.load(preset).with_changes(rows=60, size=SIZE), path, workers=1)
    return FlowerStore(path)


@cache
def weights(preset: str) -> dict[str, Tensor]:
    """Weights of a small network, trained a little on the CPU, so that answers differ between rows."""
    return train(store(preset), "flowernet", epochs=2).classifier.state_dict()


def classifier(preset: str, device: str) -> Classifier:
    """That network on a device."""
    network = build("flowernet", store(preset).class_names, SIZE, 0)
    network.load_state_dict(weights(preset))
    return network.eval().to(device)


def judge(preset: str, metric: Metric | None, device: str) -> Judge:
    """A judge of the test rows by a metric, with the validation rows beside it."""
    resources, data = Resources(settle_on(device), 4), store(preset)
    scored = () if metric is None else (metric,)
    by_split = [
        Judge(data[split], "label", 0, scored, resources, World.of(data[split], resources.device))
        for split in ("test", "val")
    ]
    return replace(by_split[0], validation=by_split[1], fine_tuner=HostFineTuner(data))


@cache
def tuned_weights(preset: str, removal: RandomRemoval) -> dict[str, Tensor]:
    """The weights of that network, fine-tuned on the CPU on images without what a removal takes away."""
    return FineTuner(store(preset))(classifier(preset, "cpu"), removal).state_dict()


class HostFineTuner(FineTuner):
    """Puts weights that were fine-tuned on the CPU into a copy of a network, on its device."""

    def __call__(self, network: Classifier, removal: RandomRemoval) -> Classifier:
        """The fine-tuned network."""
        tuned = copy.deepcopy(network)
        tuned.load_state_dict(tuned_weights("single-6c", removal))
        return tuned


@cache
def trial_of(name: str, network: str) -> Trial:
    """An explainer on a network of the contract; what has to be fitted is fitted once, on the CPU."""
    return Trial(explainers[name].item(), network)


def run_explainer(name: str, network: str, device: str) -> Tensor:
    """The maps of an explainer, fitted on the CPU, for a network of the contract."""
    trial = trial_of(name, network)
    network_there, query, explainer = trial.classifier().to(device), make_query(ROWS, device), trial.explainer
    LOG.__init__()
    return explain(network_there, explainer, query).maps


def shorten(name: str) -> str:
    """A metric with fewer steps or draws than its default, where many take long: they only wait more often."""
    return f"{name}:{SHORTER[name]}" if name in SHORTER else name


def run_metric(name: str, preset: str, device: str) -> Any:
    """The values of a metric for the maps of Grad-CAM, with what it asks the model, the method and the renderer."""
    judged, network = judge(preset, parse_metric(shorten(name)), device), classifier(preset, device)
    method = parse_method("gradcam")
    thresholds = None
    if "threshold" in judged.metrics[0].needs:
        thresholds = method_thresholds(judged.validation, network, method, lambda: method)
    LOG.__init__()
    table = judged.score(network, method, FEW, judged.predict(network, FEW), thresholds).to_pandas()
    return np.array(table.value, float)


def run_training(device: str, arch: str = "flowernet", epochs: int = 1) -> Any:
    """The weights of a small network after an epoch, or after some."""
    modules = (training, training_loss, protopnet_loss)
    exact = [patch.object(module, "precision", lambda device: None) for module in modules]
    with exact[0], exact[1], exact[2]:  # bfloat16 is another matter, and not every CPU has it
        done = train(store("single-6c"), arch, epochs=epochs, device=settle_on(device))
    return [
        tensor.double().cpu() if tensor.is_floating_point() else tensor
        for tensor in done.classifier.state_dict().values()
    ]


def run_sanity(device: str) -> Any:
    """The scores of two methods by every check but label randomisation, on a network with batch norms."""
    settled = Resources(settle_on(device), 8)
    plan = sanity_plan(rows=4, steps=2, draws=2, recalibrate=True, smooth=2)
    checked = ModelSanity(
        classifier("single-6c", device), store("single-6c")["test"], plan, settled, folder=Path(WHOLE.name)
    )
    document = sanity(checked, [parse_method("gradient"), parse_method("edges")])
    assert not document["failed"], document["failed"]
    return [[score["mean"] for score in result["scores"].values()] for result in document["results"]]


def run_nan(device: str) -> Any:
    """Whether a model that gives NaN is refused in the same words; a GPU is looked at once, at the end."""
    network = classifier("single-6c", device)
    next(network.network.parameters()).data.fill_(torch.nan)
    query = Query(torch.full((2, 3, SIZE, SIZE), 0.5), torch.tensor([0, 1]), torch.tensor([4, 5]))
    try:
        explain(network, parse_method("gradient").explainer, Query(*(tensor.to(device) for tensor in query)))
        return [0.0]
    except Refusal as refusal:
        assert "gives NaN or infinity for these images" in str(refusal), refusal
        return [1.0]


def run_certificate(device: str) -> Any:
    """The numbers of a certificate of a data set with a shortcut."""
    where = settle_on(device)
    world = World.of(store("shortcut-6c")["test"], where)
    document = certify(classifier("shortcut-6c", device), world, FEW).document()
    return numbers_in(document)


def run_filters(device: str) -> Any:
    """VEBI fitted on the device, its maps, the mean images of its filters, and the curve without them."""
    judged, network = judge("single-6c", None, device), classifier("single-6c", device)
    method = judged_fit(judged, network)
    arrays = filters_of(network, method, judged, 0)
    return [arrays[name] for name in sorted(arrays) if arrays[name].dtype.kind in "fiu"]


def judged_fit(judged: Judge, network: Classifier) -> Any:
    """VEBI, fitted on the training rows for a network."""
    from an8flower.evaluate.explaining.fitting import StoredExamples, prepare

    method = parse_method("vebi")
    examples = StoredExamples(store("single-6c"), judged.resources.device)
    return method._replace(explainer=prepare(method.explainer, network, examples, 8))


def numbers_in(document: Any) -> list[float]:
    """All numbers of a document, in its order."""
    if isinstance(document, dict):
        return [number for value in document.values() for number in numbers_in(value)]
    if isinstance(document, list | tuple):
        return [number for value in document for number in numbers_in(value)]
    return [float(document)] if isinstance(document, int | float) else []


def planted() -> Iterator[tuple[str, str, Callable[[], Any]]]:
    """Mistakes and waits that have to be seen, each with its kind; `nothing` has to be seen as none."""
    tensor = torch.rand(3, 4, device="gpu")
    zeros = torch.zeros(2, dtype=torch.int64, device="gpu")
    yield "a sum with a CPU tensor", MISTAKE, lambda: tensor + torch.rand(3, 4)
    yield "gather by CPU indices", MISTAKE, lambda: tensor.gather(1, torch.zeros(3, 1, dtype=torch.int64))
    yield "a CPU tensor by GPU indices", MISTAKE, lambda: torch.rand(3)[zeros]
    yield "cat", MISTAKE, lambda: torch.cat([tensor, torch.rand(1, 4)])
    yield "numpy", MISTAKE, lambda: tensor.numpy()
    yield "matmul", MISTAKE, lambda: tensor @ torch.rand(4, 2)
    yield "where", MISTAKE, lambda: torch.where(tensor > 0.5, torch.rand(3, 4), tensor)
    yield "values of the CPU", MISTAKE, lambda: tensor.__setitem__(zeros[:1], torch.rand(1, 4))
    yield "weights of the CPU", MISTAKE, lambda: F.conv2d(torch.rand(1, 3, 4, 4, device="gpu"), torch.rand(2, 3, 2, 2))
    yield "searchsorted", MISTAKE, lambda: torch.searchsorted(torch.arange(4.0), tensor)
    yield "a CPU generator", MISTAKE, lambda: torch.rand(3, device="gpu", generator=torch.Generator())
    yield "item", WAIT, lambda: tensor.sum().item()
    yield "bool", WAIT, lambda: bool((tensor > 0).all())
    yield "a mask", WAIT, lambda: tensor[tensor > 0.5]
    yield "nonzero", WAIT, lambda: tensor.nonzero()
    yield "tolist", DOWNLOAD, lambda: tensor.tolist()
    yield "cpu", DOWNLOAD, lambda: tensor.cpu()
    yield "indices of the CPU", UPLOAD, lambda: tensor[torch.tensor([0, 1])]
    yield "a list", UPLOAD, lambda: torch.tensor([1, 2], device="gpu")
    yield "float64", DOUBLE, lambda: tensor.double()
    yield "nothing", "", lambda: F.one_hot(torch.arange(3, device="gpu"), 3).float() @ torch.rand(3, 2, device="gpu")


def see(call: Callable[[], Any]) -> list[str]:
    """The kinds of what is noted while something is called."""
    LOG.__init__()
    call()
    return sorted({kind for kind, _, _ in LOG.events})


def network_for(name: str) -> str:
    """The network of the contract that an explainer is tried on: a transformer if it is about attention."""
    if name == "cam":  # wants nothing but the mean between its layer and the linear one
        return "in-place"
    if special := getattr(explainers[name].item, "checked_on", ()):
        return str(special[0])
    return "vit" if explainers[name].about["family"] == "attention" else "reuse"


def runs() -> dict[str, Run]:
    """Everything that is run, by name."""
    built_in = [name for name in explainers.names() if name not in explainers.plug_ins()]
    by_name: dict[str, Run] = {
        f"explainer {name}": partial(run_explainer, name, network_for(name)) for name in built_in
    }
    for name in metrics.names():
        if name not in metrics.plug_ins():
            preset = "absent-4c" if {"parts", "renderer"} & set(parse_metric(name).needs) else "single-6c"
            by_name[f"metric {name}"] = partial(run_metric, name, preset)
    by_name |= {
        "training": run_training,
        "training with prototypes": partial(run_training, arch="flowernet+protopnet", epochs=4),
        "sanity": run_sanity,
        "a model that gives NaN": run_nan,
        "certificate": run_certificate,
        "vebi": run_filters,
    }
    return by_name


def compare(run: Run) -> dict[str, Any]:
    """What a run did on the pretended GPU, and how far its result is from that of the CPU."""
    try:
        on_cpu = run("cpu")
    except NotApplicable:
        return {}
    LOG.__init__()
    with Everywhere():
        on_gpu = run("gpu")
    return {
        "mistakes": LOG.lines(MISTAKE),
        "transfers": LOG.count(UPLOAD, DOWNLOAD),
        "waits": LOG.count(WAIT, DOWNLOAD),
        "launches": LOG.launches,
        "lines": LOG.lines(UPLOAD, DOWNLOAD, WAIT)[:5],
        "apart": apart(on_cpu, on_gpu),
    }


def apart(expected: Any, result: Any) -> float:
    """The largest difference as a share of the largest value; infinite where but one of the results has a value."""
    if isinstance(expected, list):
        return max([apart(value, other) for value, other in zip(expected, result, strict=True)], default=0.0)
    first, second = (np.asarray(to_host(value), np.float64) for value in (expected, result))
    if not np.array_equal(np.isnan(first), np.isnan(second)):
        return float("inf")
    scale = np.nanmax(np.abs(first), initial=1e-12)
    return float(np.nanmax(np.abs(first - second), initial=0.0) / scale)


def to_host(value: Any) -> Any:
    return value.detach().cpu() if isinstance(value, Tensor) else value


TABLE = Path(__file__).with_name("pretend_gpu.json")  # by run: transfers, and waits of the host, at most


def write_table(counted: dict[str, Any]) -> None:
    """Write the numbers of transfers and waits of each run."""
    lines = [f"{json.dumps(name)}: {[run['transfers'], run['waits']]}" for name, run in sorted(counted.items())]
    TABLE.write_text("{\n" + ",\n".join(lines) + "\n}\n")


def main(names: list[str]) -> None:
    """Run everything whose name begins with one of these, and print what was seen."""
    write = "--write" in names
    names = [name for name in names if name != "--write"]
    torch.set_num_threads(1)
    gc.freeze()  # what was imported stays, and is not looked through for garbage
    pretend_gpu.install()
    for module in (reliance, use):
        module.make_ahead = iter  # operations of another thread would not arrive
    with Everywhere():
        seen = {name: [kind, see(call)] for name, kind, call in planted()}
    document: dict[str, Any] = {"planted": seen, "runs": {}}
    for name, run in runs().items():
        if not names or name.startswith(tuple(names)):
            began = time.perf_counter()
            try:
                document["runs"][name] = compare(run)
            except Exception as error:  # it is told which one, and the others go on
                document["runs"][name] = {"error": f"{type(error).__name__}: {error}"}
            document["runs"][name]["seconds"] = round(time.perf_counter() - began, 3)
    if write:
        write_table(document["runs"])
    print(json.dumps(document))


if __name__ == "__main__":
    main(sys.argv[1:])
