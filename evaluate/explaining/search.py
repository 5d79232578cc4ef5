"""The search for the values of a method's parameters that score best: all of them if they are few, else by Optuna."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

from an8flower.errors import Refusal

from ..explainers.ranges import Between, Choices
from ..seeds import seed_of
from .search_space import Tunable, Values, shorten

GENERATION = 4  # values that are proposed at once, whoever computes them: a search must not depend on the machine
COMPARED = 6  # digits behind the point in which scores are compared: less is rounding, which differs between batches

Measure = Callable[[Sequence[Values]], Sequence[float | None]]
"""The score of each of some combinations of values, larger is better; None if it has none."""


class SearchTrial(NamedTuple):
    """A combination of values that was tried, and its score."""

    values: Values
    score: float | None  # larger is better; None if it has none


def search(tunable: Tunable, trials: int, seed: int, measure: Measure) -> list[SearchTrial]:
    """Try combinations of values, the user's own first; the same seed tries the same ones.

    If there are no more than `trials` combinations, all of them are tried, else those that Optuna's TPE proposes.

    Raises:
        Refusal: Optuna is wanted and not installed.

    Source: Bergstra et al., Algorithms for Hyper-Parameter Optimization, NeurIPS 2011 (TPE); Akiba et al., KDD 2019.
    """
    start = tunable.start
    if is_grid(tunable, trials):
        rest = [values for values in tunable.grid() if values != start]
        return _try([start, *rest][:trials], measure)
    optuna = import_optuna()
    first = _try([start], measure)
    with _quiet(optuna):
        return first + _propose(optuna, tunable, trials - 1, seed, first[0], measure)


def is_grid(tunable: Tunable, trials: int) -> bool:
    """Whether so many trials are enough to try every combination of values."""
    return tunable.count <= trials


def choose_best(trials: Sequence[SearchTrial]) -> SearchTrial | None:
    """The trial with the largest score, the first of several; None if none has a score."""
    scored = [trial for trial in trials if trial.score is not None]
    return max(scored, key=lambda trial: trial.score or 0.0, default=None)


def _try(combinations: Sequence[Values], measure: Measure) -> list[SearchTrial]:
    """Measure combinations of values; scores are rounded, so that ties are ties in every batch."""
    scores = measure(combinations)
    rounded = [None if score is None else round(score, COMPARED) for score in scores]
    return [SearchTrial(values, score) for values, score in zip(combinations, rounded, strict=True)]


def _propose(
    optuna: Any, tunable: Tunable, trials: int, seed: int, start: SearchTrial, measure: Measure
) -> list[SearchTrial]:
    """Try what Optuna's TPE proposes, a few at a time; what was tried before is not measured again."""
    sampler = optuna.samplers.TPESampler(seed=seed_of("tuning", seed) % 2**32)
    study = optuna.create_study(sampler=sampler, direction="maximize")
    distributions = {name: _to_distribution(optuna, values) for name, values in tunable.space.items()}
    _add(optuna, study, distributions, start)
    done: list[SearchTrial] = []
    while len(done) < trials:
        proposals = [study.ask(distributions) for _ in range(min(GENERATION, trials - len(done)))]
        generation = _try([shorten(proposal.params) for proposal in proposals], measure)
        for proposal, trial in zip(proposals, generation, strict=True):
            failed = {"state": optuna.trial.TrialState.FAIL} if trial.score is None else {"values": trial.score}
            study.tell(proposal, **failed)
        done += generation
    return done


def _add(optuna: Any, study: Any, distributions: dict[str, Any], trial: SearchTrial) -> None:
    """Let a study know of a trial, unless a value lies outside the ranges, as a default may."""
    inside = all(_holds(distribution, trial.values[name]) for name, distribution in distributions.items())
    if inside and trial.score is not None:
        known = {"params": trial.values, "distributions": distributions, "value": trial.score}
        study.add_trial(optuna.trial.create_trial(**known))


def _holds(distribution: Any, value: Any) -> bool:
    """Whether a value is one of a distribution."""
    if hasattr(distribution, "choices"):
        return value in distribution.choices
    return value is not None and distribution.low <= value <= distribution.high


def _to_distribution(optuna: Any, values: Between | Choices) -> Any:
    """A range in Optuna's words."""
    if isinstance(values, Choices):
        return optuna.distributions.CategoricalDistribution(values.values)
    kind = optuna.distributions.IntDistribution if values.whole else optuna.distributions.FloatDistribution
    return kind(values.low, values.high, log=values.log)


def import_optuna() -> Any:
    """Import Optuna, which is no part of the plain installation; raises Refusal if it is not there."""
    try:
        import optuna
    except ImportError as error:
        raise Refusal(
            f"tuning more values than there are trials needs a package ({error}); install it with "
            "`pip install an8flower[tune]`, or have fewer parameters tuned"
        ) from None
    return optuna


@contextmanager
def _quiet(optuna: Any) -> Iterator[None]:
    """A block in which Optuna reports warnings alone; its verbosity is put back."""
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(before)
