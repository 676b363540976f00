"""Local response normalisation (Krizhevsky, Sutskever and Hinton 2012), AlexNet's NORM layers.

    y[c] = x[c] / d[c]^beta        d[c] = k + alpha / size * sum of x[i]^2 over ``size`` channels around c

The channels are c - size // 2 to c + (size - 1) // 2, as far as they exist; the division is by ``size`` even
where there are fewer, as in PyTorch. (The paper's alpha is this one divided by its size, 5.) Each x[c] is in
the sums of the channels whose window holds c:

    dx[c] = dy[c] / d[c]^beta - 2 * alpha * beta / size * x[c] * sum of dy[i] * x[i] / d[i]^(beta + 1)
"""

from __future__ import annotations

import operator

import numpy as np

from nbconv_kernels.reference.memory import Array, check_float, check_rank, check_shape, laid_out, quiet


@quiet
def local_response_norm(
    x: Array, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0
) -> Array:
    """Divide each channel of x (N, C, H, W) by a power of the energy in ``size`` channels around it.

    Returns:
        y of x's shape, channels-last.

    Raises:
        ValueError: if x has not four axes or ``size`` is not positive.
        TypeError: if x is neither float32 nor float64.
    """
    check_float("local_response_norm", x)
    _check("local_response_norm", x, size)
    return laid_out(x * _divisor(x, size, alpha, k) ** -float(beta))


@quiet
def local_response_norm_backward(
    dy: Array, x: Array, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0
) -> Array:
    """The gradient of ``local_response_norm``.

    Returns:
        dx of x's shape, channels-last.

    Raises:
        ValueError: if the shapes do not fit or ``size`` is not positive.
        TypeError: if the arrays are not both float32 or both float64.
    """
    check_float("local_response_norm_backward", dy, x)
    _check("local_response_norm_backward", x, size)
    check_shape("local_response_norm_backward", "dy", dy, x.shape)
    divisor = _divisor(x, size, alpha, k)
    spread = _window_sums(dy * x * divisor ** -float(beta + 1), (size - 1) // 2, size // 2)
    return laid_out(dy * divisor ** -float(beta) - x * spread * (2 * alpha * beta / size))


def _divisor(x: Array, size: int, alpha: float, k: float) -> Array:
    return float(k) + _window_sums(x * x, size // 2, (size - 1) // 2) * (alpha / size)


def _window_sums(x: Array, before: int, after: int) -> Array:
    """The sum over the channels from c - ``before`` to c + ``after``, for each channel c."""
    channels = x.shape[1]
    windows = [slice(max(0, c - before), c + after + 1) for c in range(channels)]
    return np.stack([x[:, window].sum(axis=1) for window in windows], axis=1)


def _check(op: str, x: Array, size: int) -> None:
    check_rank(op, "an input", x, "(N, C, H, W)")
    if operator.index(size) < 1:
        raise ValueError(f"{op}: size must be positive, got {size}")
    if x.shape[1] == 0:
        raise ValueError(f"{op}: expected an input with channels, got shape {x.shape}")
