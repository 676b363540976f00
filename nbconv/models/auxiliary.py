"""Classifiers halfway down a deep network, which bring its lower layers a gradient while it trains."""

from __future__ import annotations

from typing import Any, Self

import numpy.typing as npt

from nbconv.layers import Layer
from nbconv.layers.nested import at, pass_on
from nbconv.losses import Loss
from nbconv.sequential import Sequential
from nbconv.typing import Array, Backprop, Shape


class AuxiliaryHead(Layer):
    """A classifier of what passes by; to the layers around it, the identity.

    Only a :class:`DeeplySupervised` model runs the classifier, and only in training.

    Args:
        classifier: from what passes by to logits; a Sequential as a rule.
    """

    def __init__(self, classifier: Layer) -> None:
        self.classifier = classifier

    def classify(self, x: Array, input_grad: bool = True) -> tuple[Array, Backprop]:
        """The logits in training, and the function that takes their gradient back to ``x``."""
        with at("classifier"):
            return self.classifier.forward(x, training=True, input_grad=input_grad)

    def forward(self, x: Array, training: bool = False, *, input_grad: bool = True) -> tuple[Array, Backprop]:
        """``x`` itself."""
        self.check(x)
        return x, pass_on

    def output_shape(self, input_shape: Shape) -> Shape:
        """``input_shape``.

        Raises:
            LayerError: if the classifier could not take such an input.
        """
        with at("classifier"):
            self.classifier.output_shape(input_shape)
        return input_shape


class DeeplySupervised(Sequential):
    """A model with :class:`AuxiliaryHead` among its layers.

    In training, ``forward`` gives the tuple (logits, first head's logits, ...), and the backward pass takes a
    tuple of gradients: what :class:`AuxiliaryLoss` takes and gives. Otherwise it is a Sequential.
    """

    def forward(self, x: Array, training: bool = False, *, input_grad: bool = True) -> tuple[Any, Any]:
        """Compute the outputs, and the function that takes their gradients back; see :class:`Sequential`."""
        if not training:
            return super().forward(x, training, input_grad=input_grad)
        y = self.prepare(x)
        from_heads: list[Array] = []
        backprops: list[tuple[Layer, Backprop]] = []
        wanted = input_grad
        for position, layer in enumerate(self.layers):
            with at(str(position)):
                if isinstance(layer, AuxiliaryHead):
                    logits, backprop = layer.classify(y, input_grad=wanted)
                    from_heads.append(logits)
                else:
                    y, backprop = layer.forward(y, training, input_grad=wanted)
                    wanted = wanted or layer.is_trainable
            if wanted or isinstance(layer, AuxiliaryHead):
                backprops.append((layer, backprop))

        def backward(gradients: tuple[Array, ...]) -> Array | None:
            if not backprops:
                raise RuntimeError("backprop can be called once; run forward again")
            gradient: Array | None
            gradient, *at_heads = (self.prepare(dy) for dy in gradients)
            while backprops:
                layer, backprop = backprops.pop()
                if isinstance(layer, AuxiliaryHead):
                    from_head = backprop(at_heads.pop())
                    if gradient is not None and from_head is not None:
                        gradient = self.ops.add(gradient, from_head)
                else:
                    assert gradient is not None
                    gradient = backprop(gradient)
            return gradient if input_grad else None

        return (y, *from_heads), backward

    def replace_head(self, num_classes: int, *, seed: int | None = None) -> Self:
        """Give all heads other classes; see :meth:`Sequential.replace_head`."""
        super().replace_head(num_classes, seed=seed)
        for layer in self.layers:
            if isinstance(layer, AuxiliaryHead) and isinstance(layer.classifier, Sequential):
                layer.classifier.replace_head(num_classes, seed=seed)
        self._assign_streams()
        return self


class AuxiliaryLoss(Loss):
    """A loss of a model's output, plus ``weight`` times the same loss of each auxiliary head's.

    A penalty on weights in the loss counts once. Outputs that are no tuple, as in evaluation, have no heads
    to add.

    Args:
        loss: of one output.
        weight: of each head's loss; GoogLeNet's is 0.3.
        backend: which backend computes; by default the one that ``y`` belongs to.

    Source: Szegedy et al., "Going deeper with convolutions", 2014.
    """

    def __init__(self, loss: Loss, weight: float = 0.3, *, backend: str | None = None) -> None:
        super().__init__(loss.reduction, backend=backend)
        self.loss = loss
        self.weight = float(weight)

    @property
    def ignore_index(self) -> int | None:
        """The label that does not count, where the loss has one."""
        return getattr(self.loss, "ignore_index", None)

    def __call__(self, y: Any, targets: npt.ArrayLike) -> tuple[Any, Any]:
        """(value, gradient with respect to ``y``, a tuple if ``y`` is one)."""
        loss = self.loss.placed(self.backend)
        if not isinstance(y, tuple):
            return loss(y, targets)
        value, dy = loss(y[0], targets)
        gradients = [dy]
        for output in y[1:]:
            more, dy = loss.data_loss(output, targets)
            value = value + self.weight * more
            gradients.append(dy * dy.dtype.type(self.weight))
        return value, tuple(gradients)

    def value(self, y: Any, targets: npt.ArrayLike) -> Any:
        """The value alone, for evaluation."""
        loss = self.loss.placed(self.backend)
        output, *at_heads = y if isinstance(y, tuple) else (y,)
        value = loss.value(output, targets)
        for output in at_heads:
            value = value + self.weight * loss.data_loss.value(output, targets)
        return value

    def divisor(self, targets: npt.ArrayLike) -> Any:
        """That of the loss."""
        return self.loss.divisor(targets)

    @property
    def data_loss(self) -> Loss:
        """This loss without penalties on weights."""
        return AuxiliaryLoss(self.loss.data_loss, self.weight, backend=self.backend)

    def penalty(self) -> Any:
        """That of the loss."""
        return self.loss.penalty()

    def add_penalty_gradient(self) -> None:
        """That of the loss."""
        self.loss.add_penalty_gradient()
