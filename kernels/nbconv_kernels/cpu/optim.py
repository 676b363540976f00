"""One optimiser step over all parameters, in place, as PyTorch defines it.

SGD, with the gradient g (negated to maximise) plus weight_decay * parameter:

    buffer = momentum * buffer + (1 - dampening) * g             the first step: buffer = g
    parameter -= lr * buffer                                     Nesterov: lr * (g + momentum * buffer)

Adam (Kingma and Ba 2015), at step t = 1, 2, ...:

    m = beta1 * m + (1 - beta1) * g          v = beta2 * v + (1 - beta2) * g^2
    parameter -= lr / (1 - beta1^t) * m / (sqrt(v) / sqrt(1 - beta2^t) + eps)

AdamW (Loshchilov and Hutter 2019) multiplies the parameter by 1 - lr * weight_decay instead of adding the
decay to g. AMSGrad (Reddi et al. 2018) takes the largest v so far.

All parameters are one long row of elements, of which a task does a part. The kernel is given a table of
addresses, one row each for parameters, gradients and states, so that a step is one call whatever the number
of parameters.

The moving averages of a parameter whose gradient has become zero, a dead unit's, shrink until they are
subnormal and stay there. Arithmetic with such numbers takes ten times as long, so they become zero.

Limit: memory bandwidth: SGD with momentum reads three arrays and writes two, Adam reads four and writes
three.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from nbconv_kernels.cpu.addresses import address_tables, array_at
from nbconv_kernels.cpu.jit import get_num_threads, kernel, parallel_for
from nbconv_kernels.cpu.memory import Array
from nbconv_kernels.cpu.tasks import share, task_count

__all__ = ["adam_step", "sgd_step"]

_BLOCK = 1024  # elements of a parameter that Adam updates at a time


@kernel
def _sgd_task(
    task, n_tasks, table, starts, lr, momentum, keep, weight_decay, tiny, nesterov, maximize, first
):
    begin, end = share(starts[-1], task, n_tasks)
    zero = tiny - tiny
    for k in range(starts.size - 1):
        start, count = max(begin, starts[k]), min(end, starts[k + 1]) - max(begin, starts[k])
        if count <= 0:
            continue
        p = array_at(table[0, k], start - starts[k], count, lr)
        grad = array_at(table[1, k], start - starts[k], count, lr)
        if momentum == 0:
            for i in range(count):
                g = -grad[i] if maximize else grad[i]
                p[i] -= lr * (g + weight_decay * p[i] if weight_decay != 0 else g)
            continue
        buffer = array_at(table[2, k], start - starts[k], count, lr)
        for i in range(count):
            g = -grad[i] if maximize else grad[i]
            g = g + weight_decay * p[i] if weight_decay != 0 else g
            moving = g if first else momentum * buffer[i] + keep * g
            buffer[i] = zero if abs(moving) < tiny else moving
            p[i] -= lr * (g + momentum * buffer[i] if nesterov else buffer[i])


@kernel
def _sgd(
    n_tasks, table, starts, lr, momentum, keep, weight_decay, tiny, nesterov, maximize, first, n_threads
):
    settings = (lr, momentum, keep, weight_decay, tiny, nesterov, maximize, first)
    parallel_for(_sgd_task, n_tasks, n_threads, (n_tasks, table, starts, *settings))


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
        TypeError: if a parameter and what belongs to it are not all float32 or all float64.
        ValueError: if lists or shapes do not fit, an array to update is read-only or not C-contiguous, or
            Nesterov's form is asked for without momentum or with dampening.
    """
    if nesterov and (momentum <= 0 or dampening != 0):
        raise ValueError(
            f"sgd_step: nesterov needs a momentum and no dampening, got {momentum=} and {dampening=}"
        )
    if momentum != 0 and momentum_buffers is None:
        raise ValueError("sgd_step: momentum needs momentum_buffers, got None")
    for table in address_tables("sgd_step", params, grads, momentum_buffers=momentum_buffers):
        tiny = np.finfo(table.dtype).tiny
        numbers = map(table.dtype.type, (lr, momentum, 1 - dampening, weight_decay, tiny))
        flags = (bool(nesterov), bool(maximize), bool(first_step))
        _sgd(task_count(table.elements), table.addresses, table.starts, *numbers, *flags, get_num_threads())


@kernel
def _adam_task(
    task,
    n_tasks,
    table,
    starts,
    step_size,
    correction,
    beta1,
    rest1,
    beta2,
    rest2,
    eps,
    decay,
    shrink,
    tiny,
    maximize,
):
    begin, end = share(starts[-1], task, n_tasks)
    zero = tiny - tiny
    for k in range(starts.size - 1):
        # In blocks, which the second loop finds in the cache.
        for start in range(max(begin, starts[k]), min(end, starts[k + 1]), _BLOCK):
            at, count = start - starts[k], min(end, starts[k + 1], start + _BLOCK) - start
            p, grad = array_at(table[0, k], at, count, eps), array_at(table[1, k], at, count, eps)
            m, v = array_at(table[2, k], at, count, eps), array_at(table[3, k], at, count, eps)
            for i in range(count):
                g = -grad[i] if maximize else grad[i]
                g = g + decay * p[i] if decay != 0 else g
                moving = beta1 * m[i] + rest1 * g
                m[i] = zero if abs(moving) < tiny else moving
                v[i] = beta2 * v[i] + rest2 * g * g
            largest = array_at(table[-1, k], at, count, eps)
            if table.shape[0] > 4:
                for i in range(count):
                    # The other way round would lose a NaN in v.
                    largest[i] = largest[i] if largest[i] >= v[i] or largest[i] != largest[i] else v[i]
            for i in range(count):
                p[i] = shrink * p[i] - step_size * m[i] / (math.sqrt(largest[i]) / correction + eps)


@kernel
def _adam(n_tasks, table, starts, numbers, maximize, n_threads):
    parallel_for(_adam_task, n_tasks, n_threads, (n_tasks, table, starts, *numbers, maximize))


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
        TypeError: if a parameter and what belongs to it are not all float32 or all float64.
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
    for table in address_tables("adam_step", params, grads, **states):
        typed = tuple(map(table.dtype.type, (*numbers, np.finfo(table.dtype).tiny)))
        arguments = (table.addresses, table.starts, typed, bool(maximize))
        _adam(task_count(table.elements), *arguments, get_num_threads())
