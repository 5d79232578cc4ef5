"""The results of a run as tables: what is read back is what the run filed; nothing half-done has a final name."""

from __future__ import annotations

import hashlib
import json
import shutil
import warnings
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from click.testing import CliRunner

from an8flower.__main__ import main
from an8flower.errors import Refusal
from an8flower.evaluate.explaining.methods import parse_methods
from an8flower.evaluate.models.classifier import build
from an8flower.evaluate.resources import Resources
from an8flower.evaluate.results.exports import tables, write
from an8flower.evaluate.results.exports.columns import MAPS, MEANINGS, SCORES
from an8flower.evaluate.results.exports.read import open_results, read_scores
from an8flower.evaluate.results.exports.write import export_run
from an8flower.evaluate.results.folder import SCHEMA, RunFolder
from an8flower.evaluate.results.ledger import Ledger
from an8flower.evaluate.scoring import run as scoring
from an8flower.evaluate.scoring.run import ScoringPlan, score
from an8flower.store import FlowerStore

CPU = Resources(torch.device("cpu"), batch=7)
METHODS, METRICS, ROWS = ("gradcam", "smoothgrad:samples=2"), ("iou_best", "pointing", "relevance_mass"), 12


@pytest.fixture(scope="module")
def model(small_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained classifier for the small data set."""
    store = FlowerStore(small_file)
    path = tmp_path_factory.mktemp("models") / "flowernet-seed3.safetensors"
    build("flowernet", store.class_names, store.size, seed=3).save(path)
    return path


@pytest.fixture(scope="module")
def finished(small_file: Path, model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of scores that kept their maps, in three blocks of rows; not to be changed."""
    folder = tmp_path_factory.mktemp("runs") / "finished"
    plan = ScoringPlan(small_file, (str(model),), tuple(parse_methods(METHODS)), METRICS, rows=ROWS)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scoring, "CELL_ROWS", 5)
        opened = scoring.Scoring(plan, CPU, folder, keep_maps=True)
        ledger = Ledger(RunFolder(folder))
        scoring.settle_here(opened, ledger)
        scoring._file(opened, ledger, opened.document(ledger))
    return folder


@pytest.fixture(scope="module")
def exported(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run as tables, with its maps; not to be changed."""
    return export_run(finished, tmp_path_factory.mktemp("exports") / "exported", with_maps=True).folder


def files_of(folder: Path) -> dict[str, bytes]:
    return {place.relative_to(folder).as_posix(): place.read_bytes() for place in folder.rglob("*") if place.is_file()}


def test_scores_come_back_number_by_number(finished: Path, exported: Path) -> None:
    """Read with the part files' own names, and without the code under test."""
    lines = pq.read_table(exported / "scores")
    assert set(lines.column_names) == {"dataset", "split", "cell", "method", *SCHEMA.names}
    parts = json.loads((finished / "plan.json").read_text())["parts"]
    assert list(dict.fromkeys(lines["cell"].to_pylist())) == parts
    for part in parts:
        filed = pq.read_table(finished / "scores" / f"{part}.parquet").to_pandas()
        lines_of_part = lines.filter(pa.compute.equal(lines["cell"], part)).select(SCHEMA.names).to_pandas()
        pd.testing.assert_frame_equal(lines_of_part, filed, check_exact=True)


def test_the_run_and_its_export_are_opened_alike(finished: Path, exported: Path) -> None:
    run, again = open_results(finished), open_results(exported)
    assert (again.plan, again.summary, again.studies) == (run.plan, run.summary, run.studies)
    (study,) = run.studies
    first, second = run.read_rows(study).to_pandas(), again.read_rows(again.studies[0]).to_pandas()
    pd.testing.assert_frame_equal(first, second, check_exact=True)
    assert read_scores(exported).num_rows == len(first)


def test_maps_come_back_bit_by_bit(finished: Path, exported: Path) -> None:
    places = sorted((finished / "maps").glob("*.h5"))
    assert len(places) == 6
    assert {place.stem for place in places} == {place.stem for place in (exported / "maps").iterdir()}
    for place in places:
        table = pq.read_table(exported / "maps" / f"{place.stem}.parquet")
        with h5py.File(place) as file:
            maps, rows, manifest = file["maps"][:], file["rows"][:], json.loads(file.attrs["manifest"])
        assert table["row"].to_pylist() == rows.tolist()
        sides = set(zip(table["height"].to_pylist(), table["width"].to_pylist(), strict=True))
        assert sides == {maps.shape[1:]}
        assert np.array_equal(np.stack(table["map"].to_numpy()).reshape(maps.shape), maps)
        assert set(table["method"].to_pylist()) == {manifest["method"]} <= set(METHODS)
        assert set(table["model"].to_pylist()) == {manifest["model"]}


def test_a_run_scored_from_exported_maps_equals_itself(
    small_file: Path, model: Path, finished: Path, exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scoring, "CELL_ROWS", 5)
    plan = ScoringPlan(small_file, (str(model),), tuple(parse_methods([f"maps:{exported}"])), METRICS, rows=ROWS)
    document = score(plan, CPU, tmp_path / "again").document
    before = json.loads((finished / "summary.json").read_text())
    assert [entry["family"] for entry in document["results"]] == ["cam", "gradients"]
    for entry, original in zip(document["results"], before["results"], strict=True):
        assert entry["text"].endswith(f"method={original['text']}")
        for metric, values in original["metrics"].items():
            values.pop("ceiling", None)  # files of scaled-up maps do not tell the method's grid
            assert {key: value for key, value in entry["metrics"][metric].items() if key != "ceiling"} == values


def test_maps_of_a_file_are_shown_in_the_terminal_beside_others(
    small_file: Path, model: Path, exported: Path, tmp_path: Path
) -> None:
    """What it cost to make them is not known: a dash."""
    words = [
        "score",
        "--maps",
        exported,
        "--data",
        small_file,
        "--model",
        model,
        "--in-process",
        "-o",
        tmp_path / "run",
    ]
    shown = CliRunner().invoke(main, [str(word) for word in (*words, "--rows", ROWS, "--metric", "pointing")])
    assert (shown.exit_code, shown.exception) == (0, None)
    assert "method=gradcam" in shown.stdout.replace("\n", "")


def test_each_column_is_described(exported: Path) -> None:
    """In columns.json, in the metadata of the tables, in README and in croissant.json: the same columns."""
    described = json.loads((exported / "columns.json").read_text())
    assert set(MEANINGS) == set(SCHEMA.names)
    croissant = json.loads((exported / "croissant.json").read_text())
    for name, columns in (("scores", SCORES), ("maps", MAPS)):
        place = next((exported / name).glob("*.parquet"))
        schema = pq.read_schema(place)
        assert json.loads(schema.metadata[b"columns"]) == described[name]
        assert [it["name"] for it in described[name]] == schema.names == [it.name for it in columns]
        assert all(it["meaning"] for it in described[name])
        assert [schema.field(it.name).metadata[b"meaning"].decode() for it in columns] == [it.meaning for it in columns]
        (records,) = (it for it in croissant["recordSet"] if it["name"] == name)
        assert [field["name"] for field in records["field"]] == [f"{name}/{it.name}" for it in columns]
        for it in columns:
            assert f"| `{it.name}` | {it.meaning} |" in (exported / "README.md").read_text()


def test_what_lies_beside_the_tables(finished: Path, exported: Path) -> None:
    for name in ("plan.json", "summary.json"):
        assert (exported / name).read_bytes() == (finished / name).read_bytes()
    environment = json.loads((exported / "environment.json").read_text())
    assert environment["versions"] == json.loads((finished / "plan.json").read_text())["versions"]
    assert "{" not in (exported / "README.md").read_text()
    listed = dict(reversed(line.split("  ")) for line in (exported / "checksums.sha256").read_text().splitlines())
    content = files_of(exported)
    del content["checksums.sha256"]
    assert listed == {name: hashlib.sha256(text).hexdigest() for name, text in content.items()}


def test_a_second_export_has_the_same_bytes(finished: Path, exported: Path, tmp_path: Path) -> None:
    again = export_run(finished, tmp_path / "again", with_maps=True)
    assert files_of(again.folder) == files_of(exported)
    assert export_run(finished, tmp_path / "again", with_maps=True).existed
    with pytest.raises(Refusal, match="holds another export; replace it with --force"):
        export_run(finished, tmp_path / "again")
    assert not export_run(finished, tmp_path / "again", force=True).existed
    assert not (tmp_path / "again" / "maps").exists()
    assert [place.name for place in tmp_path.iterdir()] == ["again"]


def test_long_rows_are_shared_out_to_files_of_bounded_size(
    finished: Path, exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables, "SHARD_BYTES", 5000)
    folder = export_run(finished, tmp_path / "many").folder
    assert len(list((folder / "scores").iterdir())) > 3
    assert pq.read_table(folder / "scores").to_pandas().equals(pq.read_table(exported / "scores").to_pandas())
    (study,) = open_results(folder).studies
    assert open_results(folder).read_rows(study).num_rows == read_scores(exported).num_rows


def test_an_interrupted_export_has_no_final_name_and_goes_on(
    finished: Path, exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(write, "write_cards", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            export_run(finished, tmp_path / "out", with_maps=True)
    (waiting,) = tmp_path.iterdir()
    assert waiting.name.endswith(".partial")
    maps = {place.name: place.stat().st_mtime_ns for place in (waiting / "maps").iterdir()}
    assert len(maps) == 6
    folder = export_run(finished, tmp_path / "out", with_maps=True).folder
    assert {place.name: place.stat().st_mtime_ns for place in (folder / "maps").iterdir()} == maps
    assert files_of(folder) == files_of(exported)
    assert [place.name for place in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("name", ["summary.json", "scores/00-single-6c-00000.parquet", "columns.json"])
def test_a_changed_export_is_refused(name: str, exported: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(exported, tmp_path / "changed"))
    content = bytearray((folder / name).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / name).write_bytes(content)
    with pytest.raises(Refusal, match="not what was exported"):
        open_results(folder)
    (folder / name).unlink()
    with pytest.raises(Refusal, match="missing, or not what was exported"):
        read_scores(folder)


def test_damaged_maps_are_refused(exported: Path, tmp_path: Path, small_file: Path) -> None:
    """Maps of two sizes, values that are missing, no manifest."""
    from an8flower.evaluate.results.map_files import open_maps

    place = next((exported / "maps").iterdir())
    table = pq.read_table(place)
    other = tmp_path / "maps.parquet"
    heights = table["height"].to_pylist()
    for column, values, sentence in (
        ("height", [1, *heights[1:]], "not all of one size"),
        ("height", [None, *heights[1:]], "not all of one size"),
        ("row", [None, *table["row"].to_pylist()[1:]], "not all of one size"),
    ):
        i = table.column_names.index(column)
        pq.write_table(table.set_column(i, table.field(column), pa.array(values, table[column].type)), other)
        with pytest.raises(Refusal, match=sentence):
            open_maps(other)
    pq.write_table(table.replace_schema_metadata({}), other)
    with pytest.raises(Refusal, match="expected a JSON object with data, split and model"):
        open_maps(other)
    pq.write_table(table.drop_columns(["target"]), other)
    with pytest.raises(Refusal, match="no table, or damaged"):
        open_maps(other)


def test_what_is_no_finished_run_is_refused(finished: Path, exported: Path, tmp_path: Path) -> None:
    for folder, sentence in ((tmp_path, "no run is there"), (exported, "an export, and no run")):
        with pytest.raises(Refusal, match=sentence):
            export_run(folder, tmp_path / "out")
    copy = Path(shutil.copytree(finished, tmp_path / "copy", ignore=shutil.ignore_patterns("maps")))
    with pytest.raises(Refusal, match="kept no maps; run `an8flower audit` with --keep-maps"):
        export_run(copy, tmp_path / "out", with_maps=True)
    plan = json.loads((copy / "plan.json").read_text())
    (copy / "plan.json").write_text(json.dumps({key: value for key, value in plan.items() if key != "explainers"}))
    with pytest.raises(Refusal, match="score again: what is done is not done twice"):
        export_run(copy, tmp_path / "out")
    (copy / "plan.json").write_text(json.dumps(plan))
    next((copy / "scores").iterdir()).unlink()
    with pytest.raises(Refusal, match="are missing or damaged; run the same command again"):
        export_run(copy, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").touch()
    with pytest.raises(Refusal, match="holds something that is no exported run"):
        export_run(finished, tmp_path / "mine", force=True)


def test_the_command(finished: Path, small_file: Path, tmp_path: Path) -> None:
    def call(*words: object) -> Any:
        return CliRunner().invoke(main, ["export", *map(str, words)])

    done = call(finished, "-o", tmp_path / "out", "--maps", "--json")
    assert (done.exit_code, json.loads(done.stdout)["maps"]) == (0, 24)
    assert "nothing to do" in call(finished, "-o", tmp_path / "out", "--maps").output
    assert "are for data sets" in call(finished, "-o", tmp_path / "x", "--pairs").output
    assert "are for data sets" in call(finished, "-o", tmp_path / "x", "--to", "webdataset").output
    assert "Missing option '--to'" in call(small_file, "-o", tmp_path / "x").output
    assert (
        "--maps is for the folder of a run"
        in call(small_file, "-o", tmp_path / "x", "--to", "parquet", "--maps").output
    )


# As other tools read it, with the real packages (the extra `interop`).


@pytest.mark.slow
def test_croissant_is_valid_and_reads_lines(exported: Path) -> None:
    mlcroissant = pytest.importorskip("mlcroissant")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        described = mlcroissant.Dataset(jsonld=exported / "croissant.json")
        assert not described.metadata.ctx.issues.errors
        assert not described.metadata.ctx.issues.warnings
        read = {name: [*described.records(name)] for name in ("scores", "maps")}
    for name, records in read.items():
        table = pq.read_table(exported / name)
        assert len(records) == table.num_rows > 10
        for record, line in zip(records, table.to_pylist(), strict=True):
            for column, value in line.items():
                came = record[f"{name}/{column}"]
                came = came.decode() if isinstance(came, bytes) else came
                if isinstance(value, list):
                    assert np.array_equal(np.asarray(came, np.float32), np.asarray(value, np.float32), equal_nan=True)
                else:
                    assert came == value or (value != value and (came is None or came != came))


@pytest.mark.slow
def test_hugging_face_datasets_read_both_tables(
    exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    datasets = pytest.importorskip("datasets")
    for name in ("scores", "maps"):
        loaded = datasets.load_dataset(str(exported), name, cache_dir=str(tmp_path))["train"]
        expected = pq.read_table(exported / name).to_pandas()
        pd.testing.assert_frame_equal(loaded.to_pandas(), expected, check_exact=True)
