"""The state of a layer and all inside it, as one flat dictionary of arrays."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from nbconv import backends
from nbconv.errors import StateDictError
from nbconv.parameter import Parameter
from nbconv.typing import Array, DType, Shape

if TYPE_CHECKING:
    from nbconv.layers.base import Layer

LAYER_CLASSES: dict[str, type[Layer]] = {}
"""Every class of layers by the name that stands for it in checkpoints."""

_BATCH_COUNT = "num_batches_tracked"
_FROM_FILE = (
    "of a file, nbconv.load reads a model, and nbconv.serialization.read(path)[1] is the arrays alone"
)
_room: ContextVar[int | None] = ContextVar("room", default=None)


class UnmatchedKeys(NamedTuple):
    """Keys that were in only one of the model and the state dict."""

    missing_keys: list[str]
    unexpected_keys: list[str]


def class_key(layer_class: type[Layer]) -> str:
    """The name a checkpoint gives a class: short for nbconv's own, with the module for others."""
    if layer_class.__module__.startswith("nbconv."):
        return layer_class.__name__
    return f"{layer_class.__module__}.{layer_class.__qualname__}"


def attributes(layer: Layer) -> dict[str, Any]:
    """A layer's attributes by name, as a copy: another thread that computes may just be adding one."""
    return vars(layer).copy()


def buffer(shape: Shape, value: float, dtype: DType) -> Array:
    """A new array of one value, for a layer's buffer.

    Raises:
        ValueError: where a file describes the layer, and has not so many numbers.
    """
    needed, room = math.prod(shape), _room.get()
    if room is not None:
        if needed > room:
            raise ValueError(f"it keeps {needed:,} numbers, and the file holds {room:,} more")
        _room.set(room - needed)
    return np.full(shape, value, dtype)


@contextmanager
def room_for_buffers(count: int) -> Iterator[None]:
    """Let the layers built in the block have so many numbers in buffers, all together."""
    token = _room.set(count)
    try:
        yield
    finally:
        _room.reset(token)


def tensors(layer: Layer) -> dict[str, Array]:
    """All parameters and buffers as NumPy arrays, not copied where they are NumPy arrays already."""
    return {
        key: owner.numpy() if isinstance(owner, Parameter) else _to_numpy(getattr(owner, name))
        for key, (owner, name) in _slots(layer).items()
    }


def load(layer: Layer, given: Mapping[str, Any], strict: bool) -> UnmatchedKeys:
    """See :meth:`nbconv.layers.base.Layer.load_state_dict`."""
    if not isinstance(given, Mapping):
        raise TypeError(f"load_state_dict: expected arrays by name, got {type(given).__name__}; {_FROM_FILE}")
    slots = _slots(layer)
    missing = [key for key in slots if key not in given and not _is_batch_count(key)]
    unexpected = [key for key in given if key not in slots and not _is_batch_count(key)]
    misshapen: dict[str, tuple[Shape, Shape]] = {}
    unusable: dict[str, str] = {}
    arrays: dict[str, Array] = {}
    for key, (owner, name) in slots.items():
        if key not in given:
            continue
        here = owner if isinstance(owner, Parameter) else getattr(owner, name)
        try:
            arrays[key] = _converted(as_real_array(given[key]), here.dtype)
        except (TypeError, ValueError) as error:
            unusable[key] = str(error)
            continue
        needed = here.shape
        if arrays[key].shape != needed:
            misshapen[key] = (arrays[key].shape, needed)
    if misshapen or unusable or (strict and (missing or unexpected)):
        raise StateDictError(missing, unexpected, misshapen, unusable)
    for key, array in arrays.items():
        owner, name = slots[key]
        if isinstance(owner, Parameter):
            owner.data = array
        else:
            here = getattr(owner, name)
            new = np.array(array, here.dtype)
            setattr(owner, name, _to_backend(new, owner.backend) if backends.is_on_device(here) else new)
    return UnmatchedKeys(missing, unexpected)


def as_real_array(value: Any) -> Array:
    """``value``, which may be a PyTorch tensor, as a NumPy array of real numbers.

    Raises:
        TypeError, ValueError: if it is none.
    """
    array = backends.to_numpy(value)
    if array.dtype.kind not in "fiu":
        raise TypeError(f"expected an array of real numbers, got one of {array.dtype}")
    return array


def _converted(array: Array, dtype: DType) -> Array:
    """``array`` in another dtype, if its numbers have room there: they would become infinite."""
    with np.errstate(over="raise", invalid="raise"):
        try:
            return array.astype(dtype, copy=False)
        except FloatingPointError:
            raise ValueError(f"{array.dtype} numbers that {dtype} does not hold") from None


def move_buffer(layer: Layer, name: str, backend: str, dtype: DType) -> None:
    """Bring a buffer of floating point to a backend and a dtype; counts stay where they are read."""
    value = getattr(layer, name)
    if value is None or value.dtype.kind != "f":
        return
    setattr(layer, name, _to_backend(_to_numpy(value).astype(dtype, copy=False), backend))


def _slots(layer: Layer) -> dict[str, tuple[Parameter | Layer, str]]:
    """By key, the parameter, or the layer with the buffer's name; in PyTorch's order."""
    slots: dict[str, tuple[Parameter | Layer, str]] = {}
    for position, inner in layer.named_layers():
        prefix = f"{position}." if position else ""
        for name, value in attributes(inner).items():
            if isinstance(value, Parameter):
                slots[prefix + name] = value, name
        for name in inner.buffer_names:
            if getattr(inner, name) is not None:
                slots[prefix + name] = inner, name
    return slots


def own_shapes(layer: Layer) -> dict[str, Shape]:
    """The shapes of the parameters and buffers that a layer itself holds."""
    parameters = {name: value.shape for name, value in vars(layer).items() if isinstance(value, Parameter)}
    buffers = {name: getattr(layer, name) for name in layer.buffer_names}
    return parameters | {name: value.shape for name, value in buffers.items() if value is not None}


def _is_batch_count(key: object) -> bool:
    return isinstance(key, str) and key.rpartition(".")[2] == _BATCH_COUNT


def _to_numpy(array: Array) -> Array:
    return np.asarray(backends.to_numpy(array), order="C")  # safetensors writes others as their memory lies


def _to_backend(array: Array, backend: str) -> Array:
    return array if backend in backends.NUMPY_BACKENDS else backends.to_backend(array, backend)
