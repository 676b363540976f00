"""How long a model takes, layer by layer."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, NamedTuple

from nbconv.typing import Array

if TYPE_CHECKING:
    from nbconv.sequential import Sequential

_REPEATS = 5


class LayerTime(NamedTuple):
    """Seconds that one layer takes for a batch, in evaluation mode."""

    position: str
    layer: str
    seconds: float


def layer_times(model: Sequential, x: Array) -> list[LayerTime]:
    """The least of some repeats for each layer, run alone: what a fused model saves does not show.

    Args:
        model: any.
        x: one batch.
    """
    times = []
    y = model.prepare(x)
    for position, layer in enumerate(model):
        output = layer.infer(y)
        best = float("inf")
        for _ in range(_REPEATS):
            begin = time.perf_counter()
            layer.infer(y)
            best = min(best, time.perf_counter() - begin)
        times.append(LayerTime(str(position), type(layer).__name__, best))
        y = output
    return times


def images_per_second(model: Sequential, x: Array, batch_size: int) -> float:
    """Of prediction, the fastest of some passes over ``x``."""
    model.predict(x[:batch_size], batch_size)
    best = float("inf")
    for _ in range(_REPEATS):
        begin = time.perf_counter()
        model.predict(x, batch_size)
        best = min(best, time.perf_counter() - begin)
    return len(x) / best
