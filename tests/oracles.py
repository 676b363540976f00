"""Oracles that are not us: finite differences, and single ops of the ONNX reference evaluator."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator


def finite_differences(
    f: Callable[..., np.ndarray], args: list[np.ndarray], which: int, dy: np.ndarray, step=1e-6
):
    """The gradient of sum(f(*args) * dy) with respect to args[which], by central differences in float64."""
    args = [np.array(arg, np.float64) for arg in args]
    x = args[which]
    gradient = np.zeros_like(x)
    for place in np.ndindex(x.shape):
        kept = x[place]
        x[place] = kept + step
        above = np.sum(f(*args) * dy)
        x[place] = kept - step
        below = np.sum(f(*args) * dy)
        x[place] = kept
        gradient[place] = (above - below) / (2 * step)
    return gradient


def distinct(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    """Distinct float64 numbers in random order, 0.1 apart: no ties for a maximum, no zeros for a ReLU."""
    count = int(np.prod(shape))
    return (np.random.default_rng(seed).permutation(count) - count // 2 + 0.3).reshape(shape) * 0.1


def onnx_op(
    op: str, *inputs: np.ndarray, outputs: int = 1, opset: int = 22, **attributes: Any
) -> list[np.ndarray]:
    """The outputs of one ONNX operator, computed by the ONNX reference evaluator."""
    names = [f"in{i}" for i in range(len(inputs))]
    results = [f"out{i}" for i in range(outputs)]
    graph = helper.make_graph(
        [helper.make_node(op, names, results, **attributes)],
        op,
        [
            helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(x.dtype), x.shape)
            for name, x in zip(names, inputs, strict=True)
        ],
        [helper.make_tensor_value_info(name, TensorProto.UNDEFINED, None) for name in results],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
    return ReferenceEvaluator(model).run(None, dict(zip(names, inputs, strict=True)))


def onnx_pads(padding: Any) -> list[int]:
    """((top, bottom), (left, right)) in ONNX's order: [top, left, bottom, right]."""
    (top, bottom), (left, right) = padding
    return [top, left, bottom, right]
