"""For every kernel: what limits it, and what part of that limit it reaches.

Three times are compared with the one measured: that of its multiply-adds at the machine's peak, that of the
bytes it reads and writes at the speed of a copy as large, and that of a call with nothing to do. The longest
is the limit. Winograd's convolutions are held to the multiply-adds of the direct way, which they may beat.
"""

from __future__ import annotations

from collections.abc import Iterator

from nbconv.bench import limits
from nbconv.bench.kernels import KERNELS
from nbconv.bench.options import Options, Row
from nbconv.bench.timing import alternate


def roofline(options: Options) -> Iterator[Row]:
    """A row for each kernel."""
    for kernel in KERNELS:
        run = kernel.prepare()
        time = alternate({"": run.call}, min(0.2, options.seconds), 2)[""]
        least = {
            "FMA": run.operations / limits.peak(),
            "bandwidth": run.moved / limits.bandwidth(run.footprint),
            "overhead": limits.overhead(),
        }
        limit = max(least, key=lambda name: least[name])
        yield {
            "name": kernel.name,
            "ms": time * 1e3,
            "gflops": 1e-9 * run.operations / time,
            "gbytes": 1e-9 * run.moved / time,
            "limit": limit,
            "reached": least[limit] / time,
        }
