"""The part of an image that one output of a layer sees."""

from __future__ import annotations

from nbconv.inspect import twin
from nbconv.layers.base import Layer
from nbconv.typing import Pair


def receptive_box(model: Layer, layer: twin.LayerName, output: Pair, image_size: Pair) -> tuple[slice, slice]:
    """Rows and columns of the image that a layer's output depends on; what lies in the padding is cut off.

    Args:
        model: any.
        layer: name, number or the layer itself.
        output: row and column in the layer's output.
        image_size: height and width of the image.

    Returns:
        (rows, columns), to take the part by ``image[..., rows, columns]``.

    Raises:
        LayerError: if there is no such layer.

    Source: CS109B lecture 11.
    """
    position = twin.find(model, layer)
    steps = [
        step
        for step in model.trace_back(lambda span, axis: span)
        if f"{step.position}.".startswith(f"{position}.")
    ]
    if not steps:
        raise model.error(f"layer {position} gives no output of its own")
    rows, columns = (
        _clipped(steps[-1].input_span((output[axis], output[axis]), axis), image_size[axis])
        for axis in (0, 1)
    )
    return rows, columns


def _clipped(span: tuple[int, int] | None, size: int) -> slice:
    if span is None:
        return slice(0, size)
    first, last = max(span[0], 0), min(span[1], size - 1)
    return slice(first, max(first, last + 1))
