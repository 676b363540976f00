"""One optimiser step over all parameters, in place, as PyTorch defines it.

SGD, with the gradient g (negated to maximise) plus weight_decay * parameter:

    buffer = momentum * buffer + (1 - dampening) * g             the first step: buffer = g
    parameter -= lr * buffer                                     Nesterov: lr * (g + momentum * buffer)

Adam (Kingma and Ba 2015), at step t = 1, 2, ...:

    m = beta1 * m + (1 - beta1) * g          v = beta2 * v + (1 - beta2) * g^2
    parameter -= lr / (1 - beta1^t) * m / (sqrt(v) / sqrt(1 - beta2^t) + eps)

AdamW (Loshchilov and Hutter 2019) multiplies the parameter by 1 - lr * weight_decay instead of adding the
decay to g. AMSGrad (Reddi et al. 2018) takes the largest v so far.

All are formulas for one element (``parameters``).

Limit: memory bandwidth: SGD with momentum reads three arrays and writes two, Adam reads four and writes
three.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from nbconv_kernels.cuda.build import device_function
from nbconv_kernels.cuda.memory import Array
from nbconv_kernels.cuda.parameters import FLAG, MAXIMIZE, direction, update, updating
from nbconv_kernels.cuda.target import uint32

__all__ = ["adam_step", "sgd_step"]

_MOMENTUM = 1  # the mask's bit of the only state
_NESTEROV, _FIRST = FLAG, 2 * FLAG
_AMSGRAD = 4  # the mask's bit of the last state


@device_function
def _sgd(p, g, buffer, b, c, numbers, mask) -> Any:
    lr, momentum, keep, decay = numbers[0], numbers[1], numbers[2], numbers[3]
    g = direction(p, g, decay, mask)
    if uint32(mask & uint32(_MOMENTUM)) == uint32(0):
        return p - lr * g, buffer, b, c
    buffer = g if uint32(mask & uint32(_FIRST)) != uint32(0) else momentum * buffer + keep * g
    step = g + momentum * buffer if uint32(mask & uint32(_NESTEROV)) != uint32(0) else buffer
    return p - lr * step, buffer, b, c


_SGD = updating(_sgd, 0, 1)


def sgd_step(
    params: Sequence[Array],
    grads: Sequence[Array],
    momentum_buffers: Sequence[Array] | None,
    *,
    lr: float,
    momentum: float = 0.0,
    dampening: float = 0.0,
    weight_decay: float = 0.0,
    nesterov: bool = False,
    maximize: bool = False,
    first_step: bool = False,
) -> None:
    """Update ``params`` and ``momentum_buffers`` in place; without momentum the buffers may be None.

    Raises:
        TypeError: if a parameter and what belongs to it are not all float32.
        ValueError: if lists or shapes do not fit, an array to update is read-only or not C-contiguous, or
            Nesterov's form is asked for without momentum or with dampening.
    """
    if nesterov and (momentum <= 0 or dampening != 0):
        raise ValueError(
            f"sgd_step: nesterov needs a momentum and no dampening, got {momentum=} and {dampening=}"
        )
    if momentum != 0 and momentum_buffers is None:
        raise ValueError("sgd_step: momentum needs momentum_buffers, got None")
    flags = bool(maximize) * MAXIMIZE + bool(nesterov) * _NESTEROV + bool(first_step) * _FIRST
    numbers = (lr, momentum, 1 - dampening, weight_decay)
    buffers = momentum_buffers if momentum != 0 else None
    update("sgd_step", _SGD, numbers, flags, params, grads, momentum_buffers=buffers)


@device_function
def _adam(p, g, m, v, largest, numbers, mask) -> Any:
    step_size, correction, beta1, rest1, beta2, rest2, eps, decay, shrink = numbers
    g = direction(p, g, decay, mask)
    m = beta1 * m + rest1 * g
    v = beta2 * v + rest2 * g * g
    root = v
    if uint32(mask & uint32(_AMSGRAD)) != uint32(0):
        # The other way round would lose a NaN in v.
        largest = largest if largest >= v or largest != largest else v
        root = largest
    return shrink * p - step_size * m / (math.sqrt(root) / correction + eps), m, v, largest


_ADAM = updating(_adam, 2, 3)


def adam_step(
    params: Sequence[Array],
    grads: Sequence[Array],
    exp_avgs: Sequence[Array],
    exp_avg_sqs: Sequence[Array],
    *,
    step: int,
    lr: float,
    beta1: float = 0.9,
    beta2: float = 0.999,
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    decoupled: bool = False,
    maximize: bool = False,
    max_exp_avg_sqs: Sequence[Array] | None = None,
) -> None:
    """Update ``params`` and their moments in place. ``decoupled`` is AdamW, ``max_exp_avg_sqs`` AMSGrad.

    ``step`` is the number of this step: 1 the first time, when the moments are zeros.

    Raises:
        TypeError: if a parameter and what belongs to it are not all float32.
        ValueError: if lists or shapes do not fit, an array to update is read-only or not C-contiguous, step <
            1, or a beta is outside [0, 1).
    """
    if step < 1:
        raise ValueError(f"adam_step: step must be at least 1, got {step}")
    if not (0 <= beta1 < 1 and 0 <= beta2 < 1):
        raise ValueError(f"adam_step: betas must lie in [0, 1), got {beta1} and {beta2}")
    states = {"exp_avgs": exp_avgs, "exp_avg_sqs": exp_avg_sqs, "max_exp_avg_sqs": max_exp_avg_sqs}
    step_size, correction = lr / (1 - beta1**step), math.sqrt(1 - beta2**step)
    decay, shrink = (0.0, 1 - lr * weight_decay) if decoupled else (weight_decay, 1.0)
    numbers = (step_size, correction, beta1, 1 - beta1, beta2, 1 - beta2, eps, decay, shrink)
    update("adam_step", _ADAM, numbers, bool(maximize) * MAXIMIZE, params, grads, **states)
