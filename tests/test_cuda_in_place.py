"""What is changed in place on CUDA may begin at any element, where no four can be read at a time."""

import numpy as np
import pytest

pytest.importorskip("cuda.bindings", reason="the CUDA kernels are compiled by numba-cuda")
layout = pytest.importorskip("nbconv_kernels.cuda.layout")
optim = pytest.importorskip("nbconv_kernels.cuda.optim")
adaptive_optim = pytest.importorskip("nbconv_kernels.cuda.adaptive_optim")
regularization = pytest.importorskip("nbconv_kernels.cuda.regularization")
memory = pytest.importorskip("nbconv_kernels.cuda.memory")

SHAPES = ((1030,), (5, 3, 2, 2), (1,))


def beginning_at(offset, shape, seed):
    """Random positive numbers in memory that begins so many elements behind a multiple of 16 bytes."""
    raw = np.empty(int(np.prod(shape)) + 8, np.float32)
    skip = -raw.ctypes.data % 16 // 4 + offset
    x = raw[skip : skip + int(np.prod(shape))].reshape(shape)
    x[...] = np.random.default_rng(seed).uniform(0.1, 1, shape)
    assert memory.address(x) % 16 == 4 * offset
    return x


def arrays(offset, seed):
    return [beginning_at(offset, shape, seed + i) for i, shape in enumerate(SHAPES)]


STEPS = {
    "sgd": lambda *a: optim.sgd_step(*a[:3], lr=0.1, momentum=0.9, weight_decay=0.1, nesterov=True),
    "adam": lambda *a: optim.adam_step(*a[:4], step=3, lr=0.1, max_exp_avg_sqs=a[4]),
    "rmsprop": lambda *a: adaptive_optim.rmsprop_step(
        *a[:3], lr=0.1, momentum=0.9, grad_avgs=a[3], momentum_buffers=a[4]
    ),
    "adagrad": lambda *a: adaptive_optim.adagrad_step(*a[:3], step=3, lr=0.1),
    "lion": lambda *a: adaptive_optim.lion_step(*a[:3], lr=0.1, weight_decay=0.1),
    "accumulate": lambda into, value, *_: [
        layout.accumulate(*pair) for pair in zip(into, value, strict=True)
    ],
    "add_scaled": lambda into, value, *_: [
        regularization.add_scaled(*pair, -0.3) for pair in zip(into, value, strict=True)
    ],
}


@pytest.mark.parametrize("op", STEPS)
@pytest.mark.parametrize("offset", [1, 2])
def test_the_values_are_those_of_aligned_arrays(op, offset):
    # Products and sums may be fused differently.
    aligned, moved = ([arrays(at, 10 * seed) for seed in range(5)] for at in (0, offset))
    moved[1] = arrays(3 - offset, 10)
    before = [array.copy() for array in moved[0]]
    STEPS[op](*aligned)
    STEPS[op](*moved)
    for some, others in zip(aligned, moved, strict=True):
        for one, other in zip(some, others, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)
    assert not any(np.array_equal(one, other) for one, other in zip(before, moved[0], strict=True))


def test_squares_of_arrays_that_begin_anywhere():
    some = [*arrays(1, 0), *arrays(0, 5), np.ones((70000,), np.float32)[1:]]
    exact = sum(float(np.sum(np.square(x, dtype=np.float64))) for x in some)
    assert regularization.sum_of_squares(some) == pytest.approx(exact, rel=1e-6)


def test_weights_are_added_to_as_they_lie():
    """Weights and their gradients are in row order, channels before pixels, as checkpoints have them."""
    rng = np.random.default_rng(0)
    into, value = rng.normal(size=(2, 4, 5, 3, 3)).astype(np.float32)
    expected = into + value
    layout.accumulate(into, np.array(value.transpose(0, 2, 3, 1), order="C").transpose(0, 3, 1, 2))
    np.testing.assert_array_equal(into, expected)


@pytest.mark.parametrize(
    "shape", [(1, 3, 33, 65), (1, 100, 1, 7), (2, 31, 3, 11), (1, 32, 32, 1), (3, 257, 2, 1), (1, 2, 600, 1)]
)
def test_transpositions_of_every_tile(shape):
    x = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    last = layout.channels_last(x)
    assert last.transpose(0, 2, 3, 1).flags.c_contiguous
    np.testing.assert_array_equal(last, x)
    flat = layout.flatten(last)
    np.testing.assert_array_equal(flat, x.reshape(shape[0], -1))
    np.testing.assert_array_equal(layout.unflatten(flat, shape), x)
