"""Where a training run takes its batches from."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Protocol, TypeGuard, runtime_checkable

import numpy as np

from nbconv import backends
from nbconv.augment import batch_seed
from nbconv.typing import Array

Batch = tuple[Array, Array]

Augment = Callable[[Array, Array, int], Batch]
"""``augment(x, y, seed) -> (x, y)`` on a batch."""


@runtime_checkable
class Loader(Protocol):
    """What ``Trainer`` takes in place of arrays: ``nb.data.DataLoader`` and whatever behaves like it."""

    @property
    def examples(self) -> int:
        """Examples in an epoch."""
        ...

    def __len__(self) -> int:
        """Batches in an epoch."""
        ...

    def __iter__(self) -> Iterator[Batch]:
        """The batches (x, y) of the epoch that was set."""
        ...

    def iterate_from(self, batch: int) -> Iterator[Batch]:
        """The same, but for the first ``batch`` of them."""
        ...

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch, which decides on the order."""
        ...


def is_loader(data: Any) -> TypeGuard[Loader]:
    """Whether something gives batches by itself."""
    return not backends.is_array(data) and isinstance(data, Loader)


class Source(Protocol):
    """Gives the batches of an epoch, always the same ones for the same epoch."""

    examples: int

    def __len__(self) -> int: ...

    def batches(self, epoch: int, first: int) -> Iterator[Batch]:
        """The batches of an epoch from number ``first`` on."""
        ...


class ArraySource:
    """Batches of the examples at some indices of arrays; shuffled for each epoch, unless the seed is None."""

    def __init__(self, x: Array, y: Array, indices: Array, batch_size: int, seed: int | None) -> None:
        self._x, self._y, self._indices, self._size, self._seed = x, y, indices, batch_size, seed
        self._take = _taker(x, batch_size)
        self.examples = len(indices)

    def __len__(self) -> int:
        return -(-len(self._indices) // self._size)

    def batches(self, epoch: int, first: int) -> Iterator[Batch]:
        """The batches of an epoch from number ``first`` on."""
        order = self._indices
        if self._seed is not None:
            order = np.random.default_rng([self._seed, epoch]).permutation(order)
        for start in range(first * self._size, len(order), self._size):
            index = order[start : start + self._size]
            yield self._take(index), _at(self._y, index)


class LoaderSource:
    """Batches of a loader."""

    def __init__(self, loader: Loader) -> None:
        self._loader = loader
        self.examples = int(loader.examples)

    def __len__(self) -> int:
        return len(self._loader)

    def batches(self, epoch: int, first: int) -> Iterator[Batch]:
        """The batches of an epoch from number ``first`` on."""
        self._loader.set_epoch(epoch)
        return self._loader.iterate_from(first)


def in_order(x: Array, y: Array, batch_size: int) -> Iterator[Batch]:
    """Views of the examples in the order they are in."""
    for start in range(0, len(x), batch_size):
        yield x[start : start + batch_size], y[start : start + batch_size]


def augmented(
    batches: Iterable[Batch], augment: Augment, seed: int, epoch: int, first: int = 0
) -> Iterator[Batch]:
    """The batches of one epoch, from number ``first`` on, as ``augment`` makes them."""
    for number, (x, y) in enumerate(batches, first):
        yield augment(x, y, batch_seed(seed, epoch, number))


def _taker(x: Array, batch_size: int) -> Callable[[Array], Array]:
    """A function that gathers the examples at some indices.

    Channels-last images are gathered into channels-last memory, which serves all batches: a step is over when
    the next batch is taken. Other layouts are gathered as they are; the model converts them where they enter.
    """
    rows = x.transpose(0, 2, 3, 1) if x.ndim == 4 else x
    if backends.is_on_device(x) or not rows.flags.c_contiguous:
        return lambda index: _at(x, index)
    memory = np.empty((min(batch_size, len(x)), *rows.shape[1:]), x.dtype)

    def take(index: Array) -> Array:
        # mode="clip" because NumPy writes straight into ``out`` only where no index can be an error.
        batch = np.take(rows, index, axis=0, out=memory[: len(index)], mode="clip")
        return batch.transpose(0, 3, 1, 2) if x.ndim == 4 else batch

    return take


def _at(array: Array, index: Array) -> Array:
    """The examples at some indices, where the array is."""
    if backends.is_on_device(array):
        index = backends.to_backend(index, backends.of_array(array))
    taken: Array = array[index]
    return taken
