"""Other engines that run the same networks; each is imported when it is asked for.

A peer is a module of this folder with ``inference(model, x, threads, **options)`` and, where it can train,
``training(model, x, targets, threads, **options)``; both return a function without arguments.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

from nbconv.bench.peers.base import Step, Unavailable
from nbconv.sequential import Sequential
from nbconv.typing import Array

_T = TypeVar("_T")

__all__ = ["PEERS", "Peer", "Step", "Unavailable", "inference", "training"]


class Peer(NamedTuple):
    """Where a peer's functions are, and with what options; ``package`` is what must be installed."""

    module: str
    package: str
    trains: bool = False
    options: tuple[tuple[str, Any], ...] = ()


PEERS = {
    "pytorch": Peer("pytorch", "torch", True),
    "channels_last": Peer("pytorch", "torch", True, (("layout", "channels_last"),)),
    "compile": Peer("pytorch", "torch", True, (("layout", "channels_last"), ("compiled", True))),
    "onnxruntime": Peer("ort", "onnxruntime"),
    "openvino": Peer("ov", "openvino"),
    "ncnn": Peer("tencent_ncnn", "ncnn"),
}


def inference(name: str, model: Sequential, x: Array, threads: int) -> Callable[[], Array]:
    """A function that gives the peer's output for ``x`` with the model's weights, as a NumPy array.

    Raises:
        Unavailable: saying why the peer cannot.
    """
    peer = PEERS[name]
    call: Callable[..., Callable[[], Array]] = _module(peer).inference
    return _guarded(call, model, x, threads, **dict(peer.options))


def training(name: str, model: Sequential, x: Array, targets: Array, threads: int) -> Step:
    """The peer's training step on this batch, from the model's weights on.

    Raises:
        Unavailable: saying why the peer cannot.
    """
    peer = PEERS[name]
    if not peer.trains:
        raise Unavailable("it does not train")
    call: Callable[..., Step] = _module(peer).training
    return _guarded(call, model, x, targets, threads, **dict(peer.options))


def _module(peer: Peer) -> Any:
    try:
        importlib.import_module(peer.package)
        return importlib.import_module(f"nbconv.bench.peers.{peer.module}")
    except ImportError as error:
        missing = error.name or peer.package
        raise Unavailable(f"{missing} is not installed") from None


def _guarded(call: Callable[..., _T], *arguments: Any, **options: Any) -> _T:
    """Turn whatever a peer raises into one line, so that the others still race."""
    try:
        return call(*arguments, **options)
    except Unavailable:
        raise
    except Exception as error:
        lines = str(error).strip().splitlines()
        raise Unavailable(f"{type(error).__name__}: {lines[0] if lines else ''}") from error
