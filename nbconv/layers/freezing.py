"""Freezing: what a choice of names, numbers and slices means, and keeping that as it is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nbconv.parameter import Parameter

if TYPE_CHECKING:
    from nbconv.layers.base import Layer

Choice = str | int | slice


def set_frozen(model: Layer, choices: tuple[Choice, ...], frozen: bool) -> None:
    """See :meth:`nbconv.layers.base.Layer.freeze`. Nothing changes if a choice means nothing."""
    layers: list[Layer] = []
    parameters: list[Parameter] = []
    for choice in choices or (slice(None),):
        some, others = _chosen(model, choice) if choices else ([model], [])
        layers += some
        parameters += others
    for layer in layers:
        for _, inner in layer.named_layers():
            inner.frozen = frozen
        parameters += layer.parameters()
    for parameter in parameters:
        parameter.requires_grad = not frozen
        if frozen:
            parameter.grad = None  # an optimiser would step by it once more


def is_settled(layer: Layer) -> bool:
    """Whether training leaves the layer, and what it makes of an input, as they are.

    True of frozen layers, and of those without trainable parameters but batch normalisation and dropout.
    """
    from nbconv.layers.dropout import Dropout
    from nbconv.layers.norm import BatchNorm2d

    return not layer.is_trainable and all(
        inner.frozen or not isinstance(inner, BatchNorm2d | Dropout) for _, inner in layer.named_layers()
    )


def _chosen(model: Layer, choice: Choice) -> tuple[list[Layer], list[Parameter]]:
    """The layers, or else the parameters, that one choice means."""
    children = list(model.children().values())
    if isinstance(choice, slice):
        found = children[choice]
        if not found:
            raise model.error(f"{choice} means none of the {len(children)} layers")
        return found, []
    if not isinstance(choice, str):
        try:
            return [children[choice]], []
        except IndexError:
            raise model.error(f"there is no layer {choice}, only {len(children)}") from None
    layers = [layer for name, layer in model.named_layers() if name == choice]
    parameters = [parameter for name, parameter in model.named_parameters() if name == choice]
    if not layers and not parameters:
        raise model.error(
            f"there is no layer and no parameter {choice!r}; names are those of the state dict, such as "
            f"{next((name for name, _ in model.named_parameters()), '0.weight')!r}, or begin them"
        )
    return layers, parameters
