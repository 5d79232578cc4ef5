"""The results of scoring and of audits as pandas, as Arrow and as HTML for notebooks. No torch in here."""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from an8flower.errors import Refusal
from an8flower.gate.documents import read_json

from .files import DOCUMENT
from .tuned import gain_words
from .wording import BESIDE, NUMBERS, model_words


@dataclass(frozen=True, eq=False)
class ScoreResult:
    """The scores of methods against the truth of one data set."""

    document: dict[str, Any]  # as `an8flower score --json` prints it
    table: pa.Table  # one line for each row, method and metric: SCHEMA of `results.folder`
    folder: Path  # the results on disk: scoring the same again reads them

    @cached_property
    def frame(self) -> pd.DataFrame:
        """A line for each method and metric, with interval, references and the calibrated mean."""
        return summary_frame(self.document["results"])

    @cached_property
    def rows(self) -> pd.DataFrame:
        """The table as pandas: the value of every single row, or the reason why there is none."""
        return self.table.to_pandas()

    @property
    def failed(self) -> list[dict[str, str]]:
        """The methods that could not be scored, each with its reason; they are not in the frame."""
        return [*self.document["failed"], *self.document["skipped"]]

    def _repr_html_(self) -> str:
        data = self.document["dataset"]
        title = f"{data['name']}, {data['rows']} rows of {data['split']}, target: {self.document['target']}"
        models = (f"{model_words(m)}: accuracy {m['accuracy']:.2%}" for m in self.document["models"])
        missing = (f"{failure['method']}: {failure['reason']}" for failure in self.failed)
        sentences = [*models, *self.document.get("warnings", []), *missing]
        return f"{_heading(title)}{_paragraphs(sentences)}{_table(self.frame)}"


@dataclass(frozen=True, eq=False)
class AuditResult:
    """The result of an audit, as it lies in its folder."""

    folder: Path
    summary: dict[str, Any]  # as in summary.json

    @classmethod
    def read(cls, folder: str | Path) -> AuditResult:
        """Read the result of an audit from its folder; raises Refusal if no audit was finished there."""
        path = Path(folder) / "summary.json"
        try:
            document = read_json(
                path, DOCUMENT._replace(absent=f"no finished audit is there; run `an8flower audit -o {folder}`")
            )
            titles = [study["dataset"]["name"] for study in document["studies"]]
        except (KeyError, TypeError, IndexError) as error:
            raise Refusal(f"{path}: not the summary of an audit ({error!r}); run the audit again") from None
        assert len(titles) == len(document["studies"])
        return cls(Path(folder), document)

    @property
    def page(self) -> Path:
        """The path of the page for people, report.html."""
        return self.folder / "report.html"

    @cached_property
    def frame(self) -> pd.DataFrame:
        """A line for each data set, method and metric; see `ScoreResult.frame`."""
        frames = []
        for study in self.summary["studies"]:
            frame = summary_frame(study["scores"]["results"])
            frame.insert(0, "dataset", study["dataset"]["name"])
            frames.append(frame)
        return pd.concat(frames, ignore_index=True) if frames else summary_frame([])

    @property
    def failed(self) -> list[dict[str, str]]:
        """The cells that failed, each with its reason."""
        return list(self.summary.get("failed", []))

    def _repr_html_(self) -> str:
        link = f'<p><a href="{html.escape(self.page.absolute().as_uri())}">{html.escape(str(self.page))}</a></p>'
        missing = (f"{failure.get('method')}: {failure.get('reason')}" for failure in self.failed)
        return f"{_heading(str(self.summary.get('title')))}{link}{_paragraphs(missing)}{_table(self.frame)}"


@dataclass(frozen=True, eq=False)
class TuningResult:
    """The result of a search for the values of a method's parameters."""

    document: dict[str, Any]  # as `an8flower tune --json` prints it

    @property
    def method(self) -> str:
        """The text of the method with the chosen values, as `score` takes it."""
        return str(self.document["chosen"]["text"])

    @property
    def gain(self) -> dict[str, Any]:
        """What is gained on test rows, from chance (0) to the truth (1): `calibrated` with `low` to `high`, and `p`."""
        return dict(self.document["test"]["gain"])

    @cached_property
    def frame(self) -> pd.DataFrame:
        """A line for each trial: its values, its calibrated score on validation rows, and the best score so far."""
        numbers = ("calibrated", "low", "high", "best")
        lines = [
            {"trial": trial["number"], **trial["values"], **{name: trial[name] for name in numbers}}
            for trial in self.document["trials"]
        ]
        return pd.DataFrame(lines).astype(dict.fromkeys(numbers, "float64"))

    def _repr_html_(self) -> str:
        search, test = self.document["search"], self.document["test"]
        title = (
            f"{self.document['text']} tuned for {self.document['metric']} on {search['rows']} rows of {search['split']}"
        )
        gain = f"Gain on {test['rows']} test rows: {self.gain['calibrated']}, {gain_words(self.gain)}"
        return f"{_heading(title)}{_paragraphs([f'Chosen: {self.method}', gain])}{_table(self.frame)}"


def summary_frame(results: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    """The results of a document as a frame: `method` as the plan names it, `metric`, and a column for each number."""
    lines = [
        {
            "method": result["text"],
            "metric": metric,
            **{name: numbers[name] for name in NUMBERS},
            **{name: numbers.get(name) for name in BESIDE},
        }
        for result in results
        for metric, numbers in result["metrics"].items()
    ]
    frame = pd.DataFrame(lines, columns=["method", "metric", *NUMBERS, *BESIDE])
    counts = {"n": "int64", "undefined": "int64"}
    return frame.astype({name: counts.get(name, "float64") for name in (*NUMBERS, *BESIDE)})


def _heading(text: str) -> str:
    return f"<h3>{html.escape(text)}</h3>"


def _paragraphs(sentences: Iterable[str]) -> str:
    return "".join(f"<p>{html.escape(sentence)}</p>" for sentence in sentences)


def _table(frame: pd.DataFrame) -> str:
    return str(frame.to_html(escape=True, index=False, na_rep="-", float_format="{:.3f}".format, border=0))
