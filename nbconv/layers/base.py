"""What every layer is: parameters, a forward pass that hands back its own backward pass, and checks."""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Callable, Iterator, Mapping
from types import ModuleType
from typing import Any, ClassVar, Generic, NamedTuple, Self, TypeVar

import numpy as np
import numpy.typing as npt

from nbconv import backends
from nbconv.adjustable import Adjustable, arguments
from nbconv.errors import DTypeError, LayerError
from nbconv.layers import state
from nbconv.layers.freezing import Choice, set_frozen
from nbconv.layers.receptive import Span
from nbconv.parameter import Parameter
from nbconv.typing import Array, Backprop, DType, Shape

_Value = TypeVar("_Value")
_DTYPES = (np.dtype(np.float32), np.dtype(np.float64))
_SHAPES_REMEMBERED = 256
_REVISIONS = itertools.count(1)
_latest = [0]  # given to a layer
_latest_settings = [0]  # after which shapes may be others
_MADE_AGAIN = frozenset({"ops", "_plan", "_accepted"})


class _cached(Generic[_Value]):  # noqa: N801 - a decorator
    """Python 3.12's ``cached_property``; that of 3.11 holds a lock, which a child forked then finds held."""

    def __init__(self, make: Callable[[Any], _Value]) -> None:
        self._make = make
        self.__doc__ = make.__doc__

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, layer: Any, owner: type | None = None) -> _Value:
        if layer is None:
            return self  # type: ignore[return-value]
        value: _Value = vars(layer).setdefault(self._name, self._make(layer))
        return value


class Traced(NamedTuple):
    """One layer of a model as an input passes through it.

    Attributes:
        macs: multiply-adds of the layer itself, without those of layers inside it.
    """

    position: str
    layer: Layer
    input_shape: Shape
    output_shape: Shape
    macs: int = 0


SpanFunction = Callable[[Span, int], Span | None]
"""From rows (axis 0) or columns (axis 1) of one layer's input to those of another's."""


class SpanTrace(NamedTuple):
    """One layer of a model, and how to get from its input to the model's."""

    position: str
    layer: Layer
    back: SpanFunction

    def input_span(self, span: Span, axis: int) -> Span | None:
        """What of the model's input the layer's outputs ``span`` depend on; None for all there is."""
        seen = self.layer.input_span(span, axis)
        return None if seen is None else self.back(seen, axis)


class Layer(Adjustable):
    """Base of all layers.

    A layer of one's own defines :meth:`forward` and :meth:`output_shape`, and stores every argument of its
    constructor under the argument's name: that is how ``repr`` and checkpoints know them. Parameters and
    inner layers are found among the attributes.

    These attributes may be set later: the constructor checks the value, and it counts in all that the layer
    does. What the parameters' shapes rest on cannot be set, as they exist, and raises LayerError.

    Attributes:
        backend: name of the backend that computes; :meth:`to` changes it.
        dtype: float32 or float64, of parameters and activations; :meth:`to` changes it.
        buffer_names: attributes that belong to the state but are not trained.
        lasting: arguments of the constructor that decide on the beginning only, and cannot be set later.
        frozen: whether the layer runs as in evaluation even in training; see :meth:`freeze`.
    """

    buffer_names: ClassVar[tuple[str, ...]] = ()
    lasting: ClassVar[tuple[str, ...]] = ()
    frozen: bool = False
    backend: str = "cpu"
    dtype: DType = np.dtype(np.float32)

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        state.LAYER_CLASSES[state.class_key(cls)] = cls

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value)
        self._revise()

    def _revise(self) -> None:
        revision = vars(self)["_revision"] = next(_REVISIONS)
        _latest[0] = revision  # last: who sees it has not seen the layer as it was before

    @property
    def revision(self) -> int:
        """A number that another one replaces whenever an attribute of the layer is set."""
        revision: int = vars(self).get("_revision", 0)
        return revision

    # The passes

    def forward(self, x: Array, training: bool = False, *, input_grad: bool = True) -> tuple[Array, Backprop]:
        """Compute the output, and the function that takes the gradient back.

        Args:
            x: an array of the layer's backend and dtype.
            training: whether to use batch statistics, drop units and the like.
            input_grad: whether the gradient of ``x`` will be wanted.

        Returns:
            (y, backprop): ``backprop(dy)`` adds to ``grad`` of the parameters that require it and returns the
            gradient of ``x``, or None unless ``input_grad``. It holds what the backward pass needs, so it may
            be called once, and forgetting it frees that memory.

        Raises:
            LayerError: if the shape does not fit.
            DTypeError: if the dtype is not the layer's.
        """
        raise NotImplementedError

    def infer(self, x: Array) -> Array:
        """The output in evaluation mode, when no gradient will be wanted."""
        return self.forward(x, training=False, input_grad=False)[0]

    def __call__(self, x: npt.ArrayLike) -> Array:
        """The output in evaluation mode, of anything that is or can become an array of floating point.

        A NumPy array, unless ``x`` lies on a device: then the output stays there.
        """
        y = self.infer(self._prepare_to_infer(x))
        return backends.to_numpy(y) if backends.is_on_device(y) and not backends.is_on_device(x) else y

    def prepare(self, x: npt.ArrayLike) -> Array:
        """``x`` as an array of this layer's backend, dtype and memory layout; no copy if it is one already.

        Raises:
            DTypeError: for integers and other types that are not floating point.
        """
        array = self._converted(x)
        return self.ops.channels_last(array) if array.ndim == 4 else array

    def _converted(self, x: npt.ArrayLike) -> Array:
        """``x`` as an array of this layer's backend and dtype."""
        array = backends.array_of(x)
        if array.dtype.kind != "f":
            hint = "; images of 0 to 255 are best divided by 255" if array.dtype.kind in "iu" else ""
            raise self._wrong_dtype(array, "floating point numbers", hint)
        return backends.to_backend(array, self.backend, self.dtype)

    def _prepare_to_infer(self, x: npt.ArrayLike) -> Array:
        """As :meth:`prepare`, but in the memory layout that this layer's :meth:`infer` likes best."""
        return self.prepare(x)

    @property
    def output_is_free(self) -> bool:
        """Whether the output is a new array that nothing else holds on to, so that it may be overwritten."""
        return False

    # Shapes

    def output_shape(self, input_shape: Shape) -> Shape:
        """The shape, batch included, that an input of ``input_shape`` gives.

        Raises:
            LayerError: if the layer cannot take such an input.
        """
        raise NotImplementedError

    def macs(self, input_shape: Shape) -> int:
        """Multiply-adds of the forward pass, counted as is usual: convolutions and dense layers only."""
        return 0

    def trace(self, input_shape: Shape, position: str = "") -> Iterator[Traced]:
        """The layers in the order an input meets them.

        Of layers made of layers only those that make an output of their own, such as a sum, come too: behind
        the layers inside them.

        Raises:
            LayerError: if some layer cannot take what reaches it.
        """
        yield Traced(position, self, input_shape, self.output_shape(input_shape), self.macs(input_shape))

    def input_span(self, span: Span, axis: int) -> Span | None:
        """The rows (axis 0) or columns (axis 1) of the input that those of the output depend on.

        Normalisation counts as if it looked at each element alone, as is usual.

        Args:
            span: the first and the last row of the output; the image's edges are not looked at.
            axis: 0 or 1.

        Returns:
            The first and the last row of the input, which may lie outside the image; None for all there are.
        """
        return span

    def trace_back(self, back: SpanFunction, position: str = "") -> Iterator[SpanTrace]:
        """The layers of :meth:`trace`, each with the way from its input back to the model's.

        Args:
            back: takes a span of this layer's input to one of the model's.
            position: of this layer in the model.
        """
        yield SpanTrace(position, self, back)

    def check(self, x: Array) -> None:
        """Raise LayerError or DTypeError unless ``x`` fits. A shape that has passed is not examined again."""
        shape = x.shape, _latest_settings[0]
        if shape not in self._accepted:
            self.output_shape(x.shape)
            if len(self._accepted) >= _SHAPES_REMEMBERED:
                self._accepted.clear()
            self._accepted.add(shape)
        if x.dtype != self.dtype:
            raise self._wrong_dtype(x, str(self.dtype))

    def error(self, message: str) -> LayerError:
        """A LayerError that names this layer."""
        return LayerError(message, type(self).__name__)

    # Parameters and state

    def children(self) -> dict[str, Layer]:
        """The layers directly inside this one, by name."""
        return {name: value for name, value in state.attributes(self).items() if isinstance(value, Layer)}

    def named_parameters(self, prefix: str = "") -> Iterator[tuple[str, Parameter]]:
        """("0.weight", parameter) for every parameter in here, each once even if layers share it."""
        seen: set[int] = set()
        for name, layer in self.named_layers(prefix):
            for own, value in state.attributes(layer).items():
                if isinstance(value, Parameter) and id(value) not in seen:
                    seen.add(id(value))
                    yield (f"{name}.{own}" if name else own), value

    def parameters(self) -> list[Parameter]:
        """Every parameter in here, in the order of :meth:`named_parameters`."""
        return [parameter for _, parameter in self.named_parameters()]

    def named_layers(self, prefix: str = "") -> Iterator[tuple[str, Layer]]:
        """(position, layer) for this layer and all inside it, outer ones first."""
        yield prefix, self
        for name, child in self.children().items():
            yield from child.named_layers(f"{prefix}.{name}" if prefix else name)

    @property
    def is_trainable(self) -> bool:
        """Whether some parameter in here requires a gradient."""
        return any(parameter.requires_grad for _, parameter in self.named_parameters())

    def requires_grad_(self, requires_grad: bool = True) -> Self:
        """Freeze (False) or free (True) every parameter in here."""
        for parameter in self.parameters():
            parameter.requires_grad = requires_grad
        return self

    def freeze(self, *which: Choice) -> Self:
        """Keep layers as they are: they get no gradient, and run in training as they do in evaluation.

        The latter means that batch normalisation uses its running statistics and leaves them alone, and that
        dropout drops nothing. Freezing is no part of a checkpoint.

        Args:
            which: names as in the state dict, of layers ("0", "4.body") with all that is inside them, or of
                single parameters ("0.weight"), which freeze alone; numbers and slices of the layers directly
                inside this one. Nothing means all.

        Raises:
            LayerError: if one of them means nothing; then nothing is frozen.

        Source: CS109B lecture 11.
        """
        set_frozen(self, which, True)
        return self

    def unfreeze(self, *which: Choice) -> Self:
        """Undo :meth:`freeze` for all layers, or for some; also frees what was not trained to begin with."""
        set_frozen(self, which, False)
        return self

    def state_dict(self) -> dict[str, Array]:
        """Copies of all parameters and buffers as NumPy arrays, with the keys of PyTorch's modules."""
        return {key: np.array(value) for key, value in state.tensors(self).items()}

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True) -> state.UnmatchedKeys:
        """Copy parameters and buffers in from arrays, or from a PyTorch state dict.

        ``num_batches_tracked`` is passed over where the layer does not need it.

        Args:
            state_dict: key -> anything NumPy makes an array of.
            strict: whether keys must match one for one; shapes must in any case.

        Returns:
            The keys that did not match, which are none if ``strict``.

        Raises:
            StateDictError: naming every key that is missing, unexpected or of a wrong shape. Nothing is
                loaded then.
        """
        return state.load(self, state_dict, strict)

    def to(self, backend: str | None = None, *, dtype: npt.DTypeLike | None = None) -> Self:
        """Move parameters and buffers to another backend or dtype, in place.

        Raises:
            BackendUnavailable: if the backend cannot run here.
            ValueError: for an unknown backend, or a dtype that it does not compute in: all do in float32,
                "cpu" and "reference" in float64 too.
        """
        new_backend = self.backend if backend is None else backend
        new_dtype = self.dtype if dtype is None else np.dtype(dtype)
        if new_dtype not in _DTYPES:
            raise ValueError(f"dtype must be float32 or float64, got {new_dtype}")
        backends.check(new_backend, new_dtype)
        for _, layer in self.named_layers():
            for name in layer.buffer_names:
                state.move_buffer(layer, name, new_backend, new_dtype)
            vars(layer).update(backend=new_backend, dtype=new_dtype)
            vars(layer).pop("ops", None)
            layer._revise()
        for parameter in self.parameters():
            parameter.to(new_backend, new_dtype)
        return self

    # Description

    def config(self) -> dict[str, Any]:
        """The constructor's arguments. Initializers are left out: what they drew is in the state."""
        values = {}
        for name in inspect.signature(type(self)).parameters:
            if name.endswith("_init"):
                continue
            value = getattr(self, name)
            values[name] = value is not None if _is_switch(self, name, value) else value
        return values

    def __repr__(self) -> str:
        parts = []
        config = self.config()
        for name, parameter in inspect.signature(type(self)).parameters.items():
            if name not in config:
                continue
            value = config[name]
            if parameter.default is parameter.empty:
                parts.append(_short(value))
            elif value != parameter.default and _short(value) != _short(parameter.default):
                parts.append(f"{name}={_short(value)}")
        return f"{type(self).__name__}({', '.join(parts)})"

    # Inner workings

    @_cached
    def ops(self) -> ModuleType:
        """The functions of the layer's backend."""
        return backends.get(self.backend)

    @_cached
    def _accepted(self) -> set[tuple[Shape, int]]:
        return set()

    def _set_again(self, name: str, value: Any) -> None:
        held = vars(self).get(name)
        if name in ("backend", "dtype"):
            raise self.error(f"{name} cannot be set: to({name}=...) moves the layer and all inside")
        if name in self.lasting or (name.endswith("_init") and name in arguments(type(self))):
            raise self.error(f"{name} cannot be set: it says what a new layer begins with")
        if isinstance(held, Parameter) or isinstance(value, Parameter):
            self._exchange(name, held, value)
        elif name in self.buffer_names and held is not None:
            shape = value.shape if backends.is_array(value) else np.shape(value)
            if shape != held.shape:
                raise self.error(f"{name} needs an array of shape {held.shape}, got one of shape {shape}")
            object.__setattr__(self, name, value)
        else:
            for layer in value if isinstance(value, list | tuple) else (value,):
                if isinstance(layer, Layer):
                    layer.to(self.backend, dtype=self.dtype)
            super()._set_again(name, value)
            settings_have_changed()

    def _exchange(self, name: str, held: Any, value: Any) -> None:
        """Put a parameter, or None, in the place of another."""
        switched = name in arguments(type(self))
        if held is None and switched:
            held = getattr(self.from_config({**self.config(), name: True}), name)
        if isinstance(value, Parameter):
            if isinstance(held, Parameter) and value.shape != held.shape:
                raise self.error(f"{name} needs a parameter of shape {held.shape}, got one of {value.shape}")
            value.to(self.backend, self.dtype)
        elif not (switched and value is None):
            raise self.error(f"{name} is a parameter: set {name}.data to values, got {value!r}")
        object.__setattr__(self, name, value)

    def _set_for_base(self, base: type, name: str, value: Any) -> None:
        raise self.error(
            f"{name} cannot be set: the constructor has no such argument, so a file would lose it"
        )

    def _take_over(self, name: str, before: Any, after: Any) -> None:
        was, would_be = state.own_shapes(before), state.own_shapes(after)
        for key in {**was, **would_be}:
            if was.get(key) != would_be.get(key):
                needs = f"{key} of shape {would_be[key]}" if key in would_be else f"no {key}"
                has = f"has one of {was[key]}" if key in was else "has none"
                raise self.error(
                    f"{name}={getattr(after, name)!r} needs {needs}, but the layer {has}: make a new layer"
                )
        super()._take_over(name, before, after)

    def _follows(self, key: str, value: Any) -> bool:
        return not isinstance(value, Parameter | Layer) and key not in self.buffer_names

    def _wrong_dtype(self, x: Array, expected: str, hint: str = "") -> DTypeError:
        message = f"expected {expected}, got {x.dtype} in an input of shape {x.shape}{hint}"
        return DTypeError(message, type(self).__name__)

    def __getstate__(self) -> dict[str, Any]:
        # A module cannot be copied or pickled, it is found again by name; a plan is for this very object.
        return {key: value for key, value in state.attributes(self).items() if key not in _MADE_AGAIN}


def _is_switch(layer: Layer, name: str, value: object) -> bool:
    """Whether an argument said if there is a parameter of the same name, as bias=True does."""
    default = inspect.signature(type(layer)).parameters[name].default
    return isinstance(value, Parameter) or (value is None and isinstance(default, bool))


def _short(value: object) -> str:
    """``repr``, but a pair of equal numbers as one."""
    if isinstance(value, tuple) and len(value) == 2:
        first, second = map(_short, value)
        return first if first == second else f"({first}, {second})"
    return repr(value)


def settings_have_changed() -> None:
    """Let every layer look anew whether a shape suits it and what is inside."""
    _latest_settings[0] = next(_REVISIONS)


def latest_revision() -> int:
    """A number that another one replaces whenever an attribute of any layer is set."""
    return _latest[0]
