"""One step of optimisers that scale each element by its own past, in place.

With the gradient g (negated to maximise) plus weight_decay * parameter:

RMSprop (Hinton 2012), as PyTorch defines it:

    v = alpha * v + (1 - alpha) * g^2
    m = alpha * m + (1 - alpha) * g                      centered: max(v - m^2, 0) takes v's place below
    step = g / (sqrt(v) + eps)                           with momentum: buffer = momentum * buffer + step
    parameter -= lr * step                               ... and the buffer is the step

Adagrad (Duchi et al. 2011), as PyTorch defines it, at step t = 1, 2, ...:

    s = s + g^2
    parameter -= lr / (1 + (t - 1) * lr_decay) * g / (sqrt(s) + eps)

Lion (Chen et al. 2023, algorithm 2), whose weight decay shrinks the parameter and stays out of g:

    parameter = (1 - lr * weight_decay) * parameter - lr * sign(beta1 * m + (1 - beta1) * g)
    m = beta2 * m + (1 - beta2) * g

All are formulas for one element (``parameters``).

Limit: memory bandwidth: Lion and Adagrad read three arrays and write two; RMSprop up to five and four.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from nbconv_kernels.cuda.build import device_function
from nbconv_kernels.cuda.memory import Array
from nbconv_kernels.cuda.parameters import MAXIMIZE, direction, update, updating
from nbconv_kernels.cuda.target import float32, uint32

__all__ = ["adagrad_step", "lion_step", "rmsprop_step"]

_CENTERED, _MOMENTUM = 2, 4  # the mask's bits of the second and third state


@device_function
def _rmsprop(p, g, v, m, buffer, numbers, mask) -> Any:
    lr, alpha, rest, eps, decay, momentum = numbers[:6]
    g = direction(p, g, decay, mask)
    v = alpha * v + rest * g * g
    variance = v
    if uint32(mask & uint32(_CENTERED)) != uint32(0):
        m = alpha * m + rest * g
        variance = v - m * m
        variance = float32(0) if variance < float32(0) else variance  # NaN stays
    step = g / (math.sqrt(variance) + eps)
    if uint32(mask & uint32(_MOMENTUM)) != uint32(0):
        step = momentum * buffer + step
        buffer = step
    return p - lr * step, v, m, buffer


_RMSPROP = updating(_rmsprop, 1, 3)


def rmsprop_step(
    params: Sequence[Array],
    grads: Sequence[Array],
    square_avgs: Sequence[Array],
    *,
    lr: float,
    alpha: float = 0.99,
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    momentum: float = 0.0,
    maximize: bool = False,
    grad_avgs: Sequence[Array] | None = None,
    momentum_buffers: Sequence[Array] | None = None,
) -> None:
    """Update ``params`` and their states in place. ``grad_avgs`` makes it the centered form.

    Raises:
        TypeError: if a parameter and what belongs to it are not all float32.
        ValueError: if lists or shapes do not fit, an array to update is read-only or not C-contiguous, alpha
            is outside [0, 1), or momentum has no buffers.
    """
    if not 0 <= alpha < 1:
        raise ValueError(f"rmsprop_step: alpha must lie in [0, 1), got {alpha}")
    if momentum != 0 and momentum_buffers is None:
        raise ValueError("rmsprop_step: momentum needs momentum_buffers, got None")
    buffers = momentum_buffers if momentum != 0 else None
    states = {"square_avgs": square_avgs, "grad_avgs": grad_avgs, "momentum_buffers": buffers}
    numbers = (lr, alpha, 1 - alpha, eps, weight_decay, momentum)
    update("rmsprop_step", _RMSPROP, numbers, bool(maximize) * MAXIMIZE, params, grads, **states)


@device_function
def _adagrad(p, g, squares, b, c, numbers, mask) -> Any:
    rate, eps, decay = numbers[0], numbers[1], numbers[2]
    g = direction(p, g, decay, mask)
    squares = squares + g * g
    return p - rate * g / (math.sqrt(squares) + eps), squares, b, c


_ADAGRAD = updating(_adagrad, 1, 1)


def adagrad_step(
    params: Sequence[Array],
    grads: Sequence[Array],
    sums: Sequence[Array],
    *,
    step: int,
    lr: float,
    lr_decay: float = 0.0,
    eps: float = 1e-10,
    weight_decay: float = 0.0,
    maximize: bool = False,
) -> None:
    """Update ``params`` and their sums of squares in place; ``step`` is 1 the first time.

    Raises:
        TypeError: if a parameter and what belongs to it are not all float32.
        ValueError: if lists or shapes do not fit, an array to update is read-only or not C-contiguous, or
            step < 1.
    """
    if step < 1:
        raise ValueError(f"adagrad_step: step must be at least 1, got {step}")
    numbers = (lr / (1 + (step - 1) * lr_decay), eps, weight_decay)
    update("adagrad_step", _ADAGRAD, numbers, bool(maximize) * MAXIMIZE, params, grads, sums=sums)


@device_function
def _lion(p, g, m, b, c, numbers, mask) -> Any:
    lr, beta1, rest1, beta2, rest2, shrink = numbers[:6]
    g = direction(p, g, float32(0), mask)
    mixed = beta1 * m + rest1 * g
    # Zero and NaN are their own signs.
    change = lr if mixed > float32(0) else -lr if mixed < float32(0) else mixed
    return shrink * p - change, beta2 * m + rest2 * g, b, c


_LION = updating(_lion, 1, 1)


def lion_step(
    params: Sequence[Array],
    grads: Sequence[Array],
    exp_avgs: Sequence[Array],
    *,
    lr: float,
    beta1: float = 0.9,
    beta2: float = 0.99,
    weight_decay: float = 0.0,
    maximize: bool = False,
) -> None:
    """Update ``params`` and their moments in place.

    Raises:
        TypeError: if a parameter and what belongs to it are not all float32.
        ValueError: if lists or shapes do not fit, an array to update is read-only or not C-contiguous, or a
            beta is outside [0, 1).
    """
    if not (0 <= beta1 < 1 and 0 <= beta2 < 1):
        raise ValueError(f"lion_step: betas must lie in [0, 1), got {beta1} and {beta2}")
    numbers = (lr, beta1, 1 - beta1, beta2, 1 - beta2, 1 - lr * weight_decay)
    update("lion_step", _LION, numbers, bool(maximize) * MAXIMIZE, params, grads, exp_avgs=exp_avgs)
