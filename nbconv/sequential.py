"""A model: layers one after another."""

from __future__ import annotations

import operator
import os
from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Any, Self, overload

import numpy as np
import numpy.typing as npt

from nbconv import backends, serialization, transfer
from nbconv.errors import LayerError, PlacedError
from nbconv.inspect.finite import check_finite
from nbconv.inspect.summary import Summary, summarize
from nbconv.layers.base import Layer, SpanFunction, SpanTrace, Traced, settings_have_changed
from nbconv.layers.dropout import Dropout, seed_of
from nbconv.layers.nested import CALLED_TWICE, Container, Infer, connect, infer_checked, infer_plain, join
from nbconv.layers.receptive import Span
from nbconv.layers.rectified import rectified
from nbconv.typing import Array, Backprop, Shape
from nbconv.upload import ahead

if TYPE_CHECKING:
    from nbconv.inference import Plan


class Sequential(Container):
    """Layers one after another; a layer itself, so that models nest.

    Args:
        layers: in the order the input meets them.
        backend: "cpu", "cuda", "cuda-emulated" or "reference"; all layers move there.
        seed: makes the first values of the parameters, and what dropout drops, repeatable. Each parameter
            draws from a stream of its own, numbered by its place in the model. It can be set later, too.
        dtype: float32, or float64 for checks on the CPU; all layers change to it.

    Attributes:
        seed: None, or what the model draws from. To set it seeds all dropout in the model, whose passes count
            from 0 again, and the parameters that are not drawn yet: a model from a file, whose weights are
            there, then trains as repeatably as a new one. None makes both random again. It is not saved.
        fuses: whether layers are computed together where they can be: in evaluation a convolution with
            the normalisation and the activation behind it, in training a ReLU with the normalisation or
            convolution in front of it or the maximum pool behind it.

    Raises:
        BackendUnavailable: if the backend cannot run here.
    """

    fuses: bool = True

    def __init__(
        self,
        *layers: Layer,
        backend: str = "cpu",
        seed: int | None = None,
        dtype: npt.DTypeLike = np.float32,
    ) -> None:
        self.layers: list[Layer] = []
        self._seed = self._checked_seed(seed)
        super().to(backend, dtype=dtype)
        for layer in layers:
            self._adopt(layer)
        self.layers = list(layers)
        self._assign_streams()

    @property
    def seed(self) -> int | None:
        """See the class; what it is set to must be None or a whole number of at least 0."""
        return self._seed

    @seed.setter
    def seed(self, seed: int | None) -> None:
        self._seed = self._checked_seed(seed)
        for dropout in self._dropouts():
            dropout.draw_seed()
        for parameter in self.parameters():
            if not parameter.is_drawn:
                parameter.stream = None
        self._assign_streams()

    def seed_dropout(self, seed: int) -> None:
        """Begin anew, from ``seed``, the dropout of all layers that nobody else has seeded.

        That is what ``Trainer.fit(seed=...)`` does: the model's own seed, a seed of a model inside it and one
        that was given to a layer by hand stay what they are.
        """
        for dropout, generator in self._seeds_of_dropouts(seed):
            if not dropout.draws.settled:
                dropout.draw_seed(generator)

    # The passes

    def forward(self, x: Array, training: bool = False, *, input_grad: bool = True) -> tuple[Array, Backprop]:
        """Compute the output, and the function that takes the gradient back through all layers.

        Args:
            x: (N, ...), converted to the model's backend, dtype and memory layout if need be.
            training: whether to use batch statistics, drop units and the like.
            input_grad: whether the gradient of ``x`` will be wanted. Without, layers in front of the first
                trainable parameter take no part in the backward pass.

        Returns:
            (y, backprop): ``backprop(dy)`` adds to ``grad`` of all parameters that require it and returns the
            gradient of ``x`` (None unless ``input_grad``). It lets go of each layer's activations as it
            passes them, so it can be called once.

        Raises:
            LayerError: naming the layer whose input does not fit.
            DTypeError: unless ``x`` holds floating point numbers.
        """
        y = self.prepare(x)
        backprops: list[Backprop] = []
        wanted = input_grad
        done = False
        for position, layer in enumerate(self.layers):
            if done:
                done = False
                continue
            both = rectified(self.layers[position : position + 3]) if self.fuses else None
            done = both is not None
            try:
                if both is None:
                    y, backprop = layer.forward(y, training, input_grad=wanted)
                else:
                    y, backprop = both.forward_rectified(y, training, wanted)
            except PlacedError as error:
                error.add_position(str(position if both in (None, layer) else position + 1))
                raise
            wanted = wanted or layer.is_trainable
            if wanted:
                backprops.append(backprop)
        return y, _Backward(self, backprops, y.shape, input_grad)

    def evaluate(self, x: Array, infer: Infer) -> Array:
        """The output in evaluation mode, of an array that :meth:`prepare` has seen."""
        for position, layer in enumerate(self.layers):
            try:
                x = infer(layer, x)
            except PlacedError as error:
                error.add_position(str(position))
                raise
        return x

    def infer(self, x: Array) -> Array:
        """The output in evaluation mode, of an array that :meth:`prepare` has seen.

        Layers run fused where they can, unless ``fuses`` is False: see ``nb.inspect.plan``.

        Raises:
            LayerError: naming the layer whose input does not fit.
        """
        return self.plan().run(x) if self.fuses and self.runs_in_order else infer_plain(self, x)

    def _prepare_to_infer(self, x: npt.ArrayLike) -> Array:
        if self.fuses and self.runs_in_order and type(self).prepare is Sequential.prepare:
            array = self._converted(x)
            if array.ndim == 4 and self.plan().takes_planes(array):
                return array
            x = array
        return self.prepare(x)

    @property
    def runs_in_order(self) -> bool:
        """Whether evaluation is one layer after another, which a class of one's own may change."""
        kind = type(self)
        return kind.infer is Sequential.infer and kind.evaluate is Sequential.evaluate

    def plan(self) -> Plan:
        """How the model computes in evaluation mode; compiled when first asked for, and after changes."""
        from nbconv.inference import compile_model

        plan: Plan | None = vars(self).get("_plan")
        if plan is None or not plan.is_current:
            vars(self)["_plan"] = plan = compile_model(self)
        return plan

    @property
    def output_is_free(self) -> bool:
        """Whether the output is a new array that nothing else holds on to, so that it may be overwritten."""
        return bool(self.layers) and self.layers[-1].output_is_free

    def predict(self, x: npt.ArrayLike, batch_size: int = 256, *, check_finite: bool = False) -> Array:
        """The outputs for many examples, computed batch by batch: a NumPy array, unless ``x`` is on a device.

        Args:
            x: (N, ...) floating point.
            batch_size: examples at a time.
            check_finite: look for NaN and infinity in the input and behind every layer.

        Raises:
            LayerError: naming the layer whose input does not fit.
            DTypeError: unless ``x`` holds floating point numbers.
            NonFiniteError: if such a check finds something, naming the first layer that gave it.
        """
        if batch_size < 1:
            raise ValueError(f"batch_size must be positive, got {batch_size}")
        array = backends.array_of(x)
        if array.ndim == 0:
            raise self.error("expected an array of examples, got a single number")
        infer = self._infer_checked if check_finite else self.infer
        stays = backends.is_on_device(array)
        starts = range(0, max(1, len(array)), batch_size)
        outputs: Array | None = None
        for start, some in zip(starts, ahead((array[i : i + batch_size] for i in starts), self), strict=True):
            y = infer(self._prepare_to_infer(some))
            if outputs is None:
                shape = (len(array), *y.shape[1:])
                outputs = self.ops.empty_like(y, shape) if stays else np.empty(shape, y.dtype)
            outputs[start : start + len(y)] = y if stays else backends.to_numpy(y)
        assert outputs is not None
        return outputs

    def _infer_checked(self, x: Array) -> Array:
        """``infer``, but look for NaN and infinity in the input and behind every layer."""
        check_finite(self.ops.to_numpy(x), "the input")
        return infer_checked(self, x)

    # Shapes

    def output_shape(self, input_shape: Shape) -> Shape:
        """The shape, batch included, that an input of ``input_shape`` gives.

        Raises:
            LayerError: naming the layer whose input does not fit.
        """
        return self._shapes(input_shape)[-1]

    def trace(self, input_shape: Shape, position: str = "") -> Iterator[Traced]:
        """The layers in the order an input meets them; see :meth:`nbconv.Layer.trace`.

        Raises:
            LayerError: naming the layer whose input does not fit.
        """
        shapes = self._shapes(input_shape)
        for (name, layer), shape in zip(self.children().items(), shapes, strict=False):
            yield from layer.trace(shape, join(position, name))

    def input_span(self, span: Span, axis: int) -> Span | None:
        """The rows or columns of the input that those of the output depend on; None for all there are."""
        return self._input_span(len(self.layers), span, axis)

    def trace_back(self, back: SpanFunction, position: str = "") -> Iterator[SpanTrace]:
        """The layers of :meth:`trace`, each with the way from its input back to the model's."""
        for index, (name, layer) in enumerate(self.children().items()):
            yield from layer.trace_back(connect(partial(self._input_span, index), back), join(position, name))

    def summary(self, input_shape: Shape) -> Summary:
        """A table of the layers' output shapes, parameters, multiply-adds and memory.

        Args:
            input_shape: of one example, without the batch: (C, H, W) or (F,).

        Raises:
            LayerError: naming the layer whose input does not fit.
        """
        return summarize(self, input_shape)

    # A list of layers

    def __len__(self) -> int:
        return len(self.layers)

    def __iter__(self) -> Iterator[Layer]:
        return iter(self.layers)

    @overload
    def __getitem__(self, index: int) -> Layer: ...

    @overload
    def __getitem__(self, index: slice) -> Sequential: ...

    def __getitem__(self, index: int | slice) -> Layer | Sequential:
        """A layer, or a model of some of the layers, which both models then share."""
        if isinstance(index, slice):
            return Sequential(*self.layers[index], backend=self.backend, dtype=self.dtype)
        return self.layers[index]

    def __setitem__(self, index: int, layer: Layer) -> None:
        self.layers[index] = self._adopt(layer)
        self._have_changed()

    def __delitem__(self, index: int | slice) -> None:
        del self.layers[index]
        settings_have_changed()

    def append(self, layer: Layer) -> Self:
        """Add a layer at the end."""
        return self.insert(len(self), layer)

    def insert(self, index: int, layer: Layer) -> Self:
        """Add a layer in front of layer ``index``."""
        self.layers.insert(index, self._adopt(layer))
        self._have_changed()
        return self

    def children(self) -> dict[str, Layer]:
        """The layers, named "0", "1", ..."""
        return {str(position): layer for position, layer in enumerate(self.layers)}

    # Transfer learning

    def split(self, index: int | None = None) -> tuple[Sequential, Sequential]:
        """(base, head): the layers in front of layer ``index`` and the others, shared with this model.

        Args:
            index: None for the first that training changes, so that the base is what :meth:`freeze` froze.
        """
        return transfer.split(self, index)

    def replace_head(self, num_classes: int, *, seed: int | None = None) -> Self:
        """Put a new layer in the place of the last one that has weights: for other classes.

        The new one is a Dense or Conv2d as the old one was, with as many inputs, and is not frozen. An
        optimiser made before still has the old one's parameters: make it afterwards.

        Args:
            num_classes: logits.
            seed: makes the first weights repeatable; by default the model's, if it has one.

        Raises:
            LayerError: if the last layer with weights is of another kind or does not stand in a Sequential.
        """
        transfer.replace_head(self, num_classes, seed)
        return self

    # Description

    def save(self, path: str | os.PathLike[str], extra: Any = None) -> None:
        """Write architecture and weights to a safetensors file, which :func:`nbconv.load` reads.

        The file appears whole or not at all: it is written under another name first.

        Args:
            path: of the file.
            extra: kept in the file for its reader, ``nb.serialization.read_extra``: anything JSON can hold.
                ``nbconv predict`` takes the names of classes from it: ``{"classes": ["cat", "dog"]}``.

        Raises:
            OSError: if it cannot be written.
            TypeError: for an ``extra`` that JSON cannot hold.
        """
        serialization.save(self, path, extra)

    def config(self) -> dict[str, Any]:
        """The layers; backend and seed are no part of the architecture."""
        return {"layers": tuple(self.layers)}

    # Inner workings

    def _shapes(self, input_shape: Shape) -> list[Shape]:
        """The shapes before, between and after the layers."""
        shapes = [tuple(input_shape)]
        for position, layer in enumerate(self.layers):
            try:
                shapes.append(layer.output_shape(shapes[-1]))
            except LayerError as error:
                error.add_position(str(position))
                raise
        return shapes

    def _input_span(self, count: int, span: Span, axis: int) -> Span | None:
        """The span of the input that one of the first ``count`` layers' output depends on."""
        seen: Span | None = span
        for layer in reversed(self.layers[:count]):
            seen = None if seen is None else layer.input_span(seen, axis)
        return seen

    def _set_again(self, name: str, value: Any) -> None:
        if name != "layers":
            super()._set_again(name, value)
            return
        object.__setattr__(self, name, [self._adopt(layer) for layer in value])
        self._have_changed()

    def _have_changed(self) -> None:
        """Prepare layers that have come in."""
        self._assign_streams()
        settings_have_changed()

    def _adopt(self, layer: Any) -> Layer:
        return self._require_layer(layer).to(self.backend, dtype=self.dtype)

    def _assign_streams(self) -> None:
        """Tell every parameter that is not drawn yet, and every dropout, what to draw from."""
        if self.seed is None:
            return
        for index, parameter in enumerate(self.parameters()):
            if not parameter.is_drawn:
                parameter.stream = (self.seed, index)
        for dropout, generator in self._seeds_of_dropouts(self.seed):
            dropout.seed = seed_of(generator)

    def _dropouts(self) -> list[Dropout]:
        return [layer for _, layer in self.named_layers() if isinstance(layer, Dropout)]

    def _seeds_of_dropouts(self, seed: int) -> Iterator[tuple[Dropout, np.random.SeedSequence]]:
        """Every dropout with a generator of its own, numbered by its place in the model."""
        for index, dropout in enumerate(self._dropouts()):
            yield dropout, np.random.SeedSequence(seed, spawn_key=(index,))

    def _checked_seed(self, seed: int | None) -> int | None:
        checked = None if seed is None else operator.index(seed)
        if checked is not None and checked < 0:
            raise self.error(f"seed must not be negative, got {seed}")
        return checked


class _Backward:
    """The backward pass of one forward pass through a Sequential."""

    def __init__(
        self, model: Sequential, backprops: list[Backprop], output_shape: Shape, input_grad: bool
    ) -> None:
        self._model = model
        self._backprops: list[Backprop] | None = backprops
        self._output_shape = output_shape
        self._input_grad = input_grad

    def __call__(self, dy: Array) -> Array | None:
        dy = self._model.prepare(dy)
        if dy.shape != self._output_shape:
            raise self._model.error(
                f"expected an output gradient of shape {self._output_shape}, got {dy.shape}"
            )
        if self._backprops is None:
            raise RuntimeError(CALLED_TWICE)
        backprops, self._backprops = self._backprops, None
        gradient: Array | None = dy
        del dy
        while backprops:
            assert gradient is not None
            # Popped, a layer's closure and the activations in it are freed as soon as it has run.
            gradient = backprops.pop()(gradient)
        return gradient if self._input_grad else None
