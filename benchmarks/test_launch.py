"""What the host pays to start a CUDA kernel, beside Numba's own launch of a kernel with the same parameters.

No GPU is needed: both talk to a driver that does nothing, so what a real one takes comes on top of both.
"""

import json
import statistics
import subprocess
import sys
import timeit
import warnings
from pathlib import Path

import pytest

_TESTS = Path(__file__).parent.parent / "tests"
_CALLS = 2000


def test_launch(benchmark, tmp_path, monkeypatch):
    pytest.importorskip("numba_cuda")
    monkeypatch.syspath_prepend(_TESTS)
    import stub_driver

    environment = stub_driver.build(tmp_path)
    if environment is None:
        pytest.skip("needs a C compiler")
    command = [sys.executable, __file__]
    benchmark.group = "launch"
    benchmark.pedantic(
        lambda: benchmark.extra_info.update(json.loads(subprocess.check_output(command, env=environment))),
        rounds=1,
    )
    for case in [key for key in benchmark.extra_info if key.endswith("numbers")]:
        times = benchmark.extra_info[case]
        print(f"{case}: nbconv {times['nbconv_us']:.1f} us, Numba {times['numba_us']:.1f} us")


def _measure():
    """Print the medians, in a process whose driver is the one that does nothing."""
    import stub_driver

    stub_driver.install()
    from numba import cuda

    from nbconv_kernels.cuda.build import Kernel
    from nbconv_kernels.cuda.target import f32s, u32

    def few(x, y, z, n):
        z[n] = x[n] + y[n]

    def many(x, y, z, a, b, c, d, e, f, n):
        z[n] = x[n] + y[n]

    arrays = [stub_driver.Array(4096 * i) for i in (1, 2, 3)]
    found = {}
    for function, numbers in ((few, [7]), (many, list(range(7)))):
        names = function.__code__.co_varnames
        numbas = cuda.jit(function)
        found[f"3 arrays, {len(numbers)} numbers"] = {"numba_us": _median(numbas[160, 256], arrays, numbers)}
        function.__annotations__ = {name: f32s if name in "xyz" else u32 for name in names}
        ours = Kernel(function, block=256)
        found[f"3 arrays, {len(numbers)} numbers"]["nbconv_us"] = _median(
            lambda *arguments, kernel=ours: kernel[160](*arguments), arrays, numbers
        )
    print(json.dumps(found))


def _median(launch, arrays, numbers):
    launch(*arrays, *numbers)
    times = timeit.repeat(lambda: launch(*arrays, *numbers), number=_CALLS, repeat=9)
    return statistics.median(times) / _CALLS * 1e6


if __name__ == "__main__":
    warnings.simplefilter("ignore")  # Numba's, of grids too small for a GPU that is not there
    _measure()
