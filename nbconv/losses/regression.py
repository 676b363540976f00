"""Losses of outputs that shall be near some numbers."""

from __future__ import annotations

from typing import Any

import numpy.typing as npt

from nbconv.losses.base import Loss
from nbconv.typing import Array


class MSELoss(Loss):
    """The squared difference ``(y - target)^2``, over all elements.

    Targets are of the shape of ``y``: nothing is broadcast.

    Args:
        reduction: "mean", "sum" or "none".
        backend: which backend computes; by default the one that ``y`` belongs to.
    """

    def __call__(self, y: Array, targets: npt.ArrayLike) -> tuple[Any, Array]:
        """(value, gradient with respect to ``y``).

        Raises:
            ValueError: if the shapes differ.
            TypeError: if ``y`` is not float32 or float64.
        """
        ops = self._ops(y)
        dtype = y.dtype if y.dtype.kind == "f" else None
        loss, dy = ops.mse_loss(y, ops.asarray(targets, dtype), self.reduction)
        return loss, dy
