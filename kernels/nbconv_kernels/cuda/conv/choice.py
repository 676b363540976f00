"""Which algorithm a convolution takes."""

from __future__ import annotations

from types import ModuleType

from nbconv_kernels.cuda.conv import depthwise, direct, tensor
from nbconv_kernels.cuda.memory import Array
from nbconv_kernels.geometry import Conv2dGeometry

__all__ = ["algorithm"]


def algorithm(g: Conv2dGeometry, x: Array) -> ModuleType:
    """A module with ``forward``, ``backward_input`` and ``backward_weight``, for arrays where x lies."""
    if depthwise.suits(g):
        return depthwise
    return tensor if tensor.allowed(x) is not None and tensor.suits(g) else direct
