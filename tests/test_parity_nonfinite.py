"""NaN and infinities travel through every op of every backend as through the reference.

The reference itself is held against PyTorch in its own tests.
"""

import importlib
import zlib

import numpy as np
import pytest
from gpu_arrays import ops_of
from parity_cases import CASES, Rng
from test_parity import BACKENDS, IN_THEIR_DTYPES, arrays_of, assert_close, converted, run, to_dtype

from nbconv_kernels import reference

ACTIVATIONS = "nbconv_kernels.reference.activation"
SPECIAL = (np.nan, np.inf, -np.inf)
# Which argument is spoilt: the first unless said here. In a convolution's weight gradient a NaN in dy meets
# the padding of x, and whether its product with a zero that is not stored is NaN is nobody's definition.
SPOILT = {
    **dict.fromkeys(("sgd_step", "adam_step", "rmsprop_step", "adagrad_step", "lion_step"), 1),
    "conv2d_backward_weight": 1,
}


def spoil(call, argument, seed):
    """A copy of the call with special values at some places of an argument."""
    call = converted(call, np.copy)
    rng = np.random.default_rng(seed)
    for array in arrays_of(call.args[argument]):
        places = rng.permutation(array.size)[: len(SPECIAL)]
        array.reshape(-1)[places] = SPECIAL[: len(places)]
    return call


@pytest.mark.parametrize(("backend", "dtype"), IN_THEIR_DTYPES)
@pytest.mark.parametrize("op", sorted(CASES))
def test_agrees_with_the_reference(backend, dtype, op):
    for name, case in CASES[op].items():
        call = case.make(Rng(zlib.crc32(name.encode())))
        spoilt = spoil(converted(call, to_dtype(dtype)), SPOILT.get(op, 0), seed=len(name))
        expected = run(reference, op, converted(converted(spoilt, np.copy), to_dtype(np.float64)))
        ops = ops_of(backend)
        actual = converted(run(ops, op, converted(spoilt, ops.asarray)), ops.to_numpy)
        try:
            assert_close(actual, expected, dtype, case.terms)
        except AssertionError as error:
            raise AssertionError(f"{op}, {name}") from error


ACTIVATION_GRADIENTS = sorted(
    op for op in CASES if op.endswith("_backward") and hasattr(importlib.import_module(ACTIVATIONS), op)
)


@pytest.mark.parametrize(("backend", "dtype"), IN_THEIR_DTYPES)
@pytest.mark.parametrize("op", ACTIVATION_GRADIENTS)
def test_gradients_of_activations_see_what_their_input_was(backend, dtype, op):
    """The slope of what is no number, or infinite, is the reference's: above only ``dy`` is spoilt."""
    ops = ops_of(backend)
    for name, case in CASES[op].items():
        call = converted(case.make(Rng(zlib.crc32(name.encode()))), to_dtype(dtype))
        spoilt = spoil(call, 1, seed=len(name))
        expected = run(reference, op, converted(converted(spoilt, np.copy), to_dtype(np.float64)))
        actual = converted(run(ops, op, converted(spoilt, ops.asarray)), ops.to_numpy)
        try:
            assert_close(actual, expected, dtype, case.terms)
        except AssertionError as error:
            raise AssertionError(f"{op}, {name}") from error


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_large_mean_keeps_its_variance(backend):
    """float32 has seven digits, of which a mean of 1000 takes three."""
    ops = ops_of(backend)
    rng = np.random.default_rng(0)
    x = (1000 + rng.normal(size=(64, 7, 20, 20))).astype(np.float32)
    x[:, 3] += np.arange(64, dtype=np.float32)[:, None, None]
    mean, var = ops.batch_norm2d_statistics(ops.asarray(x))
    exact_mean, exact_var = reference.batch_norm2d_statistics(x.astype(np.float64))
    np.testing.assert_allclose(ops.to_numpy(mean), exact_mean, rtol=1e-7)
    np.testing.assert_allclose(ops.to_numpy(var), exact_var, rtol=3e-7)


@pytest.mark.parametrize(("backend", "dtype"), IN_THEIR_DTYPES)
def test_a_relu_behind_statistics_that_are_no_numbers_passes_the_gradient(backend, dtype):
    """As PyTorch's does: only what is known to be at most zero is held back."""
    rng = np.random.default_rng(0)
    x, dy = rng.normal(size=(2, 2, 4, 5, 4)).astype(dtype)
    x[0, 0, 1, 2], x[1, 2, 0, 0] = np.nan, -np.inf
    weight, bias = np.array([1, -1, 2, 0.5]).astype(dtype), np.array([0.1, 0.2, -0.3, 0]).astype(dtype)
    mean, var = reference.batch_norm2d_statistics(x[:, :4])
    exact = [array.astype(np.float64) for array in (dy, x, mean, var, weight)]
    expected = reference.batch_norm2d_backward(*exact, bias=bias.astype(np.float64), activation="relu")
    ops = ops_of(backend)
    actual = ops.batch_norm2d_backward(
        *map(ops.asarray, (dy, x, mean, var, weight)), bias=ops.asarray(bias), activation="relu"
    )
    assert np.isfinite(expected[2]).all()
    assert_close(converted(actual, ops.to_numpy), expected, dtype, 40)
