"""Launches in the emulator: NumPy arrays stand for device memory."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import numpy as np

from nbconv_kernels.cuda import arguments as kernel_arguments
from nbconv_kernels.cuda import emulator

if TYPE_CHECKING:
    from nbconv_kernels.cuda.build import Kernel

checks = {"race": False, "banks": False}
"""What the emulator watches for besides bounds and alignment; hazards raise :class:`HazardError`."""


class HazardError(RuntimeError):
    """Two warps met in memory without a barrier between, or one read shared memory that nobody wrote."""


@functools.cache
def _parsed(kernel: Kernel) -> emulator.Kernel:
    return emulator.Kernel(kernel.ptx, kernel.shared_bytes)


def run(kernel: Kernel, grid: tuple[int, ...], arguments: tuple[Any, ...]) -> None:
    """Run all blocks of ``kernel``.

    Raises:
        HazardError: if hazards were looked for and found.
        TypeError, ValueError: if the arguments do not fit the kernel.
    """
    kernel_arguments.check(kernel, grid, arguments, on_gpu=False)
    values = [_memory(a) if isinstance(a, np.ndarray) else 0 if a is None else a for a in arguments]
    _, hazards = emulator.launch(kernel.ptx, grid, (kernel.block,), values, kernel=_parsed(kernel), **checks)
    if hazards:
        raise HazardError(f"{kernel.name}: {len(hazards)} hazards, the first: {hazards[0]}")


def _memory(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The memory between an array's first and last element, as one axis."""
    extent = 1 + sum((s - 1) * stride for s, stride in zip(array.shape, array.strides, strict=True))
    count = 0 if array.size == 0 else 1 + (extent - 1) // array.itemsize
    return np.lib.stride_tricks.as_strided(array, (count,), (array.itemsize,))
