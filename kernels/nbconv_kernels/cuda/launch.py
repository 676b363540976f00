"""Starts kernels where their arrays are: on the GPU for CuPy's, in the emulator for NumPy's."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from nbconv_kernels.cuda.build import Kernel

__all__ = ["launch"]


def launch(kernel: Kernel, grid: tuple[int, ...], *arguments: Any) -> None:
    """Run ``kernel`` over ``grid`` blocks; None stands for an array left out.

    Raises:
        TypeError: for arguments that are too many, too few or of the wrong kind, by their names.
        ValueError: for a number that its type cannot hold, or a grid that is too large or empty.
    """
    place = "driver"
    for i in kernel.pointers:
        if i < len(arguments) and arguments[i] is not None:
            if isinstance(arguments[i], np.ndarray):
                place = "emulated"
            break
    _runner(place)(kernel, grid, arguments)


@functools.cache
def _runner(place: str) -> Callable[[Kernel, tuple[int, ...], tuple[Any, ...]], None]:
    run: Callable[..., None] = importlib.import_module(f"nbconv_kernels.cuda.{place}").run
    return run
