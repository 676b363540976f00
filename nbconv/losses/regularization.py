"""A loss that keeps weights small."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy.typing as npt

from nbconv import backends
from nbconv.losses.base import Loss
from nbconv.parameter import Parameter
from nbconv.typing import Array


class L2Regularization(Loss):
    """A loss plus ``weight / 2`` times the sum of the squares of some parameters.

    In a training step it adds the penalty's gradient, ``weight`` times the parameter, to each ``grad``; the
    backward pass adds that of the loss. It does so when it is called, so call it after ``zero_grad``:

        loss = nb.L2Regularization(nb.CrossEntropyLoss(), model.parameters(), 5e-4)
        optimizer.zero_grad()
        y, backprop = model.forward(x, training=True)
        value, dy = loss(y, targets)
        backprop(dy)
        optimizer.step()

    :meth:`value` leaves gradients alone, and is what ``Trainer.evaluate`` reports.

    ``SGD(weight_decay=...)`` and ``Adam(weight_decay=...)`` add the same gradient but say nothing in the
    reported loss: use one or the other. ``AdamW`` takes its weight decay from the parameters themselves,
    which for Adam is not the same.

    Args:
        loss: of the outputs; its reduction must be "mean" or "sum".
        parameters: whose squares count: all, or the weights without the biases. Frozen ones count, but get no
            gradient.
        weight: lambda.
        backend: which backend computes the loss; by default the one that ``y`` belongs to.

    Raises:
        ValueError: for a negative weight, no parameters, or reduction "none".

    Source: CS4670: L = L_data + lambda / 2 * norm(W)^2.
    """

    def __init__(
        self, loss: Loss, parameters: Iterable[Parameter], weight: float, *, backend: str | None = None
    ) -> None:
        super().__init__(loss.reduction, backend=backend)
        if loss.reduction == "none":
            raise ValueError('a penalty can be added to the reductions "mean" and "sum", not "none"')
        self.loss = loss
        self.weight = float(weight)
        if not self.weight >= 0:
            raise ValueError(f"weight must not be negative, got {weight!r}")
        self._parameters = list(parameters)
        if not self._parameters:
            raise ValueError("expected at least one parameter")
        for parameter in self._parameters:
            if not isinstance(parameter, Parameter):
                raise TypeError(f"expected parameters, got {parameter!r}")

    @property
    def parameters(self) -> list[Parameter]:
        """Whose squares count."""
        return list(self._parameters)

    @property
    def ignore_index(self) -> int | None:
        """The label that does not count, if the loss has one."""
        return getattr(self.loss, "ignore_index", None)

    def __call__(self, y: Array, targets: npt.ArrayLike) -> tuple[Any, Array]:
        """(value, gradient with respect to ``y``); adds the penalty's gradient to that of the parameters.

        Raises:
            ValueError, TypeError: as the loss.
        """
        value, dy = self.loss.placed(self.backend)(y, targets)
        self._add_gradient()
        return value + self._penalty(), dy

    def value(self, y: Array, targets: npt.ArrayLike) -> Any:
        """The value alone, for evaluation: no gradient changes."""
        return self.loss.placed(self.backend).value(y, targets) + self._penalty()

    def divisor(self, targets: npt.ArrayLike) -> Any:
        """That of the loss."""
        return self.loss.divisor(targets)

    @property
    def data_loss(self) -> Loss:
        """The loss without the penalty."""
        return self.loss.placed(self.backend).data_loss

    def penalty(self) -> Any:
        """``weight / 2`` times the sum of squares, and what penalties the loss has."""
        return self._penalty() + self.loss.penalty()

    def add_penalty_gradient(self) -> None:
        """Add ``weight`` times the parameter to each ``grad``, and what penalties the loss has."""
        self._add_gradient()
        self.loss.add_penalty_gradient()

    def _add_gradient(self) -> None:
        for parameter in self._parameters:
            if not parameter.requires_grad:
                continue
            data = parameter.data
            if parameter.grad is None:
                parameter.grad = data * data.dtype.type(self.weight)
            else:
                backends.get(parameter.backend).add_scaled(parameter.grad, data, self.weight)

    def _penalty(self) -> Any:
        ops = backends.get(self._parameters[0].backend)
        squares = ops.sum_of_squares([parameter.data for parameter in self._parameters])
        return self.weight / 2 * squares

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.loss!r}, {len(self._parameters)} parameters, {self.weight!r})"
