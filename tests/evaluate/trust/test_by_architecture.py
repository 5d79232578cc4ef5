"""Canvases: what the cut networks can look at, the score of a cell, and how explainers come out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from an8flower.__main__ import main
from an8flower.errors import NotApplicable
from an8flower.evaluate.explainers.baselines import Edges
from an8flower.evaluate.explainers.cam import GradCam, HiResCam
from an8flower.evaluate.explainers.gradients import Gradient
from an8flower.evaluate.explainers.mean_mask import MeanMask
from an8flower.evaluate.models.classifier import Classifier, build, wrap
from an8flower.evaluate.trust.by_architecture.judge import (
    Canvases,
    judge_on_canvases,
    judge_scores,
    lay_canvases,
    score_cells,
    widen,
)
from an8flower.evaluate.trust.by_architecture.networks import (
    CELLS,
    Setting,
    join_cells,
    measure_cell,
    over_canvas,
    take_cell,
    take_place,
)
from an8flower.evaluate.trust.by_architecture.sheet import EDGES, aggregate, bins_of, draw_canvases, put_first
from an8flower.evaluate.trust.by_hand.networks import handset
from an8flower.evaluate.trust.by_hand.scenes import spec_of
from an8flower.generate import generate
from an8flower.store import FlowerStore

SIZE, CLASSES = 18, "abcde"


@pytest.fixture(scope="module")
def classifier() -> Classifier:
    """An untrained flowernet: what it can look at does not depend on its weights."""
    return build("flowernet", CLASSES, SIZE, 0).eval()


@pytest.fixture(scope="module")
def canvases(classifier: Classifier) -> Canvases:
    side = measure_cell(classifier)
    images = torch.rand(8, 3, 2 * side, 2 * side, generator=torch.Generator().manual_seed(3))
    return Canvases(images, torch.arange(8) % len(CLASSES), torch.arange(8) % CELLS)


def test_a_cell_is_as_wide_as_the_steps_of_the_network_ask(classifier: Classifier) -> None:
    assert measure_cell(classifier) == 20  # a feature for every 4 pixels


@pytest.mark.parametrize("cell", range(CELLS))
def test_difull_gives_the_logits_of_the_cell_alone(classifier: Classifier, canvases: Canvases, cell: int) -> None:
    """The oracle is the network itself, on the picture cut out of the canvas."""
    network = over_canvas(classifier, "difull", cell)
    with torch.no_grad():
        picture = take_place(classifier.normalise(canvases.images), cell, 20)
        assert torch.allclose(network(canvases.images), classifier.network(picture), atol=1e-5)


def test_gridpg_is_the_network_itself(classifier: Classifier, canvases: Canvases) -> None:
    with torch.no_grad():
        expected = classifier.network(classifier.normalise(canvases.images))
        assert torch.allclose(over_canvas(classifier, "gridpg", 0)(canvases.images), expected, atol=1e-5)


@pytest.mark.parametrize(("setting", "reach"), [("difull", 0), ("dipart", 11)])
def test_pixels_beyond_the_reach_change_nothing(
    classifier: Classifier, canvases: Canvases, setting: Setting, reach: int
) -> None:
    """A position of flowernet sees 23 pixels: 11 beyond its own at most, and of `difull` none beside the cell."""
    network, side = over_canvas(classifier, setting, 0), 20
    painted = canvases.images.clone()
    painted[:, :, side + reach :] = 0.5
    painted[:, :, :, side + reach :] = 0.5
    with torch.no_grad():
        assert torch.allclose(network(painted), network(canvases.images), atol=1e-6)
        assert not torch.allclose(over_canvas(classifier, "gridpg", 0)(painted), network(canvases.images), atol=1e-3)


def score_slowly(canvas: np.ndarray, cell: int) -> float:
    """The positive values in a quarter of a canvas by all of them, value by value."""
    side = len(canvas) // 2
    inside = total = 0.0
    for row in range(2 * side):
        for column in range(2 * side):
            value = max(float(canvas[row, column]), 0.0)
            total += value
            inside += value * (2 * (row // side) + column // side == cell)
    return inside / total if total else float("nan")


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 4), st.integers(0, 3), st.sampled_from([0.0, 3.0, 9.0]))
def test_the_score_is_that_of_a_slow_second_version(seed: int, side: int, cell: int, down: float) -> None:
    maps = torch.randn(2, 2 * side, 2 * side, generator=torch.Generator().manual_seed(seed)) - down
    expected = [score_slowly(canvas, cell) for canvas in maps.double().numpy()]
    assert np.allclose(score_cells(maps, torch.tensor([cell, cell])), expected, equal_nan=True)


@settings(max_examples=10, deadline=None)
@given(st.integers(1, 5), st.integers(0, 3))
def test_cells_are_taken_as_they_were_joined(side: int, cell: int) -> None:
    cells = [torch.randn(2, side, side) for _ in range(CELLS)]
    canvas = join_cells(cells)
    assert torch.equal(take_cell(canvas, cell), cells[cell])
    assert torch.equal(take_place(canvas, cell, side), cells[cell])
    assert torch.equal(take_cell(put_first(canvas, cell), 0), cells[cell])


def test_gradients_stay_in_the_cell_and_pooled_cams_do_not(classifier: Classifier, canvases: Canvases) -> None:
    """Grad-CAM weighs channels everywhere by a mean gradient; HiResCam's gradient is 0 beside the cell."""
    scores = {}
    for explainer in (Gradient(), HiResCam(), GradCam(), Edges()):
        verdict = judge_on_canvases(explainer, classifier, canvases, "difull").verdict
        assert verdict.score is not None, verdict.reason
        scores[type(explainer).__name__] = verdict.score.mean
    assert scores["Gradient"] == 1
    assert scores["HiResCam"] > 0.9  # what is scaled up reaches over the border
    assert scores["GradCam"] < scores["HiResCam"]
    assert scores["Edges"] == pytest.approx(0.25, abs=0.1)


def test_verdicts_follow_the_interval() -> None:
    assert judge_scores(np.full(8, 0.9), "difull").status == "pass"
    assert judge_scores(np.full(8, 0.3), "dipart").status == "FAILED"
    assert judge_scores(np.array([0.2, 1.0] * 4), "difull").status == "undecided"
    assert judge_scores(np.full(8, 0.3), "gridpg").status == "scored"
    flat = judge_scores(np.full(8, np.nan), "difull")
    assert (flat.status, flat.undefined, flat.reason) == ("FAILED", 8, "no positive attribution in 8 of 8 canvases")
    assert json.loads(json.dumps(flat.document()))["score"]["mean"] is None


def test_what_is_not_applicable_says_why(canvases: Canvases, classifier: Classifier) -> None:
    assert "is fitted on pictures" in judge_on_canvases(MeanMask(), classifier, canvases, "difull").verdict.reason
    with pytest.raises(NotApplicable, match="takes no pictures|cannot be cut|reads more"):
        measure_cell(build("flowervit_tiny", CLASSES, 42, 0).eval())


def test_bins_hold_all_maps_and_each_has_one() -> None:
    for count in (1, 3, 32, 200):
        bins = bins_of(count)
        assert len(bins) == len(EDGES) - 1
        assert all(len(places) for places in bins)
        assert {*np.concatenate(bins).tolist()} == {*range(count)}


def test_aggregated_maps_go_from_the_best_to_the_worst() -> None:
    maps = torch.zeros(4, 4, 4)
    maps[0, 3, 3] = 2.0  # cell 3, which is asked about
    maps[1, 0, 0] = 1.0  # beside it
    maps[2, 2, 2], maps[2, 0, 3] = 3.0, 1.0
    means = aggregate(maps, torch.tensor([3, 3, 3, 3]))
    assert means[0].nonzero().tolist() == [[1, 1]]  # the cell comes first, at the upper left
    assert float(take_cell(means[0], 0).sum() / means[0].sum()) == 1
    assert float(means[-1].sum()) == 0  # a map that says nothing comes last


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> FlowerStore:
    path = tmp_path_factory.mktemp("canvases") / "by-hand.h5"
    generate(spec_of("petals"), path, workers=1)
    return FlowerStore(path)


def test_the_class_asked_about_is_in_one_cell_only(store: FlowerStore) -> None:
    colour = handset("colour").classifier()
    canvases = lay_canvases(colour, store["test"], 8)
    assert canvases.images.shape == (8, 3, 84, 84)
    for image, target, cell in zip(*canvases, strict=True):
        classes = [int(colour.predict(take_cell(image, place)[None])) for place in range(CELLS)]
        assert classes[int(cell)] == int(target)
        assert classes.count(int(target)) == 1
        assert len(set(classes)) == 3  # as many as there are


def test_on_a_network_of_single_pixels_all_settings_agree(store: FlowerStore) -> None:
    """Convolutions of 1 x 1 see nothing beside the cell, and a class's colour is nowhere else on the canvas."""
    colour = handset("colour").classifier()
    canvases = lay_canvases(colour, store["test"], 8)
    settings_: tuple[Setting, ...] = ("gridpg", "difull", "dipart")
    for setting in settings_:
        verdict = judge_on_canvases(Gradient(), colour, canvases, setting).verdict
        assert verdict.score is not None
        assert verdict.score.mean > 0.99
    sheet = draw_canvases([judge_on_canvases(Gradient(), colour, canvases, "difull")])
    assert len(set(np.asarray(sheet).reshape(-1, 3).sum(1).tolist())) > 20


def test_models_that_are_seldom_right_get_no_canvas(store: FlowerStore) -> None:
    class Constant(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.features = nn.Conv2d(3, 3, 1)

        def forward(self, images: Tensor) -> Tensor:
            return 0 * self.features(images).mean((2, 3)) + torch.tensor([1.0, 0.0, 0.0])

    network = wrap(Constant(), store.class_names, store.size, "features").eval()
    with pytest.raises(NotApplicable, match="fewer than two classes"):
        lay_canvases(network, store["test"], 4)


def test_widened_pictures_go_on_at_their_borders() -> None:
    images = torch.arange(4.0).view(1, 1, 2, 2).expand(1, 3, 2, 2)
    assert widen(images, 5)[0, 0].tolist() == [
        [0, 0, 1, 1, 1],
        [0, 0, 1, 1, 1],
        [2, 2, 3, 3, 3],
        [2, 2, 3, 3, 3],
        [2, 2, 3, 3, 3],
    ]


def run_check(store: FlowerStore, folder: Path, *words: str) -> Any:
    model = folder / "model.safetensors"
    build("flowernet", store.class_names, store.size, 0).save(model)
    place = ["--model", str(model), "--data", str(store.path)]
    return CliRunner().invoke(main, ["check", *words, "--architecture", *place])


def test_check_prints_each_setting(store: FlowerStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The model is untrained, so its predictions are lent by the labels: what matters is where it can look."""
    monkeypatch.setattr(Classifier, "predict", lambda self, images: colour_of(images))
    result = run_check(store, tmp_path, "gradient", "--json", "--picture", str(tmp_path / "maps.png"))
    assert result.exit_code == 0, result.output
    verdicts = {verdict["setting"]: verdict for verdict in json.loads(result.stdout)["canvases"]}
    assert list(verdicts) == ["gridpg", "difull", "dipart"]
    assert verdicts["difull"]["score"]["mean"] == 1
    assert (tmp_path / "maps.png").stat().st_size > 1000


def colour_of(images: Tensor) -> Tensor:
    """The class of pictures of the scene `petals`: the primary colour that is most in them."""
    return (2 * images - images.sum(1, keepdim=True)).clamp(min=0).mean((2, 3)).argmax(1)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["iou", "--architecture"], "iou is a metric"),
        (["gradient", "--architecture", "--by-hand"], "came together"),
        (["gradient", "--model", "x.safetensors"], "--model or --data came without --architecture"),
    ],
)
def test_what_cannot_be_checked_is_refused(store: FlowerStore, words: list[str], sentence: str) -> None:
    place = ["--model", "none.safetensors", "--data", str(store.path)] if "iou" in words else []
    result = CliRunner().invoke(main, ["check", *words, *place])
    assert result.exit_code != 0
    assert sentence in str(result.exception) + result.output
