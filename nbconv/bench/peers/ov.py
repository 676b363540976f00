"""OpenVINO, on the CPU in float32: by default it computes in bfloat16 where the CPU can."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import openvino

from nbconv.bench.peers.onnx_file import export
from nbconv.sequential import Sequential
from nbconv.typing import Array


def inference(model: Sequential, x: Array, threads: int) -> Callable[[], Array]:
    """The output for ``x``."""
    core = openvino.Core()
    graph = core.read_model(export(model, x.shape).SerializeToString())
    settings = {
        "INFERENCE_NUM_THREADS": threads,
        "INFERENCE_PRECISION_HINT": "f32",
        "NUM_STREAMS": 1,
        "PERFORMANCE_HINT": "LATENCY",
    }
    request = core.compile_model(graph, "CPU", settings).create_infer_request()
    tensor = openvino.Tensor(x, shared_memory=True)

    def run() -> Array:
        request.infer([tensor])
        return np.array(request.get_output_tensor(0).data)

    run()
    return run
