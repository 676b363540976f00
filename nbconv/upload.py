"""Batches brought to where a model computes, before it asks for them.

A GPU computes while the host goes on. The next batch is therefore taken from its source, and its copy begun,
before the work on the one before is asked for: it arrives while the GPU is busy with that. On the CPU there
is nothing to be ahead of, and nothing is copied.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from nbconv import backends
from nbconv.typing import Array

if TYPE_CHECKING:
    from nbconv.layers import Layer

_ON_HOST = frozenset({"cpu", "reference"})
Take = Callable[[], Any]


def ahead(batches: Iterable[Any], model: Layer) -> Iterator[Any]:
    """The batches, each an array or a tuple of arrays and numbers, where ``model`` computes.

    A source may use the memory of a batch again for the next one.
    """
    if model.backend in _ON_HOST:
        yield from batches
        return
    waiting: Take | None = None
    for batch in batches:
        sent = _sent(batch, model)
        if waiting is not None:
            yield waiting()
        waiting = sent
    if waiting is not None:
        yield waiting()


def _sent(batch: Any, model: Layer) -> Take:
    """Begin to bring a batch over; what is returned gives it."""
    if isinstance(batch, tuple):
        parts = [_sent(part, model) for part in batch]
        return lambda: tuple(part() for part in parts)
    if not backends.is_array(batch):
        return lambda: batch
    if backends.is_on_device(batch):
        here = backends.to_backend(batch, model.backend)
        return lambda: here
    dtype = model.dtype if batch.dtype.kind == "f" else batch.dtype
    upload: Callable[[Array, Any], Take] = getattr(backends.get(model.backend), "upload", _copied)
    return upload(batch, dtype)


def _copied(array: Array, dtype: Any) -> Take:
    copy = np.array(array, dtype)
    return lambda: copy
