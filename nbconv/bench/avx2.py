"""nbconv held to AVX2 beside OpenBLAS and oneDNN held to it as well, in a process of their own."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np

from nbconv.bench import child
from nbconv.bench.options import Options, Row

_TARGET = 0.85
_LIMITS = {
    "NBCONV_SIMD": "avx2",
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    "OPENBLAS_CORETYPE": "HASWELL",
    "MKL_ENABLE_INSTRUCTIONS": "AVX2",
}
_SIZES = (512, 1024)
# N, C, H, W, K, R, stride, pad
_CONVOLUTIONS = (
    (4, 3, 224, 224, 64, 7, 2, 3),
    (4, 64, 56, 56, 256, 1, 1, 0),
    (4, 256, 56, 56, 64, 1, 1, 0),
    (4, 128, 28, 28, 128, 3, 2, 1),
    (4, 64, 56, 56, 64, 3, 1, 1),
    (4, 256, 14, 14, 256, 3, 1, 1),
)


def avx2(options: Options) -> Iterator[Row]:
    """A row for each product and convolution: the peer's time over nbconv's."""
    settings = {"threads": options.threads, "seconds": min(options.seconds, 1.0), "peers": options.peers}
    threads = str(options.threads)
    environment = {**_LIMITS, "NUMBA_NUM_THREADS": threads, "OPENBLAS_NUM_THREADS": threads}
    yield from child.measure("avx2", settings, environment)


def _measure(threads: int, seconds: float, peers: list[str]) -> list[Row]:
    return [*_products(seconds), *_convolutions(threads, seconds, peers)]


def _products(seconds: float) -> Iterator[Row]:
    from nbconv_kernels import cpu

    for size in _SIZES:
        a, b = np.random.default_rng(0).standard_normal((2, size, size), dtype=np.float32)
        runs: dict[str, Callable[[], object]] = {
            "nbconv": partial(cpu.matmul, a, b),
            "openblas": partial(np.matmul, a, b),
        }
        yield _row(f"product {size}", 2.0 * size**3, runs, seconds)


def _convolutions(threads: int, seconds: float, peers: list[str]) -> Iterator[Row]:
    """Each both ways, with nbconv's transforms and without: oneDNN has none."""
    import nbconv as nb
    from nbconv_kernels import cpu

    try:
        import torch
    except ImportError:
        return
    if "pytorch" not in peers:
        return
    torch.set_num_threads(threads)
    for shape in _CONVOLUTIONS:
        n, c, h, w, k, r, stride, pad = shape
        rng = np.random.default_rng(0)
        x = cpu.channels_last(rng.standard_normal((n, c, h, w), dtype=np.float32))
        weight = rng.standard_normal((k, c, r, r), dtype=np.float32)
        y = cpu.conv2d(x, weight, None, stride, pad)
        images, filters = (torch.from_numpy(np.ascontiguousarray(array)) for array in (x, weight))

        runs: dict[str, Callable[[], object]] = {
            name: _theirs(torch, kind, images, filters, stride, pad)
            for name, kind in (
                ("onednn", torch.contiguous_format),
                ("onednn channels last", torch.channels_last),
            )
        }
        for level in ("highest", "high") if r == 3 and stride == 1 else ("highest",):
            nb.set_precision(level)
            runs["nbconv"] = partial(cpu.conv2d, x, weight, None, stride, pad)
            name = f"conv2d {n}x{c}x{h}x{w} {k}x{r}x{r}/{stride}, {level}"
            yield _row(name, 2.0 * y.size * c * r * r, runs, seconds)


def _theirs(torch: Any, layout: Any, x: Any, weight: Any, stride: int, pad: int) -> Callable[[], object]:
    x, weight = x.contiguous(memory_format=layout), weight.contiguous(memory_format=layout)

    def run() -> object:
        with torch.inference_mode():
            return torch.nn.functional.conv2d(x, weight, None, stride, pad)

    return run


def _row(name: str, operations: float, runs: dict[str, Callable[[], object]], seconds: float) -> Row:
    from nbconv.bench.timing import alternate

    times = alternate(runs, seconds)
    best = min(value for key, value in times.items() if key != "nbconv")
    return {
        "name": name,
        "gflops": {key: 1e-9 * operations / value for key, value in times.items()},
        "ratio": best / times["nbconv"],
        "target": _TARGET,
    }


if __name__ == "__main__":
    print(json.dumps(_measure(**json.loads(sys.argv[1]))))
