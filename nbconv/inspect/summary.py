"""A model as a table: shapes, parameters, multiply-adds and memory of each layer."""

from __future__ import annotations

import math
from dataclasses import dataclass

from nbconv.layers.base import Layer
from nbconv.typing import Shape

_HEADER = ("layer", "output shape", "parameters", "multiply-adds", "activations", "fused into")


@dataclass(frozen=True)
class Row:
    """One layer of a :class:`Summary`, for one example.

    Attributes:
        position: the layer's place, as in the keys of a state dict.
        layer: its class name.
        output_shape: without the batch.
        parameters: number of trained values, 0 where an earlier layer shares them.
        macs: multiply-adds of the forward pass.
        activation_bytes: memory of the output.
        fused_into: in evaluation, the layer that computes this one as well, or "".
    """

    position: str
    layer: str
    output_shape: Shape
    parameters: int
    macs: int
    activation_bytes: int
    fused_into: str = ""


@dataclass(frozen=True)
class Summary:
    """What a model needs for one example; ``str`` of it is a table.

    Attributes:
        input_shape: without the batch.
        rows: one a layer.
        trainable: parameters that are not frozen.
    """

    input_shape: Shape
    rows: tuple[Row, ...]
    trainable: int

    @property
    def parameters(self) -> int:
        """Number of all parameters' values."""
        return sum(row.parameters for row in self.rows)

    @property
    def macs(self) -> int:
        """Multiply-adds of one forward pass."""
        return sum(row.macs for row in self.rows)

    @property
    def activation_bytes(self) -> int:
        """Memory of all layers' outputs together."""
        return sum(row.activation_bytes for row in self.rows)

    def __str__(self) -> str:
        table = [
            (
                f"{row.position} {row.layer}".strip(),
                _shape(row.output_shape),
                f"{row.parameters:,}",
                f"{row.macs:,}",
                _bytes(row.activation_bytes),
                row.fused_into,
            )
            for row in self.rows
        ]
        total = ("total", "", f"{self.parameters:,}", f"{self.macs:,}", _bytes(self.activation_bytes), "")
        widths = [max(map(len, column)) for column in zip(_HEADER, *table, total, strict=True)]
        rule = "-" * (sum(widths) + 2 * (len(widths) - 1))
        lines = [f"input {_shape(self.input_shape)}; for one example"]
        lines += [_line(_HEADER, widths), rule, *(_line(cells, widths) for cells in table), rule]
        lines.append(_line(total, widths))
        if self.trainable != self.parameters:
            lines.append(f"trainable parameters: {self.trainable:,}")
        return "\n".join(lines)

    __repr__ = __str__


def summarize(model: Layer, input_shape: Shape) -> Summary:
    """See :meth:`nbconv.Sequential.summary`."""
    rows = []
    counted: set[int] = set()
    fused = _fused(model)
    for step in model.trace((1, *input_shape)):
        new = {id(p): p for p in step.layer.parameters() if id(p) not in counted}
        counted.update(new)
        rows.append(
            Row(
                position=step.position,
                layer=type(step.layer).__name__,
                output_shape=step.output_shape[1:],
                parameters=sum(p.size for p in new.values()),
                macs=step.macs,
                activation_bytes=math.prod(step.output_shape) * model.dtype.itemsize,
                fused_into=fused.get(step.position, ""),
            )
        )
    trainable = sum(p.size for p in model.parameters() if p.requires_grad)
    return Summary(tuple(input_shape), tuple(rows), trainable)


def _fused(model: Layer) -> dict[str, str]:
    """For each layer that another one computes as well in evaluation, the other one, by position."""
    from nbconv.sequential import Sequential

    if not isinstance(model, Sequential) or not model.fuses:
        return {}
    return {position: step.members[0][0] for step in model.plan().steps for position, _ in step.members[1:]}


def _line(cells: tuple[str, ...], widths: list[int]) -> str:
    left = [cell.ljust(width) for cell, width in zip(cells[:2], widths[:2], strict=True)]
    right = [cell.rjust(width) for cell, width in zip(cells[2:], widths[2:], strict=True)]
    return "  ".join(left + right)


def _shape(shape: Shape) -> str:
    return " x ".join(map(str, shape))


def _bytes(count: int) -> str:
    size, unit = float(count), "B"
    for larger in ("KiB", "MiB", "GiB"):
        if size < 1024:
            break
        size, unit = size / 1024, larger
    return f"{count} B" if unit == "B" else f"{size:.1f} {unit}"
