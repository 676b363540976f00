"""Padding of images, and its gradient: each row and column is a copy, or a constant (``blend``).

Which elements are copied, ``sampling`` says. Limit: memory bandwidth.
"""

from __future__ import annotations

from nbconv_kernels.cuda.blend import Axis, axis, blend, transposed
from nbconv_kernels.cuda.memory import Array, check_float, tables
from nbconv_kernels.geometry import PaddingLike
from nbconv_kernels.sampling import OUTSIDE, pad2d_sides, padding_sources

__all__ = ["pad2d", "pad2d_backward"]


def _axis(size: int, sides: tuple[int, int], mode: str, backward: bool) -> Axis:
    sources = padding_sources(size, *sides, mode)
    copies = [[] if source == OUTSIDE else [(source, 1.0)] for source in sources]
    return axis(transposed(copies, size) if backward else copies)


def pad2d(x: Array, padding: PaddingLike, mode: str = "constant", value: float = 0.0) -> Array:
    """Pad the rows and columns of (N, C, H, W).

    Padding is an integer, (h, w) or ((top, bottom), (left, right)). For ``abcd`` padded by two on each side,
    "constant" gives ``vv abcd vv`` with v the ``value``, "reflect" ``cb abcd cb``, "symmetric"
    ``ba abcd dc``, "replicate" ``aa abcd dd``, "circular" ``cd abcd ab``.

    Returns:
        (N, C, top + H + bottom, left + W + right).

    Raises:
        TypeError: for a dtype other than float32.
        ValueError: for shape and arguments that do not go together, or too few elements to fill the padding.
    """
    check_float("pad2d", x)
    vertical, horizontal = pad2d_sides(x.shape, padding, mode)
    rows = tables(x, _axis, x.shape[2], vertical, mode, False)
    return blend(x, rows, tables(x, _axis, x.shape[3], horizontal, mode, False), float(value))


def pad2d_backward(
    dy: Array, input_shape: tuple[int, ...], padding: PaddingLike, mode: str = "constant"
) -> Array:
    """Gradient of the input, (N, C, H, W) = ``input_shape``: each element gets the dy of all its copies.

    Raises:
        TypeError: for a dtype other than float32.
        ValueError: for shapes and arguments that do not go together.
    """
    check_float("pad2d_backward", dy)
    vertical, horizontal = pad2d_sides(input_shape, padding, mode)
    n, c, h, w = input_shape
    expected = (n, c, h + sum(vertical), w + sum(horizontal))
    if dy.shape != expected:
        raise ValueError(f"pad2d_backward: expected dy of shape {expected}, got {dy.shape}")
    rows = tables(dy, _axis, h, vertical, mode, True)
    return blend(dy, rows, tables(dy, _axis, w, horizontal, mode, True))
