"""A model of ours as ncnn's two files: its layers as text, their weights as bytes.

As ncnn's own converters do, batch normalisation is folded into the weights and a ReLU behind a convolution
becomes part of it.

Source: ncnn's documentation of its operators and of its file formats.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from nbconv import layers
from nbconv.bench.graph import INPUT, Step, graph_of
from nbconv.bench.peers.base import Unavailable
from nbconv.sequential import Sequential
from nbconv.typing import Array
from nbconv_kernels.geometry import pair, resolve_padding

_MAGIC = 7767517
_FLOAT32 = bytes(4)  # in front of weights: not compressed
_RELU = 1  # as an activation inside another layer

Settings = dict[int, Any]


@dataclass
class _Op:
    """One ncnn layer on its way into the file."""

    kind: str
    inputs: list[str]
    output: str
    settings: Settings
    weights: list[Array]  # the first with a flag in front, if there is one
    scale: Array | None = None
    shift: Array | None = None


def export(model: Sequential) -> tuple[str, bytes, str]:
    """(the text, the weights, the output's name); the input's name is :data:`nbconv.bench.graph.INPUT`.

    Raises:
        Unavailable: for a layer that is not written yet.
    """
    steps = graph_of(model).steps
    readers = Counter(name for step in steps for name in step.inputs)
    ops: dict[str, _Op] = {}  # by the name of the output
    alias: dict[str, str] = {}
    for step in steps:
        inputs = [alias.get(name, name) for name in step.inputs]
        before = ops.get(inputs[0])
        alone = readers[step.inputs[0]] == 1
        if alone and before is not None and _fused(before, step):
            alias[step.output] = inputs[0]
            continue
        write = _WRITERS.get(step.op)
        if write is None:
            raise Unavailable(f"{step.op} is not written for ncnn")
        kind, settings, weights = write(step)
        ops[step.output] = _Op(kind, inputs, step.output, settings, weights)
    output = alias.get(steps[-1].output, steps[-1].output)
    return _text(list(ops.values())), b"".join(map(_bytes, ops.values())), output


def _fused(before: _Op, step: Step) -> bool:
    """Make ``step`` a part of the layer before it, if it can be."""
    if before.kind not in ("Convolution", "ConvolutionDepthWise", "InnerProduct") or 9 in before.settings:
        return False
    if step.op == "ReLU":
        before.settings[9] = _RELU
        return True
    layer = step.layer
    if not isinstance(layer, layers.BatchNorm2d) or before.kind == "InnerProduct":
        return False
    assert layer.running_var is not None
    assert layer.running_mean is not None
    weight, bias = before.weights[0], before.weights[1:]
    factor = 1.0 / np.sqrt(layer.running_var.astype(np.float64) + layer.eps)
    shift = (bias[0] if bias else 0.0) - layer.running_mean.astype(np.float64)
    if layer.weight is not None and layer.bias is not None:
        factor = factor * layer.weight.data
        new_bias = shift * factor + layer.bias.data
    else:
        new_bias = shift * factor
    before.weights = [weight * factor.reshape(-1, 1, 1, 1), new_bias]
    before.settings[5] = 1
    return True


def _text(ops: list[_Op]) -> str:
    """Every blob has one reader, so what several layers read is split first."""
    lines: list[str] = []
    blobs = 0

    def line(kind: str, name: str, inputs: list[str], outputs: list[str], settings: Settings) -> None:
        nonlocal blobs
        blobs += len(outputs)
        values = [f"{key}={_value(value)}" for key, value in settings.items()]
        counts = [str(len(inputs)), str(len(outputs))]
        lines.append(" ".join([kind, name, *counts, *inputs, *outputs, *values]))

    readers = Counter(name for op in ops for name in op.inputs)
    copies: dict[str, list[str]] = {}

    def split(name: str) -> None:
        if readers[name] > 1:
            copies[name] = [f"{name}_{i}" for i in range(readers[name])]
            line("Split", f"split_{name}", [name], copies[name], {})
            copies[name] = copies[name][:]

    line("Input", INPUT, [], [INPUT], {})
    split(INPUT)
    for op in ops:
        inputs = [copies[name].pop(0) if name in copies else name for name in op.inputs]
        line(op.kind, op.output, inputs, [op.output], op.settings)
        split(op.output)
    return "\n".join([str(_MAGIC), f"{len(lines)} {blobs}", *lines]) + "\n"


def _value(value: Any) -> str:
    return f"{value:e}" if isinstance(value, float) else str(int(value))


def _bytes(op: _Op) -> bytes:
    if not op.weights:
        return b""
    parts = [np.ascontiguousarray(weights, "<f4").tobytes() for weights in op.weights]
    return _FLOAT32 + b"".join(parts)


def _conv(step: Step) -> tuple[str, Settings, list[Array]]:
    layer = step.layer
    assert isinstance(layer, layers.Conv2d)
    if layer.padding_mode != "zeros":
        raise Unavailable(f"padding_mode {layer.padding_mode!r} is not written for ncnn")
    (top, bottom), (left, right) = resolve_padding(
        layer.padding, layer.kernel_size, layer.stride, layer.dilation
    )
    settings: Settings = {0: layer.out_channels}
    pairs = {1: layer.kernel_size, 2: layer.dilation, 3: layer.stride}
    for key, (height, width) in pairs.items():
        settings |= {key: width, key + 10: height}
    settings |= {4: left, 14: top, 15: right, 16: bottom, 5: int(layer.bias is not None)}
    settings[6] = layer.weight.size
    kind = "Convolution"
    if layer.groups > 1:
        kind = "ConvolutionDepthWise"
        settings[7] = layer.groups
    return kind, settings, _weights(layer)


def _dense(step: Step) -> tuple[str, Settings, list[Array]]:
    layer = step.layer
    assert isinstance(layer, layers.Dense)
    settings = {0: layer.out_features, 1: int(layer.bias is not None), 2: layer.weight.size}
    return "InnerProduct", settings, _weights(layer)


def _weights(layer: layers.Conv2d | layers.Dense) -> list[Array]:
    return [np.asarray(p.data) for p in (layer.weight, layer.bias) if p is not None]


def _max_pool(step: Step) -> tuple[str, Settings, list[Array]]:
    layer = step.layer
    assert isinstance(layer, layers.MaxPool2d)
    if layer.dilation != (1, 1):
        raise Unavailable("dilated pooling is not written for ncnn")
    settings: Settings = {0: 0}
    for key, (height, width) in {1: layer.kernel_size, 2: layer.stride}.items():
        settings |= {key: width, key + 10: height}
    rows, columns = pair(layer.padding, "padding")
    settings |= {3: columns, 13: rows, 14: columns, 15: rows, 5: 0 if layer.ceil_mode else 1}
    return "Pooling", settings, []


def _local_response_norm(step: Step) -> tuple[str, Settings, list[Array]]:
    layer = step.layer
    assert isinstance(layer, layers.LocalResponseNorm)
    return "LRN", {0: 0, 1: layer.size, 2: layer.alpha, 3: layer.beta, 4: layer.k}, []


def _plain(
    kind: str, settings: Settings | None = None
) -> Callable[[Step], tuple[str, Settings, list[Array]]]:
    return lambda step: (kind, dict(settings or {}), [])


_WRITERS: dict[str, Callable[[Step], tuple[str, Settings, list[Array]]]] = {
    "Add": _plain("BinaryOp", {0: 0}),
    "Concat": _plain("Concat", {0: 0}),
    "Conv2d": _conv,
    "Dense": _dense,
    "Flatten": _plain("Flatten"),
    "GlobalAvgPool2d": _plain("Pooling", {0: 1, 4: 1}),
    "LocalResponseNorm": _local_response_norm,
    "MaxPool2d": _max_pool,
    "ReLU": _plain("ReLU"),
    "ReLU6": _plain("Clip", {0: 0.0, 1: 6.0}),
    "Sigmoid": _plain("Sigmoid"),
    "Tanh": _plain("TanH"),
}
