"""A later version of the catalogue, with one more part and one more factor, for `test_growth.py`.

It runs in a process of its own, because the package reads the catalogue when it is imported.
"""

from __future__ import annotations

import json
import sys
from types import MappingProxyType
from typing import Any

import numpy as np

from an8flower import factors, scene
from an8flower.factors import Ends, Factor

NEW = {
    "butterfly.count": Factor("count", "how many butterflies there are", 0, high=3),
    "butterfly.colour": Factor("colour", "colour of all butterflies", "violet"),
    "butterfly.x": Factor("number", "place across the picture", Ends(-0.9, 0.9), -1, 1),
    "petals.gloss": Factor("number", "how much the petals shine", 0.0, 0, 1),
}


def butterfly(table: np.ndarray) -> scene.Pieces:
    """The shape of the new part: discs in a row, high up in the picture."""
    slot = np.arange(3)[None, :]
    x = table["butterfly.x"][:, None] + 0.2 * slot
    centre = np.stack([x, np.full(x.shape, 0.8), np.full(x.shape, 5.0)], axis=2)
    axes = np.broadcast_to(np.diag([0.1, 0.1, 0.02]), (*x.shape, 3, 3))
    colour = np.broadcast_to(scene.linear_rgb("violet"), (len(table), 1, 3))
    return scene.Pieces("butterfly", "petal", slot < table["butterfly.count"][:, None], centre, axes, colour)


def grow() -> None:
    """Add the new part and the new factors, in the midst and at the end; to be called before all other imports."""
    factors.PARTS += ("butterfly",)
    factors.FACTORS = MappingProxyType({"petals.gloss": NEW["petals.gloss"], **factors.FACTORS, **NEW})
    scene.PARTS, scene.FACTORS = factors.PARTS, factors.FACTORS
    scene.IN_PICTURE += (butterfly,)


def summary(path: str) -> dict[str, Any]:
    """What the later version makes of a file that was written before."""
    from an8flower import draw, interventions
    from an8flower.generate import generate
    from an8flower.marking import evidence_masks
    from an8flower.render import render
    from an8flower.store import FlowerStore, verify

    store = FlowerStore(path)
    split, spec = store["test"], store.spec
    assert spec is not None
    rows = split.rows(0, len(split))
    images, parts = render(scene.build(rows.factors), store.size, threads=1)
    other = interventions.redraw(spec, "test", np.arange(len(split)), rows.factors, list(NEW), 0)
    assert (render(scene.build(other), store.size, threads=1)[0] == images).all()
    assert not interventions.has(rows.factors, "butterfly").any()
    assert "butterfly" not in interventions.parts_of(spec)
    with_one = draw.override(rows.factors, {"butterfly.count": 1})
    return {
        "sound": all(holds for _, holds in verify(store.path)),
        "digest": spec.digest,
        "columns": list(rows.factors.dtype.names),
        "as drawn": bool((rows.factors == draw.factors(spec, "test", 0, len(split))).all()),
        "largest difference": int(np.abs(images.astype(int) - rows.images).max()),
        "same parts": bool((parts == rows.parts).all()),
        "same masks": bool((evidence_masks(spec, rows.labels, rows.factors) == rows.masks).all()),
        "existed": generate(spec, store.path).existed,
        "butterflies": bool((render(scene.build(with_one), store.size, threads=1)[1] == 8).any()),
    }


if __name__ == "__main__":
    grow()
    from an8flower import spec as specs
    from an8flower.generate import generate as write

    old, fresh, new = sys.argv[1:]
    larger = specs.from_mapping(
        {
            "name": "later",
            "size": 16,
            "rows": {"train": 2, "val": 0, "test": 2},
            "classes": {"butterfly.colour": ["red", "blue"]},
            "nuisance": {"butterfly.count": 2, "petals.gloss": 0.5},
        },
        "later",
    )
    write(larger, specs.Path(new))
    presets = {name: specs.load(name).digest for name in specs.presets()}
    print(json.dumps({"old": summary(old), "fresh": summary(fresh), "presets": presets}))
