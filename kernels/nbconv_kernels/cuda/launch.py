"""Starts kernels where their arrays are: on the GPU for CuPy's, in the emulator for NumPy's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from nbconv_kernels.cuda.build import Kernel

__all__ = ["launch"]


def launch(kernel: Kernel, grid: tuple[int, ...], *arguments: Any) -> None:
    """Run ``kernel`` over ``grid`` blocks; None stands for an array left out."""
    for argument in arguments:
        if isinstance(argument, np.ndarray):
            from nbconv_kernels.cuda.emulated import run

            return run(kernel, grid, arguments)
    from nbconv_kernels.cuda.driver import run

    return run(kernel, grid, arguments)
