"""An earlier audit that a new one is compared with: read from its folder, and refused where nothing can be compared."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa

from an8flower.errors import Refusal

from .baseline_form import refuse_other_form
from .files import read_json
from .folder import RunFolder
from .manifest import MANIFEST, roles_of, verify_run

REMEDY = "give the folder of another run with --against"
ROWS_MISSING = "the rows of the earlier run are not at hand, so means are compared as if they were of other rows"


class ScoredStudy(NamedTuple):
    """The scores of one data set of an audit: the document, and the long rows if they are at hand."""

    document: Mapping[str, Any]  # as in the studies of a summary
    table: pa.Table | None
    explainers: Mapping[str, str]  # as long rows name them, by the methods' texts

    @property
    def name(self) -> str:
        """The name of the data set."""
        return str(self.document["dataset"]["name"])

    @property
    def digest(self) -> str:
        """The digest of the data set."""
        return str(self.document["dataset"]["digest"])

    @property
    def scores(self) -> Mapping[str, Any]:
        """The document of the scores."""
        return dict(self.document["scores"])


@dataclass(frozen=True)
class Baseline:
    """A finished audit whose files are those that its manifest lists."""

    folder: Path
    summary: Mapping[str, Any]
    digest: str  # of the manifest
    missing: Sequence[str]  # data and weights that do not lie where they lay

    def studies(self) -> list[ScoredStudy]:
        """Its data sets with their long rows, as far as these are at hand."""
        return [self._read(study) for study in self.summary["studies"]]

    def _read(self, study: Mapping[str, Any]) -> ScoredStudy:
        filed = study.get("long_rows") or {}
        try:
            table = RunFolder(self.folder).table(filed["parts"]) if filed else None
        except Refusal:
            table = None
        return ScoredStudy(study, table, filed.get("explainers") or {})

    def refuse_other_data(
        self, data: Iterable[tuple[str, str | None]], split: str, target: str, truth: str = "association"
    ) -> None:
        """Raise a Refusal if the run scored other data, another split, target or truth than a new audit does.

        Args:
            data: the name of each data set of the new audit, and its digest; None if that is not known yet.
        """
        pairs = [(name, digest, self._studies_of(name)) for name, digest in data]
        common = [(name, digest, studies) for name, digest, studies in pairs if studies]
        if not common:
            names = [study["dataset"]["name"] for study in self.summary["studies"]]
            raise Refusal(f"{self.folder}: scored other data ({', '.join(names) or 'none'}); {REMEDY}")
        for name, digest, studies in common:
            study = next((it for it in studies if it["dataset"]["digest"] == digest), studies[0])
            digest = digest or study["dataset"]["digest"]
            for what, before, now in (
                ("digest", str(study["dataset"]["digest"])[:12], digest[:12]),
                ("split", study["dataset"]["split"], split),
                ("target", study["scores"]["target"], target),
                ("truth", study["scores"].get("truth", "association"), truth),
            ):
                if before != now:
                    raise Refusal(
                        f"{self.folder}: scored another {what} of {name} ({before}, and not {now}), so that no row "
                        f"can be paired; {REMEDY}"
                    )

    def _studies_of(self, name: str) -> list[Mapping[str, Any]]:
        return [study for study in self.summary["studies"] if study["dataset"]["name"] == name]

    def refuse_other_metrics(self, metrics: Sequence[str]) -> None:
        """Raise a Refusal if the run has a metric under other options, or none of the metrics of a new audit."""
        of_run = {metric for study in self.summary["studies"] for metric in study["scores"]["families"]}
        for metric in metrics:
            others = [name for name in of_run - set(metrics) if _base(name) == _base(metric)]
            if metric not in of_run and others:
                raise Refusal(f"{self.folder}: scored {others[0]}, and not {metric}: other options; {REMEDY}")
        if not of_run & set(metrics):
            raise Refusal(
                f"{self.folder}: scored other metrics ({', '.join(sorted(of_run)) or 'none'}); name one of them in the "
                f"plan, or {REMEDY}"
            )

    def refuse_other_cards(self, cards: Iterable[Mapping[str, Any]]) -> None:
        """Raise a Refusal if a metric was computed in another way then, as the versions and parameters of cards say."""
        of_run = {
            card["name"]: card for study in self.summary["studies"] for card in study["scores"].get("cards") or ()
        }
        for card in cards:
            before = of_run.get(card["name"])
            if before and any(before.get(key) != card.get(key) for key in ("version", "parameters")):
                raise Refusal(
                    f"{self.folder}: computed {card['name']} in another way (version {before.get('version')}, and not "
                    f"{card.get('version')}); carry out its plan again with this version, or leave --against out"
                )


def _base(metric: str) -> str:
    """The name of a metric without its options."""
    return metric.partition(":")[0]


def open_baseline(folder: Path, remedy: str = REMEDY) -> Baseline:
    """Open a finished audit; raises Refusal if there is none, or if its files are not those of its manifest.

    Data and weights may be missing, since a run may have been moved without them; its summary and its plan may not.

    Args:
        remedy: how a refusal ends.
    """
    summary, manifest = read_json(folder / "summary.json"), read_json(folder / MANIFEST)
    if summary is None or manifest is None or not isinstance(summary.get("studies"), list):
        raise Refusal(
            f"{folder}: no finished audit is there to compare with; finish it with the command that began it, or "
            f"{remedy}"
        )
    states = verify_run(folder)
    roles = roles_of(folder)
    missing = [path for path, state in states.items() if state == "MISSING" and roles[path] not in ("plan", "summary")]
    if broken := [path for path, state in states.items() if state != "ok" and path not in missing]:
        raise Refusal(
            f"{folder}: not as its audit left it: {', '.join(broken)} ({states[broken[0]].lower()}); put the files "
            f"back, or {remedy}"
        )
    refuse_other_form(summary, folder / "summary.json", remedy)
    unseen = [path for path in missing if roles[path] in ("data", "weights")]
    return Baseline(folder, summary, str(manifest.get("digest")), unseen)
