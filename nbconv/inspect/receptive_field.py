"""What part of the image an output of each layer sees."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import NamedTuple

from nbconv.layers.base import Layer, SpanTrace

_HEADER = ("layer", "receptive field", "stride", "offset")

# Over so many outputs a field moves by a whole number of rows, whatever layers have enlarged the image by.
_FAR = 2**12 * 3**4 * 5**2 * 7
_LONGEST_PERIOD = 64


@dataclass(frozen=True)
class ReceptiveField:
    """What the outputs of one layer see of the model's input: pairs are (height, width).

    Output (p, q) sees the rows from ``offset[0] + p * stride[0]`` on, ``size[0]`` of them, and columns alike.
    All three are None where an output sees the whole input, however large it is.

    Attributes:
        position: the layer's place, as in the keys of a state dict.
        layer: its class name.
        size: rows and columns; the largest, where outputs differ because of an Upsample.
        stride: by how much the field moves from one output to the next, also called jump.
        offset: the first row and column that output (0, 0) sees; negative in the padding.
    """

    position: str
    layer: str
    size: tuple[int, int] | None
    stride: tuple[Fraction, Fraction] | None
    offset: tuple[int, int] | None


@dataclass(frozen=True)
class ReceptiveFields:
    """The receptive fields of a model's layers, one a row; ``str`` of it is a table."""

    rows: tuple[ReceptiveField, ...]

    def __str__(self) -> str:
        table = [_HEADER] + [
            (
                f"{row.position} {row.layer}".strip(),
                "whole input" if row.size is None else _pair(row.size, " x "),
                "" if row.stride is None else _pair(row.stride, ", "),
                "" if row.offset is None else _pair(row.offset, ", "),
            )
            for row in self.rows
        ]
        widths = [max(map(len, column)) for column in zip(*table, strict=True)]
        lines = [
            "  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip()
            for cells in table
        ]
        lines.insert(1, "-" * (sum(widths) + 2 * (len(widths) - 1)))
        return "\n".join(lines)

    __repr__ = __str__


def receptive_field(model: Layer) -> ReceptiveFields:
    """The part of the input that the outputs of each layer depend on.

    Where paths meet, in a Residual, Concat or DenseBlock, it is the widest. Normalisation counts as if it
    looked at each element alone. Fields are those of the architecture: what lies outside the image counts.

    Source: CS109B lecture 11; Araujo et al., "Computing receptive fields of convolutional neural networks",
    2019.
    """
    rows = []
    period = 1
    for step in model.trace_back(lambda span, axis: span):
        # Outputs of an enlarging layer see alike only every so many places.
        period = min(_LONGEST_PERIOD, period * _stride_of(step.layer).denominator)
        height, width = (_field(step, axis, period) for axis in (0, 1))
        name = type(step.layer).__name__
        if height is None or width is None:
            rows.append(ReceptiveField(step.position, name, None, None, None))
            continue
        rows.append(
            ReceptiveField(
                step.position,
                name,
                (height.size, width.size),
                (height.stride, width.stride),
                (height.offset, width.offset),
            )
        )
    return ReceptiveFields(tuple(rows))


class _Field(NamedTuple):
    size: int
    stride: Fraction
    offset: int


def _field(step: SpanTrace, axis: int, period: int) -> _Field | None:
    """The field along one axis; None if an output depends on the whole input."""
    spans = [step.input_span((output, output), axis) for output in range(period)]
    far = step.input_span((_FAR, _FAR), axis)
    known = [span for span in spans if span is not None]
    if far is None or len(known) < len(spans):
        return None
    size = max(last - first + 1 for first, last in known)
    return _Field(size, Fraction(far[0] - known[0][0], _FAR), known[0][0])


def _stride_of(layer: Layer) -> Fraction:
    """By how much the rows move that a layer itself sees, from one output to the next."""
    near, far = layer.input_span((0, 0), 0), layer.input_span((_FAR, _FAR), 0)
    return Fraction(1) if near is None or far is None else Fraction(far[0] - near[0], _FAR)


def _pair(values: tuple[object, object], separator: str) -> str:
    return separator.join(map(str, values))
