"""Convolutions that follow each other in one compiled call, which the CPU backend offers (``program``).

For inputs of one shape, everything but the values is the same at each call: the geometry of every step, the
algorithm, where arrays begin. So a plan is gone through once for a shape, and neighbouring convolutions
become one step with a workspace, in which an array's memory is used again as soon as nobody reads it any
more. Steps of another kind run in between as they are.

The rule for weights is that of ``weights``: a program is made, and used again, only while nobody else can
change them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from importlib import import_module
from typing import Any

from nbconv.errors import PlacedError
from nbconv.inference.steps import CheckStep, ConcatStep, ConvStep, Step, SumStep, Values, drops
from nbconv.inference.weights import Snapshot
from nbconv.layers import Conv2d
from nbconv.typing import Array, Shape

_SHAPES_REMEMBERED = 16
_WITH_PROGRAMS = "nbconv_kernels.cpu"
_LINE = 16  # elements; arrays in a workspace begin at multiples of it
_WORKSPACE = 0  # the number of that array

_Found = tuple[list[Step], list[list[int]]]


class Programs:
    """The steps of a plan with programs in place of convolutions, by the shape of the input."""

    def __init__(self, steps: Sequence[Step], result: int) -> None:
        self._steps, self._result = list(steps), result
        convs = [step for step in steps if isinstance(step, ConvStep)]
        backend = convs[0].conv.ops.__name__ if convs else ""
        self.is_possible = backend == _WITH_PROGRAMS
        self._room: Any = import_module(f"{backend}.program") if self.is_possible else None
        self._dtype = convs[0].conv.dtype if convs else None
        self._parameters = [p for step in convs for _, layer in step.members for p in layer.parameters()]
        self._norms = [step.weights.norm for step in convs if step.weights.norm is not None]
        self._known: dict[tuple[Any, ...], tuple[Snapshot, _Found]] = {}
        self._with_planes: dict[tuple[Any, ...], bool] = {}

    def find(self, x: Array) -> _Found | None:
        """Steps for an input like ``x``, and what to drop after each; None if there are none now."""
        if x.dtype != self._dtype:
            return None
        in_planes = self.takes_planes(x)
        state = self._room.state()
        key = (x.shape, in_planes, *state)
        known = self._known.get(key)
        if known is None or not known[0].is_current:
            source = Snapshot.of(self._parameters, self._norms)
            made = None if source is None else self._make(x.shape, in_planes)
            # Steps one by one give the same bits. The state differs if another thread changed it meanwhile.
            if source is None or made is None or self._room.state() != state:
                return None
            if len(self._known) >= _SHAPES_REMEMBERED:
                self._known.clear()
            self._known[key] = known = source, (made, drops(made, self._result))
        return known[1]

    def takes_planes(self, x: Array) -> bool:
        """Whether ``x``, which lies in memory as planes, is best left so: one convolution reads it."""
        if x.ndim != 4 or not x.flags.c_contiguous or x.dtype != self._dtype:
            return False
        state = self._room.state()
        key = (x.shape, *state)
        known = self._with_planes.get(key)
        if known is None:
            readers = [step for step in self._steps if 0 in step.reads and not isinstance(step, CheckStep)]
            conv = readers[0].conv if len(readers) == 1 and isinstance(readers[0], ConvStep) else None
            known = conv is not None and self._reads_planes(conv, x.shape)
            if len(self._with_planes) >= _SHAPES_REMEMBERED:
                self._with_planes.clear()
            if self._room.state() == state:
                self._with_planes[key] = known
        return known

    def _reads_planes(self, conv: Conv2d, shape: Shape) -> bool:
        try:
            geometry = conv.geometry(shape)
        except PlacedError:
            return False  # the layer will say so, with its place
        takes: bool = self._room.takes_planes(geometry, self._dtype)
        return takes and 0 not in shape and not conv.pads

    def _make(self, shape: Shape, in_planes: bool) -> list[Step] | None:
        try:
            shapes = _shapes(self._steps, shape)
        except (PlacedError, NotImplementedError):
            return None  # the layers will say so, with their place
        made: list[Step] = []
        run: list[ConvStep] = []
        steps = [
            step for step in self._steps if not isinstance(step, CheckStep)
        ]  # shapes have been looked at
        for index, step in enumerate(steps):
            if not isinstance(step, ConvStep) or not self._takes(step, shapes):
                made.append(step)
                continue
            run.append(step)
            following = steps[index + 1] if index + 1 < len(steps) else None
            if not isinstance(following, ConvStep) or not self._takes(following, shapes):
                later = {place for other in steps[index + 1 :] for place in _needs(other)} | {self._result}
                made.append(ProgramStep(self._room, run, shapes, later, in_planes))
                run = []
        return made

    def _takes(self, step: ConvStep, shapes: dict[int, Shape]) -> bool:
        shape = shapes[step.source]
        return (
            0 not in shape and not step.conv.pads and self._room.takes(step.conv.geometry(shape), self._dtype)
        )


class ProgramStep(Step):
    """Some convolutions that follow each other.

    Args:
        room: the backend's module for programs.
        steps: the convolutions.
        shapes: of all places.
        later: the places that somebody needs after the last of them.
        in_planes: whether the model's input lies in memory as planes.
    """

    def __init__(
        self,
        room: Any,
        steps: Sequence[ConvStep],
        shapes: dict[int, Shape],
        later: set[int],
        in_planes: bool,
    ) -> None:
        super().__init__(steps[0].members, steps[0].source, steps[-1].output)
        self._steps = list(steps)
        self._dtype, self._ops = steps[0].conv.dtype, steps[0].conv.ops
        made: set[int] = set()
        self._inputs: dict[int, Shape] = {}  # arrays that are there before, by their places
        for step in steps:
            self._inputs.update((place, shapes[place]) for place in _needs(step) if place not in made)
            made.add(step.output)
        self._new: list[Shape] = []  # arrays made here that somebody needs later
        self._program = room.Program(self._dtype)
        memory = _Memory(self._steps)
        where = {place: room.Place(number, 0) for number, place in enumerate(self._inputs, _WORKSPACE + 1)}
        index = 0
        while index < len(steps):
            step, source = steps[index], steps[index].source
            first = _layer(room, step, shapes)
            second = None
            if index + 1 < len(steps) and _is_between(steps, index, later, where):
                following = _layer(room, steps[index + 1], shapes)
                if room.pairs(first.geometry, following.geometry, self._dtype):
                    second, index = following, index + 1
                    step = steps[index]
            shape = shapes[step.output]
            if step.addend is not None:
                where[step.output] = where[step.addend]
            elif step.output not in where:
                if memory.last_name(step.output) in later:
                    self._new.append(shape)
                    where[step.output] = room.Place(len(self._inputs) + len(self._new), 0)
                else:
                    where[step.output] = room.Place(_WORKSPACE, memory.take(step.output, math.prod(shape)))
            beside = (0 if step.beside is None else step.beside[0], shape[1])
            target = (beside, step.addend is not None)
            if second is None:
                of_image = in_planes and source == 0
                self._program.convolution(where[source], where[step.output], first, *target, of_image)
            else:
                self._program.pair(where[source], where[step.output], first, second, *target)
            memory.leave(index)
            index += 1
        self._size = memory.size
        self._results = [(place, where[place].array) for place in made & later]

    @property
    def reads(self) -> list[int]:
        """The places that must hold something when it runs."""
        return list(self._inputs)

    @property
    def outputs(self) -> list[int]:
        """The places it puts something into."""
        return [place for place, _ in self._results]

    def _run(self, values: Values) -> None:
        inputs = [values[place] for place in self._inputs]
        for x, shape in zip(inputs, self._inputs.values(), strict=True):
            if x is None or x.shape != shape or x.dtype != self._dtype:
                # A layer of the user's own gives another shape than it said; the convolutions find the error.
                for step in self._steps:
                    step.run(values)
                return
        arrays = [x for x in inputs if x is not None]
        arrays += [self._ops.empty_like(arrays[0], shape) for shape in self._new]
        pixels = self._program.run(arrays, self._size)
        for place, number in self._results:
            values[place] = pixels[number]


def _layer(room: Any, step: ConvStep, shapes: dict[int, Shape]) -> Any:
    weight, bias, kept = step.weights.get()
    return room.Layer(weight, bias, step.conv.geometry(shapes[step.source]), step.activation, kept)


def _is_between(steps: Sequence[ConvStep], index: int, later: set[int], where: dict[int, Any]) -> bool:
    """Whether the output of a step is for the next one alone, which does not write over the step's input."""
    step, following = steps[index], steps[index + 1]
    return (
        step.is_plain
        and following.source == step.output
        and step.output not in later
        and sum(step.output in _needs(other) for other in steps) == 1
        and (following.addend is None or where.get(following.addend) not in (None, where[step.source]))
    )


class _Memory:
    """Which part of the workspace holds what.

    Args:
        steps: those of the program.
    """

    def __init__(self, steps: Sequence[ConvStep]) -> None:
        # An array that is written over goes on under the name of the sum.
        self._renamed = {step.addend: step.output for step in steps if step.addend is not None}
        self._last: dict[int, int] = {}
        for index, step in enumerate(steps):
            for place in (*_needs(step), step.output):
                self._last[self.last_name(place)] = index
        self._taken: dict[int, tuple[int, int]] = {}
        self.size = 0

    def last_name(self, place: int) -> int:
        """The place whose array is in the end where that of ``place`` was."""
        while place in self._renamed:
            place = self._renamed[place]
        return place

    def take(self, place: int, elements: int) -> int:
        """Where so many elements begin: in the first gap that holds them."""
        start = 0
        for first, end in sorted(self._taken.values()):
            if first - start >= elements:
                break
            start = end
        end = start + -(-elements // _LINE) * _LINE
        self._taken[self.last_name(place)] = start, end
        self.size = max(self.size, end)
        return start

    def leave(self, index: int) -> None:
        """Give back what nobody needs after step ``index``."""
        for name in [name for name in self._taken if self._last[name] <= index]:
            del self._taken[name]


def _needs(step: Step) -> list[int]:
    """The places that must hold something: those it reads, and one that it writes a share of."""
    if isinstance(step, ConvStep) and step.beside is not None and not step.makes_room:
        return [*step.reads, step.output]
    return step.reads


def _shapes(steps: Sequence[Step], shape: Shape) -> dict[int, Shape]:
    """The shapes of all places."""
    shapes = {0: shape}
    for step in steps:
        layer, source = step.members[0][1], shapes[step.source]
        if isinstance(step, ConvStep) and step.beside is not None:
            own = step.conv.output_shape(source)
            shapes[step.output] = (own[0], step.beside[1], *own[2:])
        elif isinstance(step, ConcatStep):
            shapes[step.output] = (source[0], sum(shapes[s][1] for s in step.sources), *source[2:])
        elif isinstance(step, SumStep):
            shapes[step.output] = source
        elif isinstance(step, CheckStep):
            layer.output_shape(source)
        else:
            shapes[step.output] = layer.output_shape(source)
    return shapes
