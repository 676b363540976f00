"""Arrays of the CUDA backend: CuPy's on a GPU, NumPy's in the emulator; 4-D ones are channels-last."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import numpy as np

Array = Any

LIMIT = 1 << 31
"""Elements an array must stay below: kernels count them in 32 bits."""


def namespace(x: Array) -> ModuleType:
    """NumPy or CuPy, whichever ``x`` is an array of."""
    if isinstance(x, np.ndarray):
        return np
    import cupy

    module: ModuleType = cupy
    return module


def is_array(x: object) -> bool:
    """Whether ``x`` is an array this backend computes with."""
    return isinstance(x, np.ndarray) or type(x).__module__.startswith("cupy")


def check_float(op: str, *arrays: Array | None) -> np.dtype[Any]:
    """float32, the dtype this backend computes in.

    Raises:
        TypeError: for any other dtype, or for what is no array.
        ValueError: for an array of 2^31 elements or more.
    """
    given = [array for array in arrays if array is not None]
    if not given:
        raise TypeError(f"{op}: expected at least one array")
    for array in given:
        if not is_array(array):
            raise TypeError(f"{op}: expected arrays, got {type(array).__name__}")
        if array.dtype != np.float32:
            raise TypeError(f"{op}: expected float32, the dtype of the CUDA backend, got {array.dtype}")
        if array.size >= LIMIT:
            raise ValueError(f"{op}: expected fewer than 2^31 elements, got shape {array.shape}")
    return np.dtype(np.float32)


def check_same_shape(op: str, **arrays: Array) -> None:
    """Raise ValueError unless the named arrays have one shape."""
    if len({array.shape for array in arrays.values()}) > 1:
        shapes = ", ".join(f"{name} {array.shape}" for name, array in arrays.items())
        raise ValueError(f"{op}: expected arrays of one shape, got {shapes}")


def check_writeable(op: str, into: Array) -> None:
    """Raise ValueError for a read-only array, which CuPy does not know."""
    if not getattr(into.flags, "writeable", True):
        raise ValueError(f"{op}: expected an array that can be written to, got a read-only one")


def empty(like: Array, shape: tuple[int, ...], dtype: Any = np.float32) -> Array:
    """An uninitialised C-contiguous array where ``like`` is."""
    return namespace(like).empty(shape, dtype)


def empty_nchw(like: Array, n: int, c: int, h: int, w: int, dtype: Any = np.float32) -> Array:
    """An uninitialised (N, C, H, W) view of channels-last memory where ``like`` is."""
    return empty(like, (n, h, w, c), dtype).transpose(0, 3, 1, 2)


def empty_as(x: Array) -> Array:
    """An uninitialised array of the shape and dtype of ``x``, in the layout of results."""
    return empty_nchw(x, *x.shape, x.dtype) if x.ndim == 4 else empty(x, x.shape, x.dtype)


def address(x: Array) -> int:
    """Where in memory the first element of ``x`` lies."""
    return int(x.__array_interface__["data"][0] if isinstance(x, np.ndarray) else x.data.ptr)


def is_whole(x: Array) -> bool:
    """Whether the elements of ``x`` lie in memory one after another, in the layout of results.

    They must begin at a multiple of 16 bytes as well, so that kernels may take four at a time.
    """
    contiguous = (x.transpose(0, 2, 3, 1) if x.ndim == 4 else x).flags.c_contiguous
    return bool(contiguous and address(x) % 16 == 0)


def in_fours(count: int, *arrays: Array | None) -> int:
    """``count`` if kernels may take four elements of each of these at a time, else 0.

    For arrays that are changed in place, which may begin anywhere.
    """
    return count if all(x is None or address(x) % 16 == 0 for x in arrays) else 0


def in_order_of(into: Array, value: Array) -> Array | None:
    """``value`` with its elements one after another as those of ``into`` are; None where these are apart."""
    if into.flags.c_contiguous:
        return namespace(value).ascontiguousarray(value)
    if into.ndim == 4 and into.transpose(0, 2, 3, 1).flags.c_contiguous:
        return namespace(value).ascontiguousarray(value.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    return None


def whole(x: Array) -> Array:
    """``x`` with its elements one after another in the layout of results: itself, or a copy."""
    if is_whole(x):
        return x
    y = empty_as(x)
    y[...] = x
    return y


def is_range_of_channels(x: Array) -> bool:
    """Whether (N, C, H, W) are some neighbouring channels, but not all, of channels-last memory."""
    _, channels, height, width = x.shape
    pitch = x.strides[3] // x.itemsize
    strides = (height * width * pitch, 1, width * pitch, pitch)
    return x.size > 0 and pitch > channels and x.strides == tuple(x.itemsize * stride for stride in strides)


def upload(like: Array, values: Any, dtype: Any) -> Array:
    """Numbers from the host as a C-contiguous array of that dtype where ``like`` is."""
    return namespace(like).asarray(np.ascontiguousarray(values, dtype))


def to_host(x: Any) -> Any:
    """What is on the GPU as a NumPy array, which waits until it is computed; anything else as it is."""
    return x.get() if is_array(x) and not isinstance(x, np.ndarray) else x


def tables(like: Array, make: Callable[..., tuple[Any, ...]], *arguments: Hashable) -> tuple[Array, ...]:
    """The NumPy arrays that ``make(*arguments)`` gives, where ``like`` is, kept there for the next time."""
    return _kept(None if isinstance(like, np.ndarray) else like.device.id, make, arguments)


@functools.lru_cache(maxsize=1024)
def _kept(device: int | None, make: Callable[..., tuple[Any, ...]], arguments: Any) -> tuple[Array, ...]:
    arrays = make(*arguments)
    if device is None:
        return arrays
    import cupy

    with cupy.cuda.Device(device):
        return tuple(map(cupy.asarray, arrays))


_waiting = threading.local()


@contextmanager
def deferred() -> Iterator[None]:
    """Within it, losses and sums stay arrays without axes where they are, and nobody waits for them.

    So a label that is none of the classes is not named: it makes the loss NaN.
    """
    before = is_deferred()
    _waiting.deferred = True
    try:
        yield
    finally:
        _waiting.deferred = before


def is_deferred() -> bool:
    """Whether this thread is within ``deferred``."""
    return getattr(_waiting, "deferred", False)


def scalars(x: Array) -> list[float]:
    """The numbers of an array, brought to the host: this waits until they are computed."""
    return [float(value) for value in x.tolist()]
