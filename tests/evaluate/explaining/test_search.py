"""The search for values: a known optimum is found, a small space is tried whole, the same seed goes the same way."""

from __future__ import annotations

import builtins
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor

from an8flower.errors import NotApplicable, Refusal, WrongUsage
from an8flower.evaluate.case import Query
from an8flower.evaluate.explainers.ranges import Between, Choices
from an8flower.evaluate.explaining.contract_networks import build_in_place, build_vit
from an8flower.evaluate.explaining.methods import Method, parse_method
from an8flower.evaluate.explaining.search import Measure, choose_best, search
from an8flower.evaluate.explaining.search_space import Tunable, Values, find_tunable
from an8flower.evaluate.models.classifier import Classifier


@dataclass(frozen=True)
class Bump:
    """An explainer whose score is made up: the best value is known."""

    place: float = 0.9
    kind: str = "flat"
    steps: int = 1
    ranges: ClassVar = {"place": Between(0.0, 1.0), "kind": Choices(("flat", "sharp")), "steps": Between(1, 3)}

    def __call__(self, classifier: Classifier, query: Query) -> Tensor:
        return torch.zeros(len(query.images), *query.images.shape[2:])


BUMP = Tunable(Method("bump", "bump", Bump()), Bump.ranges)
OPTIMUM = 0.3


def height(values: Values) -> float:
    """Highest at 0.3, sharp, with 3 steps: 1.0."""
    near = math.exp(-(((values["place"] - OPTIMUM) / 0.2) ** 2))
    return 0.7 * near + 0.2 * (values["kind"] == "sharp") + 0.05 * (values["steps"] - 1)


def measuring(calls: list[int] | None = None, noise: float = 0.0) -> Measure:
    def measure(combinations: Sequence[Values]) -> list[float | None]:
        if calls is not None:
            calls.append(len(combinations))
        return [height(values) + noise * (-1) ** i for i, values in enumerate(combinations)]

    return measure


def test_a_known_optimum_is_found() -> None:
    pytest.importorskip("optuna")
    trials = search(BUMP, 60, 0, measuring())
    best = choose_best(trials)
    assert len(trials) == 60
    assert trials[0].values == {"place": 0.9, "kind": "flat", "steps": 1}  # the user's own
    assert best is not None
    assert best.score is not None
    assert best.score > 0.99
    assert abs(best.values["place"] - OPTIMUM) < 0.05
    assert (best.values["kind"], best.values["steps"]) == ("sharp", 3)


def test_the_same_seed_goes_the_same_way() -> None:
    """Rounding of scores does not change it, as other batches bring it about; another seed goes another way."""
    pytest.importorskip("optuna")
    first = [trial.values for trial in search(BUMP, 14, 3, measuring())]
    assert first == [trial.values for trial in search(BUMP, 14, 3, measuring(noise=1e-9))]
    assert first != [trial.values for trial in search(BUMP, 14, 4, measuring())]


def test_a_small_space_is_tried_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """Six combinations are one grid, in one go and without Optuna; the best is the best of all."""
    monkeypatch.setattr("an8flower.evaluate.explaining.search.import_optuna", lambda: pytest.fail("not needed"))
    small = Tunable(BUMP.method, {name: Bump.ranges[name] for name in ("kind", "steps")})
    calls: list[int] = []
    trials = search(
        small, 6, 0, lambda combinations: measuring(calls)([{"place": OPTIMUM, **values} for values in combinations])
    )
    assert calls == [6]
    every = {(kind, steps) for kind, steps in itertools.product(("flat", "sharp"), (1, 2, 3))}
    assert {(trial.values["kind"], trial.values["steps"]) for trial in trials} == every
    best = choose_best(trials)
    assert best is not None
    assert best.values == {"kind": "sharp", "steps": 3}


def test_what_has_no_score_is_never_chosen() -> None:
    pytest.importorskip("optuna")

    def measure(combinations: Sequence[Values]) -> list[float | None]:
        return [None if values["kind"] == "sharp" else height(values) for values in combinations]

    best = choose_best(search(BUMP, 12, 0, measure))
    assert best is not None
    assert best.values["kind"] == "flat"
    assert choose_best(search(BUMP, 5, 0, lambda combinations: [None] * len(combinations))) is None


def test_without_optuna_one_sentence_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def refuse(name: str, *rest: Any) -> Any:
        if name == "optuna":
            raise ModuleNotFoundError("No module named 'optuna'")
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(Refusal, match=r"No module named 'optuna'\); install it with `pip install an8flower\[tune\]`"):
        search(BUMP, 5, 0, measuring())


def test_a_method_with_other_values() -> None:
    """Its text says what differs from the user's own, and reads as the same explainer."""
    found = find_tunable(parse_method("smoothgrad:samples=20"), [build_in_place()])
    assert set(found.space) == {"pooling", "spread"}  # what the user has set stays
    changed = found.with_values({"pooling": "l2", "spread": 0.15})
    assert changed.text == "smoothgrad:samples=20,pooling=l2"
    assert parse_method(changed.text).explainer == changed.explainer
    assert found.with_values(found.start) == found.method
    bare = find_tunable(parse_method("smoothgrad"), [build_in_place()])
    assert bare.with_values(bare.start | {"samples": 12}).text == "smoothgrad:samples=12"


def test_what_can_be_tuned_is_what_all_networks_have() -> None:
    both = [build_in_place(), build_vit()]
    assert find_tunable(parse_method("gradcam"), both[:1]).space["layer"] == Choices((None, "features.1"))
    with pytest.raises(NotApplicable, match="gradcam has no parameter that leaves a choice here"):
        find_tunable(parse_method("gradcam"), both)
    with pytest.raises(NotApplicable, match="random has no parameter that leaves a choice"):
        find_tunable(parse_method("random"), both)
    assert list(find_tunable(parse_method("rollout"), both[1:], ["discard"]).space) == ["discard"]
    with pytest.raises(WrongUsage, match='unknown parameter with a range "gama"; did you mean "gamma"'):
        find_tunable(parse_method("finercam"), both[:1], ["gama"])
    with pytest.raises(WrongUsage, match="finercam:gamma=1: gamma is set there already"):
        find_tunable(parse_method("finercam:gamma=1"), both[:1], ["gamma"])
