"""Local contrast normalisation (Jarrett, Kavukcuoglu, Ranzato and LeCun 2009), as in ZFNet: two steps.

    v[c, h, w] = x[c, h, w] - m[h, w]                       subtractive: m is the mean of x around (h, w)
    y[c, h, w] = v[c, h, w] / max(s, mean of s)[h, w]       divisive: s^2 is the mean of v^2 around (h, w)

The means run over all channels and over the part of a window of weights that lies in the image, scaled to sum
to 1; "mean of s" is the plain mean over the image, and a divisor below ``eps`` becomes ``eps``. For the
gradients, let A' be the mean's transpose, and d the divisor with the gradient -sum over c of dy * v / d^2,
which goes to s where s is the greater, else in equal shares to every s of the image:

    subtractive  dx = dy - A' dy        divisive  dv = dy / d + v * A' (ds / s)

Memory is (N, H, W, C). A team of lanes sums the channels of a pixel to a map (N, H, W), a thread for each of
the map's elements slides the window, and a last sweep applies the map to the channels. Maps have a C-th of
the elements; what else happens to them is left to NumPy or CuPy. Limit: memory bandwidth, two reads and a
write for x; the window's size for few channels.
"""

from __future__ import annotations

import numpy as np

from nbconv_kernels.cuda.build import blocks, kernel
from nbconv_kernels.cuda.intrinsics import thread_index
from nbconv_kernels.cuda.memory import (
    Array,
    check_float,
    check_same_shape,
    empty,
    empty_as,
    namespace,
    to_host,
    upload,
    whole,
)
from nbconv_kernels.cuda.reduction import team_shift, team_sum
from nbconv_kernels.cuda.target import f32s, float32, int32, u32, uint32

__all__ = ["divisive_norm", "divisive_norm_backward", "subtractive_norm", "subtractive_norm_backward"]

_BLOCK = 256
_quiet = np.errstate(all="ignore")  # as in kernels, infinity and NaN propagate without a warning


@kernel(block=_BLOCK)
def _sum_rows(a: f32s, b: f32s, sums: f32s, rows: u32, length: u32, shift: u32, of_products: u32):
    row = uint32(thread_index() >> shift)
    exists = row < rows
    lane = uint32(thread_index() & uint32(uint32(uint32(1) << shift) - uint32(1)))
    at = uint32(uint32(row * length) + lane)
    total, i = float32(0), lane
    while exists and i < length:
        total += a[at] * b[at] if of_products != uint32(0) else a[at]
        at, i = uint32(at + uint32(uint32(1) << shift)), uint32(i + uint32(uint32(1) << shift))
    total = team_sum(total, shift)
    if exists and lane == uint32(0):
        sums[row] = total


def _row_sums(a: Array, b: Array | None, shape: tuple[int, ...], length: int) -> Array:
    """The sums of every ``length`` elements of memory, of ``a`` or of ``a * b``."""
    sums = empty(a, shape)
    shift = team_shift(length)
    grid = blocks(sums.size << shift, _BLOCK)
    _sum_rows[grid](whole(a), None if b is None else whole(b), sums, sums.size, length, shift, b is not None)
    return sums


def _channel_sums(a: Array, b: Array | None = None) -> Array:
    """The sum over the channels of ``a``, or of ``a * b``: a map (N, H, W)."""
    n, channels, h, w = a.shape
    return _row_sums(a, b, (n, h, w), channels)


@kernel(block=_BLOCK)
def _slide(values: f32s, window: f32s, out: f32s, n: u32, h: u32, w: u32, height: u32, width: u32):
    i = thread_index()
    if i < n:
        line = uint32(i // w)
        column = int32(uint32(i - uint32(line * w)))
        row = int32(uint32(line % h))
        total, weight, p = float32(0), uint32(0), int32(int32(row) - int32(height // uint32(2)))
        source = int32(int32(i) + int32(int32(p - row) * int32(w)))
        bottom = int32(p + int32(height))
        left = int32(column - int32(width // uint32(2)))
        while p < bottom:
            q = left
            while q < int32(left + int32(width)):
                if p >= int32(0) and p < int32(h) and q >= int32(0) and q < int32(w):
                    total += window[weight] * values[uint32(int32(source + int32(q - column)))]
                q, weight = int32(q + int32(1)), uint32(weight + uint32(1))
            p, source = int32(p + int32(1)), int32(source + int32(w))
        out[i] = total


def _weighted(values: Array, window: Array) -> Array:
    """Sums over the window around each position of a map (N, H, W), of what lies in the image."""
    _, h, w = values.shape
    out = empty(values, values.shape)
    values = namespace(values).ascontiguousarray(values)
    _slide[blocks(out.size, _BLOCK)](values, window, out, out.size, h, w, *window.shape)
    return out


class _Mean:
    """The mean over all channels and the window's part inside the image, and its transpose."""

    def __init__(self, op: str, x: Array, window: Array) -> None:
        if x.ndim != 4 or 0 in x.shape[1:]:
            raise ValueError(
                f"{op}: expected an array (N, C, H, W) with channels and positions, got shape {x.shape}"
            )
        unit = _unit_window(op, window)
        self.window, self.back = (upload(x, one, x.dtype) for one in (unit, unit[::-1, ::-1]))
        self.channels = x.shape[1]
        self.inside = _weighted(namespace(x).ones((1, *x.shape[2:]), x.dtype), self.window)

    def of(self, sums: Array) -> Array:
        """The means around each position, from sums over the channels; maps (N, H, W)."""
        return _weighted(sums / self.channels, self.window) / self.inside

    def spread(self, dmean: Array) -> Array:
        """The transpose of ``of``, alike for every channel."""
        return _weighted(dmean / self.inside, self.back) / self.channels


def _unit_window(op: str, window: Array) -> np.ndarray:
    """The window in float64, scaled to a sum of 1, on the host."""
    window = np.asarray(to_host(window), np.float64)
    if window.ndim != 2 or not all(size % 2 for size in window.shape):
        raise ValueError(f"{op}: expected a window (kh, kw) of odd sizes, got shape {window.shape}")
    middle = window[window.shape[0] // 2, window.shape[1] // 2]
    if not np.isfinite(window).all() or window.min() < 0 or middle <= 0:
        raise ValueError(f"{op}: a window's weights must be finite, not negative, and positive in the middle")
    return window / window.sum()


@kernel(block=_BLOCK)
def _apply(a: f32s, by: f32s, b: f32s, by_b: f32s, y: f32s, n: u32, channels: u32, kind: u32):
    """A map to every channel: ``a - by`` of kind 0, ``a * by`` of kind 1, ``a * by + b * by_b`` of kind 2."""
    i = thread_index()
    if i < n:
        pixel = uint32(i // channels)
        value = a[i] - by[pixel] if kind == uint32(0) else a[i] * by[pixel]
        if kind == uint32(2):
            value = value + b[i] * by_b[pixel]
        y[i] = value


def _applied(a: Array, by: Array, b: Array | None = None, by_b: Array | None = None, kind: int = 0) -> Array:
    y = empty_as(a)
    maps = (None if one is None else namespace(a).ascontiguousarray(one) for one in (by, by_b))
    first, second = maps
    other = None if b is None else whole(b)
    _apply[blocks(a.size, _BLOCK)](whole(a), first, other, second, y, a.size, a.shape[1], kind)
    return y


@_quiet
def subtractive_norm(x: Array, window: Array) -> Array:
    """Subtract from (N, C, H, W) its weighted mean over all channels and a ``window`` (kh, kw).

    The window has odd sizes and weights that are not negative; they are scaled to sum to 1.

    Raises:
        TypeError: for a dtype other than float32.
        ValueError: for an array that is not 4-D, or another window.
    """
    check_float("subtractive_norm", x)
    return _applied(x, _Mean("subtractive_norm", x, window).of(_channel_sums(x)))


@_quiet
def subtractive_norm_backward(dy: Array, window: Array) -> Array:
    """Gradient of the input from that of the output.

    Raises:
        TypeError: for a dtype other than float32.
        ValueError: for an array that is not 4-D, or a window as above.
    """
    check_float("subtractive_norm_backward", dy)
    return _applied(dy, _Mean("subtractive_norm_backward", dy, window).spread(_channel_sums(dy)))


@_quiet
def divisive_norm(x: Array, window: Array, eps: float = 1e-4) -> Array:
    """Divide (N, C, H, W) by its deviation over all channels and a ``window``, or by the mean of these.

    Raises:
        TypeError: for a dtype other than float32.
        ValueError: for an array that is not 4-D, another window, or an ``eps`` that is not positive.
    """
    check_float("divisive_norm", x)
    _, _, divisor = _deviation(_Mean("divisive_norm", x, window), x, eps)
    return _applied(x, 1 / divisor, kind=1)


@_quiet
def divisive_norm_backward(dy: Array, x: Array, window: Array, eps: float = 1e-4) -> Array:
    """Gradient of the input ``x`` from that of the output.

    Raises:
        TypeError: for dtypes other than float32.
        ValueError: when the shapes differ or are not 4-D, for another window, or an ``eps`` that is not
            positive.
    """
    check_float("divisive_norm_backward", dy, x)
    mean = _Mean("divisive_norm_backward", x, window)
    check_same_shape("divisive_norm_backward", dy=dy, x=x)
    deviation, average, divisor = _deviation(mean, x, eps)
    where = namespace(x).where
    ddivisor = -_channel_sums(dy, x) / divisor**2
    ddeviation = where((deviation > average) & (deviation > eps), ddivisor, 0)
    shared = (deviation <= average) & (average > eps)
    ddeviation = ddeviation + _image_means(where(shared, ddivisor, 0))
    # Where the deviation is 0, so is all that it was computed from.
    per_deviation = where(deviation > 0, ddeviation / deviation, 0)
    return _applied(dy, 1 / divisor, x, mean.spread(per_deviation), kind=2)


def _deviation(mean: _Mean, x: Array, eps: float) -> tuple[Array, Array, Array]:
    """The deviation s (N, H, W), its mean in each image (N, 1, 1), and what is divided by."""
    if not eps > 0:
        raise ValueError(f"divisive_norm: eps must be positive, got {eps}")
    deviation = namespace(x).sqrt(mean.of(_channel_sums(x, x)))
    average = _image_means(deviation)
    larger = namespace(x).maximum
    return deviation, average, larger(larger(deviation, average), float(eps))


def _image_means(values: Array) -> Array:
    """The mean of each image of a map, (N, 1, 1)."""
    n, h, w = values.shape
    return _row_sums(values, None, (n, 1, 1), h * w) / (h * w)
