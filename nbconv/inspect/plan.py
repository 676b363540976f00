"""How a model computes in evaluation mode, as a table."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nbconv.layers import state
from nbconv.parameter import Parameter
from nbconv.typing import Shape

if TYPE_CHECKING:
    from nbconv.inference.steps import Step
    from nbconv.layers import Layer
    from nbconv.layers.conv import Conv2d
    from nbconv.sequential import Sequential

_HEADER = ("layers", "algorithm", "output shape", "MFLOP", "MB", "FLOP / byte")


@dataclass(frozen=True)
class PlanRow:
    """One step of a plan.

    Attributes:
        positions: the layers computed together, as in the keys of a state dict.
        layers: their class names.
        algorithm: how a convolution is computed, of its backend's; the op's name for what is none.
        output_shape: batch included; that of the share where a step writes channels of a larger array.
        flops: two for each multiply-add, as counted for the direct algorithm; 0 but for convolutions and
            dense layers.
        bytes: of its inputs, weights and output, each touched once.
    """

    positions: tuple[str, ...]
    layers: tuple[str, ...]
    algorithm: str
    output_shape: Shape
    flops: int
    bytes: int


@dataclass(frozen=True)
class PlanTable:
    """The steps of a plan for one input shape, one a row; ``str`` of it is a table.

    Attributes:
        input_shape: batch included.
    """

    input_shape: Shape
    rows: tuple[PlanRow, ...]

    def __str__(self) -> str:
        table = [_HEADER, *map(_cells, self.rows)]
        widths = [max(map(len, column)) for column in zip(*table, strict=True)]
        lines = [
            "  ".join(
                cell.ljust(width) if column < 3 else cell.rjust(width)
                for column, (cell, width) in enumerate(zip(cells, widths, strict=True))
            ).rstrip()
            for cells in table
        ]
        lines.insert(1, "-" * (sum(widths) + 2 * (len(widths) - 1)))
        return "\n".join([f"input {' x '.join(map(str, self.input_shape))}", *lines])

    __repr__ = __str__


def plan(model: Sequential, input_shape: Shape, batch_size: int = 1) -> PlanTable:
    """What runs when a model predicts: which layers together, by which algorithm, with what work.

    Args:
        model: a Sequential.
        input_shape: of one example, without the batch: (C, H, W) or (F,).
        batch_size: how many examples at a time; the algorithm chosen may depend on it.

    Raises:
        LayerError: naming the layer whose input does not fit.
    """
    from nbconv.inference.steps import CheckStep

    shape = (batch_size, *input_shape)
    model.output_shape(shape)
    shapes: dict[int, Shape] = {0: shape}
    steps = [step for step in model.plan().steps if not isinstance(step, CheckStep)]
    return PlanTable(shape, tuple(_row(step, shapes, model.dtype.itemsize) for step in steps))


def _row(step: Step, shapes: dict[int, Shape], itemsize: int) -> PlanRow:
    """The row of a step; the shape of its output is put into ``shapes``."""
    from nbconv.inference.steps import ConcatStep, ConvStep, SumStep

    layer = step.members[0][1]
    shape = shapes[step.source]
    algorithm, macs = type(layer).__name__, 0
    if isinstance(step, SumStep):
        algorithm, own = "sum", shape
    elif isinstance(step, ConcatStep):
        algorithm = "copy"
        own = (shape[0], sum(shapes[source][1] for source in step.sources), *shape[2:])
    else:
        own, macs = layer.output_shape(shape), layer.macs(shape)
        if isinstance(step, ConvStep):
            algorithm = _algorithm(step.conv, shape, itemsize)
    whole = own
    if isinstance(step, ConvStep) and step.beside is not None:
        whole = (own[0], step.beside[1], *own[2:])
    touched = sum(math.prod(shapes[place]) for place in step.reads) + math.prod(own)
    touched += sum(parameter.size for _, member in step.members for parameter in _own_parameters(member))
    shapes[step.output] = whole
    return PlanRow(
        positions=tuple(position for position, _ in step.members),
        layers=tuple(type(member).__name__ for _, member in step.members),
        algorithm=algorithm,
        output_shape=own,
        flops=2 * macs,
        bytes=touched * itemsize,
    )


def _own_parameters(layer: Layer) -> list[Parameter]:
    return [value for value in state.attributes(layer).values() if isinstance(value, Parameter)]


def _algorithm(conv: Conv2d, shape: Shape, itemsize: int) -> str:
    """The name of the module that the backend chooses; a backend without a choice has the definition."""
    choose = getattr(conv.ops.conv, "algorithm", None)
    if choose is None:
        return "definition"
    geometry = conv.geometry(shape)
    return str(choose(geometry, itemsize, kept=True).__name__.rpartition(".")[2])


def _cells(row: PlanRow) -> tuple[str, ...]:
    layers = " + ".join(row.layers)
    return (
        f"{row.positions[0]} {layers}".strip(),
        row.algorithm,
        " x ".join(map(str, row.output_shape)),
        f"{row.flops / 1e6:,.1f}" if row.flops else "",
        f"{row.bytes / 1e6:,.2f}",
        f"{row.flops / row.bytes:.1f}" if row.flops else "",
    )
