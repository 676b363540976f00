"""Batches of a data set, made ahead of the trainer by threads.

Threads, not processes: batches need not be copied from one to the other. Decoding and compiled kernels let go
of Python's lock, so that the threads do work side by side.
"""

from __future__ import annotations

import operator
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np

from nbconv.augment import batch_seed
from nbconv.data.dataset import Dataset, batches_of
from nbconv.errors import DataError
from nbconv.typing import Array

Batch = tuple[Array, Array]


class DataLoader:
    """The batches of a data set, epoch by epoch: ``for x, y in loader``.

    A batch follows from the seed, the epoch and the batch's number alone: the batches are the same whatever
    the number of threads. Inputs of 8-bit integers become float32 in [0, 1]; images (N, C, H, W) lie
    channels-last in memory. An error in a thread is raised where the batch is asked for.

    Args:
        data: a pair of arrays (x, y), or a data set: ``len(data)`` examples, ``data[i]`` one (x, y), such as
            an :class:`ImageFolder`.
        batch_size: examples in a batch; the last one may be smaller.
        shuffle: go through the examples in another order each epoch.
        seed: of that order, ``default_rng([seed, epoch]).permutation(n)``, and of ``transform``; None for a
            random one.
        transform: called as ``transform(x, y, seed) -> (x, y)`` on each batch, in the threads, with a seed
            of the batch's own; see ``nb.augment``.
        num_workers: threads that make batches; with 0 each is made when it is asked for.
        prefetch_factor: batches that each thread is ahead.
        drop_last: leave out a last batch that is smaller.

    Attributes:
        epoch: of the next pass, counted from 0. A pass that reaches its end adds 1.

    Raises:
        DataError: when there are no examples, or the pair does not fit together.
        ValueError: for an impossible argument.
        TypeError: for a number that must be whole and is not.
    """

    def __init__(
        self,
        data: Dataset | Sequence[Any],
        batch_size: int = 32,
        shuffle: bool = False,
        *,
        seed: int | None = 0,
        transform: Callable[[Array, Array, int], Batch] | None = None,
        num_workers: int = 1,
        prefetch_factor: int = 2,
        drop_last: bool = False,
    ) -> None:
        for name, value, least in (
            ("batch_size", batch_size, 1),
            ("num_workers", num_workers, 0),
            ("prefetch_factor", prefetch_factor, 1),
            ("seed", 0 if seed is None else seed, 0),
        ):
            if operator.index(value) < least:
                raise ValueError(f"DataLoader: expected {name} of at least {least}, got {value}")
        self._batches = batches_of(data, "DataLoader")
        self.batch_size = batch_size
        self.shuffle = shuffle
        self.seed = int(np.random.default_rng().integers(2**63)) if seed is None else seed
        self.transform = transform
        self.num_workers = num_workers
        self.prefetch_factor = prefetch_factor
        self.drop_last = drop_last
        self.epoch = 0
        if not len(self):
            raise DataError(f"DataLoader: {len(self._batches)} examples do not fill a batch of {batch_size}")

    def __len__(self) -> int:
        """The number of batches in an epoch."""
        whole, rest = divmod(len(self._batches), self.batch_size)
        return whole + (rest > 0 and not self.drop_last)

    @property
    def examples(self) -> int:
        """The number of examples in an epoch."""
        return min(len(self._batches), len(self) * self.batch_size)

    def set_epoch(self, epoch: int) -> None:
        """Let the next pass be that of ``epoch``, counted from 0.

        Raises:
            ValueError: when it is negative.
        """
        if epoch < 0:
            raise ValueError(f"DataLoader.set_epoch: expected an epoch of at least 0, got {epoch}")
        self.epoch = epoch

    def __iter__(self) -> Iterator[Batch]:
        return self.iterate_from(0)

    def iterate_from(self, batch: int) -> Iterator[Batch]:
        """The batches of the current epoch from number ``batch`` on: a pass that was cut off goes on there.

        Raises:
            ValueError: when there is no such batch.
        """
        if not 0 <= batch <= len(self):
            raise ValueError(f"DataLoader.iterate_from: expected a batch of 0 to {len(self)}, got {batch}")
        return self._iterate(self.epoch, batch)

    def _iterate(self, epoch: int, first: int) -> Iterator[Batch]:
        n = len(self._batches)
        order = np.random.default_rng([self.seed, epoch]).permutation(n) if self.shuffle else np.arange(n)
        numbers = range(first, len(self))
        if self.num_workers:
            yield from self._made_ahead(epoch, order, numbers)
        else:
            for number in numbers:
                yield self._make(epoch, order, number)
        if self.epoch == epoch:
            self.epoch += 1

    def _made_ahead(self, epoch: int, order: Array, numbers: range) -> Iterator[Batch]:
        pool = ThreadPoolExecutor(self.num_workers, thread_name_prefix="nbconv-data")
        pending: deque[Future[Batch]] = deque()
        try:
            for number in numbers:
                pending.append(pool.submit(self._make, epoch, order, number))
                if len(pending) > self.num_workers * self.prefetch_factor:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)

    def _make(self, epoch: int, order: Array, number: int) -> Batch:
        try:
            x, y = self._batches.take(order[number * self.batch_size : (number + 1) * self.batch_size])
            if x.dtype == np.uint8:
                x = x / np.float32(255)
            if self.transform is None:
                return x, y
            made = self.transform(x, y, batch_seed(self.seed, epoch, number))
            if not isinstance(made, tuple | list) or len(made) != 2:
                raise DataError(f"DataLoader: transform must return (x, y), got {type(made).__name__}")
            return made[0], made[1]
        except Exception as error:
            error.add_note(f"(in batch {number} of epoch {epoch})")
            raise
