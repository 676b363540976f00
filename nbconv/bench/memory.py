"""Peak memory of training steps, nbconv's and PyTorch's, each in a process of its own.

What counts is how far the resident memory rises above what it was when the modules were imported and the
model was built: activations, gradients, optimiser state and workspaces.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from nbconv.bench import cases
from nbconv.bench.options import Options, Row

_STEPS = 3
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


def _child(peer: str, name: str, batch: int) -> float:
    import nbconv as nb
    from nbconv.bench import peers
    from nbconv.bench.peers import own

    (case,) = cases.select([name])
    model, x, targets = case.model(), case.images(batch), case.targets(batch)
    for parameter in model.parameters():
        assert parameter.data is not None  # drawn now, not in the first step
    if peer == "nbconv":
        step = own.training(model, x, targets)
    else:
        step = peers.training(peer, model, x, targets, nb.get_num_threads())
        del model
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
