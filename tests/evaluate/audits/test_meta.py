"""Which metric may be believed: maps of known worth, and an audit of a network that relies on the evidence."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Iterator
from html import escape
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import kendalltau, spearmanr

from an8flower.__main__ import main
from an8flower.errors import NotApplicable
from an8flower.evaluate.audits import known_maps
from an8flower.evaluate.audits import plan as plans
from an8flower.evaluate.audits.run import AuditOutcome, How, audit
from an8flower.evaluate.case import Case, Query, Truth
from an8flower.evaluate.results.folder import RunFolder
from an8flower.evaluate.results.metric_tests import ADVERSARIES, LEVELS, MAPS
from an8flower.evaluate.results.metric_words import agreement_sentences
from an8flower.evaluate.results.summary_schema import summary_schema
from an8flower.generate import generate
from an8flower.spec import from_mapping

jsonschema = pytest.importorskip("jsonschema")

ROWS = 40  # 36 rows without an exception are the fewest that put a lower limit above 90 %
PROXIES = ["deletion:steps=4", "average_drop", "sparseness"]


def load_counterexamples() -> Any:
    """The networks with weights set by hand, importable by the name of their file."""
    place = Path(__file__).parents[1] / "trust" / "counterexamples.py"
    spec = importlib.util.spec_from_file_location("counterexamples", place)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# The maps.


@pytest.fixture
def mask() -> np.ndarray:
    """A disc of radius 4 in a picture of 16 x 16, off the middle."""
    y, x = np.mgrid[:16, :16]
    return ((y - 6) ** 2 + (x - 7) ** 2 <= 16).astype(np.float64)


def test_the_shifted_truth_has_the_same_mass_elsewhere(mask: np.ndarray) -> None:
    moved = known_maps.CHANGES["shifted"](mask)
    assert moved.sum() == mask.sum()
    assert (moved * mask).sum() == 0
    assert moved[14, 15] == mask[6, 7] == 1


def test_eroded_and_dilated_truths_have_half_and_twice_the_area_and_are_nested(mask: np.ndarray) -> None:
    small, large = known_maps.CHANGES["eroded"](mask), known_maps.CHANGES["dilated"](mask)
    assert (small.sum(), large.sum()) == (round(mask.sum() / 2), 2 * mask.sum())
    assert (small <= mask).all()
    assert (mask <= large).all()
    assert small[6, 7] == 1
    assert not known_maps.resize(np.zeros((4, 4)), 2.0).any()


def test_the_blurred_truth_keeps_its_mass_and_the_inverted_one_is_the_rest(mask: np.ndarray) -> None:
    blurred = known_maps.CHANGES["blurred"](mask)
    assert blurred.sum() == pytest.approx(mask.sum(), rel=0.02)
    assert 0 < blurred.max() < 1 + 1e-9
    assert (known_maps.CHANGES["inverted"](mask) + mask == 1).all()


def test_the_order_of_the_truth_is_whole_until_a_third_is_noise_and_is_lost_at_the_end(mask: np.ndarray) -> None:
    """Ranks put the truth half a scale above the rest: no noise below a third can mix them."""
    truth, static = torch.from_numpy(mask)[None].float(), torch.rand(1, 16, 16)
    aurocs = []
    for level in LEVELS:
        values = known_maps.degrade(truth, static, level)[0].numpy()
        inside, outside = values[mask > 0], values[mask == 0]
        aurocs.append(float(np.mean(inside[:, None] > outside)))
    assert aurocs[:4] == [1, 1, 1, 1]
    assert all(later <= earlier for earlier, later in pairwise(aurocs))
    noise = static[0].numpy()
    assert aurocs[-1] == pytest.approx(np.mean(noise[mask > 0][:, None] > noise[mask == 0]))


def case_of(labels: list[int]) -> Case:
    """Rows whose masks are their own numbers in binary, so that a mask says whose it is."""
    count = len(labels)
    masks = torch.tensor([[[row >> bit & 1 for bit in range(4)]] for row in range(1, count + 1)], dtype=torch.uint8)
    query = Query(torch.zeros(count, 3, 1, 4), torch.tensor(labels), torch.arange(count))
    return Case(None, query, Truth(torch.arange(count), torch.tensor(labels), masks, None))


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 2), min_size=2, max_size=15), st.integers(0, 5))
def test_the_truth_of_another_class_is_one(labels: list[int], seed: int) -> None:
    case = case_of(labels)
    if len(set(labels)) < 2:
        with pytest.raises(NotApplicable, match="all rows are of one class"):
            known_maps.make_map("other_class", case, seed)
        return
    maps = known_maps.make_map("other_class", case, seed)
    owners = [sum(int(value) << bit for bit, value in enumerate(row[0])) - 1 for row in maps.tolist()]
    assert all(labels[owner] != label for owner, label in zip(owners, labels, strict=True))
    assert torch.equal(maps, known_maps.make_map("other_class", case, seed))


def test_maps_that_are_asked_for_again_are_those_of_the_same_picture_unless_they_are_noise() -> None:
    """A metric that explains a picture twice gets the same truth, and other noise for another picture."""
    case = case_of([0, 1, 1])
    for name in ("truth", "shifted", "inverted", "other_class"):
        again = known_maps.make_map_again(name, case, 0, case.query)
        assert torch.equal(again, known_maps.make_map(name, case, 0)), name
    other = case.query._replace(images=case.query.images + 0.5)
    first, second = (known_maps.make_map_again("noise-100", case, 0, query) for query in (case.query, other))
    assert not torch.equal(first, second)


# An audit.


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AuditOutcome]:
    """An audit of a network that is known to rely on the evidence, and of one that is known not to."""
    folder, by_hand = tmp_path_factory.mktemp("meta"), load_counterexamples()
    generate(from_mapping(by_hand.spec_words(by_hand.FLOWERS, ROWS), "x"), folder / "x.h5", workers=1)
    sys.modules["meta_networks"] = by_hand
    sources = [f"meta_networks:{name}" for name in ("MeanColour", "Halo")]
    plan = {
        "name": "meta",
        "data": [{"file": str(folder / "x.h5")}],
        "models": [{"source": source, "normalise": "none", "layer": "seen"} for source in sources],
        "methods": ["random", "center", "gradient", "intensity", "fakecam"],
        "metrics": ["iou_area", "counterfactual_deletion:steps=4", *PROXIES],
        "leading": ["iou_area"],
        "rows": 12,
        "certificate": {"rows": ROWS},
        "pictures": None,
        "meta": {"rows": 12},
    }
    yield audit(
        plans.from_mapping(plan, "meta"), folder / "runs" / "meta", How(engine="inline", device="cpu", trust=True)
    )
    del sys.modules["meta_networks"]


@pytest.mark.slow
def test_a_network_that_relies_on_the_evidence_is_asked_and_the_other_is_not(done: AuditOutcome) -> None:
    assert not done.failed
    (study,) = done.summary["studies"]
    for key in ("metric_agreement", "metric_tests"):
        certified, other = study[key]
        assert len(certified["models"]) == 1
        assert other["models"] == []
        assert "certified" in other["reason"]
        assert "does not rely" in other["left_out"][0]["reason"]
    assert len(list((done.folder / "meta").iterdir())) == len(MAPS)


@pytest.mark.slow
def test_the_agreement_is_that_of_the_long_rows(done: AuditOutcome) -> None:
    """Kendall's and Spearman's correlations by SciPy from the Parquet files, row by row in a loop."""
    parts = [path.stem for path in (done.folder / "scores").glob("*.parquet")]
    table = RunFolder(done.folder).table(parts).to_pandas()
    agreement = done.summary["studies"][0]["metric_agreement"][0]
    assert agreement["methods"] == ["random", "center", "gradient", "intensity", "fakecam"]
    assert [entry["question"] for entry in agreement["truths"]] == ["evidence", "intervention"]
    table = table[(table.model == agreement["models"][0]) & table.explainer.str.fullmatch(r"[A-Z]\w+\(.*\)")]
    lower = {"deletion:steps=4", "average_drop", "counterfactual_deletion:steps=4"}
    for pair in agreement["pairs"]:
        wide = [
            table[table.metric == name].pivot(index="row", columns="explainer", values="value")
            * (-1 if name in lower else 1)
            for name in (pair["metric"], pair["truth"])
        ]
        assert pair["tau"]["mean"] == pytest.approx(kendalltau(*(values.mean() for values in wide)).statistic)
        rows = list(zip(wide[0].to_numpy(), wide[1].to_numpy(), strict=True))
        taus = [kendalltau(first.round(12), second.round(12)).statistic for first, second in rows]
        assert pair["row_tau"]["mean"] == pytest.approx(np.nanmean(taus), abs=1e-6)
        rhos = [spearmanr(first.round(12), second.round(12)).statistic for first, second in rows]
        assert pair["row_spearman"]["mean"] == pytest.approx(np.nanmean(rhos), abs=1e-6)
        assert pair["trained_anew"] is None


@pytest.mark.slow
def test_localisation_tells_the_truth_from_what_is_elsewhere(done: AuditOutcome) -> None:
    """By closed forms: the truth has an overlap of 1 with itself, and of 0 with all that it is not."""
    tests = done.summary["studies"][0]["metric_tests"][0]
    assert tests["rows"] == 12
    numbers = tests["metrics"]["iou_area"]
    means = [step["mean"] for step in numbers["curve"]]
    assert means[:4] == [1, 1, 1, 1]
    assert numbers["in_order"]["mean"] == 1
    assert numbers["lost_at"] in (0.9, 1.0)
    assert numbers["adversaries"]["inverted"]["mean"] == 1
    assert list(numbers["adversaries"]) == list(ADVERSARIES)
    assert {entry["outcome"] for entry in numbers["adversaries"].values()} == {"told"}
    sparse = tests["metrics"]["sparseness"]["adversaries"]
    assert sparse["shifted"]["outcome"] == "not told"  # the same values at other places
    assert sparse["eroded"]["outcome"] == "preferred"  # half of the pixels, so sparser


@pytest.mark.slow
def test_what_was_scored_is_not_scored_again(done: AuditOutcome) -> None:
    plan = plans.from_mapping(done.summary["plan"], "meta")
    again = audit(plan, done.folder, How(engine="inline", device="cpu", trust=True))
    assert again.done == 0
    key = "metric_tests"
    assert again.summary["studies"][0][key] == done.summary["studies"][0][key]


@pytest.mark.slow
def test_the_command_and_the_page_say_the_same(done: AuditOutcome) -> None:
    printed = CliRunner().invoke(main, ["metrics", "--meta", str(done.folder)])
    assert printed.exit_code == 0, printed.output
    page = done.page.read_text()
    for entry in done.summary["studies"][0]["metric_agreement"]:
        for sentence in agreement_sentences(entry):
            assert sentence in printed.output
            assert escape(sentence) in page
    assert "Which metric may be believed?" in page
    document = json.loads(CliRunner().invoke(main, ["metrics", "--meta", str(done.folder), "--json"]).output)
    assert document[0]["metric_tests"] == done.summary["studies"][0]["metric_tests"]
    one = CliRunner().invoke(main, ["metrics", "average_drop", "--meta", str(done.folder), "--json"])
    (study,) = json.loads(one.output)
    assert {pair["metric"] for entry in study["metric_agreement"] for pair in entry["pairs"]} == {"average_drop"}
    assert jsonschema.Draft202012Validator(summary_schema()).is_valid(done.summary)


# The command, without an audit.


@pytest.mark.parametrize(
    ("study", "sentence"),
    [
        ({"dataset": {"name": "x"}}, "run the same audit again"),
        ({"dataset": {"name": "x"}, "metric_agreement": []}, "run the plan `metrics`"),
    ],
)
def test_runs_that_say_nothing_of_metrics_are_refused_with_the_remedy(
    study: dict[str, Any], sentence: str, tmp_path: Path
) -> None:
    (tmp_path / "summary.json").write_text(json.dumps({"studies": [study]}))
    refused = CliRunner().invoke(main, ["metrics", "--meta", str(tmp_path)])
    assert refused.exit_code == 1
    assert sentence in refused.output
    assert "Traceback" not in refused.output


def test_an_unknown_metric_is_named_with_its_neighbour(tmp_path: Path) -> None:
    pair = {"metric": "deletion", "truth": "iou_area"}
    agreement = [{"architecture": "net", "proxies": ["deletion"], "pairs": [pair]}]
    studies = [{"dataset": {"name": "x"}, "metric_agreement": agreement}]
    (tmp_path / "summary.json").write_text(json.dumps({"studies": studies}))
    refused = CliRunner().invoke(main, ["metrics", "deletio", "--meta", str(tmp_path)])
    assert refused.exit_code == 2
    assert "deletion" in refused.output
