"""Baselines against closed forms and scikit-image."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from skimage import filters

from an8flower.errors import NotApplicable, WrongUsage
from an8flower.evaluate.case import Query
from an8flower.evaluate.explainers.baselines import Center, Edges, FakeCam, Intensity, Random
from an8flower.evaluate.explainers.fittable import Fitted
from an8flower.evaluate.explainers.mean_mask import MeanMask
from an8flower.evaluate.explaining.explain import explain
from an8flower.evaluate.explaining.fitting import StoredExamples, TensorExamples, fit_once, prepare
from an8flower.evaluate.models.classifier import Classifier, build
from an8flower.evaluate.models.files import load
from an8flower.store import FlowerStore

Make = Callable[[str], Classifier]
MakeQuery = Callable[[Classifier], Query]


@pytest.fixture
def model(make: Make) -> Classifier:
    return make("inplace")


def test_random_is_uniform_and_follows_its_seeds(model: Classifier, query: MakeQuery) -> None:
    asked = query(model)
    maps = explain(model, Random(), asked).maps
    assert abs(maps.mean() - 0.5) < 0.03
    assert 0 <= maps.min() < 0.01 < 0.99 < maps.max() < 1
    assert not torch.equal(maps[0], maps[1])
    same = explain(model, Random(), asked._replace(seeds=torch.full((5,), 8))).maps
    assert all(torch.equal(each, maps[1]) for each in same)


def test_center_is_a_bell_around_the_middle(model: Classifier, query: MakeQuery) -> None:
    one = explain(model, Center(width=0.25), query(model)).maps[0]
    torch.testing.assert_close(one, one.flip(0).flip(1).T)
    # Columns 8 and 12 of 16 lie 0.5 and 4.5 pixels off the middle; the bell is 4 pixels wide.
    expected = np.exp(-0.5 * (4.5**2 - 0.5**2) / 4**2)
    assert one[8, 12] / one[8, 8] == pytest.approx(expected, rel=1e-5)
    with pytest.raises(WrongUsage, match="expected a positive share"):
        Center(width=-1)


def test_edges_are_the_sobel_magnitude(model: Classifier, query: MakeQuery) -> None:
    asked = query(model)
    maps = explain(model, Edges(), asked).maps.numpy()
    luma = np.einsum("bchw,c->bhw", asked.images.numpy(), [0.299, 0.587, 0.114])
    for ours, image in zip(maps, luma, strict=True):
        # scikit-image repeats edges too, and divides each kernel by 4.
        across, down = filters.sobel_v(image), filters.sobel_h(image)
        np.testing.assert_allclose(ours, 4 * np.hypot(across, down), atol=1e-5)


def test_intensity_is_the_luma(model: Classifier, query: MakeQuery) -> None:
    images = torch.zeros(5, 3, 16, 16)
    images[0], images[1, 0], images[2, 1], images[3, 2] = 1, 1, 1, 1
    maps = explain(model, Intensity(), query(model)._replace(images=images)).maps
    torch.testing.assert_close(maps[:, 3, 3], torch.tensor([1.0, 0.299, 0.587, 0.114, 0.0]))


def test_fakecam_is_one_but_for_a_corner(model: Classifier, query: MakeQuery) -> None:
    maps = explain(model, FakeCam(), query(model)).maps
    assert maps.sum() == 5 * (16 * 16 - 1)
    assert not maps[:, 0, 0].any()


class TestTheMeanMask:
    """The same map for every picture and every model, learnt once for a data set."""

    def test_it_is_the_mean_of_the_training_masks(self, model: Classifier, query: MakeQuery) -> None:
        pictures = query(model)
        masks = torch.zeros(5, 16, 16, dtype=torch.uint8)
        masks[:4, 2:6, 3:9], masks[3:, 10:, :4] = 1, 2  # evidence by absence counts as well
        examples = TensorExamples(pictures.images, torch.arange(5) % 4, masks=masks)
        maps = explain(model, prepare(MeanMask(), model, examples, batch=2), pictures).maps
        expected = np.mean([mask > 0 for mask in masks.numpy()], 0)
        assert all(np.allclose(drawn.numpy(), expected) for drawn in maps)
        fewer = explain(model, prepare(MeanMask(rows=3), model, examples), pictures).maps
        assert np.allclose(fewer[4].numpy(), np.mean([mask > 0 for mask in masks[:3].numpy()], 0))

    def test_of_a_store_it_reads_the_training_split_alone(self, small_file: Path) -> None:
        store = FlowerStore(small_file)
        flowernet = build("flowernet", store.class_names, store.size, seed=0)
        ready = prepare(MeanMask(), flowernet, StoredExamples(store, torch.device("cpu")))
        whole = store["train"].rows(0, len(store["train"])).masks > 0
        assert isinstance(ready, Fitted)
        np.testing.assert_allclose(ready.learnt["mean"].numpy(), whole.mean(0), atol=1e-6)

    def test_models_of_a_data_set_share_one_fit(self, small_file: Path, tmp_path: Path) -> None:
        store = FlowerStore(small_file)
        for seed in (0, 1):
            file = tmp_path / f"net{seed}.safetensors"
            build("flowernet", store.class_names, store.size, seed=seed).save(file)
            examples = StoredExamples(store, torch.device("cpu"))
            fit_once(MeanMask(), load(file), examples, str(file), tmp_path / "run")
        assert [path.parent.name for path in tmp_path.rglob("*meanmask*")] == ["fits"]

    def test_without_masks_it_is_refused_with_the_reason(
        self, model: Classifier, query: MakeQuery, small_file: Path
    ) -> None:
        pictures = query(model)
        with pytest.raises(NotApplicable, match="no masks of training examples came"):
            prepare(MeanMask(), model, TensorExamples(pictures.images, pictures.targets))
        nothing = torch.zeros(5, 16, 16, dtype=torch.uint8)
        with pytest.raises(NotApplicable, match="no training mask marks any evidence"):
            prepare(MeanMask(), model, TensorExamples(pictures.images, pictures.targets, masks=nothing))
        with pytest.raises(NotApplicable, match="has no split nowhere"):
            prepare(MeanMask(), model, StoredExamples(FlowerStore(small_file), torch.device("cpu"), "nowhere"))
        with pytest.raises(WrongUsage, match="rows is 0; expected at least 1"):
            MeanMask(rows=0)
