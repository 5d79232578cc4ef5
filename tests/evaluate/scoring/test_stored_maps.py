"""Maps from files are scored as those that made them, and what is not theirs is refused by name."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from click.testing import CliRunner
from safetensors.numpy import save_file

from an8flower.__main__ import main
from an8flower.errors import NotApplicable, Refusal, WrongUsage
from an8flower.evaluate import save_maps
from an8flower.evaluate.audits.plan import from_mapping
from an8flower.evaluate.audits.run import How, audit
from an8flower.evaluate.explaining.methods import expand, parse_method, parse_methods
from an8flower.evaluate.models.classifier import Classifier, build
from an8flower.evaluate.models.files import load
from an8flower.evaluate.models.sources import Source
from an8flower.evaluate.resources import Resources
from an8flower.evaluate.results import map_files
from an8flower.evaluate.results.folder import RunFolder
from an8flower.evaluate.results.ledger import Ledger
from an8flower.evaluate.scoring import run as scoring
from an8flower.evaluate.scoring.run import ScoringPlan, score
from an8flower.store import FlowerStore

CPU = Resources(torch.device("cpu"), batch=7)


@pytest.fixture(scope="module")
def model(small_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained classifier for the small data set."""
    store = FlowerStore(small_file)
    path = tmp_path_factory.mktemp("models") / "flowernet-seed3.safetensors"
    build("flowernet", store.class_names, store.size, seed=3).save(path)
    return path


@pytest.fixture(scope="module")
def classifier(model: Path) -> Classifier:
    return load(model)


@pytest.fixture(scope="module")
def manifest(small_file: Path, classifier: Classifier) -> dict[str, Any]:
    return {"data": FlowerStore(small_file).digest, "split": "test", "model": classifier.digest, "method": "mine"}


@pytest.fixture(scope="module")
def maps() -> np.ndarray:
    """A map for each of the 24 rows of the test split."""
    return np.random.default_rng(1).random((24, 40, 40), np.float32)


def write_npz(path: Path, manifest: dict[str, Any], **arrays: np.ndarray) -> Path:
    np.savez(path, **arrays)
    path.with_name(f"{path.name}.json").write_text(json.dumps(manifest))
    return path


def plan(small_file: Path, model: Path, *methods: str, **given: Any) -> ScoringPlan:
    words = {"metrics": ("iou_best", "pointing"), **given}
    return ScoringPlan(small_file, (str(model),), tuple(parse_methods(methods)), **words)


def numbers(results: list[dict[str, Any]]) -> dict[str, Any]:
    """What came out, by the words behind `method=` or else the method's text.

    Without the ceiling of the method's grid, which files of scaled-up maps do not tell.
    """
    return {entry["text"].rpartition("method=")[2]: without_ceiling(entry["metrics"]) for entry in results}


def without_ceiling(metrics: dict[str, Any]) -> dict[str, Any]:
    """The numbers of each metric but the ceiling."""
    return {
        metric: {key: value for key, value in entry.items() if key != "ceiling"} for metric, entry in metrics.items()
    }


def test_a_run_scored_from_its_kept_maps_equals_itself(
    small_file: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All numbers, also of a metric that asks the model and of a method that draws, over several files of a folder."""
    monkeypatch.setattr(scoring, "CELL_ROWS", 5)
    methods, asked = ["gradcam", "smoothgrad:samples=2"], {"metrics": ("iou_best", "pointing", "sm"), "rows": 12}
    opened = scoring.Scoring(plan(small_file, model, *methods, **asked), CPU, tmp_path / "made", keep_maps=True)
    ledger = Ledger(RunFolder(tmp_path / "made"))
    scoring.settle_here(opened, ledger)
    made = opened.document(ledger)
    kept = tmp_path / "made" / "maps"
    assert len(list(kept.glob("*.h5"))) == 6
    again = score(plan(small_file, model, f"maps:{kept}", **asked), CPU, tmp_path / "again").document
    assert numbers(again["results"]) == numbers(made["results"])
    assert numbers(again["results"]).keys() == set(methods)
    assert [entry["family"] for entry in again["results"]] == [entry["family"] for entry in made["results"]]
    for entry in again["results"]:
        assert set(entry["cost"].values()) == {None}  # nobody knows what it cost to make them


@pytest.mark.slow  # two audits and their pages
def test_an_audit_of_kept_maps_equals_the_one_that_kept_them(small_file: Path, model: Path, tmp_path: Path) -> None:
    asked = {
        "name": "made",
        "data": [{"file": str(small_file)}],
        "models": [{"source": str(model)}],
        "methods": ["gradcam", "smoothgrad:samples=2"],
        "metrics": ["iou_best", "pointing", "sm", "deletion"],
        "sanity": {"rows": 4, "steps": 2, "draws": 1},
        "pictures": {"rows": 2, "extremes": 1},
    }
    made = audit(from_mapping(asked, "made"), tmp_path / "made", How(engine="inline", device="cpu", keep_maps=True))
    asked |= {"name": "again", "methods": [f"maps:{made.folder / 'maps'}"]}
    again = audit(from_mapping(asked, "again"), tmp_path / "again", How(engine="inline", device="cpu"))
    assert not again.failed
    first, second = (outcome.summary["studies"][0] for outcome in (made, again))
    assert numbers(second["scores"]["results"]) == numbers(first["scores"]["results"])
    assert [len(document["pictures"]) for document in (first, second)] == [2, 2]
    (sanity,) = second["sanity"]
    assert "the maps lie in files" in sanity["skipped"][0]["reason"]
    assert "method=gradcam" in again.page.read_text().replace("<wbr>", "")


@pytest.mark.parametrize("kind", ["npz", "npy", "h5", "safetensors", "folder", "rows"])
def test_each_kind_of_file_gives_the_same(
    kind: str, small_file: Path, model: Path, manifest: dict[str, Any], maps: np.ndarray, tmp_path: Path
) -> None:
    rows = np.arange(24)
    path = tmp_path / f"maps.{kind}"
    beside = path.with_name(f"{path.name}.json")
    if kind == "npz":
        write_npz(path, manifest, maps=maps, rows=rows)
    elif kind == "npy":
        np.save(path, maps)
        beside.write_text(json.dumps(manifest))
    elif kind == "h5":
        with h5py.File(path, "w") as file:
            file["maps"], file["rows"] = maps, rows
            file.attrs["manifest"] = json.dumps(manifest)
    elif kind == "safetensors":
        save_file({"maps": maps}, path, {"manifest": json.dumps(manifest)})
    else:
        path.mkdir()
        for row in rows:
            np.save(path / (f"{row:05d}.npy" if kind == "folder" else f"{row}.npy"), maps[row])
        (path / "manifest.json").write_text(json.dumps(manifest))
    expected = write_npz(tmp_path / "expected.npz", manifest, maps=maps)
    done = score(plan(small_file, model, f"maps:{path}", f"maps:{expected}:name=other"), CPU, tmp_path / "run")
    one, other = done.document["results"]
    assert one["metrics"] == other["metrics"]
    assert (one["method"], other["method"]) == ("mine", "other")
    assert one["parameters"]["content"] == other["parameters"]["content"]
    truth = FlowerStore(small_file)["test"].rows(0, 24).masks > 0
    peaks = maps.reshape(24, -1).argmax(1)
    hits = [mask.reshape(-1)[peak] for mask, peak in zip(truth, peaks, strict=True)]
    assert one["metrics"]["pointing"]["mean"] == pytest.approx(np.mean(hits))  # the map of a row meets its own mask


def test_some_rows_are_enough_where_only_these_are_asked(
    small_file: Path, model: Path, manifest: dict[str, Any], maps: np.ndarray, tmp_path: Path
) -> None:
    every = write_npz(tmp_path / "every.npz", manifest, maps=maps)
    whole = score(plan(small_file, model, f"maps:{every}", rows=6), CPU, tmp_path / "whole")
    rows = np.array(json.loads((tmp_path / "whole" / "plan.json").read_text())["rows"])
    few = write_npz(tmp_path / "few.npz", manifest, maps=maps[rows], rows=rows)
    part = score(plan(small_file, model, f"maps:{few}", rows=6), CPU, tmp_path / "part")
    assert part.document["results"][0]["metrics"] == whole.document["results"][0]["metrics"]
    with pytest.raises(Refusal, match=r"few.npz: 6 maps came, and none for 18 of the 24 rows.*--rows"):
        score(plan(small_file, model, f"maps:{few}"), CPU, tmp_path / "none")


def test_maps_that_change_are_scored_anew(
    small_file: Path, model: Path, manifest: dict[str, Any], maps: np.ndarray, tmp_path: Path
) -> None:
    path = write_npz(tmp_path / "m.npz", manifest, maps=maps)
    first = score(plan(small_file, model, f"maps:{path}"), CPU, tmp_path / "run")
    write_npz(path, manifest, maps=1 - maps)
    second = score(plan(small_file, model, f"maps:{path}"), CPU, tmp_path / "run")
    assert second.done == 1
    assert first.document["results"][0]["metrics"] != second.document["results"][0]["metrics"]


def test_a_metric_that_asks_the_method_again_is_undefined_for_these_alone(
    small_file: Path, model: Path, manifest: dict[str, Any], maps: np.ndarray, tmp_path: Path
) -> None:
    path = write_npz(tmp_path / "m.npz", manifest, maps=maps)
    asked = plan(small_file, model, f"maps:{path}", "gradcam", metrics=("iou_best", "max_sensitivity:samples=1"))
    done = score(asked, CPU, tmp_path / "run")
    by_name = {entry["method"]: entry for entry in done.document["results"]}
    stored, made = by_name["mine"], by_name["gradcam"]
    (metric,) = (name for name in made["metrics"] if name.startswith("max_sensitivity"))
    assert (stored["metrics"][metric]["undefined"], stored["metrics"][metric]["mean"]) == (24, None)
    assert made["metrics"][metric]["undefined"] == 0
    assert not done.document["failed"]


Spoil = Callable[[dict[str, Any], dict[str, np.ndarray]], None]


def say(**words: Any) -> Spoil:
    return lambda manifest, arrays: manifest.update(words)


def put(**arrays: np.ndarray) -> Spoil:
    return lambda manifest, given: given.update(arrays)


def spoil_value(value: float) -> Spoil:
    def spoil(manifest: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
        arrays["maps"] = arrays["maps"].copy()
        arrays["maps"][5, 3, 2] = value

    return spoil


SPOILT: dict[str, tuple[Spoil, str]] = {
    "count": (lambda _, arrays: arrays.update(maps=arrays["maps"][:23]), "23 maps came, test has 24 rows"),
    "other rows": (put(rows=np.arange(1, 25)), "row 24 came, test has rows 0 to 23"),
    "size": (put(maps=np.zeros((24, 20, 20), np.float32)), "maps of 20 x 20 came, expected 40 x 40"),
    "channels": (put(maps=np.zeros((24, 3, 40, 40), np.float32)), r"maps are float32 \(24, 3, 40, 40\), expected"),
    "type": (put(maps=np.zeros((24, 40, 40), np.complex64)), "maps are complex64"),
    "nan": (spoil_value(np.nan), "NaN or infinity came in the map of row 5"),
    "infinity": (spoil_value(np.inf), "NaN or infinity came in the map of row 5"),
    "order": (put(rows=np.arange(24)[::-1]), "its rows do not ascend"),
    "twice": (put(rows=np.repeat(np.arange(12), 2)), "its rows do not ascend"),
    "negative": (put(rows=np.arange(-1, 23)), "its rows do not ascend from 0"),
    "labels": (put(labels=np.zeros(24, np.int64)), r"row \d+ has another label than in the data set"),
    "numbers of rows": (put(rows=np.arange(23)), r"rows are int64 \(23,\), expected whole numbers \(24,\)"),
    "fractions": (put(rows=np.arange(24.0)), "rows are float64"),
    "data": (say(data="x"), "its manifest says data x, this run has"),
    "split": (say(split="val"), "its manifest says split val, this run has test"),
    "model": (say(model="x"), "its manifest says model x, this run has"),
    "target": (say(target="predicted"), "its manifest says target predicted, this run has label"),
    "strange target": (say(target="x"), 'unknown target "x"'),
    "strange key": (say(modle="x"), 'unknown key "modle"; did you mean "model"'),
    "kind": (say(split=3), "split is 3, expected a text"),
    "strange array": (put(map=np.zeros(2)), 'unknown array "map"; did you mean "maps"'),
}


@pytest.mark.parametrize("what", SPOILT)
def test_what_does_not_fit_is_refused_by_name(
    what: str, small_file: Path, model: Path, manifest: dict[str, Any], maps: np.ndarray, tmp_path: Path
) -> None:
    """One sentence with the file's name, on the command line, and nothing is filed."""
    spoil, sentence = SPOILT[what]
    words, arrays = dict(manifest), {"maps": maps}
    spoil(words, arrays)
    path = write_npz(tmp_path / "m.npz", words, **arrays)
    called = ["score", "--maps", path, "--data", small_file, "--model", model, "--in-process", "-o", tmp_path / "run"]
    done = CliRunner().invoke(main, [str(word) for word in called])
    assert done.exit_code == 1
    with pytest.raises(Refusal, match=sentence) as refused:
        score(plan(small_file, model, f"maps:{path}"), CPU, tmp_path / "run")
    assert done.stderr == f"Error: {refused.value}\n"
    assert str(refused.value).startswith(str(path))
    assert not (tmp_path / "run" / "scores").exists()


def test_a_file_without_a_manifest_says_what_to_write(maps: np.ndarray, tmp_path: Path) -> None:
    np.savez(tmp_path / "m.npz", maps=maps)
    with pytest.raises(Refusal, match=r'says nowhere what its maps explain; write .*m.npz.json with \{"data": '):
        parse_method(f"maps:{tmp_path / 'm.npz'}")


def test_a_folder_of_rows_names_what_is_wrong(manifest: dict[str, Any], maps: np.ndarray, tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(Refusal, match=r"no map came, expected files such as 17.npy"):
        parse_method(f"maps:{tmp_path}")
    np.save(tmp_path / "0.npy", maps[0])
    np.save(tmp_path / "1.npy", maps[1, :-1])
    with pytest.raises(Refusal, match=r"1.npy: shape \(39, 40\) came"):
        parse_method(f"maps:{tmp_path}")
    np.save(tmp_path / "one.npy", maps[1])
    with pytest.raises(Refusal, match="one.npy came, expected the row's number"):
        parse_method(f"maps:{tmp_path}")


def test_pickles_are_not_read(manifest: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "m.npy"
    np.save(path, np.array([{}], object), allow_pickle=True)
    path.with_name("m.npy.json").write_text(json.dumps(manifest))
    with pytest.raises(Refusal, match=r"m.npy: no array, or damaged"):
        parse_method(f"maps:{path}")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("maps:", "expected maps:FILE"),
        ("maps:m.npz:name=a/b", "no name for maps"),
        ("maps:m.tif", r"m.tif: expected a folder or a file of maps \(.npz, "),
        ("maps:m.npz", "m.npz: no such file"),
    ],
)
def test_wrong_texts(text: str, sentence: str) -> None:
    with pytest.raises(Refusal, match=sentence):
        parse_method(text)


def test_other_pictures_and_classes_have_no_maps(
    small_file: Path, classifier: Classifier, manifest: dict[str, Any], maps: np.ndarray, tmp_path: Path
) -> None:
    path = write_npz(tmp_path / "m.npz", manifest, maps=maps)
    stored = parse_method(f"maps:{path}").explainer
    opened = scoring.Scoring(ScoringPlan(small_file, (Source(classifier),), (), ("iou",)), CPU, tmp_path)
    (cells,) = opened.models
    ready = cells.fit(parse_method(f"maps:{path}"))
    rows, order = np.array([1, 3, 8]), [2, 0, 1]
    case = opened.judge.case(classifier, rows, rows * 0)
    assert torch.equal(ready.explainer(classifier, case.query), torch.from_numpy(maps[rows]))
    turned = case.query.__class__(*(tensor[order] for tensor in case.query))
    assert torch.equal(ready.explainer(classifier, turned), torch.from_numpy(maps[rows[order]]))
    for other in (
        case.query._replace(images=1 - case.query.images),
        case.query._replace(targets=(case.query.targets + 1) % 6),
        case.query._replace(seeds=case.query.seeds + 1),
    ):
        with pytest.raises(NotApplicable, match="the maps lie in files"):
            ready.explainer(classifier, other)
    with pytest.raises(NotApplicable, match="the maps lie in files"):
        stored(classifier, case.query)


@pytest.mark.parametrize("suffix", [".h5", ".npz"])
def test_maps_are_saved_with_their_manifest(
    suffix: str, small_file: Path, classifier: Classifier, maps: np.ndarray, tmp_path: Path
) -> None:
    path = tmp_path / f"mine{suffix}"
    rows = [2, 5, 11]
    save_maps(path, torch.from_numpy(maps[rows]), data=small_file, model=classifier, rows=rows, method="my method")
    (collection,) = map_files.open_maps(path)
    (part,) = collection.parts
    assert collection.manifest.model == classifier.digest
    assert part.rows is not None
    assert part.rows.tolist() == rows
    assert np.array_equal(map_files.read_maps(part, np.arange(3)), maps[rows])
    with pytest.raises(WrongUsage, match="expected a name that ends in"):
        save_maps(tmp_path / "mine.txt", maps, data=small_file, model=None)
    with pytest.raises(Refusal, match="23 maps came"):
        save_maps(path, maps[:23], data=small_file, model=None)


def test_maps_that_ask_no_model_go_with_any(
    small_file: Path, model: Path, manifest: dict[str, Any], maps: np.ndarray, tmp_path: Path
) -> None:
    path = write_npz(tmp_path / "m.npz", manifest | {"model": None}, maps=maps)
    assert score(plan(small_file, model, f"maps:{path}"), CPU, tmp_path / "run").document["results"]


def test_plans_name_maps_without_trust(tmp_path: Path) -> None:
    wanted = {"name": "x", "data": [{"spec": "single-6c"}], "models": [{"arch": "flowernet"}]}
    assert from_mapping({**wanted, "methods": [f"maps:{tmp_path}/m.npz:name=a"]}, "x").own_code() == []


def test_a_folder_of_two_methods_stands_for_both(
    small_file: Path, classifier: Classifier, maps: np.ndarray, tmp_path: Path
) -> None:
    for name in ("b:c=1", "a"):
        save_maps(tmp_path / f"{name[0]}.h5", maps, data=small_file, model=classifier, method=name)
    assert expand(f"maps:{tmp_path}") == [f"maps:{tmp_path}:method=a", f"maps:{tmp_path}:method=b:c=1"]
    assert parse_method(f"maps:{tmp_path}:method=b:c=1").name == "b-c-1"
    with pytest.raises(WrongUsage, match='unknown method "d"'):
        parse_method(f"maps:{tmp_path}:method=d")
    save_maps(tmp_path / "d.h5", maps, data=small_file, model=classifier, method="a")
    (method,) = parse_methods([f"maps:{tmp_path}:method=a"])
    with pytest.raises(Refusal, match="row 0 came already in"):
        score(ScoringPlan(small_file, (Source(classifier),), (method,), ("iou",)), CPU, tmp_path / "run")
