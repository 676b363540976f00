"""The state of a layer and all inside it, as one flat dictionary of arrays."""

from __future__ import annotations

from collections.abc import Mapping
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


class UnmatchedKeys(NamedTuple):
    """Keys that were in only one of the model and the state dict."""

    missing_keys: list[str]
    unexpected_keys: list[str]


def class_key(layer_class: type[Layer]) -> str:
    """The name a checkpoint gives a class: short for nbconv's own, with the module for others."""
    if layer_class.__module__.startswith("nbconv."):
        return layer_class.__name__
    return f"{layer_class.__module__}.{layer_class.__qualname__}"


def tensors(layer: Layer) -> dict[str, Array]:
    """All parameters and buffers as NumPy arrays, not copied where they are NumPy arrays already."""
    return {
        key: owner.numpy() if isinstance(owner, Parameter) else _to_numpy(owner, getattr(owner, name))
        for key, (owner, name) in _slots(layer).items()
    }


def load(layer: Layer, given: Mapping[str, Any], strict: bool) -> UnmatchedKeys:
    """See :meth:`nbconv.layers.base.Layer.load_state_dict`."""
    slots = _slots(layer)
    missing = [key for key in slots if key not in given and not _is_batch_count(key)]
    unexpected = [key for key in given if key not in slots and not _is_batch_count(key)]
    misshapen: dict[str, tuple[Shape, Shape]] = {}
    unusable: dict[str, str] = {}
    arrays: dict[str, Array] = {}
    for key, (owner, name) in slots.items():
        if key not in given:
            continue
        try:
            arrays[key] = as_real_array(given[key])
        except (TypeError, ValueError) as error:
            unusable[key] = str(error)
            continue
        needed = owner.shape if isinstance(owner, Parameter) else getattr(owner, name).shape
        if arrays[key].shape != needed:
            misshapen[key] = (arrays[key].shape, needed)
    if misshapen or unusable or (strict and (missing or unexpected)):
        raise StateDictError(missing, unexpected, misshapen, unusable)
    for key, array in arrays.items():
        owner, name = slots[key]
        if isinstance(owner, Parameter):
            owner.data = array
        else:
            setattr(owner, name, _to_backend(np.array(array, getattr(owner, name).dtype), owner.backend))
    return UnmatchedKeys(missing, unexpected)


def as_real_array(value: Any) -> Array:
    """``value``, which may be a PyTorch tensor, as a NumPy array of real numbers.

    Raises:
        TypeError: if it is none.
    """
    if hasattr(value, "detach"):
        value = value.detach()
    array = np.asarray(value)
    if array.dtype.kind not in "fiu":
        raise TypeError(f"expected an array of real numbers, got one of {array.dtype}")
    return array


def move_buffer(layer: Layer, name: str, backend: str, dtype: DType) -> None:
    """Bring a buffer to a backend; to a dtype as well if it holds floating point."""
    value = getattr(layer, name)
    if value is None:
        return
    array = _to_numpy(layer, value)
    if array.dtype.kind == "f":
        array = array.astype(dtype, copy=False)
    setattr(layer, name, _to_backend(array, backend))


def _slots(layer: Layer) -> dict[str, tuple[Parameter | Layer, str]]:
    """By key, the parameter, or the layer with the buffer's name; in PyTorch's order."""
    slots: dict[str, tuple[Parameter | Layer, str]] = {}
    for position, inner in layer.named_layers():
        prefix = f"{position}." if position else ""
        for name, value in vars(inner).items():
            if isinstance(value, Parameter):
                slots[prefix + name] = value, name
        for name in inner.buffer_names:
            if getattr(inner, name) is not None:
                slots[prefix + name] = inner, name
    return slots


def _is_batch_count(key: str) -> bool:
    return key.rpartition(".")[2] == _BATCH_COUNT


def _to_numpy(layer: Layer, array: Array) -> Array:
    here = array if isinstance(array, np.ndarray) else backends.get(layer.backend).to_numpy(array)
    return np.asarray(here, order="C")  # safetensors writes others as their memory lies


def _to_backend(array: Array, backend: str) -> Array:
    if backend in backends.NUMPY_BACKENDS:
        return array
    moved: Array = backends.get(backend).asarray(array)
    return moved
