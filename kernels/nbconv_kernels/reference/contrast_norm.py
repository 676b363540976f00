"""Local contrast normalisation (Jarrett, Kavukcuoglu, Ranzato and LeCun 2009), as in ZFNet: two steps.

    v[c, h, w] = x[c, h, w] - m[h, w]                       subtractive: m is the mean of x around (h, w)
    y[c, h, w] = v[c, h, w] / max(s, mean of s)[h, w]       divisive: s^2 is the mean of v^2 around (h, w)

Both means run over all channels and a window of weights w that sum to 1, such as a Gaussian's:

    mean of a = sum over p, q of w[p, q] * (1 / C * sum over c of a[c, h + p, w + q])

and "mean of s" is the plain mean over the image. Where the window leaves the image, the weights inside are
scaled to sum to 1 again, so that a constant image has its own value as its mean up to the border. A divisor
below ``eps`` becomes ``eps``: a constant image has nothing to divide by.

Subtracting is linear. With A the mean above, and A' its transpose (each position gives its value back to
where it was read), dx = dy - A' dy. For the division, let d be the divisor and -sum over c of dy * v / d^2
its gradient. It goes to s where s is the greater, else in equal shares to every s of the image; from s it
goes to v by way of s^2:

    dv = dy / d + v * A' (ds / s)
"""

from __future__ import annotations

import numpy as np

from nbconv_kernels.reference.memory import Array, check_float, check_rank, check_shape, laid_out, quiet


@quiet
def subtractive_norm(x: Array, window: Array) -> Array:
    """Subtract from x (N, C, H, W) its weighted mean over all channels and a ``window`` (kh, kw).

    The window has odd sizes and weights that are not negative; they are scaled to sum to 1.

    Returns:
        y of x's shape, channels-last.

    Raises:
        ValueError: if x has not four axes, or the window is not such a one.
        TypeError: if x is neither float32 nor float64.
    """
    check_float("subtractive_norm", x)
    mean = _Mean("subtractive_norm", x, window)
    return laid_out(x - mean.of(x))


@quiet
def subtractive_norm_backward(dy: Array, window: Array) -> Array:
    """The gradient of ``subtractive_norm``.

    Returns:
        dx of dy's shape, channels-last.

    Raises:
        ValueError: if dy has not four axes, or the window is not as above.
        TypeError: if dy is neither float32 nor float64.
    """
    check_float("subtractive_norm_backward", dy)
    mean = _Mean("subtractive_norm_backward", dy, window)
    return laid_out(dy - mean.spread(dy.sum(axis=1, keepdims=True)))


@quiet
def divisive_norm(x: Array, window: Array, eps: float = 1e-4) -> Array:
    """Divide x (N, C, H, W) by its deviation over all channels and a ``window``, or by the mean of these.

    Returns:
        y of x's shape, channels-last.

    Raises:
        ValueError: if x has not four axes, the window is not as above, or ``eps`` is not positive.
        TypeError: if x is neither float32 nor float64.
    """
    check_float("divisive_norm", x)
    mean = _Mean("divisive_norm", x, window)
    _, _, divisor = _deviation(mean, x, eps)
    return laid_out(x / divisor)


@quiet
def divisive_norm_backward(dy: Array, x: Array, window: Array, eps: float = 1e-4) -> Array:
    """The gradient of ``divisive_norm``.

    Returns:
        dx of x's shape, channels-last.

    Raises:
        ValueError: if the shapes do not fit, the window is not as above, or ``eps`` is not positive.
        TypeError: if the arrays are not both float32 or both float64.
    """
    check_float("divisive_norm_backward", dy, x)
    mean = _Mean("divisive_norm_backward", x, window)
    check_shape("divisive_norm_backward", "dy", dy, x.shape)
    deviation, average, divisor = _deviation(mean, x, eps)
    ddivisor = -(dy * x).sum(axis=1, keepdims=True) / divisor**2
    own = (deviation > average) & (deviation > eps)
    shared = (deviation <= average) & (average > eps)
    ddeviation = np.where(own, ddivisor, 0)
    ddeviation += np.where(shared, ddivisor, 0).mean(axis=(2, 3), keepdims=True)
    # Where the deviation is 0, so is all that it was computed from.
    per_deviation = np.where(deviation > 0, ddeviation / deviation, 0)
    return laid_out(dy / divisor + x * mean.spread(per_deviation))


def _deviation(mean: _Mean, x: Array, eps: float) -> tuple[Array, Array, Array]:
    """The deviation s (N, 1, H, W), its mean in each image (N, 1, 1, 1), and what is divided by."""
    if not eps > 0:
        raise ValueError(f"divisive_norm: eps must be positive, got {eps}")
    deviation = np.sqrt(mean.of(x * x))
    average = deviation.mean(axis=(2, 3), keepdims=True)
    return deviation, average, np.maximum(np.maximum(deviation, average), float(eps))


class _Mean:
    """The mean over all channels and the window's part inside the image, and its transpose."""

    def __init__(self, op: str, x: Array, window: Array) -> None:
        check_rank(op, "an input", x, "(N, C, H, W)")
        self.channels, self.size = x.shape[1], x.shape[2:]
        if 0 in x.shape[1:]:
            raise ValueError(f"{op}: expected an input with channels and positions, got shape {x.shape}")
        self.window = _unit_window(op, window).astype(x.dtype)
        self.inside = self._slide(np.ones((1, 1, *self.size), x.dtype), self.window)

    def of(self, x: Array) -> Array:
        """The mean around each position of x (N, C, H, W): (N, 1, H, W)."""
        return self._slide(x.mean(axis=1, keepdims=True), self.window) / self.inside

    def spread(self, dmean: Array) -> Array:
        """The transpose of ``of``, alike for every channel: (N, 1, H, W)."""
        return self._slide(dmean / self.inside, self.window[::-1, ::-1]) / self.channels

    def _slide(self, x: Array, window: Array) -> Array:
        """Sum over p, q of window[p, q] * x[h + p, w + q], p = q = 0 in the middle, zeros outside."""
        (height, width), (h, w) = window.shape, self.size
        rows, columns = height // 2, width // 2
        padded = np.pad(x, ((0, 0), (0, 0), (rows, rows), (columns, columns)))
        total = np.zeros_like(x)
        for p in range(height):
            for q in range(width):
                total += window[p, q] * padded[:, :, p : p + h, q : q + w]
        return total


def _unit_window(op: str, window: Array) -> Array:
    """The window in float64, scaled to a sum of 1.

    Raises:
        ValueError: if it has not two axes of odd size, a negative weight, or no weight.
    """
    window = np.asarray(window, np.float64)
    if window.ndim != 2 or not all(size % 2 for size in window.shape):
        raise ValueError(f"{op}: expected a window (kh, kw) of odd sizes, got shape {window.shape}")
    middle = window[window.shape[0] // 2, window.shape[1] // 2]
    if not np.isfinite(window).all() or window.min() < 0 or middle <= 0:
        raise ValueError(f"{op}: a window's weights must be finite, not negative, and positive in the middle")
    return window / window.sum()
