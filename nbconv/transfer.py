"""Transfer learning: what a trained network has learned of images, put to use for other classes.

Freeze the base, give it a new head and train that alone; then free the base and tune all of it, earlier
layers at smaller learning rates:

    model.freeze(slice(0, -1)).replace_head(5)
    base, head = model.split()
    x = nb.transfer.features(model, images)            # once, instead of in every epoch
    nb.Trainer(head, loss, nb.SGD(head.parameters(), lr=0.1)).fit(x, labels, epochs=30)
    model.unfreeze()
    optimizer = nb.SGD(nb.layer_groups(model, lrs=[0.001, 0.003, 0.01]), momentum=0.9)

Source: CS109B lecture 11; for learning rates by depth, Howard and Ruder, "Universal language model
fine-tuning for text classification", 2018.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from nbconv.layers import Conv2d, Dense, Layer, state
from nbconv.layers.freezing import is_settled
from nbconv.parameter import Parameter
from nbconv.typing import Array

if TYPE_CHECKING:
    from nbconv.sequential import Sequential


def features(
    model: Sequential, x: npt.ArrayLike, index: int | None = None, *, batch_size: int = 256
) -> Array:
    """What the base of a model makes of ``x``, as a NumPy array to train the head on.

    Args:
        model: of which the first layers are frozen.
        x: (N, ...) floating point.
        index: of the first layer that is no part of the base; None for the first that training changes.
        batch_size: examples at a time.

    Raises:
        LayerError: if the base is empty.
    """
    base, _ = split(model, index)
    if not len(base):
        raise model.error("training changes the first layer: freeze the base, or say where the head begins")
    return base.predict(x, batch_size)


def layer_groups(model: Layer, lrs: Sequence[float]) -> list[dict[str, Any]]:
    """A model's parameters as groups for an optimiser, a learning rate each, from the input to the output.

    The last rate is that of the head, the last layer that has weights. The layers before it are divided among
    the other rates as evenly as can be; what is inside a layer of layers, such as a stage of a ResNet, stays
    together where there are layers enough. Other divisions are a line each:
    ``[{"params": model[:6].parameters(), "lr": 0.001}, {"params": model[6:].parameters(), "lr": 0.01}]``.

    Args:
        model: any.
        lrs: learning rates, earlier layers' first; lectures advise steps of 3 to 10.

    Raises:
        ValueError: if there are more rates than layers with weights, or none.

    Source: CS109B lecture 11.
    """
    rates = [float(rate) for rate in lrs]
    if not rates:
        raise ValueError("layer_groups: expected at least one learning rate, got none")
    units: list[list[Parameter]] = []
    deepest = max((name.count(".") for name, _ in model.named_parameters()), default=0)
    for depth in range(max(1, deepest)):
        units = _units(model, depth)
        if len(units) >= len(rates):
            break
    else:
        raise ValueError(f"layer_groups: {len(rates)} learning rates, but {len(units)} layers with weights")
    *before, head = units
    # Without another rate than the head's, all is one group.
    parts = np.array_split(np.arange(len(before)), len(rates) - 1) if len(rates) > 1 else []
    groups = [[before[i] for i in part] for part in parts] + [[head] if parts else units]
    return [
        {"params": [parameter for unit in group for parameter in unit], "lr": rate}
        for group, rate in zip(groups, rates, strict=True)
    ]


def split(model: Sequential, index: int | None) -> tuple[Sequential, Sequential]:
    """See :meth:`nbconv.Sequential.split`."""
    if index is None:
        index = next((i for i, layer in enumerate(model) if not is_settled(layer)), len(model))
    return model[:index], model[index:]


def replace_head(model: Sequential, num_classes: int, seed: int | None) -> None:
    """See :meth:`nbconv.Sequential.replace_head`."""
    from nbconv.sequential import Sequential

    places = dict(model.named_layers())
    position = next((place for place in reversed(places) if _has_weights(places[place])), "")
    outer, _, name = position.rpartition(".")
    old, parent = places[position], places[outer]
    if not isinstance(old, Dense | Conv2d) or not isinstance(parent, Sequential):
        raise model.error(
            f"the last layer with weights, {type(old).__name__} at {position!r}, is no Dense or Conv2d in a "
            "Sequential: put a new head in its place by hand"
        )
    settings = old.config()
    settings["out_features" if isinstance(old, Dense) else "out_channels"] = num_classes
    settings["weight_init"] = old.weight.init
    settings["bias_init"] = None if old.bias is None else old.bias.init
    parent[int(name)] = new = type(old).from_config(settings)
    if seed is None:
        model._assign_streams()
        return
    fresh = {id(parameter) for parameter in new.parameters()}
    for index, parameter in enumerate(model.parameters()):
        if id(parameter) in fresh:
            parameter.stream = (seed, index)


def _has_weights(layer: Layer) -> bool:
    return any(isinstance(value, Parameter) for value in state.attributes(layer).values())


def _units(model: Layer, depth: int) -> list[list[Parameter]]:
    """The parameters of each layer ``depth`` layers of layers down, in order, each once.

    Vectors alone, such as a batch normalisation's, belong to the layer before.
    """
    by_layer: dict[tuple[str, ...], list[Parameter]] = {}
    for name, parameter in model.named_parameters():
        by_layer.setdefault(tuple(name.split(".")[:-1][: depth + 1]), []).append(parameter)
    units: list[list[Parameter]] = []
    for parameters in by_layer.values():
        if units and all(len(parameter.shape) < 2 for parameter in parameters):
            units[-1] += parameters
        else:
            units.append(parameters)
    return units
