"""What every loss is: a function of outputs and targets that gives its value and gradient together."""

from __future__ import annotations

import copy
from types import ModuleType
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from nbconv import backends
from nbconv.adjustable import Adjustable
from nbconv.typing import Array

_REDUCTIONS = ("mean", "sum", "none")


class Loss(Adjustable):
    """Base of losses: ``loss(y, targets) -> (value, dy)``.

    What several batches measure together is what one large batch would have measured: the trainer weighs each
    batch's mean by its :meth:`divisor`, in the loss that it reports and in the gradients that it accumulates.
    So a loss of your own whose mean is not one over examples defines ``divisor``; one that adds a penalty on
    weights to another loss defines ``data_loss``, ``penalty`` and ``add_penalty_gradient`` as well, and then
    the penalty counts once.

    Args:
        reduction: "mean" and "sum" give a float; "none" an array, and ``dy`` is the gradient of its sum.
        backend: which backend computes; by default the one that ``y`` belongs to.

    Raises:
        ValueError: for another reduction or an unknown backend.
    """

    reduction: str = "mean"
    backend: str | None = None

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

    def value(self, y: Array, targets: npt.ArrayLike) -> Any:
        """The value alone, for evaluation."""
        return self(y, targets)[0]

    def divisor(self, targets: npt.ArrayLike) -> Any:
        """What "mean" divides the sum over these targets by: a number, or an array without axes on a device.

        That is the number of examples or, of a loss with an ``ignore_index`` and integer targets, of labels
        that count. None for other reductions, where nothing is divided.
        """
        if self.reduction != "mean":
            return None
        targets = backends.array_of(targets)
        ignored = getattr(self, "ignore_index", None)
        if ignored is None or targets.dtype.kind not in "iu":
            return len(targets)
        return (targets != ignored).sum()

    @property
    def data_loss(self) -> Loss:
        """The part that depends on the batch: all of it, unless there is a penalty on weights."""
        return self

    def penalty(self) -> Any:
        """The part that depends on the weights alone: 0."""
        return 0.0

    def add_penalty_gradient(self) -> None:
        """Add the gradient of that part to the ``grad`` of parameters."""

    def placed(self, backend: str | None) -> Self:
        """This loss, or a copy that computes on ``backend`` if it names none itself."""
        if backend is None or self.backend is not None:
            return self
        loss = copy.copy(self)
        vars(loss)["backend"] = backend
        return loss

    def __repr__(self) -> str:
        shown = [
            f"{key}={value!r}"
            for key, value in vars(self).items()
            if value is not None and not key.startswith("_")
        ]
        return f"{type(self).__name__}({', '.join(shown)})"

    def _elements(self, targets: npt.ArrayLike) -> int | None:
        """The divisor of a mean over all elements."""
        return backends.array_of(targets).size if self.reduction == "mean" else None

    def _ops(self, y: Array) -> ModuleType:
        return backends.get(self.backend or backends.of_array(y))

    def _placed_constant(self, name: str, ops: ModuleType, dtype: Any) -> Array | None:
        """The array that is this attribute, where the ops compute: brought there once, and after changes."""
        values: Array | None = getattr(self, name)
        if values is None or ops.name in backends.NUMPY_BACKENDS:
            return None if values is None else backends.to_backend(values, ops.name, dtype)
        kept = vars(self).setdefault("_kept", {})
        key = name, ops.name, str(dtype)
        if key not in kept or not np.array_equal(kept[key][0], values):
            kept[key] = values.copy(), backends.to_backend(values, ops.name, dtype)
        placed: Array = kept[key][1]
        return placed
