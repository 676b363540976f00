"""Numba's CUDA target: the one module that imports it, so that a move to its successor begins and ends here.

Compiling needs no GPU and no driver. Numba would ask the device at hand for its compute capability when it
compiles a device function; ``compiling_for`` answers in its place.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from unittest import mock

import numpy as np

if not hasattr(np, "row_stack"):  # numba-cuda up to 0.30 names it, NumPy 2.5 has dropped it
    setattr(np, "row_stack", np.vstack)  # noqa: B010 - spelt as an assignment, linters would rename it

import numba.cuda.dispatcher
from numba import cuda, float32, int32, int64, types, uint8, uint32, uint64
from numba.cuda.core.compiler_lock import global_compiler_lock

from nbconv_kernels import forks

__all__ = [
    "bytes_",
    "compiling_for",
    "cuda",
    "f32",
    "f32s",
    "float32",
    "i32",
    "i32s",
    "i64",
    "i64s",
    "int32",
    "int64",
    "types",
    "u32",
    "u32s",
    "u64",
    "uint32",
    "uint64",
]

# What a kernel's parameters are annotated with; a plural is a pointer to such numbers in global memory.
f32, i32, i64, u32, u64 = float32, int32, int64, uint32, uint64
f32s, i32s, i64s, u32s, bytes_ = (types.CPointer(kind) for kind in (float32, int32, int64, uint32, uint8))

Capability = tuple[int, int] | tuple[int, int, str]
"""A compute capability: (8, 0), or (9, 0, "a") with the instructions that only this one has."""

forks.wait_for(global_compiler_lock)


@contextmanager
def compiling_for(capability: Capability) -> Iterator[None]:
    """Compile for this compute capability, whatever device there is or is not."""
    device = SimpleNamespace(compute_capability=capability[:2])
    with (
        global_compiler_lock,
        mock.patch.object(numba.cuda.dispatcher, "get_current_device", return_value=device),
    ):
        yield
