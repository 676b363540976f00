"""What a plan is made of: steps that read arrays from numbered places and put one there."""

from __future__ import annotations

from collections.abc import Sequence

from nbconv.errors import PlacedError
from nbconv.inference.weights import PreparedWeights
from nbconv.layers import BatchNorm2d, Conv2d, Layer
from nbconv.typing import Array

Values = list[Array | None]
Member = tuple[str, Layer]
"""A layer and its position in the model."""


class Step:
    """Base of steps.

    Attributes:
        members: the layers that this step computes; errors name the first.
        source: the place of the input.
        output: the place of the output.
        reads: the places that must hold something when it runs.
    """

    def __init__(self, members: Sequence[Member], source: int, output: int) -> None:
        self.members = list(members)
        self.source = source
        self.output = output

    @property
    def reads(self) -> list[int]:
        """The places that must hold something when it runs."""
        return [self.source]

    @property
    def outputs(self) -> list[int]:
        """The places it puts something into."""
        return [self.output]

    def run(self, values: Values) -> None:
        """Compute the output.

        Raises:
            PlacedError: what the layer raised, with its position.
        """
        try:
            self._run(values)
        except PlacedError as error:
            if position := self.members[0][0]:
                error.add_position(position)
            raise

    def _run(self, values: Values) -> None:
        raise NotImplementedError


class LayerStep(Step):
    """A layer by itself."""

    def _run(self, values: Values) -> None:
        x = values[self.source]
        assert x is not None
        values[self.output] = self.members[0][1].infer(x)


class CheckStep(Step):
    """Looks whether an input fits a container whose layers come as steps of their own; computes nothing."""

    def _run(self, values: Values) -> None:
        x = values[self.source]
        assert x is not None
        self.members[0][1].check(x)


class SumStep(Step):
    """What a Residual does with its two paths.

    Attributes:
        other: the place of the second path's output.
        activation: of the sum: None, "relu" or "relu6".
        may_write: whether nobody else needs the first path's output.
    """

    def __init__(self, member: Member, source: int, other: int, output: int, activation: str | None) -> None:
        super().__init__([member], source, output)
        self.other = other
        self.activation = activation
        self.may_write = False

    @property
    def reads(self) -> list[int]:
        """The places that must hold something when it runs."""
        return [self.source, self.other]

    def _run(self, values: Values) -> None:
        y, other, ops = values[self.source], values[self.other], self.members[0][1].ops
        assert y is not None
        assert other is not None
        relu = self.activation == "relu"
        if self.may_write:
            (ops.accumulate_relu if relu else ops.accumulate)(y, other)
        else:
            y = (ops.add_relu if relu else ops.add)(y, other)
        values[self.output] = ops.relu6(y) if self.activation == "relu6" else y


class ConcatStep(Step):
    """Puts the channels of several arrays side by side."""

    def __init__(self, member: Member, sources: Sequence[int], output: int) -> None:
        super().__init__([member], sources[0], output)
        self.sources = list(sources)

    @property
    def reads(self) -> list[int]:
        """The places that must hold something when it runs."""
        return self.sources

    def _run(self, values: Values) -> None:
        values[self.output] = self.members[0][1].ops.concat([values[source] for source in self.sources])


class ConvStep(Step):
    """A convolution with the normalisation and the activation behind it.

    Attributes:
        activation: None, "relu" or "relu6".
        addend: the place of an array that the result is added to, before the activation, and written over.
        beside: the first channel and the number of channels, where the output is part of a larger array.
        makes_room: whether this step makes that larger array.
    """

    def __init__(self, members: Sequence[Member], source: int, output: int, activation: str | None) -> None:
        super().__init__(members, source, output)
        self.conv: Conv2d = members[0][1]  # type: ignore[assignment]
        norms = [layer for _, layer in members if isinstance(layer, BatchNorm2d)]
        self.weights = PreparedWeights(self.conv, norms[0] if norms else None)
        self.activation = activation
        self.addend: int | None = None
        self.beside: tuple[int, int] | None = None
        self.makes_room = False

    @property
    def is_plain(self) -> bool:
        """Whether the output is an array of its own, and the padding zeros."""
        return self.addend is None and self.beside is None and not self.conv.pads

    @property
    def reads(self) -> list[int]:
        """The places that must hold something when it runs."""
        return [self.source] if self.addend is None else [self.source, self.addend]

    def _run(self, values: Values) -> None:
        x, conv = values[self.source], self.conv
        assert x is not None
        conv.check(x)
        ops = conv.ops
        weight, bias, kept = self.weights.get()
        padded = conv.padded(x)
        window = conv.window
        if self.addend is not None:
            out = values[self.addend]
            assert out is not None
            ops.conv2d_onto(out, padded, weight, bias, *window, self.activation, 0, True, kept)
            values[self.output] = out
        elif self.beside is not None:
            first, channels = self.beside
            if self.makes_room:
                n, _, h, w = conv.output_shape(x.shape)
                values[self.output] = ops.empty_like(x, (n, channels, h, w))
            out = values[self.output]
            ops.conv2d_onto(out, padded, weight, bias, *window, self.activation, first, False, kept)
        else:
            values[self.output] = ops.conv2d(padded, weight, bias, *window, self.activation, kept)


def drops(steps: Sequence[Step], result: int) -> list[list[int]]:
    """After each step, the places that nobody reads any more."""
    last = {place: index for index, step in enumerate(steps) for place in (*step.reads, *step.outputs)}
    last.pop(result, None)
    return [[place for place, at in last.items() if at == index] for index in range(len(steps))]
