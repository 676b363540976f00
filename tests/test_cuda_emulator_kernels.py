"""Whole kernels in the emulator against float64, and mistakes put into them, each of which it must find."""

import re

import numpy as np
import pytest

pytest.importorskip("cuda.bindings", reason="the kernels are compiled by numba-cuda")
pytest.importorskip("nbconv_kernels.cuda.build")
from emulated_kernels import block_sums, functions, product, tensor_product, transpose

from nbconv_kernels.cuda.emulator import MemoryFaultError, launch

RNG = np.random.default_rng(3)
M, N, K = 45, 70, 80


def run(kernel, grid, *arguments, ptx=None, **checks):
    checks.setdefault("race", True)
    return launch(ptx or kernel.ptx, grid, (kernel.block,), arguments, **checks)


def numbers(*shape):
    return RNG.standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize("shape", [(64, 64), (50, 37), (1, 100)])
def test_transpose(shape):
    x, y = numbers(*shape), np.full(shape[::-1], np.nan, np.float32)
    grid = (-(-shape[1] // 32), -(-shape[0] // 32))
    _, hazards = run(transpose(1), grid, x, y, *shape)
    np.testing.assert_array_equal(y, x.T)
    assert not hazards


def test_transpose_without_padding_has_conflicts_in_every_bank():
    x, y = numbers(64, 64), np.empty((64, 64), np.float32)
    padded, _ = run(transpose(1), (2, 2), x, y, 64, 64, banks=True)
    plain, _ = run(transpose(0), (2, 2), x, y, 64, 64, banks=True)
    assert padded["shared load wavefronts"] == padded["shared load requests"] == 128
    assert plain["shared load wavefronts"] == 32 * 128
    for counts in (padded, plain):  # both rooms are coalesced in global memory: four sectors a warp
        assert counts["global load sectors"] == 4 * counts["global load requests"]
        assert counts["global store sectors"] == 4 * counts["global store requests"]


@pytest.mark.parametrize("n", [1, 256, 1000])
def test_block_sums(n):
    x, y = numbers(n), np.full(-(-n // 256), np.nan, np.float32)
    _, hazards = run(block_sums, (len(y),), x, y, n)
    exact = np.add.reduceat(x.astype(np.float64), np.arange(0, n, 256))
    np.testing.assert_allclose(y, exact, rtol=0, atol=1e-5)
    assert not hazards


def test_the_librarys_functions():
    large = numbers(60) * np.float32(1e6)  # beyond what a short reduction of sines serves
    special = np.array([0, -0.0, np.inf, -np.inf, np.nan, 1e-40, 88.9, -104], np.float32)
    x = np.concatenate([numbers(200), large, special])
    y = np.zeros((4, len(x)), np.float32)
    run(functions, (-(-len(x) // 128),), x, y, len(x))
    with np.errstate(all="ignore"):
        wide = x.astype(np.float64)
        exact = np.stack([np.sin(wide), np.exp(wide), np.tanh(wide), np.log(np.abs(wide))])
        expected = exact.astype(np.float32)
    np.testing.assert_array_equal(np.isnan(y), np.isnan(expected))
    np.testing.assert_array_max_ulp(y[~np.isnan(y)], expected[~np.isnan(y)], maxulp=2)


def test_product():
    a, b, c = numbers(M, K), numbers(K, N), np.full((M, N), np.nan, np.float32)
    statistics, hazards = run(product, (-(-N // 16), -(-M // 16)), a, b, c, M, N, K)
    np.testing.assert_allclose(c, a.astype(np.float64) @ b, rtol=0, atol=2e-5)
    assert not hazards
    assert (
        sum(n for name, n in statistics.items() if name.startswith("fma")) == 15 * 8 * K
    )  # blocks, warps, terms


def tensor_operands(whole):
    if whole:
        a, b = (RNG.integers(-8, 9, (rows, K)).astype(np.float32) for rows in (M, N))
    else:
        a, b = numbers(M, K), numbers(N, K)
    return a, b, np.full((M, N), np.nan, np.float32)


GRID = (-(-M // 32), -(-N // 32))


def test_tensor_product_with_copies_under_way():
    a, b, c = tensor_operands(whole=True)
    statistics, hazards = run(tensor_product(), GRID, a, b, c, M, N, K, banks=True)
    np.testing.assert_array_equal(c, a.astype(np.float64) @ b.T)
    assert not hazards
    assert statistics["shared load wavefronts"] == statistics["shared load requests"]
    a, b, c = tensor_operands(whole=False)
    run(tensor_product(), GRID, a, b, c, M, N, K)
    error = np.abs(c - a.astype(np.float64) @ b.T).max()
    assert 1e-4 < error < 5e-2  # TF32 has 11 digits


def test_tensor_product_without_swizzle_conflicts():
    a, b, c = tensor_operands(whole=True)
    statistics, _ = run(tensor_product(False), GRID, a, b, c, M, N, K, banks=True)
    np.testing.assert_array_equal(c, a.astype(np.float64) @ b.T)
    assert statistics["shared load wavefronts"] == 4 * statistics["shared load requests"]


def each_without(pattern, text):
    """The text without one of its matches of a pattern, for each of them."""
    found = [match.span() for match in re.finditer(pattern, text)]
    assert found
    return [text[:start] + text[end:] for start, end in found]


def test_every_dropped_barrier_is_found():
    a, b, c = numbers(M, K), numbers(K, N), np.empty((M, N), np.float32)
    x, y = numbers(64, 64), np.empty((64, 64), np.float32)
    sums = np.empty(3, np.float32)
    cases = [
        (product, (-(-N // 16), -(-M // 16)), (a, b, c, M, N, K)),
        (transpose(1), (2, 2), (x, y, 64, 64)),
        (block_sums, (3,), (x, sums, 768)),
        (tensor_product(), GRID, (*tensor_operands(whole=True), M, N, K)),
    ]
    for kernel, grid, arguments in cases:
        for ptx in each_without(r"bar\.sync\s+0;", kernel.ptx):
            assert run(kernel, grid, *arguments, ptx=ptx)[1], kernel


def test_a_wait_for_too_few_copies_is_found():
    a, b, c = tensor_operands(whole=True)
    ptx = tensor_product().ptx
    late = ptx.replace("cp.async.wait_group 1;", "cp.async.wait_group 2;")
    assert late != ptx
    run(tensor_product(), GRID, a, b, c, M, N, K, ptx=late)
    assert np.isnan(c).any()
    # The last one in the text stands behind the unrolled loop, where no more copies follow.
    for dropped in each_without(r"cp\.async\.commit_group;", ptx)[:-1]:
        c[...] = 0
        run(tensor_product(), GRID, a, b, c, M, N, K, ptx=dropped)
        assert np.isnan(c).any()
    early = ptx.replace("cp.async.wait_group 1;", "cp.async.wait_group 0;")
    run(tensor_product(), GRID, a, b, c, M, N, K, ptx=early)  # right, only slower
    np.testing.assert_array_equal(c, a.astype(np.float64) @ b.T)


def test_copies_into_a_stage_that_is_still_read_are_found():
    a, b, c = tensor_operands(whole=True)
    ptx = tensor_product().ptx
    unguarded = re.sub(r"bar\.sync\s+0;", "", ptx)
    assert unguarded != ptx
    _, hazards = run(tensor_product(), GRID, a, b, c, M, N, K, ptx=unguarded)
    assert {"a read of what another wrote", "a write over what another read"} <= {h.kind for h in hazards}


@pytest.mark.parametrize("which", [0, 1, 2])
def test_short_buffers_are_found(which):
    for kernel, grid, arguments in (
        (product, (-(-N // 16), -(-M // 16)), [numbers(M, K), numbers(K, N), np.empty((M, N), np.float32)]),
        (tensor_product(), GRID, list(tensor_operands(whole=True))),
    ):
        arguments[which] = arguments[which].reshape(-1)[:-1].copy()
        with pytest.raises(MemoryFaultError, match=f"array {which}, of {arguments[which].nbytes} bytes"):
            run(kernel, grid, *arguments, M, N, K)


def test_a_missing_guard_at_the_edge_is_found():
    a, b, c = tensor_operands(whole=True)
    with pytest.raises(MemoryFaultError, match="array 0"):
        run(tensor_product(), GRID, a, b, c, M + 1, N, K)
