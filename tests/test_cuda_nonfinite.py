"""NaN and infinities travel through every CUDA op, in the emulator, as through the reference."""

import zlib

import numpy as np
import pytest

pytest.importorskip("cuda.bindings", reason="the CUDA kernels are compiled by numba-cuda")

from parity_cases import CASES, Rng
from test_cuda_parity import OPS, Ops
from test_parity import arrays_of, assert_close, converted, run, to_dtype
from test_parity_nonfinite import ACTIVATION_GRADIENTS, SPOILT, spoil

from nbconv_kernels import precision, reference

_OF_EACH = 4  # the smallest calls that hold three special values: the emulator takes its time


@pytest.fixture(autouse=True)
def exactly():
    before = precision.get_precision()
    precision.set_precision("highest")
    yield
    precision.set_precision(before)


def calls(op):
    """The smallest calls of an op: (name, case, call)."""
    made = [(name, case, case.make(Rng(zlib.crc32(name.encode())))) for name, case in CASES[op].items()]
    sizes = {name: sum(array.size for array in arrays_of(call)) for name, _, call in made}
    return sorted((one for one in made if sizes[one[0]] >= 3), key=lambda one: sizes[one[0]])[:_OF_EACH]


@pytest.mark.parametrize("op", sorted(OPS))
def test_agrees_with_the_reference(op):
    check(op, SPOILT.get(op, 0))


@pytest.mark.parametrize("op", ACTIVATION_GRADIENTS)
def test_gradients_of_activations_see_what_their_input_was(op):
    check(op, 1)


def check(op, argument):
    """Hold an op against the reference, an argument being spoilt."""
    for name, case, call in calls(op):
        spoilt = spoil(converted(call, to_dtype(np.float32)), argument, seed=len(name))
        expected = run(reference, op, converted(converted(spoilt, np.copy), to_dtype(np.float64)))
        try:
            assert_close(run(Ops(), op, spoilt), expected, np.float32, case.terms)
        except AssertionError as error:
            raise AssertionError(f"{op}, {name}") from error
