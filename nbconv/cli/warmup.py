"""Compile the kernels that models need, so that nothing waits for them later.

Each model makes a step of training and some predictions; the machine code is kept in the cache that
``nbconv info`` names.
"""

from __future__ import annotations

import argparse
import sys
import time
from typing import Any

from nbconv.terminal import console, say

_MODELS = ("lenet5", "vgg11_bn", "resnet18", "googlenet", "mobilenet_v1")
_BATCH = 2


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options to its parser."""
    from nbconv.models import registry

    parser.add_argument(
        "--model",
        choices=registry.names(),
        action="append",
        metavar="M",
        help=f"a model to prepare for, may be given several times ({', '.join(_MODELS)})",
    )


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Run each model once, telling how far it is, and return how much was compiled."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    from nbconv_kernels.cpu import cache

    names = options.model or list(_MODELS)
    before, start = _cached(), time.perf_counter()
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed} of {task.total}"))
    with Progress(*columns, TimeElapsedColumn(), console=console(sys.stderr)) as progress:
        task = progress.add_task("", total=3 * len(names))
        for name in names:
            for what, work in _work(name).items():
                progress.update(task, description=f"{name}: {what}")
                work()
                progress.advance(task)
        progress.update(task, description="done")
    seconds, compiled = time.perf_counter() - start, _cached() - before
    say(f"{compiled} kernels compiled and kept, in {seconds:.1f} s")
    if (state := cache.place().state()) != "in use":
        say(f"{state}: other processes will compile them again")
    return {"command": "warmup", "models": names, "kernels_compiled": compiled, "seconds": seconds}


def _work(name: str) -> dict[str, Any]:
    """What there is to be done for a model, in order: on images as small as it takes."""
    import numpy as np

    from nbconv.losses import CrossEntropyLoss
    from nbconv.models import registry
    from nbconv.optim import SGD

    small = name in registry.names(small=True)
    size = registry.SMALL_IMAGE if small else registry.image_size(name)
    model = registry.get(name, small=small)(seed=0)
    channels = 1 if name == "lenet5" else 3
    x = np.zeros((_BATCH, channels, size, size), np.float32)
    optimizer, loss = SGD(model.parameters(), lr=0.0, momentum=0.9), CrossEntropyLoss()
    pending: list[Any] = []

    def forward() -> None:
        y, backprop = model.forward(x, training=True, input_grad=False)
        pending.append((backprop, loss(y, np.zeros(_BATCH, np.int64))[1]))

    def backward() -> None:
        backprop, dy = pending.pop()
        backprop(dy)
        optimizer.step()

    def predict() -> None:
        for batch in (1, _BATCH, 8):
            model(np.zeros((batch, *x.shape[1:]), np.float32))

    return {"training, forward": forward, "training, backward": backward, "prediction": predict}


def _cached() -> int:
    """Kernels in the cache's directory for this state of the sources."""
    from nbconv_kernels.cpu import cache

    directory = cache.directory()
    return 0 if directory is None else sum(1 for _ in directory.glob("*.nbc"))
