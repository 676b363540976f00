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
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nbconv_kernels.reference.memory import Array, quiet
from nbconv_kernels.reference.optim import check_lists, direction


@quiet
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
        ValueError: if lists or shapes do not fit, alpha is outside [0, 1), or momentum has no buffers.
        TypeError: if a parameter and what belongs to it are not all float32 or all float64.
    """
    if not 0 <= alpha < 1:
        raise ValueError(f"rmsprop_step: alpha must lie in [0, 1), got {alpha}")
    if momentum != 0 and momentum_buffers is None:
        raise ValueError("rmsprop_step: momentum needs momentum_buffers, got None")
    check_lists(
        "rmsprop_step",
        params,
        grads=grads,
        square_avgs=square_avgs,
        grad_avgs=grad_avgs,
        momentum_buffers=momentum_buffers,
    )
    lr, alpha, eps, momentum = float(lr), float(alpha), float(eps), float(momentum)
    for index, (param, grad) in enumerate(zip(params, grads, strict=True)):
        g = direction(param, grad, weight_decay, maximize)
        v = square_avgs[index]
        v[...] = alpha * v + (1 - alpha) * g * g
        variance = v
        if grad_avgs is not None:
            m = grad_avgs[index]
            m[...] = alpha * m + (1 - alpha) * g
            variance = np.maximum(v - m * m, 0)
        step = g / (np.sqrt(variance) + eps)
        if momentum != 0 and momentum_buffers is not None:
            buffer = momentum_buffers[index]
            buffer[...] = momentum * buffer + step
            step = buffer
        param -= lr * step


@quiet
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
        ValueError: if lists or shapes do not fit, or step < 1.
        TypeError: if a parameter and what belongs to it are not all float32 or all float64.
    """
    if step < 1:
        raise ValueError(f"adagrad_step: step must be at least 1, got {step}")
    check_lists("adagrad_step", params, grads=grads, sums=sums)
    rate, eps = float(lr) / (1 + (step - 1) * float(lr_decay)), float(eps)
    for param, grad, squares in zip(params, grads, sums, strict=True):
        g = direction(param, grad, weight_decay, maximize)
        squares += g * g
        param -= rate * g / (np.sqrt(squares) + eps)


@quiet
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
        ValueError: if lists or shapes do not fit, or a beta is outside [0, 1).
        TypeError: if a parameter and what belongs to it are not all float32 or all float64.
    """
    if not (0 <= beta1 < 1 and 0 <= beta2 < 1):
        raise ValueError(f"lion_step: betas must lie in [0, 1), got {beta1} and {beta2}")
    check_lists("lion_step", params, grads=grads, exp_avgs=exp_avgs)
    lr, beta1, beta2 = float(lr), float(beta1), float(beta2)
    for param, grad, m in zip(params, grads, exp_avgs, strict=True):
        g = direction(param, grad, 0.0, maximize)
        update = np.sign(beta1 * m + (1 - beta1) * g)
        param *= 1 - lr * float(weight_decay)
        param -= lr * update
        m[...] = beta2 * m + (1 - beta2) * g
