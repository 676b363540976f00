"""How examples get from a data set to a command: as arrays where they have room, else batch by batch."""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np

from nbconv import augment, data
from nbconv.cli.datasets import Part
from nbconv.data.digits import Examples
from nbconv.typing import Array

ROOM = 1 << 30  # bytes of decoded pictures that are kept in memory
_AT_ONCE = 64  # pictures in a batch that is only looked at


def held(part: Part, workers: int) -> Part:
    """The examples as arrays, if all have room in memory: then pictures are decoded once."""
    if isinstance(part, Examples):
        return part
    return _decoded(part, workers) if len(part) * _bytes(part) <= ROOM else part


def some(part: Part, workers: int, most: int | None = None) -> Examples:
    """As many of the examples as have room in memory, or at most so many, evenly from all of them."""
    if isinstance(part, Examples):
        chosen = _evenly(len(part.x), most or len(part.x))
        return Examples(part.x[chosen], part.y[chosen])
    chosen = _evenly(len(part), min(most or len(part), max(1, ROOM // _bytes(part))))
    return _decoded(data.Subset(part, np.arange(len(part))[chosen]), workers)


def to_train_on(
    part: Part, options: argparse.Namespace, transform: augment.Transform | None
) -> dict[str, Any]:
    """The arguments of ``Trainer.fit`` that say what to train on; the batches are the same either way."""
    if isinstance(part, Examples):
        return {"x": part.x, "y": part.y, "batch_size": options.batch_size, "augment": transform}
    seed, workers = options.seed, options.workers
    loader = data.DataLoader(
        part, options.batch_size, True, seed=seed, transform=transform, num_workers=workers
    )
    return {"x": loader}


def to_validate_on(part: Part, options: argparse.Namespace) -> Examples | data.DataLoader:
    """What ``Trainer.fit`` takes as validation data."""
    if isinstance(part, Examples):
        return part
    return data.DataLoader(part, options.batch_size, num_workers=options.workers)


def to_measure(part: Part, workers: int) -> Array | data.DataLoader:
    """What preprocessing is fitted on."""
    return part.x if isinstance(part, Examples) else data.DataLoader(part, _AT_ONCE, num_workers=workers)


def batches(part: Part, batch_size: int, workers: int) -> tuple[Any, Any]:
    """What ``Trainer.evaluate`` takes as x and y."""
    if isinstance(part, Examples):
        return part
    return data.DataLoader(part, batch_size, num_workers=workers), None


def count(part: Part) -> int:
    """The number of examples."""
    return len(part.x) if isinstance(part, Examples) else len(part)


def _evenly(examples: int, most: int) -> slice:
    return slice(0, None, -(-examples // most))


def _bytes(part: data.Dataset) -> int:
    return int(part[0][0].size) * np.dtype(np.float32).itemsize


def _decoded(pictures: data.Dataset, workers: int) -> Examples:
    found = list(data.DataLoader(pictures, _AT_ONCE, num_workers=workers))
    rows = np.concatenate([x.transpose(0, 2, 3, 1) for x, _ in found])
    return Examples(rows.transpose(0, 3, 1, 2), np.concatenate([y for _, y in found]))
