"""Checkpoints: one safetensors file with the weights, and the architecture as JSON in its metadata.

No pickle: loading a file runs no code from it. Layers are built by class name from those that are imported.
"""

from __future__ import annotations

import json
import os
import reprlib
from collections.abc import Mapping
from typing import Any

from nbconv import tensor_file
from nbconv.errors import CheckpointError, StateDictError
from nbconv.layers import state
from nbconv.layers.base import Layer
from nbconv.tensor_file import read, read_metadata
from nbconv.typing import Array

__all__ = ["load", "read", "read_extra", "read_metadata", "save"]

FORMAT_VERSION = 1
EXTRA_PREFIX = "nbconv/"
"""Begins the names of tensors that are not the model's; no key of a state dict has a slash."""
_DEEPEST = 100  # lists and layers in each other; each layer that holds layers makes two
_METADATA_KEY = "nbconv"
_EXTRA_KEY = "nbconv_extra"


def save(model: Layer, path: str | os.PathLike[str], extra: Any = None) -> None:
    """Write ``model`` to ``path``; see :meth:`nbconv.Sequential.save`."""
    write(path, model, {}, {}, extra)


def write(
    path: str | os.PathLike[str],
    model: Layer,
    tensors: Mapping[str, Array],
    metadata: Mapping[str, str],
    extra: Any = None,
) -> None:
    """Write ``model``, further tensors whose names begin with EXTRA_PREFIX, and further metadata.

    The file appears whole or not at all: see :mod:`nbconv.files`.

    Raises:
        OSError: if it cannot be written.
        TypeError: for an ``extra`` that JSON cannot hold.
    """
    header = {"format_version": FORMAT_VERSION, "dtype": str(model.dtype), "architecture": encode(model)}
    texts = {"format": "np", _METADATA_KEY: json.dumps(header), **metadata}
    if extra is not None:
        texts[_EXTRA_KEY] = json.dumps(extra)
    tensor_file.write(path, {**state.tensors(model), **tensors}, texts)


def read_extra(path: str | os.PathLike[str]) -> Any:
    """What ``Sequential.save(extra=...)`` or ``Checkpoint(extra=...)`` kept in a file; None if nothing.

    Raises:
        CheckpointError: if the file is no safetensors file, or damaged.
        OSError: if it cannot be read.
    """
    metadata = read_metadata(path)
    try:
        return extra_of(metadata)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{os.fspath(path)}: what was kept with the model cannot be read") from error


def extra_of(metadata: Mapping[str, str]) -> Any:
    """The same, of the metadata of a file.

    Raises:
        ValueError: if it is no JSON.
    """
    return json.loads(metadata[_EXTRA_KEY]) if _EXTRA_KEY in metadata else None


def load(path: str | os.PathLike[str], backend: str = "cpu") -> Any:
    """The model that :meth:`nbconv.Sequential.save` wrote to ``path``.

    Args:
        path: of the file.
        backend: where the model shall compute, whatever it was saved from.

    Returns:
        The model (typed Any because the file decides of which class it is).

    Raises:
        CheckpointError: if the file is no checkpoint, is damaged, needs a layer class that is not known here,
            or its weights do not fit its architecture; the message says which.
        BackendUnavailable: if the backend cannot run here.
        OSError: if the file cannot be read.
    """
    metadata, tensors = read(path)
    where = os.fspath(path)
    header = header_of(metadata, where)
    weights = {key: value for key, value in tensors.items() if not key.startswith(EXTRA_PREFIX)}
    try:
        with state.room_for_buffers(sum(array.size for array in weights.values())):
            model = decode(header["architecture"])
        if not isinstance(model, Layer):
            raise CheckpointError(f"the architecture is {reprlib.repr(model)}, not a layer")
        if not hasattr(model, "predict"):
            raise CheckpointError(f"the architecture is {type(model).__name__}, a layer and no model")
        model.to(dtype=header["dtype"])
    # Classes of anybody's are given arguments of anybody's.
    except Exception as error:
        reason = str(error) or type(error).__name__
        raise CheckpointError(f"{where}: the architecture cannot be built: {reason}") from error
    model.to(backend)
    try:
        model.load_state_dict(weights)
    except StateDictError as error:
        raise CheckpointError(f"{where}: the weights do not fit the architecture: {error}") from error
    return model


def header_of(metadata: Mapping[str, str], where: str) -> dict[str, Any]:
    """The description of the model in the metadata of the file ``where``.

    Raises:
        CheckpointError: if there is none that this version can read.
    """
    if _METADATA_KEY not in metadata:
        raise CheckpointError(
            f"{where} holds weights but no architecture of nbconv: build the model and give it the arrays "
            "by load_state_dict"
        )
    try:
        header = json.loads(metadata[_METADATA_KEY])
        version = header["format_version"]
    except (ValueError, TypeError, KeyError, RecursionError):
        raise CheckpointError(f"{where}: the description of the architecture cannot be read") from None
    if version != FORMAT_VERSION:
        raise CheckpointError(
            f"{where} has format version {reprlib.repr(version)}; this nbconv reads version {FORMAT_VERSION}"
        )
    return dict(header)


def encode(value: Any) -> Any:
    """A layer, or an argument of its constructor, as JSON can hold it.

    Raises:
        TypeError: for an argument of another type than None, bool, int, float, str, layer, or a sequence or
            dict of those.
    """
    if isinstance(value, Layer):
        arguments = {name: encode(argument) for name, argument in value.config().items()}
        return {"layer": state.class_key(type(value)), "arguments": arguments}
    if isinstance(value, list | tuple):
        return [encode(item) for item in value]
    if isinstance(value, dict):
        return {"dict": {str(key): encode(item) for key, item in value.items()}}
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(f"cannot save {value!r}, an argument of a layer, in a checkpoint")


def decode(value: Any, deep: int = 0) -> Any:
    """What :func:`encode` was given; sequences become tuples.

    Args:
        value: from JSON.
        deep: how many others it is in.

    Raises:
        CheckpointError: for a class of layers that is not known, or values in values without end.
    """
    if deep > _DEEPEST:
        raise CheckpointError(f"it is nested more than {_DEEPEST} deep")
    if isinstance(value, list):
        return tuple(decode(item, deep + 1) for item in value)
    if not isinstance(value, dict):
        return value
    if "dict" in value:
        return {key: decode(item, deep + 1) for key, item in value["dict"].items()}
    name, arguments = value["layer"], value["arguments"]
    if name not in state.LAYER_CLASSES:
        raise CheckpointError(
            f"unknown layer class {reprlib.repr(name)} (if it is your own, import its module first)"
        )
    layer_class = state.LAYER_CLASSES[name]
    try:
        return layer_class.from_config({key: decode(item, deep + 1) for key, item in arguments.items()})
    except CheckpointError:
        raise
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"{name}: {error}") from error
