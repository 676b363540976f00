"""Every op of every backend against the reference in float64, over the calls of ``parity_cases``."""

import zlib

import numpy as np
import pytest
from gpu_arrays import ops_of
from parity_cases import CASES, IN_PLACE, IN_PLACE_ANY_LAYOUT, Call, Rng
from poison import poison

from nbconv import backends
from nbconv_kernels import reference

# The emulated CUDA kernels have a test of their own, which watches for races besides.
BACKENDS = [
    name
    for name, state in backends.available().items()
    if state is True and name not in ("reference", "cuda-emulated")
]
IN_THEIR_DTYPES = [
    pytest.param(name, dtype, marks=pytest.mark.gpu if name == "cuda" else ())
    for name in BACKENDS
    for dtype in ([np.float32] if name == "cuda" else [np.float32, np.float64])
]
LAYOUTS = ("C-contiguous", "channels-last", "every other element")
# Ops that read a range of an array's channels where it lies.
OF_RANGES = (
    "batch_norm2d",
    "batch_norm2d_backward",
    "batch_norm2d_inference_backward",
    "batch_norm2d_statistics",
)

# An element that is a sum of n products of random numbers has a rounding error of about eps * sqrt(n) of the
# largest elements; the exponentials' errors of 3 eps and a few roundings come on top. Where x is far from
# zero its own roundings show.
FACTOR = 8


def lay_out(array, layout):
    """A copy of ``array`` in another memory layout: the same shape and values."""
    if layout == "channels-last" and array.ndim == 4:
        return np.array(array.transpose(0, 2, 3, 1), order="C").transpose(0, 3, 1, 2)
    if layout == "channels of more" and array.ndim == 4:
        n, channels, height, width = array.shape
        wide = np.full((n, height, width, channels + 5), np.nan, array.dtype)
        wide[..., 2 : channels + 2] = array.transpose(0, 2, 3, 1)
        return wide[..., 2 : channels + 2].transpose(0, 3, 1, 2)
    if layout == "every other element" and array.ndim:
        wide = np.zeros([2 * size for size in array.shape], array.dtype)
        view = wide[tuple(slice(None, None, 2) for _ in array.shape)]
        view[...] = array
        return view
    return np.array(array, order="C")


def converted(value, function):
    """``value`` with ``function`` applied to every array in it."""
    if isinstance(value, np.ndarray):
        return function(value)
    if isinstance(value, Call):
        return Call(
            converted(value.args, function), {k: converted(v, function) for k, v in value.kwargs.items()}
        )
    if isinstance(value, list | tuple):
        return type(value)(converted(item, function) for item in value)
    return value


def arrays_of(value):
    found = []
    converted(value, found.append)
    return found


def to_dtype(dtype):
    return lambda array: array.astype(dtype) if array.dtype.kind == "f" else array


def run(ops, op, call):
    """The result of the call, or what it has written to if it works in place."""
    result = getattr(ops, op)(*call.args, **call.kwargs)
    if op in IN_PLACE:
        assert result is None
        written = [call.args[i] for i in IN_PLACE[op]]
        return [*written, *(value for value in call.kwargs.values() if isinstance(value, list))]
    return result


def unbounded(op, call):
    """What the reference gives without the activation at the end: sums round by what they are before it."""
    if call.kwargs.get("activation") and op in ("conv2d", "conv2d_onto"):
        return run(
            reference, op, converted(call._replace(kwargs={**call.kwargs, "activation": None}), np.copy)
        )
    return None


def assert_close(actual, expected, dtype, terms, before=None):
    """Arrays, floats and structures of them are equal up to rounding; integers and None exactly.

    Their largest element says how much rounding that is, or the largest of ``before``.
    """
    if isinstance(expected, list | tuple):
        assert len(actual) == len(expected)
        befores = [None] * len(expected) if before is None else before
        for one, other, sums in zip(actual, expected, befores, strict=True):
            assert_close(one, other, dtype, terms, sums)
        return
    if expected is None or (isinstance(expected, np.ndarray) and expected.dtype.kind != "f"):
        np.testing.assert_array_equal(actual, expected)
        return
    if isinstance(expected, float):
        assert isinstance(actual, float)
    else:
        assert actual.dtype == dtype
        assert actual.shape == expected.shape
    largest = expected if before is None else before
    finite = np.abs(largest)[np.isfinite(largest)]
    scale = float(finite.max()) if finite.size else 1.0
    eps = float(np.finfo(dtype).eps)
    tolerance = FACTOR * eps * np.sqrt(terms) * scale
    np.testing.assert_allclose(actual, expected, rtol=FACTOR * eps, atol=tolerance)


def assert_laid_out(op, result):
    """Activations are channels-last; what has not four axes is C-contiguous, and so are weights."""
    for array in arrays_of(result):
        view = (
            array.transpose(0, 2, 3, 1) if array.ndim == 4 and not op.endswith("backward_weight") else array
        )
        assert view.flags.c_contiguous


def test_the_table_covers_every_op():
    assert set(CASES) == set(reference.__all__) - {"name"}


@pytest.mark.parametrize(("backend", "dtype"), IN_THEIR_DTYPES)
@pytest.mark.parametrize(("op", "name"), [(op, name) for op, cases in CASES.items() for name in cases])
def test_agrees_with_the_reference(backend, dtype, op, name):
    ops = ops_of(backend)
    case = CASES[op][name]
    call = converted(case.make(Rng(zlib.crc32(f"{op} {name}".encode()))), to_dtype(dtype))
    exact = converted(call, to_dtype(np.float64))
    sums = unbounded(op, exact)
    expected = run(reference, op, exact)
    poison()
    layouts = LAYOUTS if op not in IN_PLACE or op in IN_PLACE_ANY_LAYOUT else LAYOUTS[:1]
    layouts += ("channels of more",) if op in OF_RANGES else ()
    for layout in layouts:
        given = converted(call, lambda array, layout=layout: lay_out(array, layout))
        moved = converted(given, ops.asarray)
        actual = converted(run(ops, op, moved), ops.to_numpy)
        assert_close(actual, expected, dtype, case.terms, sums)
        if op not in IN_PLACE:
            if op not in ("asarray", "to_numpy"):
                assert_laid_out(op, actual)
            for before, after in zip(arrays_of(call), arrays_of(given), strict=True):
                np.testing.assert_array_equal(before, after, err_msg="the op has changed its argument")
