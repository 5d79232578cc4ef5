"""The stage that asks whether a method's maps agree between models, and between scenes, that themselves agree."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import BaseModel

from an8flower.errors import NotApplicable

from ...results import answers
from ...results.kept_maps import to_half_precision
from ...results.ledger import Cell
from ...results.statistics.agreement import STABLE, UNKNOWN, MapPair, measure_agreement
from ...results.wording import reliance
from ..cell_tasks import CellOutcome, CellTask, run_cell
from ..plan_table import Count, PlanTable, to_words
from ..stage import Stage, register

if TYPE_CHECKING:
    from torch import Tensor

    from ...scoring.judge import Judge
    from ...scoring.model_cells import ModelCells
    from ..opened import ModelWords

SEEDS, NUISANCE = "seeds", "nuisance"
TOO_FEW = "no two models of this architecture have a certificate that says that they rely on the evidence"
OTHER_PIXELS = "the models themselves are not shown to use the same pixels of the evidence, by their effect maps"
NO_ROW = "no row in which the models agree and the maps vary"
Arrays = dict[str, np.ndarray]


class AgreementTable(PlanTable):
    """The options of the agreement of maps: which methods, and on how many rows."""

    methods: tuple[str, ...] | None = None  # those of the plan where None
    rows: Count = 12  # or all if there are fewer


@register
class AgreementStage(Stage):
    """The stage that explains rows, and the same rows in other colours, by every method on every model.

    What the models themselves have in common, by their effect maps, stands beside the methods: only where they use
    the same pixels can a method be blamed for maps that differ between them.
    """

    name = "agreement"
    folders = ("agreement",)
    suffix = ".npz"
    after = ("certificates",)
    rank = 4
    key = "agreement"

    @classmethod
    def table(cls) -> type[BaseModel]:
        """The type of the plan's table `[agreement]`."""
        return AgreementTable

    @cached_property
    def cells(self) -> list[tuple[ModelCells, str, Cell]]:
        """For each model a cell for its effect maps (no method), then one for each method; none if not asked for.

        Nor are there any if the data cannot be rendered again.
        """
        scoring = self.study.scoring
        if self.options is None or scoring.judge.world is None:
            return []
        from ...explaining.methods import parse_methods

        methods = parse_methods(self.options.methods or self.study.plan.methods)
        words = to_words(AgreementTable(rows=self.options.rows), "Agreement")
        names = ["", *(method.text for method in methods)]
        return [(model, name, self.cell(model, name, words)) for model in scoring.models for name in names]

    def tasks(self) -> Iterator[CellTask]:
        """The tasks that explain the rows by each method on each model."""
        for model, method, cell in self.cells:
            words, place = self.words_of(model), self.place(cell)
            if method:
                yield self.task(cell, explain_again, words, method, self.options.rows, place)
            else:
                yield self.task(cell, file_effects, words, self.options.rows, place)

    def to_document(self) -> dict[str, Any]:
        """How far the maps of each method agree on each architecture, between seeds and across nuisance."""
        if not self.cells:
            return {}
        certificates = self.earlier["certificates"].to_document()["certificates"]
        relying = {certificate["model"] for certificate in certificates if reliance(certificate) == "yes"}
        by_method: dict[tuple[str, str], dict[str, Arrays]] = {}
        for model, method, cell in self.cells:
            arrays = answers.read_sealed_arrays(Path(self.place(cell)))
            if arrays is not None:
                by_method.setdefault((method, model.classifier.arch), {})[model.name] = arrays
        return {"agreement": list(list_entries(by_method, relying, self.study.scoring.judge.seed))}


def list_entries(
    by_method: dict[tuple[str, str], dict[str, Arrays]], relying: set[str], seed: int
) -> Iterator[dict[str, Any]]:
    """The entries of each architecture: its models' effect maps first (no method), then each method.

    Args:
        by_method: the arrays of each model by its name, for each method and architecture.
        relying: the names of the models that rely on the evidence.
    """
    for arch in dict.fromkeys(arch for _, arch in by_method):
        reference = between_seeds(by_method.get(("", arch), {}), relying, seed)
        yield {"method": None, "architecture": arch, **reference}
        for (method, its_arch), models in by_method.items():
            if method and its_arch == arch:
                of_seeds = hold_against(reference, between_seeds(models, relying, seed))
                for entry in (of_seeds, across_nuisance(models, seed)):
                    yield {"method": method, "architecture": arch, **entry}


def between_seeds(models: dict[str, Arrays], relying: set[str], seed: int) -> dict[str, Any]:
    """The agreement of the maps of each two models that rely on the evidence, in the rows that both get right."""
    chosen = [name for name in models if name in relying]
    pairs = [
        MapPair(flatten(first["maps"]), flatten(second["maps"]), first["counts"], first["right"] & second["right"])
        for first, second in combinations([models[name] for name in chosen], 2)
    ]
    return _entry(SEEDS, chosen, pairs, seed, TOO_FEW)


def hold_against(reference: dict[str, Any], entry: dict[str, Any]) -> dict[str, Any]:
    """The entry of a method between seeds, unknown where the models themselves use other pixels of the evidence."""
    if entry["outcome"] == UNKNOWN or reference["outcome"] == STABLE:
        return entry
    return {**entry, "outcome": UNKNOWN, "reason": OTHER_PIXELS}


def across_nuisance(models: dict[str, Arrays], seed: int) -> dict[str, Any]:
    """The agreement of maps of the same scene in other colours, in the rows in which the prediction stays."""
    pairs = [
        MapPair(flatten(arrays["maps"]), flatten(arrays["again"]), arrays["counts"], arrays["stays"])
        for arrays in models.values()
    ]
    return _entry(NUISANCE, list(models), pairs, seed, NO_ROW)


def flatten(maps: np.ndarray) -> np.ndarray:
    """Maps (n, H, W) as rows of pixels, (n, H * W) float64."""
    return maps.reshape(len(maps), -1).astype(np.float64)


def _entry(kind: str, models: Sequence[str], pairs: Sequence[MapPair], seed: int, lacking: str) -> dict[str, Any]:
    """The entry of one comparison, with the reason if there is none."""
    start = {"kind": kind, "models": list(models)}
    if not pairs:
        return {**start, "outcome": UNKNOWN, "reason": lacking}
    measured = measure_agreement(pairs, seed)
    if not measured["rows"]:
        return {**start, "outcome": UNKNOWN, "reason": NO_ROW}
    same = "maps of other rows are the same map, so that nothing is left to agree on"
    return {**start, **measured, "reason": same if measured["outcome"] == UNKNOWN else None}


def draw_seeds(digest: str, turn: int, rows: np.ndarray) -> Tensor:
    """Seeds (n,) int64 for methods that draw, others for each model and turn: luck is no agreement."""
    import torch

    from ...seeds import seed_of

    return torch.tensor([seed_of("agreement", digest, turn, row) for row in rows.tolist()])


def file_effects(model: ModelWords, rows: int, place: str) -> CellOutcome:
    """File the effect maps of a model for rows: what it uses itself, beside which the maps of methods are read."""
    from ...metrics.interventions.effect_map import measure_effects
    from ...trust.derivations import NO_GRADIENT, gives_gradient
    from ..opened import classifier_of, open_once, whole

    def make() -> None:
        judge = open_once(model).judge
        with whole(model):
            classifier, indices = classifier_of(model), choose_rows(judge, rows)
            predicted = judge.predict(classifier, indices)
            case = judge.case(classifier, indices, predicted)
            if not gives_gradient(classifier, case.query.images[:1]):
                raise NotApplicable(NO_GRADIENT)
            maps = measure_effects(case).maps.nan_to_num(0).cpu().numpy()  # a map of one value does not count
        arrays = {
            "maps": to_half_precision(maps),
            "counts": (case.truth.counted > 0).flatten(1).sum(1).cpu().numpy(),
            "right": predicted == judge.split.labels[indices],
        }
        answers.write_sealed_arrays(Path(place), arrays)

    return run_cell(make)


def choose_rows(judge: Judge, rows: int) -> np.ndarray:
    """The rows that are explained, or all if there are fewer: the same for all methods and models."""
    from ...data.selection import select_rows
    from ...seeds import seed_of

    labels = judge.split.labels
    return select_rows(labels, min(rows, len(labels)), seed_of("agreement", judge.seed))


def explain_again(model: ModelWords, method: str, rows: int, place: str) -> CellOutcome:
    """Explain rows, and the same rows in other colours, by a method on a model, and file the maps."""
    from ...explaining.stored_maps import BoundMaps
    from ...trust.unmoved import photograph_again
    from ..opened import classifier_of, fit_method, open_once, whole

    def make() -> None:
        judge = open_once(model).judge
        assert judge.world, "asked for only where rows can be rendered again"
        indices = choose_rows(judge, rows)
        with whole(model):
            ready, classifier = fit_method(model, method), classifier_of(model)
            if isinstance(ready.explainer, BoundMaps):
                raise NotApplicable(f"{method}: its maps lie in files, and there are none of other pictures")
            predicted = judge.predict(classifier, indices)
            case = judge.case(classifier, indices, predicted)
            images, unmoved = photograph_again(judge.world, case.truth.rows, judge.seed)
            queries = [
                case.query._replace(images=pictures, seeds=draw_seeds(model.digest, turn, indices))
                for turn, pictures in enumerate((case.query.images, images))
            ]
            maps = [judge.explain(classifier, ready, query).cpu().numpy() for query in queries]
            portions = images.split(model.study.resources.in_flight)
            after = np.concatenate([classifier.predict(portion).cpu().numpy() for portion in portions])
        arrays = {
            "maps": to_half_precision(maps[0]),
            "again": to_half_precision(maps[1]),
            "counts": (case.truth.counted > 0).flatten(1).sum(1).cpu().numpy(),
            "right": predicted == judge.split.labels[indices],
            "stays": unmoved & (after == predicted),
        }
        answers.write_sealed_arrays(Path(place), arrays)

    return run_cell(make)
