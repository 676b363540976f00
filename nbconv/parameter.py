"""A trainable array, drawn when it is first looked at."""

from __future__ import annotations

import itertools
import math
import os
import sys
import threading
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from nbconv import backends
from nbconv.initializers import Initializer
from nbconv.typing import Array, DType, Shape

# One lock for all: it is held only while a parameter is drawn, once in its life.
_DRAWING = threading.Lock()
_STAMPS = itertools.count()


def _unlock() -> None:
    """In a forked child: who held the lock in the parent is not here to let go of it."""
    global _DRAWING
    _DRAWING = threading.Lock()


os.register_at_fork(after_in_child=_unlock)


class Parameter:
    """An array that is trained, and its gradient.

    The values are drawn at the first access of ``data``: from the stream that a seeded model has assigned, or
    from fresh entropy. Thus a model that is loaded from a file draws nothing, and the values of a parameter
    depend on the seed and its place in the model, not on who was asked first.

    Attributes:
        shape: fixed for life.
        init: gives the first values; None in a copy, which has them.
        grad: None until the first backward pass, which later ones add to; set it to None to start again.
        requires_grad: False freezes the parameter; no work is done for its gradient.
        stream: (seed, index), where the values are drawn from, or None.
        backend: where the array lives.
        dtype: float32 or float64.
    """

    __slots__ = ("_data", "_stamp", "backend", "dtype", "grad", "init", "requires_grad", "shape", "stream")

    def __init__(self, shape: Shape, init: Initializer, *, requires_grad: bool = True) -> None:
        self.shape = tuple(shape)
        self.init: Initializer | None = init
        self.requires_grad = requires_grad
        self.grad: Array | None = None
        self.stream: tuple[int, int] | None = None
        self.backend = "cpu"
        self.dtype: DType = np.dtype(np.float32)
        self._data: Array | None = None
        self._stamp = next(_STAMPS)

    @property
    def data(self) -> Array:
        """The values, C-contiguous. Assigning copies; a wrong shape raises ValueError."""
        data = self.peek()
        # Held first, then stamped: between the two, the array is seen to be shared.
        self._stamp = next(_STAMPS)
        return data

    @data.setter
    def data(self, value: npt.ArrayLike) -> None:
        if backends.is_on_device(value) and backends.of_array(value) == self.backend:
            array = cast("Array", value).astype(self.dtype, order="C")  # copies there
        else:
            array = np.array(backends.to_numpy(value), self.dtype, order="C")
        if array.shape != self.shape:
            raise ValueError(f"expected values of shape {self.shape}, got shape {array.shape}")
        self._data = self._on_backend(array)
        self._stamp = next(_STAMPS)

    def peek(self) -> Array:
        """The values, for one who only reads them and does not hold on to them."""
        data = self._data
        return self._draw() if data is None else data

    @property
    def stamp(self) -> int:
        """A number that another one replaces whenever the array is handed out or exchanged.

        As long as it is the same as when the array was :attr:`is_unshared`, the values are the same too.
        """
        return self._stamp

    @property
    def is_unshared(self) -> bool:
        """Whether nobody but the parameter holds the array of its values, or a view of it."""
        return self._data is not None and sys.getrefcount(self._data) == _UNSHARED

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def is_drawn(self) -> bool:
        """Whether the values exist yet."""
        return self._data is not None

    def numpy(self) -> Array:
        """The values as a NumPy array; on the CPU backends the array itself, no copy."""
        return backends.to_numpy(self.data)

    def accumulate(self, gradient: Array) -> None:
        """Add to ``grad``. The array becomes the parameter's own if there was none."""
        if self.grad is None:
            self.grad = gradient
        else:
            backends.get(self.backend).accumulate(self.grad, gradient)

    def to(self, backend: str, dtype: DType) -> None:
        """Move values and gradient to a backend and a dtype."""
        if backend == self.backend and dtype == self.dtype:
            return
        data = None if self._data is None else self.numpy()
        grad = None if self.grad is None else backends.to_numpy(self.grad)
        self.backend, self.dtype = backend, dtype
        self._data = None if data is None else self._on_backend(np.asarray(data, dtype))
        self._stamp = next(_STAMPS)
        self.grad = None if grad is None else self._on_backend(np.asarray(grad, dtype))

    def __repr__(self) -> str:
        frozen = "" if self.requires_grad else ", requires_grad=False"
        return f"Parameter(shape={self.shape}, dtype={self.dtype}{frozen})"

    def __getstate__(self) -> dict[str, Any]:
        # A copy has the same values, so they are drawn first.
        return {"_data": self.data, "init": None} | {
            name: getattr(self, name) for name in self.__slots__ if name not in ("_data", "_stamp", "init")
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._stamp = next(_STAMPS)
        for name, value in state.items():
            setattr(self, name, value)

    def _draw(self) -> Array:
        with _DRAWING:
            if self._data is None:
                assert self.init is not None
                rng = np.random.default_rng(self.stream)
                values = np.array(self.init(self.shape, rng), self.dtype, order="C")
                if values.shape != self.shape:
                    raise ValueError(f"an initializer gave shape {values.shape}, expected {self.shape}")
                self._data = self._on_backend(values)
            return self._data

    def _on_backend(self, array: Array) -> Array:
        if self.backend in backends.NUMPY_BACKENDS:
            return array
        return backends.to_backend(array, self.backend)


def _count_of_one() -> int:
    """What the reference count of an array is whose only holder is an attribute."""
    holder = SimpleNamespace(data=np.empty(1))
    return sys.getrefcount(holder.data)


# How Python counts references differs between its versions, so it is tried out.
_UNSHARED = _count_of_one()
