"""A model as a flat list of steps with named inputs and outputs: what ONNX and ncnn files are made of."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from nbconv import layers
from nbconv.layers import Layer
from nbconv.sequential import Sequential

INPUT = "input"


@dataclass(frozen=True)
class Step:
    """One operation.

    Attributes:
        op: the layer's class name, or "Add" or "Concat" for what containers do themselves.
        inputs: names of earlier outputs, or :data:`INPUT`.
        output: its own output's name, unique in the graph.
        layer: what has the settings and weights; None for "Add" and "Concat".
    """

    op: str
    inputs: tuple[str, ...]
    output: str
    layer: Layer | None = None


@dataclass
class Graph:
    """Steps in the order they run; the last one's output is the model's."""

    steps: list[Step] = field(default_factory=list)

    @property
    def output(self) -> str:
        """The name of the model's output."""
        return self.steps[-1].output if self.steps else INPUT

    def add(self, op: str, inputs: Iterable[str], layer: Layer | None = None) -> str:
        """Append a step and return its output's name."""
        output = f"{op.lower()}{len(self.steps)}"
        self.steps.append(Step(op, tuple(inputs), output, layer))
        return output


def graph_of(model: Layer) -> Graph:
    """The steps of a model's evaluation, in which dropout does nothing."""
    graph = Graph()
    _walk(model, INPUT, graph)
    return graph


def _walk(layer: Layer, x: str, graph: Graph) -> str:
    if isinstance(layer, Sequential):
        for inner in layer:
            x = _walk(inner, x, graph)
        return x
    if isinstance(layer, layers.Residual):
        body = _walk(layer.body, x, graph)
        other = x if layer.shortcut is None else _walk(layer.shortcut, x, graph)
        total = graph.add("Add", (body, other))
        return total if layer.activation is None else _walk(layer.activation, total, graph)
    if isinstance(layer, layers.Concat):
        return graph.add("Concat", [_walk(branch, x, graph) for branch in layer.branches])
    if isinstance(layer, layers.DenseBlock):
        for inner in layer.layers:
            x = graph.add("Concat", (x, _walk(inner, x, graph)))
        return x
    if isinstance(layer, layers.Dropout):
        return x
    return graph.add(type(layer).__name__, (x,), layer)
