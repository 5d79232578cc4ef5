"""Sanity checks as a whole: what has to be 1, who has to fail, and that nothing depends on the batch."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from scipy.stats import spearmanr
from torch import Tensor

from an8flower.__main__ import main
from an8flower.evaluate.case import Query
from an8flower.evaluate.data.selection import select_rows
from an8flower.evaluate.explaining.methods import Method, parse_methods
from an8flower.evaluate.models.classifier import Classifier, build
from an8flower.evaluate.resources import Resources
from an8flower.evaluate.results.statistics.draws import place_on_scale
from an8flower.evaluate.seeds import seed_of
from an8flower.evaluate.trust.sanity import mprt
from an8flower.evaluate.trust.sanity.check import Subject
from an8flower.evaluate.trust.sanity.checks import labels
from an8flower.evaluate.trust.sanity.label_randomisation import Memory, memorise_once, permute_labels
from an8flower.evaluate.trust.sanity.layers import layers_of, steps_of
from an8flower.evaluate.trust.sanity.mprt import (
    Randomisation,
    add_noise,
    parameters_reached,
    randomise_fully,
    walk_down,
    walk_smoothly,
)
from an8flower.evaluate.trust.sanity.plan import SanityPlan, sanity_plan
from an8flower.evaluate.trust.sanity.randomisation import RandomisableCopy, RedrawnParameter, redraw
from an8flower.evaluate.trust.sanity.run import ModelSanity, query_of, sanity
from an8flower.evaluate.trust.sanity.similarity import SIMILARITIES, ComparedMaps, similarities
from an8flower.evaluate.trust.sanity.verdict import compare_unrelated, judge
from an8flower.store import FlowerStore

CPU = torch.device("cpu")
QUICK = sanity_plan(rows=12, steps=3, draws=6)


@pytest.fixture(scope="module")
def store(small_file: Path) -> FlowerStore:
    return FlowerStore(small_file)


@pytest.fixture(scope="module")
def classifier(store: FlowerStore) -> Classifier:
    """Briefly on the way: weights that are not those of any start."""
    made = build("flowernet", store.class_names, store.size, seed=0)
    source = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter += 0.05 * torch.randn(parameter.shape, generator=source)
    return made.eval()


@pytest.fixture(scope="module")
def query(store: FlowerStore) -> Query:
    images = torch.from_numpy(store["test"].rows(0, 6).images).permute(0, 3, 1, 2).float() / 255
    return Query(images, torch.arange(6) % 6, torch.arange(6) + 3)


def randomised(classifier: Classifier, values: dict[str, RedrawnParameter], steps: int = 4) -> Randomisation:
    return Randomisation(RandomisableCopy(classifier), tuple(steps_of(layers_of(classifier), steps)), (values,))


def run(classifier: Classifier, store: FlowerStore, folder: Path, *methods: str, **changes: Any) -> dict[str, Any]:
    batch = changes.pop("batch", None)
    plan = QUICK.model_copy(update=changes)
    return sanity(model_sanity(classifier, store, folder, plan, batch), parse_methods(methods))


def model_sanity(
    classifier: Classifier, store: FlowerStore, folder: Path, plan: SanityPlan = QUICK, batch: int | None = None
) -> ModelSanity:
    return ModelSanity(classifier, store["test"], plan, Resources(CPU, batch), folder=folder)


def gradient(classifier: Classifier, query: Query) -> Tensor:
    images = query.images.clone().requires_grad_()
    logits = classifier(images).gather(1, query.targets[:, None])
    return torch.autograd.grad(logits.sum(), images)[0].abs().amax(1)


def brightness(classifier: Classifier, query: Query) -> Tensor:
    return query.images.mean(1)


def test_the_same_model_gives_the_same_maps(classifier: Classifier, query: Query) -> None:
    """Where a redrawn value is the trained one, every similarity at every step is 1, and no entropy rises."""
    same = {name: RedrawnParameter(value.detach(), "", True) for name, value in classifier.network.named_parameters()}
    randomisation, original = randomised(classifier, same), ComparedMaps(gradient(classifier, query))
    for points in walk_down(randomisation, gradient, query, original, known={}).values():
        for point in points:
            assert all(values == pytest.approx(np.ones(6)) for values in point.likeness.values())
    full = randomise_fully(randomisation, gradient, query, original)
    assert full.rise == pytest.approx(np.zeros(6))
    assert all(
        point.likeness["ssim"] == pytest.approx(np.ones(6))
        for point in walk_smoothly(randomisation, gradient, query, 2)
    )


def test_what_does_not_look_at_the_model_stays_the_same(classifier: Classifier, query: Query) -> None:
    randomisation, original = randomised(classifier, redraw(classifier, 1)), ComparedMaps(query.images.mean(1))
    walks = walk_down(randomisation, brightness, query, original, known={})
    assert all(
        (p.likeness[name] > 1 - 1e-9).all() for points in walks.values() for p in points for name in SIMILARITIES
    )
    assert randomise_fully(randomisation, brightness, query, original).rise == pytest.approx(np.zeros(6))


def test_walks_reach_every_parameter(classifier: Classifier) -> None:
    steps = steps_of(layers_of(classifier), 4)
    names = {name for name, _ in classifier.network.named_parameters()}
    down, up, alone = (parameters_reached(steps, order) for order in ("cascading", "bottom_up", "independent"))
    assert set(down[0][1]) == {"classifier.weight", "classifier.bias"}
    assert set(down[-1][1]) == names
    assert "features.0.weight" in up[0][1]
    assert set(up[-1][1]) == names
    assert [name for name, _ in up] == [name for name, _ in down][::-1]
    assert sorted(each for _, parameters in alone for each in parameters) == sorted(names)


def test_each_random_model_is_explained_once(classifier: Classifier, query: Query) -> None:
    asked = 0

    def counted(model: Classifier, some: Query) -> Tensor:
        nonlocal asked
        asked += 1
        return gradient(model, some)

    randomisation, original = randomised(classifier, redraw(classifier, 1)), ComparedMaps(gradient(classifier, query))
    full = randomise_fully(randomisation, counted, query, original)
    known = {frozenset(randomisation.everything): full.likeness}
    walk_down(randomisation, counted, query, original, known=known)
    assert asked == 1 + 3 + 3  # all layers; three more stops down; three more layers alone


def test_each_draw_is_taken_up_once_for_all_checks(classifier: Classifier, query: Query) -> None:
    """Where memory holds one draw alone, each time is a time that it is drawn; the numbers are those made apart."""
    taken: list[int] = []

    class Draws(list[Any]):
        def __getitem__(self, draw: Any) -> Any:
            taken.append(draw)
            return super().__getitem__(draw)

    values, maps = [redraw(classifier, seed) for seed in (1, 2)], gradient(classifier, query)
    alone = replace(randomised(classifier, values[0]), draws=values)
    together = replace(alone, draws=Draws(values))
    subject = Subject(explain=gradient, query=query, maps=maps, random=together, quiet=together)
    full = randomise_fully(alone, gradient, query, subject.original)
    assert subject.full.rise.tolist() == full.rise.tolist()
    walks = walk_down(alone, gradient, query, subject.original, known={})
    for order, points in walks.items():
        for point, other in zip(points, subject.walks[order], strict=True):
            assert point.layer == other.layer
            assert all(point.likeness[name].tolist() == other.likeness[name].tolist() for name in SIMILARITIES)
    assert taken == [0, 1]


def test_the_cascade_is_that_of_models_built_by_hand(classifier: Classifier, query: Query) -> None:
    """A slow second version: fresh copies, SciPy's correlation."""
    from copy import deepcopy

    values = redraw(classifier, 1)
    original = gradient(classifier, query)
    walks = walk_down(randomised(classifier, values), gradient, query, ComparedMaps(original), known={})
    copied = deepcopy(classifier)
    for step, point in zip(steps_of(layers_of(classifier), 4), walks["cascading"], strict=True):
        weights = dict(copied.network.named_parameters())
        with torch.no_grad():
            for name in step.parameters:
                weights[name].copy_(values[name].value)
        maps = gradient(copied, query)
        expected = [spearmanr(one.ravel(), other.ravel())[0] for one, other in zip(original, maps, strict=True)]
        assert point.likeness["spearman_abs"] == pytest.approx(expected, abs=1e-4)


def test_noise_of_the_smooth_test_has_its_spread_and_depends_on_the_row_alone() -> None:
    images = torch.full((3, 3, 40, 40), 0.5)
    images[:, :, 0, 0], images[:, :, 0, 1] = 0.4, 0.8
    query = Query(images, torch.zeros(3, dtype=torch.long), torch.tensor([5, 6, 5]))
    noisy = add_noise(query, 0).images
    assert (noisy - images).std().item() == pytest.approx(0.1 * 0.4, rel=0.05)
    assert torch.equal(noisy[0], noisy[2])
    assert not torch.equal(noisy[0], noisy[1])
    assert not torch.equal(noisy, add_noise(query, 1).images)
    assert torch.equal(noisy[1:2], add_noise(Query(*(tensor[1:2] for tensor in query)), 0).images)


def test_smooth_maps_are_means_over_noisy_images(
    classifier: Classifier, query: Query, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without noise, and without averaging, it is the plain test from the input up."""
    monkeypatch.setattr(mprt, "NOISE", 0.0)
    randomisation, original = randomised(classifier, redraw(classifier, 1)), ComparedMaps(gradient(classifier, query))
    points = walk_smoothly(randomisation, gradient, query, 3)
    full = randomise_fully(randomisation, gradient, query, original)
    assert points[-1].likeness["ssim"] == pytest.approx(full.likeness["ssim"], abs=1e-5)
    assert points[0].layer.startswith("features")


def test_entropy_that_was_none_cannot_rise(classifier: Classifier, query: Query) -> None:
    flat = ComparedMaps(torch.zeros(6, 40, 40))
    full = randomise_fully(randomised(classifier, redraw(classifier, 1)), gradient, query, flat)
    assert np.isnan(full.rise).all()
    assert all(np.isnan(values).all() for values in full.likeness.values())


def test_the_scale_of_a_verdict() -> None:
    assert place_on_scale(np.array([0.25, 0.625, 1.0, np.nan]), 0.25) == pytest.approx([0, 0.5, 1, np.nan], nan_ok=True)
    assert place_on_scale(np.array([1.0, 0.9]), 1.0) == pytest.approx([1, np.nan], nan_ok=True)


def judge_alone(values: np.ndarray, unrelated: float = 0.2, draws: int = 10, single: bool = False) -> dict[str, Any]:
    """The verdict on similarities (N,), where those of any two other pictures are the same."""
    between = np.full((len(values), len(values)), unrelated)
    alike, apart = dict.fromkeys(SIMILARITIES, values), dict.fromkeys(SIMILARITIES, between)
    return judge(alike, apart, np.arange(len(values)) % draws, single=single)


@pytest.mark.parametrize(
    ("values", "outcome"),
    [
        (np.full(20, 0.3), "pass"),
        (np.full(20, 0.9), "fail"),
        (np.linspace(0.2, 1.0, 20), "undecided"),
        (np.r_[np.full(5, np.nan), np.full(15, 0.9)], "undecided"),  # maps that vanish are not the same
        (np.full(20, np.nan), "pass"),  # all do
    ],
)
def test_verdicts(values: np.ndarray, outcome: str) -> None:
    verdict = judge_alone(values)
    assert verdict["outcome"] == outcome
    assert bool(verdict["reason"]) == (outcome == "undecided")
    assert verdict["draws"] == 10
    similar = verdict["similarities"]["spearman_abs"]
    assert similar["n"] == 20
    assert similar["vanished"] == np.isnan(values).sum()


def test_a_map_that_is_constant_on_the_trained_model_says_nothing() -> None:
    values, between = np.full(20, np.nan), np.full((20, 20), np.nan)
    verdict = judge(dict.fromkeys(SIMILARITIES, values), dict.fromkeys(SIMILARITIES, between), np.arange(20) % 10)
    assert verdict["outcome"] == "undecided"
    assert verdict["reason"].startswith("20 of 20 rows have no value")


def test_few_draws_and_a_single_model_give_numbers_and_no_verdict() -> None:
    assert judge_alone(np.full(20, 0.9), draws=5)["outcome"] == "fail"
    few = judge_alone(np.full(20, 0.9), draws=4)
    assert (few["outcome"], few["p"]) == ("no verdict", None)
    assert few["reason"].startswith("4 draws say too little of others")
    single = judge_alone(np.linspace(0.8, 1, 20), single=True)
    assert (single["outcome"], single["draws"]) == ("no verdict", 1)
    assert "one model says nothing of others" in single["reason"]
    similar = single["similarities"]["spearman_abs"]
    assert similar["low"] < similar["calibrated"] < similar["high"]


def test_the_scale_ends_at_0_and_1_and_raw_numbers_stand_beside_it() -> None:
    similar = judge_alone(np.linspace(-0.4, -0.2, 20), 0.6)["similarities"]["spearman_abs"]
    assert similar["mean"] == pytest.approx(-0.3)
    assert similar["unrelated"] == pytest.approx(0.6)
    assert (similar["calibrated"], similar["low"], similar["high"]) == (0, 0, 0)


def test_unrelated_maps_are_those_of_other_rows() -> None:
    maps = torch.rand(6, 40, 40, generator=torch.Generator().manual_seed(0))
    between = compare_unrelated(ComparedMaps(maps))
    pairs = ~np.eye(6, dtype=bool)
    for first, second in np.argwhere(pairs)[::4]:
        expected = spearmanr(maps[first].ravel(), maps[second].ravel())[0]
        assert between["spearman"][first, second] == pytest.approx(expected, abs=1e-9)
    assert np.nanmax(between["ssim"][pairs]) < 0.1
    same = compare_unrelated(ComparedMaps(maps[:1].expand(6, -1, -1)))
    assert all(np.nanmin(values) == pytest.approx(1) for values in same.values())
    assert all(values.shape == (1, 1) for values in compare_unrelated(ComparedMaps(maps[:1])).values())


def test_who_does_not_look_at_the_model_fails(classifier: Classifier, store: FlowerStore, tmp_path: Path) -> None:
    found = run(classifier, store, tmp_path, "edges", "center", "random")
    for result in found["results"]:
        assert result["verdicts"]["model"]["outcome"] == result["verdicts"]["logits"]["outcome"] == "fail"
        assert result["scores"]["mprt"]["mean"] == pytest.approx(1)
        assert result["scores"]["emprt"]["mean"] == pytest.approx(0)
    assert found["controls"]["edges"]["outcome"] == "fail"
    assert abs(found["controls"]["random"]["spearman"]["mean"]) < 0.05
    assert found["coverage"]["share"] == 1
    assert found["labels"] == {"reason": "not asked for"}
    json.dumps(found, allow_nan=False)


def test_the_model_is_given_back_and_nothing_depends_on_the_batch(
    classifier: Classifier, store: FlowerStore, tmp_path: Path
) -> None:
    digest, state = classifier.digest, torch.get_rng_state()
    found = [run(classifier, store, tmp_path, "gradcam", "gradient", batch=batch) for batch in (3, 16)]
    assert classifier.digest == digest
    assert torch.equal(state, torch.get_rng_state())
    for one, other in zip(*(each["results"] for each in found), strict=True):
        for ours, theirs in zip(one["curves"]["cascading"], other["curves"]["cascading"], strict=True):
            for name in SIMILARITIES:
                expected = pytest.approx(theirs[name]["mean"], abs=5e-3 if name == "hog" else 1e-3)
                assert ours[name]["mean"] == expected


@dataclass(frozen=True)
class Broken:
    """An explainer that raises."""

    def __call__(self, classifier: Classifier, query: Query) -> Tensor:
        raise RuntimeError("no such thing")


def test_a_failure_fails_its_method_alone(classifier: Classifier, store: FlowerStore, tmp_path: Path) -> None:
    methods = [Method("broken", "broken", Broken()), *parse_methods(["raw_attention", "edges"])]
    found = sanity(model_sanity(classifier, store, tmp_path), methods)
    assert [each["method"] for each in found["failed"]] == ["broken"]
    assert [each["method"] for each in found["skipped"]] == ["raw_attention"]
    assert [each["method"] for each in found["results"]] == ["edges"]


def test_labels_are_permuted(store: FlowerStore) -> None:
    rows = permute_labels(store, Memory(rows=30), CPU)
    true = store["train"].labels
    assert sorted(rows.labels.tolist()) == sorted(np.repeat(np.arange(6), 5).tolist())
    assert len(true) > 30
    assert not torch.equal(rows.labels, permute_labels(store, Memory(rows=30, seed=1), CPU).labels)


def test_few_rows_are_memorised_and_the_model_is_kept(
    classifier: Classifier, store: FlowerStore, tmp_path: Path
) -> None:
    memory = Memory(rows=12, epochs=60, batch=12)
    first = memorise_once(classifier, store, memory, tmp_path)
    assert first.accuracy >= 0.95
    assert first.objection == ""
    assert first.to_document()["memorised"]
    assert first.path.name.startswith("flowernet-permuted-seed0-")
    again = memorise_once(classifier, store, memory, tmp_path)
    assert again.accuracy == first.accuracy
    assert again.seconds == 0
    assert again.classifier.digest == first.classifier.digest != classifier.digest
    other = memorise_once(classifier, store, replace(memory, epochs=1), tmp_path)
    shutil.copy(other.path, first.path)  # whole, and of another memory than its name says
    assert memorise_once(classifier, store, memory, tmp_path).classifier.digest == first.classifier.digest


def test_a_run_that_did_not_memorise_says_so(
    classifier: Classifier, store: FlowerStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(labels, "MEMORY", Memory(rows=60, epochs=1))
    found = run(classifier, store, tmp_path, "edges", labels=True)
    assert found["plan"]["memory"] == {"rows": 60, "epochs": 1, "batch": 32, "seed": 0}
    assert not found["labels"]["memorised"]
    assert "did not memorise" in found["labels"]["reason"]
    assert found["results"][0]["verdicts"]["labels"]["outcome"] == "no verdict"


def test_the_command(classifier: Classifier, store: FlowerStore, tmp_path: Path) -> None:
    model = tmp_path / "model.safetensors"
    classifier.save(model)
    words = ["sanity", "--data", store.path, "--model", model, "--method", "edges", "--rows", 6, "--steps", 2]
    words += ["--draws", 5, "--smooth", "--samples", 2, "--no-labels", "-o", tmp_path / "out"]
    shown = CliRunner().invoke(main, [*map(str, words)], catch_exceptions=False)
    assert shown.exit_code == 0
    assert "100% of the network" in shown.output
    assert "fail 1.00 (1.00 to 1.00)" in shown.output
    assert "bottom up smooth" in shown.output
    printed = CliRunner().invoke(main, [*map(str, words), "--json"], catch_exceptions=False)
    document = json.loads(printed.stdout)
    assert document == json.loads((tmp_path / "out" / "sanity.json").read_text())
    assert document["results"][0]["scores"]["smprt"]["mean"] == pytest.approx(1)


def arrays_place(store: FlowerStore, row: int) -> int:
    """The place of a row of the split among those that are checked."""
    return select_rows(store["test"].labels, QUICK.rows, seed_of("rows", 0)).tolist().index(row)


def test_pictures_cost_nothing_and_show_the_cascade(classifier: Classifier, store: FlowerStore, tmp_path: Path) -> None:
    """The maps are those of the models that the walk passes, and no number changes for their sake."""
    kept: dict[str, dict[str, np.ndarray]] = {}

    def file(text: str, arrays: dict[str, np.ndarray]) -> str:
        kept[text] = arrays
        return f"{len(kept)}.npz"

    methods, resources = parse_methods(["gradcam", "smoothgrad:samples=2"]), Resources(CPU, None)
    plain = sanity(model_sanity(classifier, store, tmp_path), methods)
    shown = sanity(model_sanity(classifier, store, tmp_path), methods, pictures=file)
    assert [each.pop("pictures") for each in shown["results"]] == ["1.npz", "2.npz"]
    for one, other in zip(plain["results"], shown["results"], strict=True):
        assert one["cost"].pop("seconds") > 0
        assert other["cost"].pop("seconds") > 0
        assert one == other
    assert list(kept) == [method.text for method in methods]
    arrays = kept["gradcam"]
    row = int(arrays["row"])
    rows = store["test"].rows(row, row + 1)
    np.testing.assert_array_equal(arrays["image"], rows.images[0])
    np.testing.assert_array_equal(arrays["mask"], rows.masks[0])
    points = shown["results"][0]["curves"]["cascading"]
    assert arrays["steps"].tolist() == ["trained", *(point["layer"] for point in points)]
    assert arrays["maps"].shape == (4, store.size, store.size)
    assert arrays["maps"].dtype == np.float16
    query, steps = (
        query_of(classifier, store["test"], np.array([row]), seed=0, resources=resources)[0],
        steps_of(layers_of(classifier), 3),
    )
    draw = int(model_sanity(classifier, store, tmp_path).draws[arrays_place(store, row)])
    random, values = RandomisableCopy(classifier), redraw(classifier, seed_of("sanity", 0, draw))
    expected = [ComparedMaps(methods[0].explainer(classifier, query))]
    for _, names in parameters_reached(steps, "cascading"):
        with random.only(names, values) as changed:
            expected.append(ComparedMaps(methods[0].explainer(changed, query)))
    for maps, own, alike in zip(arrays["maps"], expected, arrays["similarity"], strict=True):
        peak = max(float(own.maps.max()), 1e-12)
        np.testing.assert_allclose(maps / max(float(maps.max()), 1e-12), own.maps[0] / peak, atol=2e-3)
        assert alike == pytest.approx(similarities(expected[0], own)["spearman_abs"][0], abs=1e-3, nan_ok=True)


def test_the_pictured_row_is_one_that_the_model_tells_rightly(store: FlowerStore, tmp_path: Path) -> None:
    true = store["test"].labels
    check = model_sanity(build("flowernet", store.class_names, store.size, seed=0).eval(), store, tmp_path)
    targets = check.setting.query.targets
    right = [place for place, row in enumerate(check.indices) if targets[place] == true[row]]
    assert right
    assert check.pictured == right[0]
