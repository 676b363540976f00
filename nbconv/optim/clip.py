"""Clipping of gradients, between the backward pass and the optimiser's step."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np

from nbconv import backends
from nbconv.errors import NonFiniteError
from nbconv.parameter import Parameter


def clip_grad_norm_(
    parameters: Parameter | Iterable[Parameter], max_norm: float, *, error_if_nonfinite: bool = False
) -> float:
    """Scale all gradients by one factor such that their Euclidean norm is at most ``max_norm``.

    Args:
        parameters: whose gradients to scale; those without a gradient do not count.
        max_norm: of all gradients as one vector.
        error_if_nonfinite: raise if the norm is NaN or infinite, instead of spreading that.

    Returns:
        The norm before.

    Raises:
        ValueError: for a negative max_norm.
        NonFiniteError: see above; the gradients are then unchanged.

    Source: Pascanu et al., "On the difficulty of training recurrent neural networks", 2013; the factor is
    PyTorch's, max_norm / (norm + 1e-6).
    """
    if not max_norm >= 0:
        raise ValueError(f"max_norm must not be negative, got {max_norm}")
    having = _with_gradient(parameters)
    if not having:
        return 0.0
    gradients = [parameter.grad for parameter in having]
    norm = math.sqrt(backends.get(having[0].backend).sum_of_squares(gradients))
    if error_if_nonfinite and not math.isfinite(norm):
        raise NonFiniteError(f"the norm of the gradients is {norm}")
    scale = max_norm / (norm + 1e-6)
    if not scale >= 1.0:  # NaN scales as well
        scale_gradients(having, scale)
    return norm


def clip_grad_value_(parameters: Parameter | Iterable[Parameter], clip_value: float) -> None:
    """Bring every element of the gradients into [-clip_value, clip_value].

    Raises:
        ValueError: for a negative clip_value.
    """
    if not clip_value >= 0:
        raise ValueError(f"clip_value must not be negative, got {clip_value}")
    for parameter in _with_gradient(parameters):
        assert parameter.grad is not None
        parameter.grad.clip(-clip_value, clip_value, out=parameter.grad)


def scale_gradients(parameters: Iterable[Parameter], factor: Any) -> None:
    """Multiply all gradients by ``factor``, a number or an array without axes where they are, in place."""
    for parameter in _with_gradient(parameters):
        assert parameter.grad is not None
        with np.errstate(invalid="ignore"):  # infinity times 0 is NaN, as anywhere
            parameter.grad *= backends.scalar_of(factor, parameter.grad.dtype)


def _with_gradient(parameters: Parameter | Iterable[Parameter]) -> list[Parameter]:
    given = [parameters] if isinstance(parameters, Parameter) else parameters
    return [parameter for parameter in given if parameter.grad is not None]
