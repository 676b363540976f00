"""Which algorithm a convolution takes."""

from __future__ import annotations

from types import ModuleType

from nbconv_kernels.cuda.conv import depthwise, direct
from nbconv_kernels.geometry import Conv2dGeometry

__all__ = ["algorithm"]


def algorithm(g: Conv2dGeometry) -> ModuleType:
    """A module with ``forward``, ``backward_input`` and ``backward_weight``."""
    return depthwise if depthwise.suits(g) else direct
