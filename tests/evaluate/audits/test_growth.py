"""A made-up stage with a section of the page, and a made-up sanity check, without an edit anywhere else."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner
from jinja2 import ChoiceLoader, DictLoader

from an8flower.commands.check_options import options_of, values_of
from an8flower.commands.sanity_table import show_sanity
from an8flower.errors import Refusal
from an8flower.evaluate.audits import plan as plans
from an8flower.evaluate.audits import stage as staging
from an8flower.evaluate.audits.cell_tasks import CellOutcome, CellTask, run_cell
from an8flower.evaluate.audits.opened import ModelWords, open_once
from an8flower.evaluate.audits.plan_table import Count, PlanTable
from an8flower.evaluate.audits.run import How, audit
from an8flower.evaluate.audits.stage import Stage, folders, register, stages_by_name
from an8flower.evaluate.report import page, sections
from an8flower.evaluate.report.reading import AuditFolder
from an8flower.evaluate.report.sections import PageSection, add_section
from an8flower.evaluate.report.study import StudyView
from an8flower.evaluate.results import answers, checks
from an8flower.evaluate.results.checks import SanityCheck, Switch, register_check, switches
from an8flower.evaluate.trust.sanity import check as checking
from an8flower.evaluate.trust.sanity.check import CheckOfModel, Findings, Subject, implements
from an8flower.evaluate.trust.sanity.similarity import ComparedMaps, similarities

# What would be `audits/stages/leaves.py`.


class LeafTable(PlanTable):
    """What is asked of the leaves."""

    most: Count = 9
    methods: tuple[str, ...] = ()


class LeafStage(Stage):
    """How many rows each model was shown, which stands for any number."""

    name = "leaves"
    folders = ("leaves",)
    after = ("scores",)
    key = "leaves"

    @classmethod
    def table(cls) -> type[PlanTable]:
        """The table `[leaves]`."""
        return LeafTable

    def tasks(self) -> Iterator[CellTask]:
        """One cell for each model."""
        for model in self.study.scoring.models if self.options else ():
            cell = self.cell(model, "", repr(self.options))
            yield self.task(cell, count_leaves, self.words_of(model), self.options.most, self.place(cell))

    def to_document(self) -> dict[str, Any]:
        """The number of leaves of each model."""
        places = [Path(self.place(task.cell)) for task in self.tasks()]
        return {"leaves": [answers.read_document(place) for place in places]}


def count_leaves(model: ModelWords, most: int, place: str) -> CellOutcome:
    """File a number."""
    return run_cell(lambda: answers.write_document(Path(place), {"leaves": min(most, len(open_once(model).chosen))}))


# What would be `report/leaves.py` and `report/leaves.html.j2`.


def leaves(studies: Sequence[StudyView], summary: Mapping[str, Any], source: AuditFolder) -> PageSection | None:
    """The section of the leaves."""
    numbers = [document["leaves"] for study in studies for document in study.document.get("leaves") or ()]
    return PageSection("leaves", "How many leaves?", {"numbers": numbers}, "leaves") if numbers else None


TEMPLATE = "<p>{% for number in section.content.numbers %}{{ number }} leaves were counted.{% endfor %}</p>"

# What would be an entry of `results/checks.py`, and `trust/sanity/checks/twice.py`.

TWICE = SanityCheck("twice", {"twice": "asked twice"}, switch=Switch("Also ask twice.", default=False))


class Twice(CheckOfModel):
    """Whether the same model gives the same maps, which fails by design."""

    def examine(self, subject: Subject) -> Findings:
        """The similarity of maps of the same model."""
        if not self.value:
            return Findings()
        again = ComparedMaps(subject.explain(self.setting.classifier, subject.query))
        return Findings({"twice": similarities(subject.original, again)})


@pytest.fixture
def grown(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A house with a stage, a section and a check more; what they register is forgotten afterwards."""
    environment = page._environment()
    assert environment.loader
    loader = ChoiceLoader([DictLoader({"leaves.html.j2": TEMPLATE}), environment.loader])
    monkeypatch.setattr(environment, "loader", loader)
    register(LeafStage)
    add_section(leaves)
    register_check(TWICE)
    implements("twice")(Twice)
    yield
    del staging.REGISTERED["leaves"], checks.CHECKS["twice"], checking.IMPLEMENTED["twice"]
    sections.ADDED.remove(leaves)


PLAN: dict[str, Any] = {
    "name": "grown",
    "data": [{"spec": "single-6c", "rows": 60, "size": 32}],
    "models": [{"arch": "flowernet", "epochs": 1}],
    "methods": ["gradient"],
    "metrics": ["pointing"],
    "rows": 12,
    "certificate": None,
    "pictures": None,
    "sanity": {"rows": 5, "steps": 2, "draws": 5, "twice": True},
    "leaves": {"most": 7},
}


@pytest.mark.usefixtures("grown")
def test_a_made_up_stage_and_check_go_through_an_audit(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    how = How(engine="inline", device="cpu", data_folder=tmp_path / "data")
    outcome = audit(plans.from_mapping(PLAN, "grown"), tmp_path / "runs" / "grown", how)
    assert not outcome.failed
    (study,) = outcome.summary["studies"]
    assert study["leaves"] == [{"leaves": 7}]
    assert len(list((outcome.folder / "leaves").iterdir())) == 1
    assert "leaves" in folders()
    assert outcome.summary["plan"]["leaves"] == {"most": 7, "methods": []}
    (result,) = study["sanity"][0]["results"]
    assert list(result["verdicts"]) == ["logits", "model", "twice"]
    assert result["verdicts"]["twice"]["outcome"] == "fail"
    text = outcome.page.read_text()
    for words in ("How many leaves?", "7 leaves were counted.", "asked twice"):
        assert words in text, words
    show_sanity(study["sanity"][0])
    assert "asked twice" in " ".join(capsys.readouterr().out.split())
    again = audit(plans.from_mapping(PLAN, "grown"), outcome.folder, how)
    assert (again.done, again.reused) == (0, outcome.done - 1)


@pytest.mark.usefixtures("grown")
def test_what_a_made_up_table_names_is_code_as_well() -> None:
    plan = plans.from_mapping({**PLAN, "leaves": {"methods": ["mine:Method", "gradcam"]}}, "grown")
    assert plan.own_code() == ["mine:Method"]
    with pytest.raises(Refusal, match="most"):
        plans.from_mapping({**PLAN, "leaves": {"most": 0}}, "grown")


@pytest.mark.usefixtures("grown")
def test_the_option_of_a_made_up_check_is_that_of_its_switch() -> None:
    values: dict[str, Any] = {}

    def note(**typed: Any) -> None:
        values.update(values_of(typed))

    for option in options_of("twice", switches()["twice"]):
        note = option(note)
    assert CliRunner().invoke(click.command()(note), ["--twice"]).exit_code == 0
    assert values == {"twice": True}


def test_names_are_given_once() -> None:
    with pytest.raises(Refusal, match="there is a sanity check walks already"):
        register_check(checks.CHECKS["walks"])
    with pytest.raises(Refusal, match="there is a stage scores already"):
        register(stages_by_name()["scores"])


def test_every_check_is_carried_out() -> None:
    """The table and the modules name the same checks."""
    checking.load_checks()
    assert set(checking.IMPLEMENTED) == set(checks.CHECKS)
