"""On a real GPU, by `make test-gpu`: what runs on the pretended one, memory that runs out, workers that share a card.

No GPU was at hand when these were written; without one they are left out.
"""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

from an8flower import spec as specs
from an8flower.evaluate.audits import plan as plans
from an8flower.evaluate.audits.run import How, audit
from an8flower.evaluate.case import Query
from an8flower.evaluate.explaining.explain import explain
from an8flower.evaluate.models import training_loss
from an8flower.evaluate.models.classifier import Classifier, build
from an8flower.evaluate.models.gradient_penalty import GradientPenalty
from an8flower.evaluate.models.networks.arithmetic import arithmetic_on
from an8flower.evaluate.models.training_loss import loss_of
from an8flower.evaluate.resources import settle_on
from an8flower.generate import generate

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")]
RUNS = Path(__file__).with_name("pretend_gpu_runs.py")
TABLE: dict[str, list[int]] = json.loads(RUNS.with_name("pretend_gpu.json").read_text())


@pytest.fixture(scope="module")
def runs() -> ModuleType:
    """What is run on the pretended GPU, as a module."""
    spec = importlib.util.spec_from_file_location("pretend_gpu_runs", RUNS)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", TABLE)
def test_a_card_gives_what_the_cpu_gives(runs: ModuleType, name: str) -> None:
    run = runs.runs()[name]
    assert runs.apart(run("cpu"), run("cuda")) <= (0.05 if name == "training" else 1e-3)


def test_tf32_is_off_on_the_card() -> None:
    """The last digits of a convolution, against the same one in double precision."""
    device = settle_on("cuda")
    images, weights = (torch.rand(shape, device=device) - 0.5 for shape in ((4, 64, 32, 32), (64, 64, 3, 3)))
    exact = torch.nn.functional.conv2d(images.double(), weights.double())
    assert arithmetic_on(device) == "float32"
    assert (torch.nn.functional.conv2d(images, weights) - exact).abs().max() < 1e-5 * exact.abs().max()


def test_memory_that_runs_out_halves_the_batch() -> None:
    classifier = build("flowernet", "abcdef", 32, 0).eval().cuda()
    sizes: list[int] = []

    def greedy(classifier: Classifier, query: Query) -> torch.Tensor:
        sizes.append(len(query.images))
        if len(query.images) > 2:
            torch.empty(2**50, dtype=torch.uint8, device="cuda")
        return query.images[:, 0].clone()

    rows = torch.arange(4, device="cuda")
    explain(classifier, greedy, Query(torch.rand(4, 3, 32, 32, device="cuda"), rows, rows))
    assert sizes == [4, 2, 2]


def test_workers_share_the_card(tmp_path: Path) -> None:
    generate(specs.load("single-6c").with_changes(rows=60, size=32), tmp_path / "data.h5")
    plan = plans.load("quick").instead(methods=["gradcam", "random"], metrics=["iou"], rows=6)
    small = plan.with_changes(
        data=[{"file": str(tmp_path / "data.h5")}],
        models=[{"arch": "flowernet", "seeds": [0], "epochs": 1}],
        sanity=None,
        certificate=None,
    )
    done = audit(small, tmp_path / "run", How(device="cuda", workers=2, data_folder=tmp_path))
    assert not done.failed
    assert done.summary["machine"]["precision"] == "float32"
    assert done.summary["machine"]["cudnn"]


def test_the_gradient_penalty_is_that_of_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Convolutions and batch norms whose gradients are differentiated again, with their own kernels."""
    monkeypatch.setattr(training_loss, "precision", lambda device: None)
    images = torch.randint(256, (4, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    for arch in ("flowernet", "resnet18"):
        losses, gradients = [], []
        for device in ("cpu", "cuda"):
            classifier = build(arch, ("a", "b"), 32, 0).double().train().to(device)
            loss = loss_of(classifier, images.to(device), torch.arange(4).to(device) % 2, GradientPenalty("mse", 10.0))
            loss.backward()
            losses.append(loss.item())
            gradients.append(torch.cat([values.grad.flatten().cpu() for values in classifier.network.parameters()]))
        assert losses[1] == pytest.approx(losses[0], rel=1e-4)
        assert torch.allclose(gradients[1], gradients[0], atol=1e-3 * gradients[0].abs().max().item())
