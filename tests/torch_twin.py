"""A PyTorch module for any of our layers, with the same names inside, so that state dicts fit both ways."""

from __future__ import annotations

from collections import OrderedDict
from functools import partial
from inspect import signature

import torch
from torch import nn

import nbconv as nb
from nbconv.models import AuxiliaryHead, DeeplySupervised

_NAMES = {"Dense": "Linear"}


def twin(layer: nb.Layer) -> nn.Module:
    """``layer`` as PyTorch would have it, with weights of its own."""
    for ours, theirs in CONTAINERS.items():
        if isinstance(layer, ours):
            return theirs(inside(layer))
    if isinstance(layer, nb.GlobalAvgPool2d):
        return Mean()
    if isinstance(layer, nb.ContrastNorm):
        return Contrast(layer.kernel_size, layer.eps)
    name = type(layer).__name__
    theirs = getattr(nn, _NAMES.get(name, name))
    known = signature(theirs).parameters
    # What PyTorch has no name for is at its default in the models.
    return theirs(**{key: value for key, value in layer.config().items() if key in known})


def inside(layer: nb.Layer) -> dict[str, nn.Module]:
    """The twins of a layer's children."""
    return OrderedDict((name, twin(child)) for name, child in layer.children().items())


class Parts(nn.Module):
    """Modules under the names that nbconv gives them."""

    def __init__(self, parts: dict[str, nn.Module]) -> None:
        super().__init__()
        for name, part in parts.items():
            self.add_module(name, part)

    def part(self, name: str, x: torch.Tensor) -> torch.Tensor:
        return self._modules[name](x) if name in self._modules else x


class Contrast(nn.Module):
    """Local contrast normalisation, by convolutions of the mean over the channels."""

    def __init__(self, kernel_size: int, eps: float) -> None:
        super().__init__()
        self.eps = eps
        distance = torch.arange(kernel_size, dtype=torch.float64) - kernel_size // 2
        along = torch.exp(-8 * (distance / kernel_size) ** 2)
        self.register_buffer("window", torch.outer(along, along)[None, None], persistent=False)

    def mean(self, x: torch.Tensor) -> torch.Tensor:
        slide = partial(nn.functional.conv2d, weight=self.window, padding="same")
        return slide(x.mean(1, keepdim=True)) / slide(torch.ones_like(x[:1, :1]))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x - self.mean(x)
        deviation = self.mean(x**2).sqrt()
        return x / torch.maximum(deviation, deviation.mean((2, 3), keepdim=True)).clamp_min(self.eps)


class Mean(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.mean((2, 3))


class Residual(Parts):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.part("activation", self.part("body", x) + self.part("shortcut", x))


class Concat(Parts):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([branch(x) for branch in self.children()], 1)


class DenseBlock(Parts):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer in self.children():
            x = torch.cat([x, layer(x)], 1)
        return x


class Head(Parts):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.part("classifier", x)


class Supervised(Parts):
    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        from_heads = []
        for part in self.children():
            if isinstance(part, Head):
                from_heads.append(part(x))
            else:
                x = part(x)
        return x, *from_heads


CONTAINERS = {
    DeeplySupervised: Supervised,
    AuxiliaryHead: Head,
    nb.Sequential: nn.Sequential,
    nb.Residual: Residual,
    nb.Concat: Concat,
    nb.DenseBlock: DenseBlock,
}
