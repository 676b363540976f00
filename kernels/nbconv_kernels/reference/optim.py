"""One optimiser step over all parameters, in place, as PyTorch defines it.

SGD, with the gradient g (negated to maximise) plus weight_decay * parameter:

    buffer = momentum * buffer + (1 - dampening) * g             the first step: buffer = g
    parameter -= lr * buffer                                     Nesterov: lr * (g + momentum * buffer)

Adam (Kingma and Ba 2015), at step t = 1, 2, ...:

    m = beta1 * m + (1 - beta1) * g          v = beta2 * v + (1 - beta2) * g^2
    parameter -= lr / (1 - beta1^t) * m / (sqrt(v) / sqrt(1 - beta2^t) + eps)

AdamW (Loshchilov and Hutter 2019) multiplies the parameter by 1 - lr * weight_decay instead of adding the
decay to g. AMSGrad (Reddi et al. 2018) takes the largest v so far.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from nbconv_kernels.reference.memory import Array, check_float, check_shape, quiet


@quiet
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
        ValueError: if lists or shapes do not fit, or Nesterov's form is asked for without momentum or with
            dampening.
        TypeError: if a parameter and what belongs to it are not all float32 or all float64.
    """
    if nesterov and (momentum <= 0 or dampening != 0):
        raise ValueError(
            f"sgd_step: nesterov needs a momentum and no dampening, got {momentum=} and {dampening=}"
        )
    if momentum != 0 and momentum_buffers is None:
        raise ValueError("sgd_step: momentum needs momentum_buffers, got None")
    check_lists("sgd_step", params, grads=grads, momentum_buffers=momentum_buffers)
    lr, momentum, dampening = float(lr), float(momentum), float(dampening)
    for index, (param, grad) in enumerate(zip(params, grads, strict=True)):
        step = direction(param, grad, weight_decay, maximize)
        if momentum != 0 and momentum_buffers is not None:
            buffer = momentum_buffers[index]
            buffer[...] = step if first_step else momentum * buffer + (1 - dampening) * step
            step = step + momentum * buffer if nesterov else buffer
        param -= lr * step


@quiet
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
        ValueError: if lists or shapes do not fit, step < 1, or a beta is outside [0, 1).
        TypeError: if a parameter and what belongs to it are not all float32 or all float64.
    """
    if step < 1:
        raise ValueError(f"adam_step: step must be at least 1, got {step}")
    if not (0 <= beta1 < 1 and 0 <= beta2 < 1):
        raise ValueError(f"adam_step: betas must lie in [0, 1), got {beta1} and {beta2}")
    check_lists(
        "adam_step",
        params,
        grads=grads,
        exp_avgs=exp_avgs,
        exp_avg_sqs=exp_avg_sqs,
        max_exp_avg_sqs=max_exp_avg_sqs,
    )
    lr, beta1, beta2, eps = float(lr), float(beta1), float(beta2), float(eps)
    step_size = lr / (1 - beta1**step)
    correction = math.sqrt(1 - beta2**step)
    for index, (param, grad) in enumerate(zip(params, grads, strict=True)):
        g = direction(param, grad, 0.0 if decoupled else weight_decay, maximize)
        if decoupled:
            param *= 1 - lr * float(weight_decay)
        m, v = exp_avgs[index], exp_avg_sqs[index]
        m[...] = beta1 * m + (1 - beta1) * g
        v[...] = beta2 * v + (1 - beta2) * g * g
        largest = v
        if max_exp_avg_sqs is not None:
            largest = max_exp_avg_sqs[index]
            np.maximum(largest, v, out=largest)
        param -= step_size * m / (np.sqrt(largest) / correction + eps)


def check_lists(op: str, params: Sequence[Array], **lists: Sequence[Array] | None) -> None:
    """Raise unless every list given holds, for each parameter, an array of its shape and dtype."""
    for name, arrays in lists.items():
        if arrays is None:
            continue
        if len(arrays) != len(params):
            raise ValueError(f"{op}: expected {len(params)} arrays in {name}, got {len(arrays)}")
        for index, (param, array) in enumerate(zip(params, arrays, strict=True)):
            check_float(op, param, array)
            check_shape(op, f"{name}[{index}]", array, param.shape)


def direction(param: Array, grad: Array, weight_decay: float, maximize: bool) -> Array:
    """The gradient to descend along: negated to maximise, plus the weight decay."""
    g = -grad if maximize else grad
    return g if weight_decay == 0 else g + float(weight_decay) * param
