"""A PyTorch module for a model of ours, with the same names inside, so that state dicts fit both ways."""

from __future__ import annotations

from inspect import signature
from typing import Any

import torch
from torch import nn

import nbconv as nb
from nbconv.bench.peers.base import Unavailable

_NAMES = {"Dense": "Linear"}


def twin(layer: nb.Layer) -> nn.Module:
    """``layer`` as PyTorch would have it, with the same weights."""
    module = _build(layer)
    state = {key: torch.from_numpy(value) for key, value in layer.state_dict().items()}
    module.load_state_dict(state, strict=False)
    return module


def _build(layer: nb.Layer) -> nn.Module:
    for container, parts in _CONTAINERS.items():
        if isinstance(layer, container):
            return parts({name: _build(child) for name, child in layer.children().items()})
    if isinstance(layer, nb.Sequential):
        return nn.Sequential(*map(_build, layer))
    if isinstance(layer, nb.GlobalAvgPool2d):
        return nn.Sequential(nn.AdaptiveAvgPool2d(1), *([] if layer.keepdims else [nn.Flatten()]))
    name = type(layer).__name__
    theirs = getattr(nn, _NAMES.get(name, name), None)
    if theirs is None:
        raise Unavailable(f"PyTorch has no {name}")
    known = signature(theirs).parameters
    # What PyTorch has no name for is at its default in the models.
    return theirs(**{key: value for key, value in layer.config().items() if key in known})


class _Parts(nn.Module):
    """Modules under the names that nbconv gives them."""

    def __init__(self, parts: dict[str, nn.Module]) -> None:
        super().__init__()
        for name, part in parts.items():
            self.add_module(name, part)


class _Residual(_Parts):
    def __init__(self, parts: dict[str, nn.Module]) -> None:
        super().__init__(parts)
        if "shortcut" not in parts:
            self.shortcut = nn.Identity()
        activation = parts.get("activation", nn.Identity())
        # In place, as PyTorch's own networks have it: less memory, and less to write.
        self.activation = nn.ReLU(inplace=True) if isinstance(activation, nn.ReLU) else activation

    def forward(self, x: Any) -> Any:
        return self.activation(self.body(x) + self.shortcut(x))


class _Concat(_Parts):
    def forward(self, x: Any) -> Any:
        return torch.cat([branch(x) for branch in self.children()], 1)


class _DenseBlock(_Parts):
    def forward(self, x: Any) -> Any:
        for layer in self.children():
            x = torch.cat([x, layer(x)], 1)
        return x


_CONTAINERS = {nb.Residual: _Residual, nb.Concat: _Concat, nb.DenseBlock: _DenseBlock}
