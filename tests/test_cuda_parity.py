"""Every CUDA kernel, run in the emulator, against the reference in float64, over the parity table."""

import importlib
import pkgutil
import zlib

import numpy as np
import pytest
from parity_cases import CASES, IN_PLACE, IN_PLACE_ANY_LAYOUT, Rng
from test_parity import (
    LAYOUTS,
    OF_RANGES,
    arrays_of,
    assert_close,
    assert_laid_out,
    converted,
    lay_out,
    run,
    to_dtype,
)

from nbconv_kernels import precision, reference

pytest.importorskip("cuda.bindings", reason="the CUDA kernels are compiled by numba-cuda")
cuda = pytest.importorskip("nbconv_kernels.cuda")
emulated = importlib.import_module("nbconv_kernels.cuda.emulated")


def rooms():
    """The modules of the package that bear the name of one of the reference's."""
    specified = {module.name for module in pkgutil.iter_modules(reference.__path__)}
    found = sorted(module.name for module in pkgutil.iter_modules(cuda.__path__))
    return [importlib.import_module(f"{cuda.__name__}.{name}") for name in found if name in specified]


OPS = {op: getattr(room, op) for room in rooms() for op in getattr(room, "__all__", ()) if op in CASES}


class Ops:
    """The ops by name, as attributes."""

    def __getattr__(self, op):
        return OPS[op]


@pytest.fixture(autouse=True)
def watched(monkeypatch):
    monkeypatch.setitem(emulated.checks, "race", True)
    monkeypatch.setattr(precision, "_level", "highest")


@pytest.mark.parametrize(("op", "name"), [(op, name) for op in OPS for name in CASES[op]])
def test_agrees_with_the_reference(op, name):
    case = CASES[op][name]
    call = converted(case.make(Rng(zlib.crc32(f"{op} {name}".encode()))), to_dtype(np.float32))
    expected = run(reference, op, converted(call, to_dtype(np.float64)))
    layouts = LAYOUTS if op not in IN_PLACE or op in IN_PLACE_ANY_LAYOUT else LAYOUTS[:1]
    layouts += ("channels of more",) if op in OF_RANGES else ()
    for layout in layouts:
        given = converted(call, lambda array, layout=layout: lay_out(array, layout))
        actual = run(Ops(), op, given)
        assert_close(actual, expected, np.float32, case.terms)
        if op not in IN_PLACE:
            if op not in ("asarray", "to_numpy"):
                assert_laid_out(op, actual)
            for before, after in zip(arrays_of(call), arrays_of(given), strict=True):
                np.testing.assert_array_equal(before, after, err_msg="the op has changed its argument")
