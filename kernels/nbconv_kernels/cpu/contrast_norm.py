"""Local contrast normalisation (Jarrett, Kavukcuoglu, Ranzato and LeCun 2009), as in ZFNet: two steps.

    v[c, h, w] = x[c, h, w] - m[h, w]                       subtractive: m is the mean of x around (h, w)
    y[c, h, w] = v[c, h, w] / max(s, mean of s)[h, w]       divisive: s^2 is the mean of v^2 around (h, w)

The means run over all channels and over the part of a window of weights that lies in the image, scaled to sum
to 1; "mean of s" is the plain mean over the image, and a divisor below ``eps`` becomes ``eps``. For the
gradients, let A' be the mean's transpose, and d the divisor with the gradient -sum over c of dy * v / d^2,
which goes to s where s is the greater, else in equal shares to every s of the image:

    subtractive  dx = dy - A' dy        divisive  dv = dy / d + v * A' (ds / s)

Memory is (N, H, W, C). The channels of each pixel are summed to a map (N, H, W), the window slides over the
map, and a last sweep applies it to the channels. Maps have a C-th of the elements; what else happens to them
is left to NumPy. Limit: memory bandwidth, two reads and a write for x; the window's size for few channels.
"""

from __future__ import annotations

import numpy as np

from nbconv_kernels.cpu.jit import get_num_threads, kernel, parallel_for
from nbconv_kernels.cpu.memory import Array, check_float
from nbconv_kernels.cpu.tasks import check_same_shape, empty_as, row_of, task_count
from nbconv_kernels.cpu.vector import fill, lanes, load, plus, times, total

__all__ = ["divisive_norm", "divisive_norm_backward", "subtractive_norm", "subtractive_norm_backward"]

_quiet = np.errstate(all="ignore")  # as in kernels, infinity and NaN propagate without a warning


@kernel
def _sum_task(task, n_tasks, a, b, of_products, sums):
    channels = a.size // sums.size
    zero = fill(a, a.dtype.type(0))
    for pixel in range(sums.size * task // n_tasks, sums.size * (task + 1) // n_tasks):
        start, lanes_sums = pixel * channels, zero
        for c in range(0, channels, lanes(a)):
            value = load(a, start + c, channels - c)
            if of_products:
                value = times(value, load(b, start + c, channels - c))
            lanes_sums = plus(lanes_sums, value)
        sums[pixel] = total(lanes_sums)


@kernel
def _sum(n_tasks, a, b, of_products, sums, n_threads):
    parallel_for(_sum_task, n_tasks, n_threads, (n_tasks, a, b, of_products, sums))


def _channel_sums(a: Array, b: Array | None = None) -> Array:
    """The sum over the channels of ``a``, or of ``a * b``: a map (N, H, W)."""
    n, _, h, w = a.shape
    sums = np.empty((n, h, w), a.dtype)
    rows = (row_of(a), row_of(a if b is None else b))
    _sum(task_count(a.size), *rows, b is not None, sums.reshape(-1), get_num_threads())
    return sums


@kernel
def _slide_task(task, n_tasks, values, window, out):
    images, h, w = values.shape
    height, width = window.shape
    zero = values.dtype.type(0)
    for line in range(images * h * task // n_tasks, images * h * (task + 1) // n_tasks):
        image = line // h
        row = line - image * h
        line_sums = out[image, row]
        for column in range(w):
            line_sums[column] = zero
        for p in range(max(0, height // 2 - row), min(height, h + height // 2 - row)):
            source = row + p - height // 2
            for q in range(width):
                shift = q - width // 2
                weight = window[p, q]
                first, last = max(0, -shift), max(0, min(w, w - shift))
                read, written = values[image, source, first + shift : last + shift], line_sums[first:last]
                for column in range(min(read.size, written.size)):
                    written[column] += weight * read[column]


@kernel
def _slide(n_tasks, values, window, out, n_threads):
    parallel_for(_slide_task, n_tasks, n_threads, (n_tasks, values, window, out))


def _weighted(values: Array, window: Array) -> Array:
    """Sums over the window around each position of a map (N, H, W), of what lies in the image."""
    out = np.empty_like(values)
    _slide(task_count(values.size * window.size), values, window, out, get_num_threads())
    return out


class _Mean:
    """The mean over all channels and the window's part inside the image, and its transpose."""

    def __init__(self, op: str, x: Array, window: Array) -> None:
        if x.ndim != 4 or 0 in x.shape[1:]:
            raise ValueError(
                f"{op}: expected an array (N, C, H, W) with channels and positions, got shape {x.shape}"
            )
        self.window = _unit_window(op, window).astype(x.dtype)
        self.channels = x.shape[1]
        self.inside = _weighted(np.ones((1, *x.shape[2:]), x.dtype), self.window)

    def of(self, sums: Array) -> Array:
        """The means around each position, from sums over the channels; maps (N, H, W)."""
        return _weighted(sums / self.channels, self.window) / self.inside

    def spread(self, dmean: Array) -> Array:
        """The transpose of ``of``, alike for every channel."""
        back = np.ascontiguousarray(self.window[::-1, ::-1])
        return _weighted(dmean / self.inside, back) / self.channels


def _unit_window(op: str, window: Array) -> Array:
    """The window in float64, scaled to a sum of 1."""
    window = np.asarray(window, np.float64)
    if window.ndim != 2 or not all(size % 2 for size in window.shape):
        raise ValueError(f"{op}: expected a window (kh, kw) of odd sizes, got shape {window.shape}")
    middle = window[window.shape[0] // 2, window.shape[1] // 2]
    if not np.isfinite(window).all() or window.min() < 0 or middle <= 0:
        raise ValueError(f"{op}: a window's weights must be finite, not negative, and positive in the middle")
    return window / window.sum()


@kernel
def _shift_task(task, n_tasks, x, shift, y):
    channels = x.size // shift.size
    for pixel in range(shift.size * task // n_tasks, shift.size * (task + 1) // n_tasks):
        start, stop = pixel * channels, (pixel + 1) * channels
        values, less, out = x[start:stop], shift[pixel], y[start:stop]
        for c in range(channels):
            out[c] = values[c] - less


@kernel
def _shift(n_tasks, x, shift, y, n_threads):
    parallel_for(_shift_task, n_tasks, n_threads, (n_tasks, x, shift, y))


def _minus(x: Array, shift: Array) -> Array:
    """``x`` minus a map at every channel."""
    y = empty_as(x)
    if x.size:
        _shift(task_count(x.size), row_of(x), shift.reshape(-1), row_of(y), get_num_threads())
    return y


@_quiet
def subtractive_norm(x: Array, window: Array) -> Array:
    """Subtract from (N, C, H, W) its weighted mean over all channels and a ``window`` (kh, kw).

    The window has odd sizes and weights that are not negative; they are scaled to sum to 1.

    Raises:
        TypeError: for a dtype other than float32 or float64.
        ValueError: for an array that is not 4-D, or another window.
    """
    check_float("subtractive_norm", x)
    return _minus(x, _Mean("subtractive_norm", x, window).of(_channel_sums(x)))


@_quiet
def subtractive_norm_backward(dy: Array, window: Array) -> Array:
    """Gradient of the input from that of the output.

    Raises:
        TypeError: for a dtype other than float32 or float64.
        ValueError: for an array that is not 4-D, or a window as above.
    """
    check_float("subtractive_norm_backward", dy)
    return _minus(dy, _Mean("subtractive_norm_backward", dy, window).spread(_channel_sums(dy)))


@kernel
def _combine_task(task, n_tasks, a, by, b, by_b, y):
    channels = a.size // by.size
    for pixel in range(by.size * task // n_tasks, by.size * (task + 1) // n_tasks):
        start, stop = pixel * channels, (pixel + 1) * channels
        one, other, out = a[start:stop], b[start:stop], y[start:stop]
        factor = by[pixel]
        if by_b.size > 0:
            other_factor = by_b[pixel]
            for c in range(channels):
                out[c] = one[c] * factor + other[c] * other_factor
        else:
            for c in range(channels):
                out[c] = one[c] * factor


@kernel
def _combine(n_tasks, a, by, b, by_b, y, n_threads):
    parallel_for(_combine_task, n_tasks, n_threads, (n_tasks, a, by, b, by_b, y))


@_quiet
def divisive_norm(x: Array, window: Array, eps: float = 1e-4) -> Array:
    """Divide (N, C, H, W) by its deviation over all channels and a ``window``, or by the mean of these.

    Raises:
        TypeError: for a dtype other than float32 or float64.
        ValueError: for an array that is not 4-D, another window, or an ``eps`` that is not positive.
    """
    check_float("divisive_norm", x)
    _, _, divisor = _deviation(_Mean("divisive_norm", x, window), x, eps)
    y = empty_as(x)
    if x.size:
        row, factors = row_of(x), (1 / divisor).reshape(-1)
        _combine(task_count(x.size), row, factors, row, factors[:0], row_of(y), get_num_threads())
    return y


@_quiet
def divisive_norm_backward(dy: Array, x: Array, window: Array, eps: float = 1e-4) -> Array:
    """Gradient of the input ``x`` from that of the output.

    Raises:
        TypeError: for dtypes other than float32 or float64, or mixed ones.
        ValueError: when the shapes differ or are not 4-D, for another window, or an ``eps`` that is not
            positive.
    """
    check_float("divisive_norm_backward", dy, x)
    mean = _Mean("divisive_norm_backward", x, window)
    check_same_shape("divisive_norm_backward", dy=dy, x=x)
    deviation, average, divisor = _deviation(mean, x, eps)
    ddivisor = -_channel_sums(dy, x) / divisor**2
    ddeviation = np.where((deviation > average) & (deviation > eps), ddivisor, 0)
    shared = (deviation <= average) & (average > eps)
    ddeviation += np.where(shared, ddivisor, 0).mean(axis=(1, 2), keepdims=True)
    # Where the deviation is 0, so is all that it was computed from.
    per_deviation = np.where(deviation > 0, ddeviation / deviation, 0)
    dx = empty_as(x)
    if x.size:
        factors = ((1 / divisor).reshape(-1), mean.spread(per_deviation).reshape(-1))
        rows = (row_of(dy), factors[0], row_of(x), factors[1])
        _combine(task_count(x.size), *rows, row_of(dx), get_num_threads())
    return dx


def _deviation(mean: _Mean, x: Array, eps: float) -> tuple[Array, Array, Array]:
    """The deviation s (N, H, W), its mean in each image (N, 1, 1), and what is divided by."""
    if not eps > 0:
        raise ValueError(f"divisive_norm: eps must be positive, got {eps}")
    deviation = np.sqrt(mean.of(_channel_sums(x, x)))
    average = deviation.mean(axis=(1, 2), keepdims=True)
    return deviation, average, np.maximum(np.maximum(deviation, average), float(eps))
