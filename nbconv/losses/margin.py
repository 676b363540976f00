"""Losses of support vector machines: the right answer shall win by a margin."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from nbconv.losses.base import Loss
from nbconv.typing import Array


class HingeLoss(Loss):
    """``max(0, 1 - t y)`` for scores y and targets t of -1 or 1, of one shape.

    Args:
        reduction: "mean" over all elements, "sum" or "none".
        backend: which backend computes; by default the one that ``y`` belongs to.

    Source: CS6375.
    """

    def __call__(self, y: Array, targets: npt.ArrayLike) -> tuple[Any, Array]:
        """(value, gradient with respect to ``y``).

        Raises:
            ValueError: if the shapes differ or a target is neither -1 nor 1: it is named, with its place.
            TypeError: if ``y`` is not float32 or float64.
        """
        ops = self._ops(y)
        loss, dy = ops.hinge_loss(y, ops.asarray(targets), self.reduction)
        return loss, dy

    def divisor(self, targets: npt.ArrayLike) -> Any:
        """The number of elements."""
        return self._elements(targets)


class MultiClassHingeLoss(Loss):
    """``max(0, 1 + max y[i] - y[t])`` over the classes i other than the true one, t.

    Scores are (N, C), targets integer labels (N,). Only the best of the wrong classes counts.

    Args:
        reduction: "mean" over the examples, "sum" or "none".
        backend: which backend computes; by default the one that ``y`` belongs to.

    Source: Crammer and Singer, "On the algorithmic implementation of multiclass kernel-based vector
    machines", 2001; CS6375.
    """

    def __call__(self, y: Array, targets: npt.ArrayLike) -> tuple[Any, Array]:
        """(value, gradient with respect to ``y``).

        Raises:
            ValueError: if shapes do not fit, or a label is out of range: it is named, with its place.
            TypeError: if ``y`` is not float32 or float64, or the targets are no integers.
        """
        ops = self._ops(y)
        loss, dy = ops.multiclass_hinge_loss(y, ops.asarray(targets), self.reduction)
        return loss, dy


class MultiMarginLoss(Loss):
    """``1 / C * sum of max(0, margin - y[t] + y[i])^p`` over the classes i other than the true one, t.

    Scores are (N, C), targets integer labels (N,). Every wrong class that comes too close counts.

    Args:
        p: 1 or 2.
        margin: by how much the true class shall win.
        weight: of each class, (C,): an example counts by its true class. The mean is over examples, not
            weights.
        reduction: "mean", "sum" or "none".
        backend: which backend computes; by default the one that ``y`` belongs to.

    Raises:
        ValueError: for arguments out of range.
    """

    def __init__(
        self,
        p: int = 1,
        margin: float = 1.0,
        weight: npt.ArrayLike | None = None,
        reduction: str = "mean",
        *,
        backend: str | None = None,
    ) -> None:
        super().__init__(reduction, backend=backend)
        if p not in (1, 2):
            raise ValueError(f"p must be 1 or 2, got {p!r}")
        self.p = int(p)
        self.margin = float(margin)
        self.weight: Array | None = None if weight is None else np.array(weight, np.float64)
        if self.weight is not None and self.weight.ndim != 1:
            raise ValueError(f"weight must be one number for each class, got shape {self.weight.shape}")

    def __call__(self, y: Array, targets: npt.ArrayLike) -> tuple[Any, Array]:
        """(value, gradient with respect to ``y``).

        Raises:
            ValueError: if shapes do not fit, or a label is out of range: it is named, with its place.
            TypeError: if ``y`` is not float32 or float64, or the targets are no integers.
        """
        ops = self._ops(y)
        weight = self._placed_constant("weight", ops, y.dtype)
        targets = ops.asarray(targets)
        loss, dy = ops.multi_margin_loss(y, targets, self.p, self.margin, weight, self.reduction)
        return loss, dy
