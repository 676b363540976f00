"""Losses: functions of a model's outputs and the targets that give their value and gradient together."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt

from nbconv import backends
from nbconv.typing import Array

_REDUCTIONS = ("mean", "sum", "none")


class Loss:
    """Base of losses: ``loss(y, targets) -> (value, dy)``.

    Args:
        reduction: "mean" and "sum" give a float; "none" an array, and ``dy`` is the gradient of its sum.
        backend: which backend computes; by default the one that ``y`` belongs to.

    Raises:
        ValueError: for another reduction or an unknown backend.
    """

    def __init__(self, reduction: str = "mean", *, backend: str | None = None) -> None:
        if reduction not in _REDUCTIONS:
            raise ValueError(
                f"reduction must be one of {', '.join(map(repr, _REDUCTIONS))}, got {reduction!r}"
            )
        if backend is not None:
            backends.check(backend)
        self.reduction = reduction
        self.backend = backend

    def __call__(self, y: Array, targets: npt.ArrayLike) -> tuple[Any, Array]:
        """(value, gradient with respect to ``y``).

        Raises:
            ValueError: if shapes do not fit or a target is out of range.
            TypeError: if ``y`` is not float32 or float64, or the targets are of a wrong kind.
        """
        raise NotImplementedError

    def __repr__(self) -> str:
        settings = ", ".join(f"{key}={value!r}" for key, value in vars(self).items() if value is not None)
        return f"{type(self).__name__}({settings})"

    def _ops(self, y: Array) -> ModuleType:
        return backends.get(self.backend or backends.of_array(y))


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
