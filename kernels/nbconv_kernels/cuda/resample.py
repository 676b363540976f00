"""Resampling of images to another size, nearest or bilinear, and its gradient.

Both are sums along each axis (``blend``); what is summed, ``sampling`` says. Limit: memory bandwidth.
"""

from __future__ import annotations

from collections.abc import Sequence

from nbconv_kernels.cuda.blend import Axis, Sums, axis, blend, transposed
from nbconv_kernels.cuda.memory import Array, check_float, tables
from nbconv_kernels.geometry import PairLike
from nbconv_kernels.sampling import linear_sources, nearest_sources, scale_factors, upsample2d_size

__all__ = ["upsample2d", "upsample2d_backward"]


def _axis(
    size: int,
    output: int,
    mode: str,
    align_corners: bool,
    scale: float | None,
    backward: bool,
) -> Axis:
    sums: Sums
    if mode == "nearest":
        sums = [[(source, 1.0)] for source in nearest_sources(size, output, scale)]
    else:
        blends = linear_sources(size, output, align_corners, scale)
        sums = [[(first, 1 - weight), (second, weight)] for first, second, weight in blends]
    return axis(transposed(sums, size) if backward else sums)


def upsample2d(
    x: Array,
    output_size: PairLike,
    mode: str = "nearest",
    align_corners: bool = False,
    scale_factor: float | Sequence[float] | None = None,
) -> Array:
    """Resample (N, C, H, W) to ``output_size`` (P, Q), "nearest" or "bilinear".

    Positions follow the ratio of the sizes, or ``scale_factor`` (a number or two), which a rounded output
    size may not quite be; ``align_corners`` makes the corner elements of both images coincide.

    Returns:
        (N, C, P, Q).

    Raises:
        TypeError: for a dtype other than float32.
        ValueError: for shape and arguments that do not go together.
    """
    check_float("upsample2d", x)
    size = upsample2d_size(x.shape, output_size, mode, align_corners)
    rows, columns = (
        tables(x, _axis, length, output, mode, bool(align_corners), scale, False)
        for length, output, scale in zip(x.shape[2:], size, scale_factors(scale_factor), strict=True)
    )
    return blend(x, rows, columns)


def upsample2d_backward(
    dy: Array,
    input_shape: tuple[int, ...],
    mode: str = "nearest",
    align_corners: bool = False,
    scale_factor: float | Sequence[float] | None = None,
) -> Array:
    """Gradient of the input, (N, C, H, W) = ``input_shape``, from that of the output, (N, C, P, Q).

    Raises:
        TypeError: for a dtype other than float32.
        ValueError: for shapes and arguments that do not go together.
    """
    check_float("upsample2d_backward", dy)
    if dy.ndim != 4 or dy.shape[:2] != tuple(input_shape[:2]):
        raise ValueError(
            f"upsample2d_backward: expected dy of shape (N, C, P, Q) for the input shape "
            f"{tuple(input_shape)}, got {dy.shape}"
        )
    size = upsample2d_size(input_shape, dy.shape[2:], mode, align_corners)
    rows, columns = (
        tables(dy, _axis, length, output, mode, bool(align_corners), scale, True)
        for length, output, scale in zip(input_shape[2:], size, scale_factors(scale_factor), strict=True)
    )
    return blend(dy, rows, columns)
