"""Which algorithm computes a convolution."""

from __future__ import annotations

from types import ModuleType

from nbconv_kernels.cpu.conv import depthwise, direct, gray, winograd
from nbconv_kernels.geometry import Conv2dGeometry
from nbconv_kernels.precision import get_precision


def algorithm(
    geometry: Conv2dGeometry, itemsize: int, weight_gradient: bool = False, kept: bool = False
) -> ModuleType:
    """The module that computes this convolution: ``depthwise``, ``gray``, ``winograd`` or ``direct``.

    Args:
        geometry: of the convolution.
        itemsize: bytes of an element.
        weight_gradient: whether that is what is wanted.
        kept: whether the weights are kept ready from call to call.
    """
    if depthwise.suits(geometry):
        return depthwise
    if gray.suits(geometry, itemsize, weight_gradient):
        return gray
    if itemsize == 4 and get_precision() != "highest" and winograd.pays(geometry, weight_gradient, kept):
        return winograd
    return direct
