"""Peak memory of training steps, nbconv's and PyTorch's, each in a process of its own.

What counts is how far the resident memory rises above what it was when the model was built: activations,
gradients, optimiser state and workspaces. Code counts no more than imports do: a step of two examples, on a
model that is dropped again, has loaded it before.
"""

from __future__ import annotations

import ctypes
import gc
import importlib.util
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import nbconv as nb
from nbconv.bench import cases, child, peers
from nbconv.bench.options import Options, Row
from nbconv.bench.peers import Step, own
from nbconv_kernels.cpu.memory import _pool as pool

_STEPS = 3
_LOADING = 2  # examples of the step that loads the code
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
                        _peak(peer, case, batch, options.threads)  # compiles what is not compiled yet
                    peaks[peer] = _peak(peer, case, batch, options.threads)
            row: Row = {"name": f"{case.name}-{batch}", "title": case.title, "batch": batch, "mib": peaks}
            others = [value for peer, value in peaks.items() if peer != "nbconv"]
            if others:
                row |= {"ratio": min(others) / peaks["nbconv"], "target": 1.0}
            yield row


def _peak(peer: str, case: cases.Case, batch: int, threads: int) -> float:
    environment = {"NUMBA_NUM_THREADS": str(threads), "OMP_NUM_THREADS": str(threads)}
    arguments = {"peer": peer, "name": case.name, "batch": batch}
    return float(child.measure("memory", arguments, environment))


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


def _measure(peer: str, name: str, batch: int) -> float:
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
    print(json.dumps(_measure(**json.loads(sys.argv[1]))))
