"""From layers to a plan.

A convolution takes in the BatchNorm2d behind it, in its weights, and the ReLU or ReLU6 behind that. At the
end of a Residual's body it adds to the other path, where nobody needs that any more; at the end of a Concat's
branches each writes its share of one array. Everything else runs as it is, layers of users' own as well.
"""

from __future__ import annotations

from nbconv.inference.plan import Plan
from nbconv.inference.steps import CheckStep, ConcatStep, ConvStep, LayerStep, Member, Step, SumStep
from nbconv.layers import (
    AdaptiveAvgPool2d,
    AvgPool2d,
    BatchNorm2d,
    Concat,
    Conv2d,
    Dense,
    Dropout,
    GlobalAvgPool2d,
    Layer,
    MaxPool2d,
    ReLU,
    ReLU6,
    Residual,
)
from nbconv.layers.nested import join

_ACTIVATIONS: dict[type, str] = {ReLU: "relu", ReLU6: "relu6"}
# Layers whose output is new memory, and who keep no hold of their input.
_NEW = (Conv2d, BatchNorm2d, ReLU, ReLU6, MaxPool2d, AvgPool2d, AdaptiveAvgPool2d, Dense)
_TRUSTED = (*_NEW, GlobalAvgPool2d)


def compile_model(model: Layer) -> Plan:
    """The plan of a model, usually a Sequential."""
    compiler = _Compiler(model)
    output = compiler.place(model, 0, "")
    compiler.merge_sums(output)
    compiler.merge_concatenations(output)
    return Plan(compiler.steps, compiler.places, output, compiler.watched, compiler.lists)


class _Compiler:
    def __init__(self, model: Layer) -> None:
        from nbconv.sequential import Sequential

        self._sequential = Sequential
        self._backend, self._dtype = model.backend, model.dtype
        self.steps: list[Step] = []
        self.places = 1
        self.watched: list[tuple[Layer, int]] = []
        self.lists: list[tuple[list[Layer], list[Layer]]] = []
        self._new: set[int] = set()  # places of arrays that are nobody else's

    def place(self, layer: Layer, source: int, position: str) -> int:
        """Add the steps of a layer; the place of its output."""
        members = self._flat(layer, position)
        index = 0
        while index < len(members):
            place, inner = members[index]
            kind = type(inner)
            taken = 1
            if kind is Conv2d and self._is_here(inner):
                taken, source = self._convolution(members[index : index + 3], source)
            elif kind is Residual and self._is_here(inner):
                source = self._residual(inner, source, place)  # type: ignore[arg-type]
            elif kind is Concat and self._is_here(inner):
                source = self._concat(inner, source, place)  # type: ignore[arg-type]
            elif kind is Dropout:
                self._watch(inner)
            else:
                self._watch(inner)
                if kind not in _TRUSTED:  # it may hold on to its input, or return it
                    self._new.discard(source)
                source = self._add(LayerStep([members[index]], source, self._next()), kind in _NEW)
            index += taken
        return source

    def _flat(self, layer: Layer, position: str) -> list[Member]:
        """The layers of a Sequential, and of those inside, in a row."""
        if not isinstance(layer, self._sequential) or not layer.runs_in_order or not self._is_here(layer):
            return [(position, layer)]
        self._watch(layer)
        self.lists.append((layer.layers, list(layer.layers)))
        members: list[Member] = []
        for index, inner in enumerate(layer.layers):
            members += self._flat(inner, join(position, str(index)))
        return members

    def _convolution(self, members: list[Member], source: int) -> tuple[int, int]:
        """How many layers became one step, and where its output is."""
        conv = members[0][1]
        assert isinstance(conv, Conv2d)
        self._watch(conv)
        taken = members[:1]
        for member in members[1:2]:
            norm = member[1]
            if type(norm) is BatchNorm2d and self._is_here(norm):
                self._watch(norm)
                if norm.running_mean is not None and norm.num_features == conv.out_channels:
                    taken = members[:2]
        activation = None
        for member in members[len(taken) : len(taken) + 1]:
            if type(member[1]) in _ACTIVATIONS and self._is_here(member[1]):
                self._watch(member[1])
                activation = _ACTIVATIONS[type(member[1])]
                taken = members[: len(taken) + 1]
        return len(taken), self._add(ConvStep(taken, source, self._next(), activation), new=True)

    def _residual(self, layer: Residual, source: int, position: str) -> int:
        self._watch(layer)
        self.steps.append(CheckStep([(position, layer)], source, source))
        other = source
        if layer.shortcut is not None:
            other = self.place(layer.shortcut, source, join(position, "shortcut"))
        y = self.place(layer.body, source, join(position, "body"))
        activation = _ACTIVATIONS.get(type(layer.activation))
        total = self._add(SumStep((position, layer), y, other, self._next(), activation), new=True)
        if layer.activation is None or activation is not None:
            return total
        return self.place(layer.activation, total, join(position, "activation"))

    def _concat(self, layer: Concat, source: int, position: str) -> int:
        self._watch(layer)
        self.steps.append(CheckStep([(position, layer)], source, source))
        sources = [self.place(b, source, join(position, name)) for name, b in layer.children().items()]
        if len(sources) == 1:
            return sources[0]
        return self._add(ConcatStep((position, layer), sources, self._next()), new=True)

    def merge_sums(self, result: int) -> None:
        """Let convolutions add to what the other path of a Residual gave, where nobody reads that later."""
        for index in range(len(self.steps) - 1, 0, -1):
            total, conv = self.steps[index], self.steps[index - 1]
            if not isinstance(total, SumStep):
                continue
            later = self._read_from(index + 1, result)
            if (
                isinstance(conv, ConvStep)
                and conv.activation is None
                and conv.output == total.source
                and total.other in self._new
                and total.other != conv.source
                and not later & {total.other, total.source}
            ):
                conv.addend, conv.activation, conv.output = total.other, total.activation, total.output
                conv.members += total.members
                del self.steps[index]
                continue
            total.may_write = total.source in self._new and total.source not in later | {total.other}

    def merge_concatenations(self, result: int) -> None:
        """Let convolutions at the end of all branches write side by side."""
        for index in range(len(self.steps) - 1, 0, -1):
            beside = self.steps[index]
            if not isinstance(beside, ConcatStep):
                continue
            ends = [s for s in self.steps[:index] if isinstance(s, ConvStep) and s.output in beside.sources]
            others = [s for s in self.steps if s is not beside]
            read = {place for step in others for place in step.reads} | {result}
            if (
                sorted(step.output for step in ends) != sorted(beside.sources)
                or any(step.addend is not None or step.beside is not None for step in ends)
                or read & set(beside.sources)
            ):
                continue
            channels = sum(step.conv.out_channels for step in ends)
            first = 0
            for step in ends:  # they run in the order of the branches
                step.beside, step.makes_room, step.output = (first, channels), first == 0, beside.output
                first += step.conv.out_channels
            ends[-1].members += beside.members
            del self.steps[index]

    def _read_from(self, index: int, result: int) -> set[int]:
        """The places that the steps from ``index`` on read, and the result's."""
        return {place for step in self.steps[index:] for place in step.reads} | {result}

    def _add(self, step: Step, new: bool) -> int:
        self.steps.append(step)
        if new:
            self._new.add(step.output)
        return step.output

    def _next(self) -> int:
        self.places += 1
        return self.places - 1

    def _watch(self, layer: Layer) -> None:
        self.watched.append((layer, layer.revision))

    def _is_here(self, layer: Layer) -> bool:
        """Whether the layer computes like the model, and as its class says."""
        same = layer.backend == self._backend and layer.dtype == self._dtype
        return same and not {"infer", "evaluate", "forward"} & vars(layer).keys()
