"""The store as torch sees it: rows for the workers of a loader, whole splits for a device."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from an8flower.store import FlowerSplit, FlowerStore


class Batch(NamedTuple):
    """Some rows of a split, or all of them; of one row, without the first dimension."""

    images: Tensor  # (N, 3, S, S) uint8
    labels: Tensor  # (N,) int64
    masks: Tensor  # (N, S, S) uint8: 0 none, 1 evidence by presence, 2 by absence, 3 by gap


class FlowerDataset(Dataset[Batch]):
    """One split of a store, row by row; every process, forked or spawned, opens the file for itself."""

    def __init__(self, path: str | os.PathLike[str], split: str) -> None:
        self._path = Path(path)
        self._split = split
        self._opened: dict[int, FlowerSplit] = {}

    @property
    def rows(self) -> FlowerSplit:
        """The split in the store, opened on first use in this process: HDF5 files do not survive a fork."""
        process = os.getpid()
        if process not in self._opened:
            self._opened = {process: FlowerStore(self._path)[self._split]}
        return self._opened[process]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Batch:
        return Batch(*(tensor[0] for tensor in read_tensors(self.rows, index, index + 1)))

    def __getstate__(self) -> dict[str, Any]:
        """What travels to a worker: all but the open file."""
        return {**self.__dict__, "_opened": {}}


def read_tensors(split: FlowerSplit, start: int, stop: int) -> Batch:
    """Rows [start, stop) of a split, on the CPU; images keep their bytes in place, hence are channels-last."""
    rows = split.rows(start, stop)
    images, labels, masks = map(torch.from_numpy, (rows.images, rows.labels, rows.masks))
    return Batch(images.permute(0, 3, 1, 2), labels, masks)


def split_tensors(split: FlowerSplit, device: torch.device | str = "cpu", slice_rows: int = 1024) -> Batch:
    """A whole split on a device, read in slices, so that the host holds one slice beside what the device holds."""
    count, start = len(split), 0
    whole: Batch | None = None
    for start in range(0, count, slice_rows):
        portion = read_tensors(split, start, min(start + slice_rows, count))
        whole = whole or Batch(*(empty_like(tensor, count, device) for tensor in portion))
        for target, source in zip(whole, portion, strict=True):
            target[start : start + len(source)] = source.to(device)
    return whole if whole is not None else read_tensors(split, 0, 0)


def empty_like(tensor: Tensor, count: int, device: torch.device | str) -> Tensor:
    """Room for that many rows like a tensor's, with its layout in memory."""
    layout = torch.channels_last if tensor.ndim == 4 else torch.contiguous_format
    return torch.empty((count, *tensor.shape[1:]), dtype=tensor.dtype, device=device, memory_format=layout)


class RowSource(Protocol):
    """Rows to train on or to measure with, in batches on a device."""

    def __len__(self) -> int: ...

    def batches(self, order: Tensor, batch: int) -> Iterator[Batch]:
        """The rows whose indices `order` (N,) int64 lists, in that order."""
        ...


class ResidentRows:
    """Rows of a split that lie on the device."""

    def __init__(self, rows: Batch) -> None:
        self._rows = rows

    def __len__(self) -> int:
        return len(self._rows.labels)

    def batches(self, order: Tensor, batch: int) -> Iterator[Batch]:
        """The rows in this order, picked on the device."""
        for indices in order.to(self._rows.labels.device).split(batch):
            yield Batch(*(tensor[indices] for tensor in self._rows))


class StreamedRows:
    """Rows of a split that workers read from the file anew in every epoch."""

    def __init__(self, dataset: FlowerDataset, device: torch.device | str, workers: int = 2) -> None:
        self._dataset = dataset
        self._device = device
        self._workers = workers

    def __len__(self) -> int:
        return len(self._dataset)

    def batches(self, order: Tensor, batch: int) -> Iterator[Batch]:
        """The rows in this order, which workers read ahead of their use."""
        loader = DataLoader(
            self._dataset,
            batch,
            sampler=order.tolist(),
            num_workers=self._workers,
            generator=torch.Generator(),  # else the loader draws from the global one
        )
        for rows in loader:
            yield Batch(*(tensor.to(self._device, non_blocking=True) for tensor in rows))


def open_rows(store: FlowerStore, split: str, device: torch.device | str) -> RowSource:
    """The rows of a split, on the device if it has room for them, else streamed from the file."""
    needed = len(store[split]) * 4 * store.size**2  # three bytes of image and one of mask for each pixel
    if needed <= bytes_available(torch.device(device)):
        return ResidentRows(split_tensors(store[split], device))
    return StreamedRows(FlowerDataset(store.path, split), device)


def bytes_available(device: torch.device) -> float:
    """Bytes that a split may take on a device: half of what a GPU has left, a quarter of the host's memory."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0] / 2
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 4
