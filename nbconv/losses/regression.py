"""Losses of outputs that shall be near some numbers."""

from __future__ import annotations

from typing import Any

import numpy.typing as npt

from nbconv.losses.base import Loss
from nbconv.typing import Array


class _Difference(Loss):
    """Base of losses of ``y - target``: ``op(y, target, reduction, *arguments)``."""

    op: str
    _arguments: tuple[float, ...] = ()

    def __call__(self, y: Array, targets: npt.ArrayLike) -> tuple[Any, Array]:
        """(value, gradient with respect to ``y``).

        Raises:
            ValueError: if the shapes differ.
            TypeError: if ``y`` is not float32 or float64.
        """
        ops = self._ops(y)
        dtype = y.dtype if y.dtype.kind == "f" else None
        loss, dy = getattr(ops, self.op)(y, ops.asarray(targets, dtype), self.reduction, *self._arguments)
        return loss, dy

    def divisor(self, targets: npt.ArrayLike) -> Any:
        """The number of elements."""
        return self._elements(targets)


class MSELoss(_Difference):
    """The squared difference ``(y - target)^2``, over all elements.

    Targets are of the shape of ``y``: nothing is broadcast.

    Args:
        reduction: "mean", "sum" or "none".
        backend: which backend computes; by default the one that ``y`` belongs to.
    """

    op = "mse_loss"


class L1Loss(_Difference):
    """The absolute difference ``|y - target|``, over all elements; its gradient at 0 is 0.

    Targets are of the shape of ``y``: nothing is broadcast.

    Args:
        reduction: "mean", "sum" or "none".
        backend: which backend computes; by default the one that ``y`` belongs to.
    """

    op = "l1_loss"


class SmoothL1Loss(_Difference):
    """``d^2 / (2 beta)`` where the difference d is smaller than beta, else ``|d| - beta / 2``.

    It punishes outliers less than the squared difference, and its gradient is continuous. Targets are of the
    shape of ``y``: nothing is broadcast.

    Args:
        reduction: "mean", "sum" or "none".
        beta: where the parabola ends; 0 gives L1Loss.
        backend: which backend computes; by default the one that ``y`` belongs to.

    Raises:
        ValueError: for a negative beta.

    Source: Girshick, "Fast R-CNN", 2015; CS6375.
    """

    op = "smooth_l1_loss"

    def __init__(self, reduction: str = "mean", beta: float = 1.0, *, backend: str | None = None) -> None:
        super().__init__(reduction, backend=backend)
        self.beta = float(beta)
        if not self.beta >= 0:
            raise ValueError(f"beta must not be negative, got {beta!r}")
        self._arguments = (self.beta,)


class HuberLoss(_Difference):
    """``d^2 / 2`` where the difference d is smaller than delta, else ``delta (|d| - delta / 2)``.

    That is delta times the smooth L1 loss. Targets are of the shape of ``y``: nothing is broadcast.

    Args:
        reduction: "mean", "sum" or "none".
        delta: where the parabola ends.
        backend: which backend computes; by default the one that ``y`` belongs to.

    Raises:
        ValueError: unless delta is positive.

    Source: Huber, "Robust estimation of a location parameter", 1964.
    """

    op = "huber_loss"

    def __init__(self, reduction: str = "mean", delta: float = 1.0, *, backend: str | None = None) -> None:
        super().__init__(reduction, backend=backend)
        self.delta = float(delta)
        if not self.delta > 0:
            raise ValueError(f"delta must be positive, got {delta!r}")
        self._arguments = (self.delta,)
