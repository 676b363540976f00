"""Every kernel, tracked from version to version."""

import pytest

from nbconv.bench import kernels


@pytest.mark.parametrize("kernel", kernels.KERNELS, ids=lambda kernel: kernel.name)
def test_kernel(benchmark, kernel):
    benchmark.group = kernel.op
    run = kernel.prepare()
    benchmark.extra_info["operations"], benchmark.extra_info["bytes"] = run.operations, run.moved
    benchmark.pedantic(run.call, rounds=7, iterations=1, warmup_rounds=2)


def test_no_kernel_is_left_out():
    assert not kernels.missing()
