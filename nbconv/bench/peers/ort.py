"""onnxruntime, on its CPU provider with all graph optimisations."""

from __future__ import annotations

from collections.abc import Callable

import onnxruntime as ort

from nbconv.bench.graph import INPUT
from nbconv.bench.peers.onnx_file import export
from nbconv.sequential import Sequential
from nbconv.typing import Array


def inference(model: Sequential, x: Array, threads: int) -> Callable[[], Array]:
    """The output for ``x``."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    file = export(model, x.shape).SerializeToString()
    session = ort.InferenceSession(file, options, providers=["CPUExecutionProvider"])

    def run() -> Array:
        y: Array = session.run(None, {INPUT: x})[0]
        return y

    run()
    return run
