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

Parameters are one long row of elements behind a table of addresses, as in optim.py.

Limit: memory bandwidth: Lion and Adagrad read three arrays and write two; RMSprop up to five and four.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from nbconv_kernels.cpu.addresses import address_tables, array_at
from nbconv_kernels.cpu.jit import get_num_threads, kernel, parallel_for
from nbconv_kernels.cpu.memory import Array
from nbconv_kernels.cpu.tasks import share, task_count

__all__ = ["adagrad_step", "lion_step", "rmsprop_step"]

_BLOCK = 1024  # elements of a parameter updated at a time, which a second loop finds in the cache


@kernel
def _rmsprop_task(task, n_tasks, table, starts, lr, alpha, rest, eps, decay, momentum, maximize, centered):
    begin, end = share(starts[-1], task, n_tasks)
    zero = eps - eps
    for k in range(starts.size - 1):
        for start in range(max(begin, starts[k]), min(end, starts[k + 1]), _BLOCK):
            at, count = start - starts[k], min(end, starts[k + 1], start + _BLOCK) - start
            p, grad = array_at(table[0, k], at, count, eps), array_at(table[1, k], at, count, eps)
            v = array_at(table[2, k], at, count, eps)
            m, buffer = array_at(table[3 if centered else 2, k], at, count, eps), v
            if momentum != 0:
                buffer = array_at(table[-1, k], at, count, eps)
            for i in range(count):
                g = -grad[i] if maximize else grad[i]
                g = g + decay * p[i] if decay != 0 else g
                v[i] = alpha * v[i] + rest * g * g
                variance = v[i]
                if centered:
                    m[i] = alpha * m[i] + rest * g
                    variance = v[i] - m[i] * m[i]
                    variance = zero if variance < 0 else variance  # NaN stays
                step = g / (math.sqrt(variance) + eps)
                if momentum != 0:
                    step = momentum * buffer[i] + step
                    buffer[i] = step
                p[i] -= lr * step


@kernel
def _rmsprop(n_tasks, table, starts, numbers, maximize, centered, n_threads):
    arguments = (n_tasks, table, starts, *numbers, maximize, centered)
    parallel_for(_rmsprop_task, n_tasks, n_threads, arguments)


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
        TypeError: if a parameter and what belongs to it are not all float32 or all float64.
        ValueError: if lists or shapes do not fit, an array to update is read-only or not C-contiguous, alpha
            is outside [0, 1), or momentum has no buffers.
    """
    if not 0 <= alpha < 1:
        raise ValueError(f"rmsprop_step: alpha must lie in [0, 1), got {alpha}")
    if momentum != 0 and momentum_buffers is None:
        raise ValueError("rmsprop_step: momentum needs momentum_buffers, got None")
    states = {"square_avgs": square_avgs, "grad_avgs": grad_avgs, "momentum_buffers": momentum_buffers}
    numbers = (lr, alpha, 1 - alpha, eps, weight_decay, momentum)
    for table in address_tables("rmsprop_step", params, grads, **states):
        typed = tuple(map(table.dtype.type, numbers))
        flags = (bool(maximize), grad_avgs is not None)
        _rmsprop(task_count(table.elements), table.addresses, table.starts, typed, *flags, get_num_threads())


@kernel
def _adagrad_task(task, n_tasks, table, starts, rate, eps, decay, maximize):
    begin, end = share(starts[-1], task, n_tasks)
    for k in range(starts.size - 1):
        start, count = max(begin, starts[k]), min(end, starts[k + 1]) - max(begin, starts[k])
        if count <= 0:
            continue
        at = start - starts[k]
        p, grad = array_at(table[0, k], at, count, eps), array_at(table[1, k], at, count, eps)
        squares = array_at(table[2, k], at, count, eps)
        for i in range(count):
            g = -grad[i] if maximize else grad[i]
            g = g + decay * p[i] if decay != 0 else g
            squares[i] += g * g
            p[i] -= rate * g / (math.sqrt(squares[i]) + eps)


@kernel
def _adagrad(n_tasks, table, starts, numbers, maximize, n_threads):
    parallel_for(_adagrad_task, n_tasks, n_threads, (n_tasks, table, starts, *numbers, maximize))


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
        TypeError: if a parameter and what belongs to it are not all float32 or all float64.
        ValueError: if lists or shapes do not fit, an array to update is read-only or not C-contiguous, or
            step < 1.
    """
    if step < 1:
        raise ValueError(f"adagrad_step: step must be at least 1, got {step}")
    numbers = (lr / (1 + (step - 1) * lr_decay), eps, weight_decay)
    for table in address_tables("adagrad_step", params, grads, sums=sums):
        typed = tuple(map(table.dtype.type, numbers))
        arguments = (table.addresses, table.starts, typed, bool(maximize))
        _adagrad(task_count(table.elements), *arguments, get_num_threads())


@kernel
def _lion_task(task, n_tasks, table, starts, lr, beta1, rest1, beta2, rest2, shrink, maximize):
    begin, end = share(starts[-1], task, n_tasks)
    for k in range(starts.size - 1):
        start, count = max(begin, starts[k]), min(end, starts[k + 1]) - max(begin, starts[k])
        if count <= 0:
            continue
        at = start - starts[k]
        p, grad = array_at(table[0, k], at, count, lr), array_at(table[1, k], at, count, lr)
        m = array_at(table[2, k], at, count, lr)
        for i in range(count):
            g = -grad[i] if maximize else grad[i]
            mixed = beta1 * m[i] + rest1 * g
            # Zero and NaN are their own signs.
            update = lr if mixed > 0 else -lr if mixed < 0 else mixed
            p[i] = shrink * p[i] - update
            m[i] = beta2 * m[i] + rest2 * g


@kernel
def _lion(n_tasks, table, starts, numbers, maximize, n_threads):
    parallel_for(_lion_task, n_tasks, n_threads, (n_tasks, table, starts, *numbers, maximize))


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
        TypeError: if a parameter and what belongs to it are not all float32 or all float64.
        ValueError: if lists or shapes do not fit, an array to update is read-only or not C-contiguous, or a
            beta is outside [0, 1).
    """
    if not (0 <= beta1 < 1 and 0 <= beta2 < 1):
        raise ValueError(f"lion_step: betas must lie in [0, 1), got {beta1} and {beta2}")
    numbers = (lr, beta1, 1 - beta1, beta2, 1 - beta2, 1 - lr * weight_decay)
    for table in address_tables("lion_step", params, grads, exp_avgs=exp_avgs):
        typed = tuple(map(table.dtype.type, numbers))
        arguments = (table.addresses, table.starts, typed, bool(maximize))
        _lion(task_count(table.elements), *arguments, get_num_threads())
