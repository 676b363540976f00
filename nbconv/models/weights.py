"""Weights from elsewhere: the names that torchvision gives to the layers of its networks.

Their layers have the same parameters in the same shapes and meet the input in the same order. So a network's
names are a list: torchvision's name of each layer with parameters, in our order.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from nbconv import serialization
from nbconv.errors import StateDictError
from nbconv.layers import Layer, state
from nbconv.parameter import Parameter
from nbconv.sequential import Sequential

Weights = str | os.PathLike[str] | Mapping[str, Any]
"""The path of a safetensors file, or a state dict of arrays or PyTorch tensors."""

_BATCH_COUNT = "num_batches_tracked"


def load_weights(
    model: Sequential,
    weights: Weights | None,
    names: Iterable[str] = (),
    rename: Callable[[str], str | None] = str,
) -> Sequential:
    """Give ``model`` the weights, whose keys are its own or torchvision's.

    Args:
        model: gets the weights in place.
        weights: where they are; None leaves the model as it is.
        names: torchvision's name of each layer with parameters; none where torchvision lacks the network.
        rename: brings keys of old files to today's names; None for a key that is not needed.

    Returns:
        The model.

    Raises:
        StateDictError: naming every key that is missing, unexpected or of a wrong shape.
        CheckpointError: if the file is no safetensors file.
        OSError: if it cannot be read.
    """
    if weights is None:
        return model
    given = weights if isinstance(weights, Mapping) else serialization.read(weights)[1]
    if strange := [key for key in given if not isinstance(key, str)]:
        raise StateDictError(unexpected=strange)
    ours = torchvision_keys(model, names)
    counts_left_out = {key: value for key, value in given.items() if not key.endswith(_BATCH_COUNT)}
    renamed = {name: value for key, value in counts_left_out.items() if (name := rename(key)) is not None}
    if not ours.keys() & renamed.keys():
        model.load_state_dict(given)
        return model
    missing = [key for key in ours if key not in renamed]
    unexpected = [key for key in renamed if key not in ours]
    if missing or unexpected:
        raise StateDictError(missing, unexpected)
    try:
        model.load_state_dict({ours[key]: value for key, value in renamed.items()})
    except StateDictError as error:
        theirs = {key: name for name, key in ours.items()}
        raise StateDictError(
            misshapen={theirs[key]: shapes for key, shapes in error.misshapen.items()},
            unusable={theirs[key]: reason for key, reason in error.unusable.items()},
        ) from None
    return model


def torchvision_keys(model: Sequential, names: Iterable[str]) -> dict[str, str]:
    """The key in torchvision of each parameter and buffer -> the model's own."""
    names = list(names)
    layers = [(position, leaves) for position, layer in model.named_layers() if (leaves := _leaves(layer))]
    return {
        f"{name}.{leaf}": f"{position}.{leaf}"
        for name, (position, leaves) in zip(names, layers if names else [], strict=True)
        for leaf in leaves
    }


def _leaves(layer: Layer) -> list[str]:
    """The names of a layer's own parameters and buffers."""
    parameters = [name for name, value in state.attributes(layer).items() if isinstance(value, Parameter)]
    return parameters + [name for name in layer.buffer_names if getattr(layer, name) is not None]
