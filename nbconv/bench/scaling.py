"""Whether cost grows as the work does: effective GFLOP/s at batches of 1 to 128, images of 56 to 448 pixels.

Effective means that the multiply-adds of the direct way are counted, whatever the algorithm makes of them; a
training step counts three times those of inference.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

import nbconv as nb
from nbconv.bench.cases import SEED, Case
from nbconv.bench.options import Options, Row
from nbconv.bench.peers import own
from nbconv.bench.timing import alternate

_BATCHES = (1, 8, 32, 128)
_PIXELS = (56, 112, 224, 448)
_FALL = 0.25  # of the rate, from one size to the next, that wants an explanation


def scaling(options: Options) -> Iterator[Row]:
    """A row for each size, with its rate and whether it falls off beside the smaller one's."""
    plans = {
        "vgg16_bn_32": [(batch, 32) for batch in _BATCHES],
        "resnet18": [(batch, 112) for batch in _BATCHES],
        "resnet50": [(batch, 224) for batch in (1, 8)],
    }
    pixels = {"resnet18": 4, "mobilenet_v1": 4, "resnet50": 1}  # at what batch
    for case in options.cases:
        lists = {"batch": plans.get(case.name, [])}
        lists["pixels"] = [(pixels[case.name], size) for size in _PIXELS] if case.name in pixels else []
        for along, sizes in lists.items():
            for training in (False, True):
                before = None
                for batch, size in sizes:
                    row = _row(case, along, batch, size, training, options)
                    row["falls"] = before is not None and row["gflops"] < (1 - _FALL) * before
                    before = row["gflops"]
                    yield row


def _row(case: Case, along: str, batch: int, size: int, training: bool, options: Options) -> Row:
    model = case.model()
    shape = (batch, case.shape[0], size, size)
    x = np.random.default_rng(SEED).standard_normal(shape, dtype=np.float32)
    run: Callable[[], object] = own.inference(model, x)
    if training:
        run = own.training(model, x, case.targets(batch)).run
    work = 2e-9 * model.macs(shape) * (3 if training else 1)
    time = alternate({"nbconv": run}, min(1.0, options.seconds), 3)["nbconv"]
    return {
        "name": f"{case.name}-{along}-{batch}-{size}-{'training' if training else 'inference'}",
        "title": case.title.rsplit(" ", 1)[0],
        "along": along,
        "what": "training" if training else "inference",
        "batch": batch,
        "pixels": size,
        "ms": time * 1e3,
        "gflops": work / time,
        "threads": nb.get_num_threads(),
    }
