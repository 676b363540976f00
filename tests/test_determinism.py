"""The same call gives the same bits twice, at any number of threads, whatever its memory held before."""

import threading
import zlib

import numba
import numpy as np
import pytest
from parity_cases import CASES, Rng
from test_parity import arrays_of, converted, run, to_dtype

from nbconv_kernels import cpu
from nbconv_kernels.cpu import jit, memory, tasks

UNCHANGED = ("asarray", "to_numpy", "channels_last")  # these give back their argument
OPS = sorted(set(CASES) - set(UNCHANGED))


@pytest.fixture(params=[1, 2])
def threads(request, monkeypatch):
    """Run on so many threads, and split small arrays too."""
    if request.param > numba.config.NUMBA_NUM_THREADS:
        pytest.skip("Numba was started with fewer threads")
    before = jit.get_num_threads()
    jit.set_num_threads(request.param)
    monkeypatch.setattr(tasks, "_SMALL", 0)
    yield request.param
    jit.set_num_threads(before)


def poisoned(*args, **kwargs):
    """np.empty as it might be: full of what was there before."""
    array = np.zeros(*args, **kwargs)
    array.fill(np.nan if array.dtype.kind == "f" else 77)
    return array


def assert_same_bits(one, other):
    for a, b in zip(arrays_of(one), arrays_of(other), strict=True):
        assert a.dtype == b.dtype
        assert np.array_equal(a, b, equal_nan=a.dtype.kind == "f")
    if isinstance(one, float):
        assert one == other or (one != one and other != other)


@pytest.mark.parametrize("op", OPS)
def test_the_same_bits_twice(op, threads, monkeypatch):
    for name, case in CASES[op].items():
        call = converted(case.make(Rng(zlib.crc32(name.encode()))), to_dtype(np.float32))
        first = run(cpu, op, converted(call, np.copy))
        with monkeypatch.context() as patch:
            patch.setattr(memory, "_POOLED", 1 << 62)  # no memory of arrays before
            patch.setattr(np, "empty", poisoned)
            second = run(cpu, op, converted(call, np.copy))
        try:
            assert_same_bits(first, second)
        except AssertionError as error:
            raise AssertionError(f"{op}, {name}") from error


@pytest.mark.parametrize("op", ["relu", "dropout", "max_pool2d", "batch_norm2d", "flatten", "softmax"])
def test_what_is_no_sum_does_not_depend_on_the_number_of_threads(op, monkeypatch):
    if numba.config.NUMBA_NUM_THREADS < 2:
        pytest.skip("Numba was started with one thread")
    monkeypatch.setattr(tasks, "_SMALL", 0)
    before = jit.get_num_threads()
    try:
        for name, case in CASES[op].items():
            call = converted(case.make(Rng(zlib.crc32(name.encode()))), to_dtype(np.float32))
            results = []
            for count in (1, 2):
                jit.set_num_threads(count)
                results.append(run(cpu, op, converted(call, np.copy)))
            assert_same_bits(*results)
    finally:
        jit.set_num_threads(before)


def test_python_threads_do_not_disturb_each_other(threads):
    """Each thread works on a batch of its own, through ops that keep scratch memory between calls."""
    rng = np.random.default_rng(0)
    weight = rng.normal(size=(24, 8, 3, 3)).astype(np.float32)
    dense = rng.normal(size=(10, 24 * 5 * 5)).astype(np.float32)

    def network(x):
        y, _ = cpu.max_pool2d(cpu.relu(cpu.conv2d(x, weight, padding=1)), 2)
        return cpu.softmax(cpu.dense(cpu.flatten(y), dense))

    batches = [rng.normal(size=(4, 8, 10, 10)).astype(np.float32) for _ in range(3)]
    expected = [network(x) for x in batches]
    wrong = []

    def work(x, answer):
        wrong.extend(turn for turn in range(100) if not np.array_equal(network(x), answer))

    workers = [threading.Thread(target=work, args=pair) for pair in zip(batches, expected, strict=True)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not wrong


@pytest.mark.parametrize("op", ["elu_backward", "gelu_backward", "silu_backward", "relu_backward"])
def test_neighbours_in_memory_do_not_matter(op, monkeypatch):
    """Where arrays are too close to tell apart, LLVM runs another loop; it must round the same."""
    size = 240
    rng = np.random.default_rng(0)
    buffer = np.zeros(4 * size, np.float32)
    values = rng.standard_normal((2, size), dtype=np.float32)
    bits = set()
    for gap in range(0, 40, 3):
        dy, x = buffer[:size], buffer[size + gap : 2 * size + gap]
        dx = buffer[2 * (size + gap) : 3 * size + 2 * gap]
        dy[:], x[:] = values
        monkeypatch.setattr(tasks, "empty", lambda shape, dtype, dx=dx: dx)
        assert getattr(cpu, op)(dy, x) is dx
        bits.add(dx.tobytes())
    assert len(bits) == 1
