"""Whole networks: inference and training steps, nbconv and its peers in turn.

Before a race the results are compared, and who disagrees with nbconv does not start.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from statistics import median

import numpy as np

import nbconv as nb
from nbconv.bench import peers
from nbconv.bench.cases import Case
from nbconv.bench.options import Options, Row
from nbconv.bench.peers import own
from nbconv.bench.timing import race
from nbconv.typing import Array

_LEAST = 5  # rounds
_OUTPUT_TOLERANCE = 1e-3  # of the largest output
_LOSS_TOLERANCE = 1e-4  # relative
# Relative L2 of all gradients together. Batch statistics amplify rounding from layer to layer: of MobileNet,
# PyTorch's own two memory formats differ by 1e-2. Another step would differ by about 1.
_GRADIENT_TOLERANCE = 1e-1


def inference(options: Options) -> Iterator[Row]:
    """One row for each network and batch, as they are measured."""
    for case in options.cases:
        for batch, target in case.inference.items():
            yield _race(case, batch, target, options, _inference_contestants(case, batch, options))


def training(options: Options) -> Iterator[Row]:
    """The same for a training step: forward, cross entropy, backward, SGD with momentum."""
    for case in options.cases:
        for batch, target in case.training.items():
            yield _race(case, batch, target, options, _training_contestants(case, batch, options))


_Contestants = tuple[dict[str, Callable[[], object]], dict[str, float], dict[str, str]]
"""What to call, how far each peer's result was from ours, and why others stay away."""


def _inference_contestants(case: Case, batch: int, options: Options) -> _Contestants:
    model, x = case.model(), case.images(batch)
    run = own.inference(model, x)
    expected = run()
    runs: dict[str, Callable[[], object]] = {"nbconv": run}
    errors: dict[str, float] = {}
    absent: dict[str, str] = {}
    for name in options.peers:
        try:
            peer = peers.inference(name, model, x, options.threads)
            errors[name] = float(np.abs(peer() - expected).max() / np.abs(expected).max())
            _agree(errors[name], _OUTPUT_TOLERANCE)
            runs[name] = peer
        except peers.Unavailable as reason:
            absent[name] = str(reason)
    return runs, errors, absent


def _training_contestants(case: Case, batch: int, options: Options) -> _Contestants:
    model, x, targets = case.model(), case.images(batch), case.targets(batch)
    step = own.training(model, x, targets)
    with _without_dropout(model):
        loss, expected = step.probe()
    runs: dict[str, Callable[[], object]] = {"nbconv": step.run}
    errors: dict[str, float] = {}
    absent: dict[str, str] = {}
    for name in (name for name in options.peers if peers.PEERS[name].trains):
        try:
            peer = peers.training(name, model, x, targets, options.threads)
            peer_loss, gradient = peer.probe()
            _agree(abs(peer_loss - loss) / abs(loss), _LOSS_TOLERANCE)
            errors[name] = relative_l2(gradient, expected)
            _agree(errors[name], _GRADIENT_TOLERANCE)
            runs[name] = peer.run
        except peers.Unavailable as reason:
            absent[name] = str(reason)
    return runs, errors, absent


def relative_l2(a: Array, b: Array) -> float:
    """The length of ``a - b`` in lengths of ``b``."""
    b = b.astype(np.float64)
    return float(np.linalg.norm(a - b) / np.linalg.norm(b))


def _agree(error: float, tolerance: float) -> None:
    if not error <= tolerance:  # NaN disagrees as well
        raise peers.Unavailable(f"its result differs from nbconv's by {error:.1e}, more than {tolerance:.0e}")


def _race(case: Case, batch: int, target: float | None, options: Options, contestants: _Contestants) -> Row:
    runs, errors, absent = contestants
    times = race(runs, options.seconds, _LEAST)
    medians = {name: median(values) * 1e3 for name, values in times.items()}
    row: Row = {
        "name": f"{case.name}-{batch}",
        "title": case.title,
        "batch": batch,
        "ms": medians,
        "least_ms": {name: min(values) * 1e3 for name, values in times.items()},
        "errors": errors,
        "absent": absent,
        "target": target,
    }
    others = {name: value for name, value in medians.items() if name != "nbconv"}
    if others:
        row["best_peer"] = min(others, key=lambda name: others[name])
        row["ratio"] = others[row["best_peer"]] / medians["nbconv"]
    del runs
    gc.collect()
    return row


@contextmanager
def _without_dropout(model: nb.Sequential) -> Iterator[None]:
    """Let training drop nothing, so that gradients can be compared."""
    layers = [layer for _, layer in model.named_layers() if isinstance(layer, nb.Dropout)]
    before = [layer.p for layer in layers]
    for layer in layers:
        layer.p = 0.0
    try:
        yield
    finally:
        for layer, p in zip(layers, before, strict=True):
            layer.p = p
