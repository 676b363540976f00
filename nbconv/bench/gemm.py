"""The matrix product beside other libraries' and beside the machine's peak, measured in the same race."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib.util import find_spec

import numpy as np

from nbconv.bench import limits
from nbconv.bench.networks import relative_l2
from nbconv.bench.options import Options, Row
from nbconv.bench.timing import alternate
from nbconv.typing import Array
from nbconv_kernels import cpu

_SIZES = (256, 512, 1024, 2048)
_TARGETS = {1024: 0.95}  # of the peak


def gemm(options: Options) -> Iterator[Row]:
    """A row for each size: GFLOP/s of everyone, and nbconv's share of the peak."""
    for size in _SIZES:
        rng = np.random.default_rng(0)
        a, b = rng.standard_normal((2, size, size), dtype=np.float32)
        peak, operations = limits.fma_run()
        times = alternate({"peak": peak, **_products(a, b, options)}, options.seconds)
        rates = {name: 2e-9 * size**3 / time for name, time in times.items()}
        rates["peak"] = 1e-9 * operations / times["peak"]
        yield {
            "name": f"{size}",
            "size": size,
            "gflops": rates,
            "share_of_peak": rates["nbconv"] / rates["peak"],
            "target": _TARGETS.get(size),
            "error": relative_l2(cpu.matmul(a, b), a.astype(np.float64) @ b),
        }


def _products(a: Array, b: Array, options: Options) -> dict[str, Callable[[], object]]:
    runs: dict[str, Callable[[], object]] = {"nbconv": lambda: cpu.matmul(a, b), "numpy": lambda: a @ b}
    if "pytorch" in options.peers and find_spec("torch") is not None:
        import torch

        torch.set_num_threads(options.threads)
        tensors = torch.from_numpy(a), torch.from_numpy(b)
        runs["pytorch"] = lambda: tensors[0] @ tensors[1]
    return runs
