"""Losses of classifiers."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from nbconv.losses.base import Loss
from nbconv.typing import Array


class CrossEntropyLoss(Loss):
    """Cross entropy between softmax of logits and the true classes: ``-log softmax(y)[target]``.

    Logits are (N, C), or (N, C, H, W) for one class a pixel. Targets are integer labels, (N,) or (N, H, W),
    or class probabilities of the logits' shape.

    Args:
        weight: of each class, (C,). The mean is then the weighted one.
        ignore_index: label of examples that do not count.
        reduction: "mean" over the examples that count (NaN if none does), "sum" or "none".
        label_smoothing: so much of each target, in [0, 1], is spread evenly over all classes.
        backend: which backend computes; by default the one that ``y`` belongs to.

    Raises:
        ValueError: for arguments out of range.
    """

    def __init__(
        self,
        weight: npt.ArrayLike | None = None,
        *,
        ignore_index: int = -100,
        reduction: str = "mean",
        label_smoothing: float = 0.0,
        backend: str | None = None,
    ) -> None:
        super().__init__(reduction, backend=backend)
        if not 0.0 <= label_smoothing <= 1.0:
            raise ValueError(f"label_smoothing must be in [0, 1], got {label_smoothing!r}")
        self.weight: Array | None = None if weight is None else np.array(weight, np.float64)
        if self.weight is not None and self.weight.ndim != 1:
            raise ValueError(f"weight must be one number for each class, got shape {self.weight.shape}")
        self.ignore_index = int(ignore_index)
        self.label_smoothing = float(label_smoothing)

    def __call__(self, y: Array, targets: npt.ArrayLike) -> tuple[Any, Array]:
        """(value, gradient with respect to ``y``).

        Raises:
            ValueError: if shapes do not fit, or a label is out of range: it is named, with its place.
            TypeError: if ``y`` is not float32 or float64, or the targets are neither integers nor floats.
        """
        ops = self._ops(y)
        weight = None if self.weight is None else ops.asarray(self.weight, y.dtype)
        loss, dy = ops.cross_entropy(
            y,
            ops.asarray(targets),
            weight,
            self.ignore_index,
            self.label_smoothing,
            self.reduction,
        )
        return loss, dy
