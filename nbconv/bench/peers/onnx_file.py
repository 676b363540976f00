"""An ONNX file of a model of ours, for the runtimes that read one.

Source: the ONNX operator specification, opset 17.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from onnx import ModelProto, TensorProto, checker, helper, numpy_helper

from nbconv import layers
from nbconv.bench.graph import INPUT, Step, graph_of
from nbconv.bench.peers.base import Unavailable
from nbconv.sequential import Sequential
from nbconv.typing import Array, Pair, Shape
from nbconv_kernels.geometry import pair, resolve_padding

OPSET = 17
_IR_VERSION = 8


def export(model: Sequential, input_shape: Shape) -> ModelProto:
    """The model in evaluation mode as ONNX, for inputs of this shape, batch included.

    Raises:
        Unavailable: for a layer that is not written yet.
    """
    file = _File()
    graph = graph_of(model)
    for step in graph.steps:
        write = _WRITERS.get(step.op)
        if write is None:
            raise Unavailable(f"{step.op} is not written as ONNX")
        write(file, step)
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        for name, shape in ((INPUT, input_shape), (graph.output, model.output_shape(input_shape)))
    ]
    body = helper.make_graph(file.nodes, "nbconv", ends[:1], ends[1:], file.tensors)
    proto = helper.make_model(
        body, opset_imports=[helper.make_opsetid("", OPSET)], producer_name="nbconv", ir_version=_IR_VERSION
    )
    checker.check_model(proto)
    return proto


class _File:
    """The nodes and tensors written so far."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.tensors: list[Any] = []

    def tensor(self, name: str, value: Array | None) -> str:
        """The name of a constant; "" stands for none."""
        if value is None:
            return ""
        self.tensors.append(numpy_helper.from_array(np.ascontiguousarray(value, np.float32), name))
        return name

    def node(self, op: str, inputs: list[str], output: str, **attributes: Any) -> None:
        while inputs and not inputs[-1]:
            inputs = inputs[:-1]
        self.nodes.append(helper.make_node(op, inputs, [output], name=output, **attributes))


def _data(parameter: Any) -> Array | None:
    return None if parameter is None else np.asarray(parameter.data)


def _conv(file: _File, step: Step) -> None:
    layer = step.layer
    assert isinstance(layer, layers.Conv2d)
    if layer.padding_mode != "zeros":
        raise Unavailable(f"padding_mode {layer.padding_mode!r} is not written as ONNX")
    (top, bottom), (left, right) = resolve_padding(
        layer.padding, layer.kernel_size, layer.stride, layer.dilation
    )
    file.node(
        "Conv",
        [
            *step.inputs,
            file.tensor(f"{step.output}.weight", _data(layer.weight)),
            file.tensor(f"{step.output}.bias", _data(layer.bias)),
        ],
        step.output,
        kernel_shape=layer.kernel_size,
        strides=layer.stride,
        dilations=layer.dilation,
        group=layer.groups,
        pads=[top, left, bottom, right],
    )


def _dense(file: _File, step: Step) -> None:
    layer = step.layer
    assert isinstance(layer, layers.Dense)
    weight = file.tensor(f"{step.output}.weight", _data(layer.weight))
    bias = file.tensor(f"{step.output}.bias", _data(layer.bias))
    file.node("Gemm", [*step.inputs, weight, bias], step.output, transB=1)


def _batch_norm(file: _File, step: Step) -> None:
    layer = step.layer
    assert isinstance(layer, layers.BatchNorm2d)
    count = layer.num_features
    scale = _data(layer.weight) if layer.affine else np.ones(count)
    shift = _data(layer.bias) if layer.affine else np.zeros(count)
    values = {"scale": scale, "shift": shift, "mean": layer.running_mean, "var": layer.running_var}
    tensors = [file.tensor(f"{step.output}.{name}", value) for name, value in values.items()]
    file.node("BatchNormalization", [*step.inputs, *tensors], step.output, epsilon=layer.eps)


def _sides(padding: int | Pair) -> list[int]:
    return [*pair(padding, "padding"), *pair(padding, "padding")]


def _max_pool(file: _File, step: Step) -> None:
    layer = step.layer
    assert isinstance(layer, layers.MaxPool2d)
    file.node(
        "MaxPool",
        [*step.inputs],
        step.output,
        kernel_shape=layer.kernel_size,
        strides=layer.stride,
        dilations=layer.dilation,
        pads=_sides(layer.padding),
        ceil_mode=int(layer.ceil_mode),
    )


def _avg_pool(file: _File, step: Step) -> None:
    layer = step.layer
    assert isinstance(layer, layers.AvgPool2d)
    if layer.divisor_override is not None:
        raise Unavailable("divisor_override is not written as ONNX")
    file.node(
        "AveragePool",
        [*step.inputs],
        step.output,
        kernel_shape=layer.kernel_size,
        strides=layer.stride,
        pads=_sides(layer.padding),
        ceil_mode=int(layer.ceil_mode),
        count_include_pad=int(layer.count_include_pad),
    )


def _global_pool(file: _File, step: Step) -> None:
    layer = step.layer
    assert isinstance(layer, layers.GlobalAvgPool2d)
    if layer.keepdims:
        file.node("GlobalAveragePool", [*step.inputs], step.output)
        return
    file.node("GlobalAveragePool", [*step.inputs], f"{step.output}.mean")
    file.node("Flatten", [f"{step.output}.mean"], step.output)


def _local_response_norm(file: _File, step: Step) -> None:
    layer = step.layer
    assert isinstance(layer, layers.LocalResponseNorm)
    settings = {"size": layer.size, "alpha": layer.alpha, "beta": layer.beta, "bias": layer.k}
    file.node("LRN", [*step.inputs], step.output, **settings)


def _relu6(file: _File, step: Step) -> None:
    bounds = [file.tensor(f"{step.output}.{name}", np.array(v)) for name, v in (("min", 0.0), ("max", 6.0))]
    file.node("Clip", [*step.inputs, *bounds], step.output)


def _plain(op: str, **attributes: Any) -> Callable[[_File, Step], None]:
    def write(file: _File, step: Step) -> None:
        file.node(op, [*step.inputs], step.output, **attributes)

    return write


_WRITERS: dict[str, Callable[[_File, Step], None]] = {
    "Add": _plain("Add"),
    "AvgPool2d": _avg_pool,
    "BatchNorm2d": _batch_norm,
    "Concat": _plain("Concat", axis=1),
    "Conv2d": _conv,
    "Dense": _dense,
    "Flatten": _plain("Flatten"),
    "GlobalAvgPool2d": _global_pool,
    "LocalResponseNorm": _local_response_norm,
    "MaxPool2d": _max_pool,
    "ReLU": _plain("Relu"),
    "ReLU6": _relu6,
    "Sigmoid": _plain("Sigmoid"),
    "Tanh": _plain("Tanh"),
}
