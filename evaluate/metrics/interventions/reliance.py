"""Whether a model relies, row by row, on the evidence that a data set was designed to have: what scores rest on.

One scene a row is rendered again, and a second one where the data have a shortcut; `certificate.py` asks for more.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from an8flower import interventions
from an8flower.errors import NotApplicable
from an8flower.evidence import sufficient_sets
from an8flower.spec import DatasetSpec

from ...data.ahead import make_ahead
from ...data.images import as_images
from ...data.world import World
from ...models.networks.batched_passes import Network
from ...resources import halve_where_memory_runs_out
from ...results.files import without_nan
from ...results.summary import RELIES
from ...results.wording import describe_redundancy
from ...seeds import seed_of

if TYPE_CHECKING:
    import pandas as pd

VERSION = 1  # of what is filed: a change makes it anew
AT_ONCE = 256  # scenes photographed at a time
LOW, HIGH = 0.5, 0.5  # shares of rows below and above which scores are not to be read without a warning

FOLLOWS, SHORTCUT = "follows", "shortcut"  # filed beside `results.RELIES`
WHY_UNDEFINED = {
    FOLLOWS: "the model predicts that class without the change already",
    SHORTCUT: "no other class has another value of the shortcut, or the row lacks the part that carries it",
}


def classify_scenes(network: Network, world: World, table: np.ndarray, batch: int) -> Tensor:
    """Render scenes (n,), n > 0, in bounded portions, and give their logits (n, C) on the CPU."""
    return next(classify_tables(network, world, [table], batch))


def classify_tables(network: Network, world: World, tables: Iterable[np.ndarray], batch: int) -> Iterator[Tensor]:
    """Render the scenes of each table (n,), n > 0, as `classify_scenes` does, and give their logits (n, C) on the CPU.

    The next portion is rendered while the network is asked about this one, across tables too, which are asked for as
    late as that allows.
    """
    logits = []
    for pictures, is_last in make_ahead(_render_portions(world, tables)):
        logits.append(_classify(network, as_images(pictures, world.device), batch))
        if is_last:
            yield torch.cat(logits).cpu()
            logits = []


def _render_portions(world: World, tables: Iterable[np.ndarray]) -> Iterator[tuple[np.ndarray, bool]]:
    """The pictures of each table's scenes, in portions, and whether a portion is the last of its table."""
    for table in tables:
        for start in range(0, len(table), AT_ONCE):
            yield world.render(table[start : start + AT_ONCE])[0], start + AT_ONCE >= len(table)


@torch.inference_mode()
def _classify(network: Network, images: Tensor, batch: int) -> Tensor:
    """The logits (n, C) of images; with smaller batches if memory runs out."""

    def classify_by(batch: int) -> Tensor:
        return torch.cat([network(portion) for portion in images.split(batch)])

    return halve_where_memory_runs_out(classify_by, batch, images.device)


def measure_reliance(
    network: Network, world: World, rows: np.ndarray, labels: np.ndarray, predicted: np.ndarray, batch: int
) -> dict[str, np.ndarray]:
    """Whether a model goes by the designed evidence in rows (n,) of a split: 1, 0, or NaN if undefined, by name.

    `follows`: with the class factors of another class, all else equal, that class is predicted. `relies`: it does, and
    the row as it is gets its own label. `shortcut`, where the data have one: with the shortcut's value of another
    class, all else equal, a class with that value is predicted. Raises NotApplicable where there is but one class.
    """
    if world.spec.class_count < 2:
        raise NotApplicable(f"{world.spec.name}: one class alone, so nothing can be changed from another class")
    table = world.factors(torch.from_numpy(rows))
    donors = world.near_classes(torch.from_numpy(rows), torch.from_numpy(labels)).cpu().numpy()
    predictions = _predict_scenes(network, world, interventions.as_class(world.spec, table, donors), batch)
    follows = np.where(predicted == donors, np.nan, predictions == donors)
    values = {RELIES: ((predicted == labels) & (predictions == donors)).astype(float), FOLLOWS: follows}
    if world.spec.shortcut:
        (rivals,) = donors_of(shortcut_rivals(world, table, labels), rows, 1, seed_of("rival"))
        changed = interventions.with_shortcut(world.spec, table, np.where(rivals < 0, labels, rivals))
        values[SHORTCUT] = goes_with_shortcut(world, rivals, _predict_scenes(network, world, changed, batch))
    return values


def goes_with_shortcut(world: World, rivals: np.ndarray, predictions: np.ndarray) -> np.ndarray:
    """Whether predictions (n,) go with the shortcut's value of the rivals (n,): 1 or 0, NaN where there is no rival."""
    values = _values(world)
    return np.where(rivals < 0, np.nan, values[predictions] == values[rivals])


def shortcut_rivals(world: World, table: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The classes whose value of the shortcut is not that of labels (n,), where scenes (n,) show it: (n, C) bool."""
    values = _values(world)
    return (values != values[labels, None]) & interventions.shows_shortcut(world.spec, table)[:, None]


def donors_of(candidates: np.ndarray, rows: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Up to `count` of the classes that candidates (n, C) bool allow a row, each once: (count, n), -1 where no more.

    They are fixed by the row's index, whoever else is asked about.
    """
    donors = np.full((count, len(rows)), -1)
    for i, row in enumerate(rows.tolist()):
        shuffled = np.random.default_rng(seed_of("donors", seed, row)).permutation(candidates.shape[1])
        allowed = shuffled[candidates[i, shuffled]][:count]
        donors[: len(allowed), i] = allowed
    return donors


def shares(filed: pd.DataFrame) -> dict[str, float | None]:
    """The shares that a report shows: means of the rows' defined values, None if no row has one."""
    keys = {RELIES: "share", FOLLOWS: "flip_rate", SHORTCUT: "shortcut_share"}
    means = {name: float(filed.value[filed.metric == name].mean()) for name in keys if (filed.metric == name).any()}
    return {keys[name]: without_nan(mean) for name, mean in means.items()}


def warnings(model: str, numbers: Mapping[str, float | None], spec: DatasetSpec) -> list[str]:
    """The warnings, as sentences, about a model whose scores do not mean what they seem to."""
    share, by_tag, shortcut = numbers["share"], numbers.get("shortcut_share"), spec.shortcut
    sentences = []
    if share is not None and share < LOW:
        sentences.append(
            f"{model} relies on the designed evidence in {share:.0%} of the rows: "
            "the designed truth is not what it uses, so a faithful map may score low and an unfaithful one high"
        )
    if shortcut and by_tag is not None and by_tag > HIGH:
        sentences.append(
            f"{model} goes with {shortcut.factor} in {by_tag:.0%} of the rows where it and the designed evidence "
            "disagree; `an8flower certify` tells more"
        )
    return sentences


def redundant_sets(spec: DatasetSpec) -> list[frozenset[str]]:
    """The minimal sufficient sets of classes that have several of them, each once; empty unless the spec is redundant.

    They are in the order of their parts' names.
    """
    sets = [sufficient_sets(spec, label) for label in range(spec.class_count)]
    return sorted({parts for of_class in sets if len(of_class) > 1 for parts in of_class}, key=sorted)


def redundancy_warnings(spec: DatasetSpec) -> list[str]:
    """The warning, as a sentence, that several sets of parts tell a class of the data; empty unless they do."""
    sets = [sorted(parts) for parts in redundant_sets(spec)]
    return [f"{spec.name} is redundant: {describe_redundancy(sets)}"] if sets else []


def _predict_scenes(network: Network, world: World, table: np.ndarray, batch: int) -> np.ndarray:
    """The predicted classes (n,) of scenes (n,)."""
    return classify_scenes(network, world, table, batch).argmax(1).numpy()


def _values(world: World) -> np.ndarray:
    """The shortcut's value in each class, (C,)."""
    shortcut = world.spec.shortcut
    return np.array(shortcut.values if shortcut else [0] * world.spec.class_count)
