"""Batches brought to where a model computes, before it asks for them.

A GPU computes while the host goes on. The next batch is therefore taken from its source and copied while the
GPU is at work on the one before. On the CPU there is nothing to be ahead of, and nothing is copied.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from nbconv import backends
from nbconv.typing import Array

if TYPE_CHECKING:
    from nbconv.layers import Layer

_ON_HOST = frozenset({"cpu", "reference"})


def ahead(batches: Iterable[Any], model: Layer) -> Iterator[Any]:
    """The batches, each an array or a tuple of arrays and numbers, where ``model`` computes.

    A source may use the memory of a batch again for the next one.
    """
    if model.backend in _ON_HOST:
        yield from batches
        return
    waiting: Any = None
    for batch in batches:
        brought = _brought(batch, model)
        if waiting is not None:
            yield waiting
        waiting = brought
    if waiting is not None:
        yield waiting


def _brought(batch: Any, model: Layer) -> Any:
    if isinstance(batch, tuple):
        return tuple(_placed(part, model) if backends.is_array(part) else part for part in batch)
    return _placed(batch, model)


def _placed(array: Array, model: Layer) -> Array:
    if backends.is_on_device(array):
        return backends.to_backend(array, model.backend)
    dtype = model.dtype if array.dtype.kind == "f" else array.dtype
    if model.backend in backends.NUMPY_BACKENDS:
        return np.array(array, dtype)
    return backends.to_backend(array, model.backend, dtype)
