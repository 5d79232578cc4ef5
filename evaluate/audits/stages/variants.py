"""The stage that sets networks with something built in beside the same networks without; it reads finished scores."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import TYPE_CHECKING, Any

from ...results.ledger import broken_metrics, without_metrics
from ..cell_tasks import CellTask
from ..stage import Stage, register

if TYPE_CHECKING:
    import pyarrow as pa

    from ...results.metric_values import MetricKind
    from ...results.variants import ModelFacts, PairedScores


@register
class VariantStage(Stage):
    """The stage that compares each variant of an architecture (`resnet18+cosine`) with the architecture itself."""

    name = "variants"
    folders = ("variants",)
    after = ("scores", "certificates")
    rank = 4

    def tasks(self) -> Iterator[CellTask]:
        """No tasks: everything is read off scores and certificates."""
        return iter(())

    def to_document(self) -> dict[str, Any]:
        """A document for each variant whose plain architecture was scored as well; nothing if there is none."""
        from ...results.variants import describe_facts
        from ..summary.printed_pairs import set_beside

        paired_scores = self._pair_scores()
        if not paired_scores:
            return {}
        kinds, facts, documents = self._kinds(), self._facts(), []
        for paired in paired_scores:
            metrics = {name: paired.describe(name, kind) for name, kind in kinds.items()}
            documents.append(
                {
                    "variant": paired.pair.variant,
                    "without": paired.pair.without,
                    "seeds": list(paired.pair.seeds),
                    **describe_facts(paired.pair, facts),
                    "metrics": {name: document for name, document in metrics.items() if document},
                    "printed": set_beside(self.study.plan.printed, paired, kinds),
                }
            )
        return {"variants": documents}

    def _kinds(self) -> dict[str, MetricKind]:
        """The metrics that did not fail, by their names."""
        whole = set(self._table["metric"].unique().to_pylist())
        return {metric.name: metric.kind for metric in self.study.scoring.judge.metrics if metric.name in whole}

    def _pair_scores(self) -> list[PairedScores]:
        """The scores of each variant with those of its plain architecture; a method that failed is left out."""
        from ...results.statistics.scores import ScoreArrays
        from ...results.summary import resampling_seed
        from ...results.variants import PairedScores, pair_variants
        from ...scoring.run import controls_of

        scoring, failed = self.study.scoring, self.earlier["scores"].ledger.failed
        if not pair_variants([model.name for model in scoring.models]):
            return []
        scores = ScoreArrays(self._table, {name: kind.select for name, kind in self._kinds().items()})
        incomplete = {entry["method"] for entry in failed}
        methods = {text: name for name, text in self.study.methods.items() if text not in incomplete}
        controls = frozenset(text for text, name in methods.items() if name in controls_of(scoring))
        seed = resampling_seed(scoring.plan.seed)
        return [PairedScores(scores, pair, methods, controls, seed) for pair in pair_variants(scores.models)]

    @cached_property
    def _table(self) -> pa.Table:
        """The long rows of the scores, without those of metrics that failed."""
        rows = self.study.run.table(self.earlier["scores"].ledger.filed)
        return without_metrics(rows, broken_metrics(rows))

    def _facts(self) -> dict[str, ModelFacts]:
        """The accuracy and the certificate of each model, by its name."""
        from ...results.variants import ModelFacts

        documents = self.earlier["certificates"].to_document().get("certificates", [])
        certificates = {document["model"]: document for document in documents}
        return {
            model.name: ModelFacts(model.classifier.card.accuracy, certificates.get(model.name))
            for model in self.study.scoring.models
        }
