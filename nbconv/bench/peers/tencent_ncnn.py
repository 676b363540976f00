"""ncnn in float32. It knows no batches: their images run one after another, each on all threads."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import ncnn
import numpy as np

from nbconv.bench.graph import INPUT
from nbconv.bench.peers.ncnn_file import export
from nbconv.sequential import Sequential
from nbconv.typing import Array


def inference(model: Sequential, x: Array, threads: int) -> Callable[[], Array]:
    """The output for ``x``."""
    net = _load(model, threads)
    output = net.output_names()[0]
    images = [ncnn.Mat(np.ascontiguousarray(image)).clone() for image in x]

    def run() -> Array:
        rows = []
        for image in images:
            extractor = net.create_extractor()
            extractor.input(INPUT, image)
            rows.append(np.array(extractor.extract(output)[1]).reshape(-1))
        return np.stack(rows)

    run()
    return run


def _load(model: Sequential, threads: int) -> ncnn.Net:
    text, weights, _ = export(model)
    net = ncnn.Net()
    net.opt.num_threads = threads
    net.opt.use_vulkan_compute = False
    for name in dir(net.opt):
        # float32 throughout: no half precision, whatever the CPU offers.
        if name.startswith(("use_fp16", "use_bf16")):
            setattr(net.opt, name, False)
    with tempfile.TemporaryDirectory() as folder:
        files = Path(folder, "model.param"), Path(folder, "model.bin")
        files[0].write_text(text)
        files[1].write_bytes(weights)
        for load, path in zip((net.load_param, net.load_model), files, strict=True):
            if load(str(path)):
                raise ValueError("ncnn cannot read the model")
    return net
