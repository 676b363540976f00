"""Rectifiers with a soft bend: selu and softplus, and their gradients.

    selu        scale * x where x > 0, else scale * alpha * (e^x - 1)
    softplus    log(1 + e^s) / beta = (max(s, 0) + log1p(e^-|s|)) / beta,  s = beta * x

In the second form no exponential overflows. Limit: an exponential and, for softplus, a logarithm: 20 to 40
vector multiply-adds an element.
"""

from __future__ import annotations

from nbconv_kernels.cpu import vecmath
from nbconv_kernels.cpu.activation.elementwise import map_elements, map_gradient
from nbconv_kernels.cpu.jit import kernel, parallel_for
from nbconv_kernels.cpu.logarithm import log1p
from nbconv_kernels.cpu.memory import Array, check_float
from nbconv_kernels.cpu.tasks import check_same_shape, share

# Chosen such that normalised activations stay normalised from layer to layer (Klambauer et al. 2017).
_SCALE = 1.0507009873554804934193349852946
_SCALED_ALPHA = _SCALE * 1.6732632423543772848170429916717


@kernel
def _selu_task(task, n_tasks, x, scale, scaled_alpha, y):
    first, last = share(x.size, task, n_tasks)
    x, y = x[first:last], y[first:last]
    zero = x.dtype.type(0)
    for i in range(x.size):
        y[i] = scaled_alpha * vecmath.expm1(x[i]) if x[i] <= zero else scale * x[i]


@kernel
def _selu(n_tasks, x, scale, scaled_alpha, y, n_threads):
    parallel_for(_selu_task, n_tasks, n_threads, (n_tasks, x, scale, scaled_alpha, y))


def selu(x: Array) -> Array:
    """``scale * elu(x, alpha)`` with the scale and alpha of Klambauer et al. 2017.

    Raises:
        TypeError: for a dtype other than float32 or float64.
    """
    check_float("selu", x)
    return map_elements(_selu, x, _SCALE, _SCALED_ALPHA)


@kernel
def _selu_backward_task(task, n_tasks, dy, x, scale, scaled_alpha, dx):
    first, last = share(x.size, task, n_tasks)
    dy, x, dx = dy[first:last], x[first:last], dx[first:last]
    zero = x.dtype.type(0)
    for i in range(x.size):
        slope = scale if x[i] > zero else scaled_alpha * vecmath.exp(x[i])
        dx[i] = dy[i] * slope


@kernel
def _selu_backward(n_tasks, dy, x, scale, scaled_alpha, dx, n_threads):
    parallel_for(_selu_backward_task, n_tasks, n_threads, (n_tasks, dy, x, scale, scaled_alpha, dx))


def selu_backward(dy: Array, x: Array) -> Array:
    """``dy * scale`` where the input ``x`` is positive, ``dy * scale * alpha * e^x`` elsewhere.

    Raises:
        TypeError: for dtypes other than float32 or float64, or mixed ones.
        ValueError: when the shapes differ.
    """
    check_float("selu_backward", dy, x)
    check_same_shape("selu_backward", dy=dy, x=x)
    return map_gradient(_selu_backward, dy, x, _SCALE, _SCALED_ALPHA)


@kernel
def _softplus_task(task, n_tasks, x, beta, threshold, y):
    first, last = share(x.size, task, n_tasks)
    x, y = x[first:last], y[first:last]
    zero = x.dtype.type(0)
    for i in range(x.size):
        s = beta * x[i]
        soft = ((zero if s < zero else s) + log1p(vecmath.exp(-abs(s)))) / beta
        y[i] = x[i] if s > threshold else soft


@kernel
def _softplus(n_tasks, x, beta, threshold, y, n_threads):
    parallel_for(_softplus_task, n_tasks, n_threads, (n_tasks, x, beta, threshold, y))


def softplus(x: Array, beta: float = 1.0, threshold: float = 20.0) -> Array:
    """``log(1 + exp(beta * x)) / beta``; x itself where beta * x > threshold, as the two are equal there.

    Raises:
        TypeError: for a dtype other than float32 or float64.
    """
    check_float("softplus", x)
    return map_elements(_softplus, x, beta, threshold)


@kernel
def _softplus_backward_task(task, n_tasks, dy, x, beta, threshold, dx):
    first, last = share(x.size, task, n_tasks)
    dy, x, dx = dy[first:last], x[first:last], dx[first:last]
    for i in range(x.size):
        s = beta * x[i]
        soft = dy[i] * vecmath.sigmoid(s)
        dx[i] = dy[i] if s > threshold else soft


@kernel
def _softplus_backward(n_tasks, dy, x, beta, threshold, dx, n_threads):
    parallel_for(_softplus_backward_task, n_tasks, n_threads, (n_tasks, dy, x, beta, threshold, dx))


def softplus_backward(dy: Array, x: Array, beta: float = 1.0, threshold: float = 20.0) -> Array:
    """``dy * sigmoid(beta * x)``; dy where beta * x > threshold, for the input ``x``.

    Raises:
        TypeError: for dtypes other than float32 or float64, or mixed ones.
        ValueError: when the shapes differ.
    """
    check_float("softplus_backward", dy, x)
    check_same_shape("softplus_backward", dy=dy, x=x)
    return map_gradient(_softplus_backward, dy, x, beta, threshold)
