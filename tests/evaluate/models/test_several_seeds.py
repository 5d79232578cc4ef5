"""Several seeds in one command or call: a file each, and what the seeds' accuracies are together."""

from __future__ import annotations

import json
import statistics
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from an8flower.__main__ import main
from an8flower.errors import WrongUsage
from an8flower.evaluate import load, train, train_seeds
from an8flower.store import FlowerStore


def call(*words: object) -> Result:
    return CliRunner().invoke(main, [str(word) for word in words])


def test_seeds_are_trained_as_one_by_one_and_summed_up(small_file: Path) -> None:
    store = FlowerStore(small_file)
    result = train_seeds(store, "flowernet", seeds=[1, 0, 1], epochs=1)
    alone = [train(store, "flowernet", seed=seed, epochs=1) for seed in (1, 0)]
    assert result.accuracies == tuple(each.accuracy for each in alone)
    assert result.mean == pytest.approx(statistics.mean(result.accuracies))
    assert result.range == (min(result.accuracies), max(result.accuracies))
    for several, single in zip(result.results, alone, strict=True):
        assert several.classifier.digest == single.classifier.digest


@pytest.mark.parametrize("seeds", [0, [], [-1]])
def test_no_seed_is_no_training(small_file: Path, seeds: int | list[int]) -> None:
    with pytest.raises(WrongUsage, match="expected how many"):
        train_seeds(FlowerStore(small_file), "flowernet", seeds=seeds)


def test_one_command_trains_several_seeds(small_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    words = ("train", "--data", small_file, "--epochs", 1)
    done = call(*words, "--seeds", 2)
    assert done.exit_code == 0, done.output
    places = [tmp_path / f"runs/small/flowernet-seed{seed}.safetensors" for seed in (0, 1)]
    cards = [load(place).card for place in places]
    assert [card.seed for card in cards] == [0, 1]
    low, high = sorted(float(card.accuracy or 0) for card in cards)
    assert f"from {low:.2%} to {high:.2%} over 2 seeds" in done.stdout
    (last,) = [line for line in done.stdout.splitlines() if "mean" in line]
    assert f"{(low + high) / 2:.2%}" in last
    again = call(*words, "--seed", 1, "--seed", 0, "--json")
    assert [entry["seed"] for entry in json.loads(again.stdout)] == [1, 0]
    digests = [load(place).digest for place in places]
    assert len(set(digests)) == 2


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--seeds", 2, "-o", "one.safetensors"), "-o names one file, and 2 seeds came; leave -o out"),
        (("--seeds", 2, "--seed", 5), "--seeds says how many from 0 on, and --seed names them; give one of the two"),
        (("--seeds", 0), "0 is not in the range x>=1"),
    ],
)
def test_seeds_that_make_no_sense_are_refused(
    small_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[object, ...], sentence: str
) -> None:
    monkeypatch.chdir(tmp_path)
    refused = call("train", "--data", small_file, *words)
    assert refused.exit_code == 2
    assert sentence in " ".join(refused.output.split())
    assert not list(tmp_path.rglob("*.safetensors"))
