"""Plans and audits: what is asked, what is taken from elsewhere, and that the engine does not matter."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, ClassVar

import h5py
import numpy as np
import pytest
from click.testing import CliRunner
from filelock import FileLock

from an8flower.__main__ import main
from an8flower.errors import Refusal, WrongUsage
from an8flower.evaluate import audit as call_audit
from an8flower.evaluate.audits import plan as plans
from an8flower.evaluate.audits import run as running
from an8flower.evaluate.audits.engines.inline import Inline
from an8flower.evaluate.audits.plan import Plan, from_mapping
from an8flower.evaluate.audits.run import AuditOutcome, How, SilentReporter, audit
from an8flower.evaluate.explaining.methods import parse_methods
from an8flower.evaluate.metrics.naming import parse_metrics
from an8flower.evaluate.registry import archs
from an8flower.evaluate.results.summary_schema import summary_schema
from an8flower.store import FlowerStore, verify

pytestmark = pytest.mark.usefixtures("undrawn")

TINY: dict[str, Any] = {
    "name": "tiny",
    "data": [{"spec": "single-6c", "rows": 60, "size": 32}],
    "models": [{"arch": "flowernet", "epochs": 1}],
    "methods": ["gradcam", "random"],
    "metrics": ["iou_best", "pointing"],
    "rows": 12,
    "certificate": {"rows": 6},
    "sanity": {"rows": 4, "steps": 2, "draws": 1, "methods": ["gradcam"]},
    "pictures": {"rows": 2, "extremes": 1},
}


def how(folder: Path, **given: Any) -> How:
    return How(**{"engine": "inline", "device": "cpu", "data_folder": folder / "data", **given})


def tiny(**given: Any) -> Plan:
    return from_mapping({**TINY, **given}, "tiny")


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> AuditOutcome:
    """A finished audit; not to be changed."""
    place = tmp_path_factory.mktemp("audit")
    return audit(tiny(), place / "runs" / "tiny", how(place))


@pytest.mark.parametrize("name", plans.shipped_plans())
def test_shipped_plans_name_what_is_there(name: str) -> None:
    for plan in filter(None, [plans.load(name), plans.load(name).reduced and plans.load(name).at_reduced_size()]):
        parse_methods([*plan.methods, *(plan.sanity.methods or () if plan.sanity else ())])
        parse_metrics(plan.metrics)
        assert {entry.arch for entry in plan.models} <= set(archs.names())
        assert not plan.own_code()


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"data": []}, "data: "),
        ({"data": [{"spec": "single-6c", "file": "a.h5"}]}, "give either spec"),
        ({"data": [{"file": "a.h5", "rows": 4}]}, "a.h5 is as it is"),
        ({"models": [{"seeds": [0]}]}, "give either arch"),
        ({"models": [{"arch": "flowernet", "weights": "w"}]}, "weights go with source"),
        ({"rows": 0}, "rows: "),
        ({"mehtods": ["gradcam"]}, "mehtods"),
        ({"name": "../up"}, "name: "),
    ],
)
def test_wrong_plans_are_refused_with_the_place(given: dict[str, Any], sentence: str) -> None:
    with pytest.raises(Refusal, match="^tiny: ") as refused:
        tiny(**given)
    assert sentence in str(refused.value)


@pytest.mark.parametrize(
    "name", ["evil:x=y", "family:factory", "captum:Saliency", "grad_cam:X", "zennit:a=b", "m.n:net"]
)
@pytest.mark.parametrize("key", ["source", "arch"])
def test_a_model_whose_name_has_a_colon_is_code(name: str, key: str) -> None:
    """Whatever stands before the colon is imported: a model knows neither parameters nor toolkits nor families."""
    assert tiny(models=[{key: name}]).own_code() == [name]
    assert tiny(reduced={"archs": {"flowernet": name}}).own_code() == [name]


@pytest.mark.parametrize("key", ["methods", "metrics"])
def test_methods_and_metrics_of_own_modules_are_code(key: str) -> None:
    own = ["mod:Thing", "mod:Thing:x=y", "os.path:join"]
    harmless = ["smoothgrad:samples=5", "family:cam", "mod:x=y", "gradcam"]
    assert tiny(**{key: [*harmless, *own]}).own_code() == own
    sanity = {"methods": [*harmless, *own]}
    assert tiny(sanity=sanity).own_code() == own


def test_toolkits_bring_methods_and_nothing_else() -> None:
    assert tiny(methods=["captum:Saliency", "zennit:EpsilonPlus"]).own_code() == []
    assert tiny(metrics=["captum:Saliency"]).own_code() == ["captum:Saliency"]


def test_a_model_file_with_a_colon_is_no_code_unless_it_can_be_read_as_a_factory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`FACTORY with WEIGHTS` is how a factory and its weights travel as words."""
    monkeypatch.chdir(tmp_path)
    for name in ("a:b.safetensors", "evil:x with w"):
        Path(name).touch()
    assert tiny(models=[{"source": "a:b.safetensors"}]).own_code() == []
    assert tiny(models=[{"source": "evil:x with w"}]).own_code() == ["evil:x with w"]
    assert tiny(models=[{"source": "net", "weights": "b with ev:il"}]).own_code() == ["b with ev:il"]


@pytest.mark.parametrize("entry", ['source = "evil_net:x=y"', 'arch = "evil_net:x=y"', 'source = "family:factory"'])
def test_a_plan_runs_no_code_without_trust(entry: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for module in ("evil_net", "family"):
        Path(f"{module}.py").write_text("open('ran', 'w')")
    Path("plan.toml").write_text(
        f'name = "p"\nmethods = ["edges"]\n[[data]]\nspec = "single-6c"\n[[models]]\n{entry}\n'
    )
    refused = CliRunner().invoke(main, ["audit", "plan.toml"])
    assert "importing a module runs its code" in refused.output
    with pytest.raises(Refusal, match="importing a module runs its code"):
        call_audit("plan.toml")
    assert not Path("ran").exists()


def test_a_plan_is_read_without_torch() -> None:
    code = (
        "import sys; from an8flower.evaluate.audits import plan; plan.load('quick'); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_unknown_plans_get_the_nearest_name() -> None:
    with pytest.raises(WrongUsage, match='did you mean "vebi-iou"'):
        plans.load("vebi-ious")


def test_a_plan_comes_back_from_its_document() -> None:
    assert from_mapping(tiny().document(), "tiny") == tiny()


def test_what_is_named_on_the_command_line_stands_instead() -> None:
    changed = tiny().instead(
        data=["mine.h5", "pair-12c"], models=["a.safetensors", "m:net", "resnet18"], weights=["w.safetensors"], rows=7
    )
    assert [entry.file or entry.spec for entry in changed.data] == ["mine.h5", "pair-12c"]
    told = [(entry.source or entry.arch, entry.weights) for entry in changed.models]
    assert told == [("a.safetensors", None), ("m:net", "w.safetensors"), ("resnet18", None)]
    assert (changed.rows, changed.methods) == (7, ("gradcam", "random"))
    with pytest.raises(WrongUsage, match="2 --weights came for 1 factories"):
        tiny().instead(models=["m:net"], weights=["a", "b"])


def test_the_reduced_size_changes_what_it_names_and_nothing_else() -> None:
    whole = tiny(reduced={"rows": 6, "size": 36, "seeds": [0, 1], "archs": {"flowernet": "resnet18"}, "sanity_rows": 2})
    small = whole.at_reduced_size()
    assert (small.name, small.rows, small.data[0].size, small.data[0].rows) == ("tiny-reduced", 6, 36, 60)
    assert (small.models[0].arch, small.models[0].seeds, small.models[0].epochs) == ("resnet18", (0, 1), 1)
    assert small.sanity == whole.sanity.model_copy(update={"rows": 2}) if whole.sanity else False
    assert small.methods == whole.methods
    with pytest.raises(Refusal, match="no \\[reduced\\] size"):
        tiny().at_reduced_size()


def test_everything_is_in_its_place(done: AuditOutcome) -> None:
    found = {each.name for each in done.folder.iterdir()}
    assert {
        "plan.json",
        "summary.json",
        "report.html",
        "models",
        "scores",
        "certificates",
        "sanity",
        "pictures",
    } <= found
    (study,) = done.summary["studies"]
    assert {each["method"] for each in study["scores"]["results"]} == {"gradcam", "random"}
    assert len(study["certificates"]) == 1
    assert [each["text"] for each in study["sanity"][0]["results"]] == ["gradcam"]
    assert len(study["pictures"]) == 2
    assert not done.failed
    assert json.loads((done.folder / "summary.json").read_text()) == json.loads(json.dumps(done.summary))
    assert not list(done.folder.rglob("*.unfinished"))


def numbers(outcome: AuditOutcome) -> Any:
    """What was found, without what it cost."""
    (study,) = outcome.summary["studies"]
    results = [{key: value for key, value in each.items() if key != "cost"} for each in study["scores"]["results"]]
    checks = [{key: value for key, value in each.items() if key != "cost"} for each in study["sanity"][0]["results"]]
    return json.dumps([results, checks, study["certificates"], study["curves"], study["slices"], study["pictures"]])


def test_another_run_beside_it_is_not_done_again(done: AuditOutcome, tmp_path: Path) -> None:
    shutil.copytree(done.folder.parents[1], tmp_path / "copy")
    beside = audit(tiny(name="other"), tmp_path / "copy" / "runs" / "other", how(tmp_path / "copy"))
    assert (beside.done, beside.reused) == (0, done.done - 1)  # the model's training is no cell that is taken
    assert numbers(beside) == numbers(done)


def test_the_summary_has_the_form_that_its_schema_says(done: AuditOutcome) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    errors = jsonschema.Draft202012Validator(summary_schema()).iter_errors(done.summary)
    assert [error.message for error in errors] == []


def test_afresh_everything_is_done_again(done: AuditOutcome, tmp_path: Path) -> None:
    shutil.copytree(done.folder.parents[1], tmp_path / "copy")
    again = audit(tiny(), tmp_path / "copy" / "runs" / "tiny", how(tmp_path / "copy"), fresh=True)
    assert (again.done, again.reused) == (done.done, 0)
    assert numbers(again) == numbers(done)


def test_processes_find_the_same(done: AuditOutcome, tmp_path: Path) -> None:
    shutil.copytree(done.folder.parents[1] / "data", tmp_path / "data")
    other = audit(tiny(), tmp_path / "runs" / "tiny", how(tmp_path, engine="local", workers=2))
    assert numbers(other) == numbers(done)


@pytest.mark.slow
def test_a_cluster_finds_the_same(done: AuditOutcome, tmp_path: Path) -> None:
    pytest.importorskip("ray")
    other = audit(tiny(), tmp_path / "runs" / "tiny", how(tmp_path, engine="ray", workers=2))
    assert numbers(other) == numbers(done)


def test_maps_are_kept_on_request(done: AuditOutcome, tmp_path: Path) -> None:
    shutil.copytree(done.folder.parents[1], tmp_path / "copy")
    kept = audit(tiny(), tmp_path / "copy" / "runs" / "tiny", how(tmp_path / "copy", keep_maps=True))
    assert kept.done == 2  # both methods are explained once more
    (place,) = (kept.folder / "maps").glob("*gradcam*.h5")
    with h5py.File(place) as file:
        maps = file["maps"][:].astype(np.float32) * file["scale"][:][:, None, None]
        assert maps.shape == (12, 32, 32)
        assert np.abs(maps).max() > 0
    assert numbers(kept) == numbers(done)


def test_a_model_of_other_data_is_trained_again(done: AuditOutcome, tmp_path: Path) -> None:
    shutil.copytree(done.folder.parents[1], tmp_path / "copy")
    (place,) = (tmp_path / "copy" / "runs" / "tiny" / "models").glob("*.safetensors")
    place.write_bytes(place.read_bytes()[:100])
    again = audit(tiny(), tmp_path / "copy" / "runs" / "tiny", how(tmp_path / "copy"))
    assert again.done == 1
    assert numbers(again) == numbers(done)


def test_a_model_that_cannot_be_trained_is_told(tmp_path: Path) -> None:
    with pytest.raises(Refusal, match="none of its models could be trained.*flowervit cuts images into 14"):
        audit(tiny(models=[{"arch": "flowervit", "epochs": 1}]), tmp_path / "run", how(tmp_path))


def test_rendered_data_that_are_damaged_are_rendered_again(done: AuditOutcome, tmp_path: Path) -> None:
    shutil.copytree(done.folder.parents[1], tmp_path / "copy")
    (place,) = (tmp_path / "copy" / "data").glob("*.h5")
    whole = place.read_bytes()
    place.write_bytes(whole[: len(whole) // 2])
    again = audit(tiny(), tmp_path / "copy" / "runs" / "tiny", how(tmp_path / "copy"))
    assert again.done == 0
    assert numbers(again) == numbers(done)


def test_an_audit_waits_for_another_that_renders_the_same(done: AuditOutcome, tmp_path: Path) -> None:
    (rendered,) = (done.folder.parents[1] / "data").glob("*.h5")
    place = tmp_path / "data" / rendered.name
    place.parent.mkdir()
    lock = FileLock(place.with_name(f"{place.name}.lock"))

    class Waiting(SilentReporter):
        said: ClassVar[list[str]] = []

        def say(self, sentence: str) -> None:
            """Have the other audit finish."""
            self.said.append(sentence)
            shutil.copy(rendered, place)
            lock.release()

    waiting = running.Audit(tiny(), tmp_path / "run", how(tmp_path), neighbours=[], reporter=Waiting(), warn=print)
    with lock:
        store = waiting._data(tiny().data[0], Inline())
    assert store.fingerprint == FlowerStore(rendered).fingerprint
    assert Waiting.said == [f"{place}: another process is writing it, and is waited for"]


def test_rendered_data_with_a_damaged_value_are_rendered_again(done: AuditOutcome, tmp_path: Path) -> None:
    """Its digest, which is that of the spec, is right."""
    shutil.copytree(done.folder.parents[1] / "data", tmp_path / "data")
    (place,) = (tmp_path / "data").glob("*.h5")
    with h5py.File(place, "r+") as file:
        file["test/images"][0, 0, 0, 0] ^= 1
    again = running.Audit(tiny(), tmp_path / "run", how(tmp_path), neighbours=[], reporter=SilentReporter(), warn=print)
    again._data(tiny().data[0], Inline())
    assert all(holds for _, holds in verify(place))


def test_files_of_other_content_under_a_right_name_are_made_again(done: AuditOutcome, tmp_path: Path) -> None:
    """Pictures and checks of another method, an edited certificate, arrays that somebody else wrote."""
    shutil.copytree(done.folder.parents[1], tmp_path / "copy")
    run = tmp_path / "copy" / "runs" / "tiny"
    gradcam, random = (next((run / "pictures").glob(f"*-{name}-*")) for name in ("gradcam", "random"))
    shutil.copy(gradcam, random)
    (certificate,) = (run / "certificates").iterdir()
    document = json.loads(certificate.read_text())
    certificate.write_text(json.dumps({**document, "rows": document["rows"] + 1}))
    (checks,) = (run / "sanity").glob("*-gradcam-*.npz")
    with np.load(checks) as arrays:
        changed = {name: values if name == "seal" else np.flip(values) for name, values in arrays.items()}
    np.savez(checks, **changed)
    again = audit(tiny(), run, how(tmp_path / "copy"))
    assert (again.done, again.reused) == (3, done.done - 4)  # the model's training is no cell that is taken
    assert numbers(again) == numbers(done)


def test_what_differs_from_a_preset_does_not_lie_under_its_name(done: AuditOutcome) -> None:
    (place,) = (done.folder.parents[1] / "data").glob("*.h5")
    assert place.name != "single-6c.h5"
    assert place.name.startswith("single-6c-")


def test_a_factory_that_gives_another_model_each_time_is_refused(
    done: AuditOutcome, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = ["from torch import nn", "def unsteady():"]
    lines += ["    return nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())"]
    (tmp_path / "unsteady_nets.py").write_text("\n".join(lines))
    monkeypatch.syspath_prepend(tmp_path)
    (place,) = (done.folder.parents[1] / "data").glob("*.h5")
    asked = tiny(data=[{"file": str(place)}], models=[{"source": "unsteady_nets:unsteady"}], sanity=None)
    with pytest.raises(Refusal, match="another model each time; a factory has to give the same weights"):
        audit(asked, tmp_path / "run", how(tmp_path))


def test_an_audit_in_which_every_cell_failed_has_a_page(done: AuditOutcome, tmp_path: Path) -> None:
    shutil.copytree(done.folder.parents[1], tmp_path / "copy")
    asked = tiny(methods=["gradcam:layer=nowhere"], sanity=None)
    broken = audit(asked, tmp_path / "copy" / "runs" / "tiny", how(tmp_path / "copy"))
    assert [each["method"] for each in broken.failed] == ["gradcam:layer=nowhere"]
    assert "nowhere" in broken.page.read_text()


@pytest.mark.slow
def test_a_cluster_renders_in_shards(done: AuditOutcome, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ray")
    monkeypatch.setattr(running, "SHARD_ROWS", 20)
    other = audit(tiny(), tmp_path / "runs" / "tiny", how(tmp_path, engine="ray", workers=2))
    assert len(list((tmp_path / "data").glob("*-shards/*of3.h5"))) == 3
    assert numbers(other) == numbers(done)


def test_a_failure_is_forgotten_once_its_cell_is_done(done: AuditOutcome, tmp_path: Path) -> None:
    shutil.copytree(done.folder.parents[1], tmp_path / "copy")
    run = tmp_path / "copy" / "runs" / "tiny"
    for place in [*(run / "certificates").iterdir(), *(run / "pictures").glob("*gradcam*")]:
        (run / "failed").mkdir(exist_ok=True)
        (run / "failed" / f"{place.stem}.json").write_text("{}")
        place.unlink()
    again = audit(tiny(), run, how(tmp_path / "copy"))
    assert again.done == 2
    assert not list((run / "failed").iterdir())
