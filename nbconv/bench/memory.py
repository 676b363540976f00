"""Peak memory of training steps, nbconv's and PyTorch's, each in a process of its own.

What counts is how far the resident memory rises above what it was when the model was built: activations,
gradients, optimiser state and workspaces. Code counts no more than imports do: a step of two examples, on a
model that is dropped again, has loaded it before.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import nbconv as nb
from nbconv.bench import cases, peers
from nbconv.bench.options import Options, Row
from nbconv.bench.peers import Step, own
from nbconv_kernels.cpu.memory import _pool as pool

_STEPS = 3
_LOADING = 2  # examples of the step that loads the code
_TIMEOUT = 600  # seconds
_PEERS = ("nbconv", "pytorch", "channels_last")


def memory(options: Options) -> Iterator[Row]:
    """A row for each training step, in MiB."""
    torch = importlib.util.find_spec("torch") is not None
    for case in options.cases:
        for batch in case.training:
            peaks = {}
            for peer in _PEERS:
                if peer == "nbconv" or (torch and peer in options.peers):
                    if peer == "nbconv":
                        _measure(peer, case.name, batch, options.threads)  # compiles what is not compiled yet
                    peaks[peer] = _measure(peer, case.name, batch, options.threads)
            row: Row = {"name": f"{case.name}-{batch}", "title": case.title, "batch": batch, "mib": peaks}
            others = [value for peer, value in peaks.items() if peer != "nbconv"]
            if others:
                row |= {"ratio": min(others) / peaks["nbconv"], "target": 1.0}
            yield row


def _measure(peer: str, name: str, batch: int, threads: int) -> float:
    command = [sys.executable, "-m", "nbconv.bench.memory", peer, name, str(batch)]
    environment = {**os.environ, "NUMBA_NUM_THREADS": str(threads), "OMP_NUM_THREADS": str(threads)}
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=_TIMEOUT, env=environment, check=False
    )
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1:]
        raise RuntimeError(f"the training step of {peer} failed: {' '.join(last)}")
    return float(json.loads(done.stdout.splitlines()[-1]))


def _status(key: str) -> float:
    """A figure of this process's memory, in MiB."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(key + ":"):
            return int(line.split()[1]) / 1024
    raise OSError(f"the system does not tell {key}")


def _step(peer: str, case: cases.Case, batch: int) -> Step:
    model, x, targets = case.model(), case.images(batch), case.targets(batch)
    for parameter in model.parameters():
        assert parameter.data is not None  # drawn now, not in the first step
    if peer == "nbconv":
        return own.training(model, x, targets)
    return peers.training(peer, model, x, targets, nb.get_num_threads())


def _give_back() -> None:
    """Let the system have all memory that is not in use."""
    gc.collect()
    pool.clear()
    ctypes.CDLL(None).malloc_trim(0)


def _child(peer: str, name: str, batch: int) -> float:
    (case,) = cases.select([name])
    _step(peer, case, _LOADING).run()
    _give_back()
    step = _step(peer, case, batch)
    _give_back()
    base = _status("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the high-water mark starts anew
    for _ in range(_STEPS):
        step.run()
    return _status("VmHWM") - base


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("peer")
    parser.add_argument("name")
    parser.add_argument("batch", type=int)
    print(json.dumps(_child(**vars(parser.parse_args()))))
