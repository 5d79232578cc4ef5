"""A model of a plan that starts from another one of it: the same data, the same seed, trained before."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from an8flower.errors import Refusal
from an8flower.evaluate import load
from an8flower.evaluate.audits import plan as plans
from an8flower.evaluate.audits.run import How, audit

pytestmark = pytest.mark.usefixtures("undrawn")

STREAM = {"arch": "flowernet+ca-stream", "starts_from": "flowernet", "freeze": "backbone", "epochs": 1}


def make_plan(data: str, *models: dict[str, Any], **more: Any) -> plans.Plan:
    values = {"name": "p", "data": [{"file": data}], "models": list(models), "methods": ["center"], "metrics": ["iou"]}
    return plans.from_mapping({**values, "certificate": None, **more}, "p")


def test_the_stream_is_put_beside_the_plain_network_of_the_same_seed(small_file: Path, tmp_path: Path) -> None:
    plain = {"arch": "flowernet", "epochs": 1, "seeds": [0, 1]}
    plan = make_plan(str(small_file), {**STREAM, "seeds": [1, 0]}, plain, rows=6, pictures={"rows": 1})
    done = audit(plan, tmp_path / "run", How(engine="inline"))
    names = [model["arch"] for model in done.summary["studies"][0]["scores"]["models"]]
    assert names == ["flowernet+ca-stream+frozen"] * 2 + ["flowernet"] * 2
    files = sorted((tmp_path / "run" / "models").glob("*.safetensors"))
    models = {(each.variant, each.seed): each.network for each in map(load, files)}
    for seed in (0, 1):
        stream, base = models["flowernet+ca-stream+frozen", seed], models["flowernet", seed]
        backbone = stream.backbone.state_dict()
        assert all(torch.equal(backbone[name], tensor) for name, tensor in base.state_dict().items())
    heads = [models["flowernet", seed].classifier.weight for seed in (0, 1)]
    assert not torch.equal(*heads)
    again = audit(plan, tmp_path / "run", How(engine="inline"))
    assert again.done == 0
    other = audit(plan, tmp_path / "other", How(engine="inline"))
    assert other.done == 0, "models of a neighbouring run are taken"


@pytest.mark.parametrize(
    ("models", "sentence"),
    [
        ([STREAM], "flowernet.ca-stream.frozen starts from flowernet, which is to be one of none here"),
        ([STREAM, {"arch": "resnet18"}], "which is to be one of resnet18"),
        ([{**STREAM, "seeds": [0, 3]}, {"arch": "flowernet"}], "starts from flowernet, which lacks seed 3"),
        ([{**STREAM, "init": "x.safetensors"}, {"arch": "flowernet"}], "give either init .a file. or starts_from"),
        ([{"source": "x.safetensors", "starts_from": "flowernet"}], "starts_from goes with arch, which is trained"),
    ],
)
def test_what_cannot_start_is_refused(models: list[dict[str, Any]], sentence: str) -> None:
    with pytest.raises(Refusal, match=sentence):
        make_plan("x.h5", *models)


def test_a_reduced_plan_has_each_stand_in_once() -> None:
    plain = [{"arch": arch} for arch in ("flowernet", "resnet18")]
    streams = [{**STREAM, "arch": f"{base['arch']}+ca-stream", "starts_from": base["arch"]} for base in plain]
    stand_ins = {"resnet18": "flowernet", "resnet18+ca-stream": "flowernet+ca-stream"}
    plan = make_plan("x.h5", *plain, *streams, reduced={"archs": stand_ins})
    assert [entry.variant for entry in plan.at_reduced_size().models] == ["flowernet", "flowernet+ca-stream+frozen"]
