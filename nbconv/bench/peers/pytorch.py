"""PyTorch: eager in both of its memory formats, and compiled."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from nbconv.bench.peers.base import LR, MOMENTUM, Step
from nbconv.bench.peers.torch_twin import twin
from nbconv.sequential import Sequential
from nbconv.typing import Array


def inference(
    model: Sequential, x: Array, threads: int, layout: str = "contiguous", compiled: bool = False
) -> Callable[[], Array]:
    """The output for ``x``, which lies in the memory format before the clock starts."""
    torch.set_num_threads(threads)
    module, images = _placed(model, x, layout)
    module.eval()
    if compiled:
        module = _compiled(module, freezing=True)
    # The faster of the two, which freezing does not know.
    without_gradients = torch.no_grad if compiled else torch.inference_mode

    def run() -> Array:
        with without_gradients():
            y: Array = module(images).numpy()
            return y

    run()
    return run


def training(
    model: Sequential,
    x: Array,
    targets: Array,
    threads: int,
    layout: str = "contiguous",
    compiled: bool = False,
) -> Step:
    """A training step, with the fused optimiser."""
    torch.set_num_threads(threads)
    module, images = _placed(model, x, layout)
    probed = copy.deepcopy(module)
    module.train()
    labels = torch.from_numpy(targets)
    optimizer = torch.optim.SGD(module.parameters(), lr=LR, momentum=MOMENTUM, fused=True)
    forward = _compiled(module, freezing=False) if compiled else module

    def run() -> None:
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(forward(images), labels).backward()
        optimizer.step()

    def probe() -> tuple[float, Array]:
        probed.train()
        for part in probed.modules():
            if isinstance(part, torch.nn.Dropout):
                part.p = 0.0
        loss = torch.nn.functional.cross_entropy(probed(images), labels)
        loss.backward()
        rows = [p.grad.numpy().ravel() for p in probed.parameters()]
        return loss.item(), np.concatenate(rows)

    if compiled:
        run()
    return Step(run, probe)


def _placed(model: Sequential, x: Array, layout: str) -> tuple[Any, Any]:
    kind = torch.channels_last if layout == "channels_last" else torch.contiguous_format
    return twin(model).to(memory_format=kind), torch.from_numpy(x).contiguous(memory_format=kind)


def _compiled(module: Any, freezing: bool) -> Any:
    import torch._inductor.config as inductor

    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)  # it misses the GPU's tools
    torch._dynamo.reset()
    # Folds batch normalisation into the weights, as the runtimes do; weights must not change afterwards.
    inductor.freezing = freezing
    return torch.compile(module)
