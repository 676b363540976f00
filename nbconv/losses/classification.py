"""Losses of classifiers."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from nbconv import backends
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
        weight = self._placed_constant("weight", ops, y.dtype)
        loss, dy = ops.cross_entropy(
            y,
            ops.asarray(targets),
            weight,
            self.ignore_index,
            self.label_smoothing,
            self.reduction,
        )
        return loss, dy

    def divisor(self, targets: npt.ArrayLike) -> Any:
        """Of labels the number that counts, or the sum of their weights; of probabilities their number."""
        targets = backends.array_of(targets)
        if self.reduction != "mean":
            return None
        if targets.dtype.kind not in "iu":
            return targets.size // targets.shape[1] if targets.size else 0
        counts = targets != self.ignore_index
        if self.weight is None:
            return counts.sum()
        weight = self._placed_constant("weight", backends.get(backends.of_array(targets)), np.float64)
        assert weight is not None
        # A label that is none of the classes is for the loss itself to name.
        return (weight[targets.clip(0, len(weight) - 1)] * counts).sum()


class BCEWithLogitsLoss(Loss):
    """Binary cross entropy between sigmoid of logits and targets: each element says yes or no by itself.

    ``-(t log s(y) + (1 - t) log(1 - s(y)))`` with s the sigmoid. Targets are probabilities, or 0 and 1, of
    the logits' shape: nothing is broadcast.

    Args:
        weight: factors of the elements' losses, of a shape that broadcasts to the logits'. The mean is over
            elements, not weights.
        reduction: "mean" over all elements, "sum" or "none".
        pos_weight: factors of the first term, such as the ratio of noes to yeses where yeses are rare; of a
            shape that broadcasts to the logits'.
        backend: which backend computes; by default the one that ``y`` belongs to.
    """

    def __init__(
        self,
        weight: npt.ArrayLike | None = None,
        *,
        reduction: str = "mean",
        pos_weight: npt.ArrayLike | None = None,
        backend: str | None = None,
    ) -> None:
        super().__init__(reduction, backend=backend)
        self.weight: Array | None = None if weight is None else np.array(weight, np.float64)
        self.pos_weight: Array | None = None if pos_weight is None else np.array(pos_weight, np.float64)

    def __call__(self, y: Array, targets: npt.ArrayLike) -> tuple[Any, Array]:
        """(value, gradient with respect to ``y``).

        Raises:
            ValueError: if shapes do not fit.
            TypeError: if ``y`` is not float32 or float64.
        """
        ops = self._ops(y)
        dtype = y.dtype if y.dtype.kind == "f" else None
        weight = self._placed_constant("weight", ops, dtype)
        pos_weight = self._placed_constant("pos_weight", ops, dtype)
        loss, dy = ops.binary_cross_entropy_with_logits(
            y, ops.asarray(targets, dtype), weight, pos_weight, self.reduction
        )
        return loss, dy

    def divisor(self, targets: npt.ArrayLike) -> Any:
        """The number of elements."""
        return self._elements(targets)
