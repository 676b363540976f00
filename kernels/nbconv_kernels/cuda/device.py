"""Arrays between the host and the GPU.

``upload`` copies while the GPU is at work on something else: from page-locked memory, on a stream of its own.
The copy waits for all that was asked of the GPU before it, since that may still use the memory that the copy
is given; what is asked afterwards waits for the copy only where its array is taken. So a batch arrives during
the step before its own, if it is asked for before that step is.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import cupy
import numpy as np

from nbconv_kernels.cuda.memory import Array

__all__ = ["asarray", "upload"]


def asarray(x: Any, dtype: Any = None) -> Array:
    """``x`` as an array on the GPU, copied only if it must be; channels-last memory stays so."""
    if isinstance(x, cupy.ndarray):
        return cupy.asarray(x, dtype=dtype)
    return _sent(np.asarray(x, dtype=dtype))


def upload(x: Any, dtype: Any = None) -> Callable[[], Array]:
    """Begin to copy ``x`` to the GPU; the function returned gives the array to the current stream.

    ``x`` may be changed as soon as this returns. Whatever is there already is not copied.
    """
    if isinstance(x, cupy.ndarray):
        array = cupy.asarray(x, dtype=dtype)
        return lambda: array
    using = cupy.cuda.get_current_stream()
    copying = _copying(cupy.cuda.runtime.getDevice(), using.ptr)
    copying.wait_event(using.record())
    with copying:
        array = _sent(np.asarray(x, dtype=dtype))
    arrived = copying.record()

    def take() -> Array:
        cupy.cuda.get_current_stream().wait_event(arrived)
        return array

    return take


@functools.cache
def _copying(device: int, stream: int) -> Any:
    """The stream whose copies are for a stream: memory it has given away comes back to it alone."""
    return cupy.cuda.Stream(non_blocking=True)


def _sent(x: np.ndarray[Any, Any]) -> Array:
    """A copy on the current stream, by way of CuPy's page-locked memory."""
    if x.ndim == 4 and not x.flags.c_contiguous:
        return cupy.asarray(np.ascontiguousarray(x.transpose(0, 2, 3, 1))).transpose(0, 3, 1, 2)
    return cupy.asarray(x)
