"""Activations x * gate(x) and their gradients: gelu, silu and hardswish.

    gelu        gate = Phi(x), or (1 + tanh(u)) / 2 = 1 / (1 + exp(-2 u)), u = sqrt(2 / pi) (x + 0.044715 x^3)
    silu        gate = 1 / (1 + exp(-x))
    hardswish   gate = min(max(x + 3, 0), 6) / 6

The derivative is gate(x) + x * gate'(x). Limit: an exponential and a division or a polynomial, 20 to 40
vector multiply-adds an element; for hardswish, memory bandwidth.
"""

from __future__ import annotations

import math

from nbconv_kernels.cpu import vecmath
from nbconv_kernels.cpu.activation.elementwise import map_elements, map_gradient
from nbconv_kernels.cpu.jit import kernel, parallel_for
from nbconv_kernels.cpu.memory import Array, check_float
from nbconv_kernels.cpu.normal import normal_cdf
from nbconv_kernels.cpu.tasks import check_same_shape, share

_DENSITY = 1 / math.sqrt(2 * math.pi)  # of the normal distribution at 0
_ROOT = 2 * math.sqrt(2 / math.pi)
_CUBE = 0.044715


@kernel
def _gelu_task(task, n_tasks, x, y):
    first, last = share(x.size, task, n_tasks)
    x, y = x[first:last], y[first:last]
    for i in range(x.size):
        y[i] = x[i] * normal_cdf(x[i])


@kernel
def _gelu(n_tasks, x, y, n_threads):
    parallel_for(_gelu_task, n_tasks, n_threads, (n_tasks, x, y))


@kernel
def _gelu_tanh_task(task, n_tasks, x, root, cube, y):
    first, last = share(x.size, task, n_tasks)
    x, y = x[first:last], y[first:last]
    for i in range(x.size):
        y[i] = x[i] * vecmath.sigmoid(root * (x[i] + cube * x[i] * x[i] * x[i]))


@kernel
def _gelu_tanh(n_tasks, x, root, cube, y, n_threads):
    parallel_for(_gelu_tanh_task, n_tasks, n_threads, (n_tasks, x, root, cube, y))


def gelu(x: Array, approximate: str = "none") -> Array:
    """``x * Phi(x)``, Phi being the normal distribution's (Hendrycks and Gimpel 2016).

    Phi(x) = (1 + erf(x / sqrt 2)) / 2; "tanh" puts tanh(sqrt(2 / pi) * (x + 0.044715 x^3)) in place of erf.

    Raises:
        TypeError: for a dtype other than float32 or float64.
        ValueError: for another approximation.
    """
    check_float("gelu", x)
    if _is_exact("gelu", approximate):
        return map_elements(_gelu, x)
    return map_elements(_gelu_tanh, x, _ROOT, _CUBE)


@kernel
def _gelu_backward_task(task, n_tasks, dy, x, density, dx):
    first, last = share(x.size, task, n_tasks)
    dy, x, dx = dy[first:last], x[first:last], dx[first:last]
    half = x.dtype.type(0.5)
    for i in range(x.size):
        slope = density * vecmath.exp(-half * x[i] * x[i])
        dx[i] = dy[i] * (normal_cdf(x[i]) + x[i] * slope)


@kernel
def _gelu_backward(n_tasks, dy, x, density, dx, n_threads):
    parallel_for(_gelu_backward_task, n_tasks, n_threads, (n_tasks, dy, x, density, dx))


@kernel
def _gelu_tanh_backward_task(task, n_tasks, dy, x, root, cube, dx):
    first, last = share(x.size, task, n_tasks)
    dy, x, dx = dy[first:last], x[first:last], dx[first:last]
    zero, one, three = x.dtype.type(0), x.dtype.type(1), x.dtype.type(3)
    for i in range(x.size):
        square = x[i] * x[i]
        u = root * (x[i] + cube * square * x[i])
        # Of the sigmoid's two sides, e / (1 + e) is the small one: their product loses no digits.
        e = vecmath.exp(-abs(u))
        large = one / (one + e)
        gate = large if u >= zero else e * large
        slope = (e * large * large) * (root * (one + three * cube * square))
        dx[i] = dy[i] * (gate + x[i] * slope)


@kernel
def _gelu_tanh_backward(n_tasks, dy, x, root, cube, dx, n_threads):
    parallel_for(_gelu_tanh_backward_task, n_tasks, n_threads, (n_tasks, dy, x, root, cube, dx))


def gelu_backward(dy: Array, x: Array, approximate: str = "none") -> Array:
    """``dy * (Phi(x) + x * Phi'(x))`` for the input ``x``.

    Raises:
        TypeError: for dtypes other than float32 or float64, or mixed ones.
        ValueError: when the shapes differ, or for another approximation.
    """
    check_float("gelu_backward", dy, x)
    check_same_shape("gelu_backward", dy=dy, x=x)
    if _is_exact("gelu_backward", approximate):
        return map_gradient(_gelu_backward, dy, x, _DENSITY)
    return map_gradient(_gelu_tanh_backward, dy, x, _ROOT, _CUBE)


def _is_exact(op: str, approximate: str) -> bool:
    if approximate not in ("none", "tanh"):
        raise ValueError(f'{op}: approximate must be "none" or "tanh", got {approximate!r}')
    return approximate == "none"


@kernel
def _silu_task(task, n_tasks, x, y):
    first, last = share(x.size, task, n_tasks)
    x, y = x[first:last], y[first:last]
    for i in range(x.size):
        y[i] = x[i] * vecmath.sigmoid(x[i])


@kernel
def _silu(n_tasks, x, y, n_threads):
    parallel_for(_silu_task, n_tasks, n_threads, (n_tasks, x, y))


def silu(x: Array) -> Array:
    """``x * sigmoid(x)``, also called swish (Ramachandran et al. 2017).

    Raises:
        TypeError: for a dtype other than float32 or float64.
    """
    check_float("silu", x)
    return map_elements(_silu, x)


@kernel
def _silu_backward_task(task, n_tasks, dy, x, dx):
    first, last = share(x.size, task, n_tasks)
    dy, x, dx = dy[first:last], x[first:last], dx[first:last]
    one = x.dtype.type(1)
    for i in range(x.size):
        s = vecmath.sigmoid(x[i])
        dx[i] = dy[i] * (s * (one + x[i] * (one - s)))


@kernel
def _silu_backward(n_tasks, dy, x, dx, n_threads):
    parallel_for(_silu_backward_task, n_tasks, n_threads, (n_tasks, dy, x, dx))


def silu_backward(dy: Array, x: Array) -> Array:
    """``dy * s * (1 + x * (1 - s))`` with s = sigmoid(x), for the input ``x``.

    Raises:
        TypeError: for dtypes other than float32 or float64, or mixed ones.
        ValueError: when the shapes differ.
    """
    check_float("silu_backward", dy, x)
    check_same_shape("silu_backward", dy=dy, x=x)
    return map_gradient(_silu_backward, dy, x)


@kernel
def _hardswish_task(task, n_tasks, x, y):
    first, last = share(x.size, task, n_tasks)
    x, y = x[first:last], y[first:last]
    zero, three, six = x.dtype.type(0), x.dtype.type(3), x.dtype.type(6)
    sixth = x.dtype.type(1 / 6)
    for i in range(x.size):
        gate = x[i] + three
        gate = zero if gate < zero else gate
        gate = six if gate > six else gate
        y[i] = x[i] * gate * sixth


@kernel
def _hardswish(n_tasks, x, y, n_threads):
    parallel_for(_hardswish_task, n_tasks, n_threads, (n_tasks, x, y))


def hardswish(x: Array) -> Array:
    """``x * min(max(x + 3, 0), 6) / 6`` (Howard et al. 2019).

    Raises:
        TypeError: for a dtype other than float32 or float64.
    """
    check_float("hardswish", x)
    return map_elements(_hardswish, x)


@kernel
def _hardswish_backward_task(task, n_tasks, dy, x, dx):
    first, last = share(x.size, task, n_tasks)
    dy, x, dx = dy[first:last], x[first:last], dx[first:last]
    zero, half, three = x.dtype.type(0), x.dtype.type(0.5), x.dtype.type(3)
    third = x.dtype.type(1 / 3)
    for i in range(x.size):
        inner = dy[i] * (x[i] * third + half)
        inner = dy[i] if x[i] >= three else inner
        dx[i] = zero if x[i] <= -three else inner


@kernel
def _hardswish_backward(n_tasks, dy, x, dx, n_threads):
    parallel_for(_hardswish_backward_task, n_tasks, n_threads, (n_tasks, dy, x, dx))


def hardswish_backward(dy: Array, x: Array) -> Array:
    """0 up to x = -3, ``dy`` from x = 3 on, dy * (x / 3 + 1 / 2) between, for the input ``x``.

    Raises:
        TypeError: for dtypes other than float32 or float64, or mixed ones.
        ValueError: when the shapes differ.
    """
    check_float("hardswish_backward", dy, x)
    check_same_shape("hardswish_backward", dy=dy, x=x)
    return map_gradient(_hardswish_backward, dy, x)
