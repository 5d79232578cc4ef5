"""A split of a store as torch knows it: a map-style data set of pictures, labels, masks and part maps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.data import Dataset, default_collate

from an8flower.names import check_known
from an8flower.store import FlowerSplit

from .batches import FlowerDataset

DTYPES = ("float32", "uint8")


class Picture(NamedTuple):
    """One row of a split, or several with a dimension N before."""

    image: Tensor  # (3, S, S): float32 in [0, 1], or uint8
    label: Tensor  # () int64
    mask: Tensor  # (S, S) uint8: 0 none, 1 evidence by presence, 2 by absence, 3 by gap
    parts: Tensor | None  # (S, S) uint8: id of the part at the pixel; None if the data set has no part maps


class PictureDataset(Dataset[Picture]):
    """The rows of a split for torch's loaders; every process, forked or spawned, opens the file for itself."""

    def __init__(self, split: FlowerSplit, dtype: str = "float32") -> None:
        check_known("dtype", dtype, DTYPES)
        self._rows = FlowerDataset(split.store.path, split.name)
        self._dtype = dtype

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> Picture:
        count = len(self)
        if not -count <= index < count:
            raise IndexError(f"row {index} came, there are {count}")
        start = index % count
        rows = self._rows.rows.rows(start, start + 1)
        image = torch.from_numpy(rows.images[0]).permute(2, 0, 1).contiguous()
        image = image.float() / 255 if self._dtype == "float32" else image
        parts = None if rows.parts is None else torch.from_numpy(rows.parts[0])
        return Picture(image, torch.tensor(rows.labels[0]), torch.from_numpy(rows.masks[0]), parts)

    @staticmethod
    def collate(items: Sequence[Picture]) -> Picture:
        """Stack rows to a batch; `parts` is None where the data set has no part maps.

        It is for `DataLoader(..., collate_fn=dataset.collate)`; with part maps, torch's own does the same.
        """
        images, labels, masks = (default_collate([item[field] for item in items]) for field in range(3))
        parts = [item.parts for item in items if item.parts is not None]
        return Picture(images, labels, masks, default_collate(parts) if parts else None)


def dataset(split: FlowerSplit, dtype: str = "float32") -> PictureDataset:
    """A split of a store as a torch data set of (image, label, mask, parts).

    >>> pictures = dataset(store["test"])  # doctest: +SKIP
    >>> loader = DataLoader(pictures, 32, collate_fn=pictures.collate)  # doctest: +SKIP

    Args:
        split: as `FlowerStore(path)["test"]` gives it.
        dtype: of the images: `float32` in [0, 1], or `uint8` as they are stored.

    Raises:
        WrongUsage: another dtype.
    """
    return PictureDataset(split, dtype)
