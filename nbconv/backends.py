"""Picks a namespace of ops by name: the only place that knows which backends exist."""

from __future__ import annotations

import functools
import importlib
import importlib.util
from types import ModuleType

import numpy as np

from nbconv.errors import BackendUnavailable

_MODULES = {"cpu": "nbconv_kernels.cpu", "reference": "nbconv_kernels.reference"}
NUMPY_BACKENDS = frozenset(_MODULES)
"""Backends whose arrays are NumPy arrays."""

_NO_CUDA = (
    "this version of nbconv has no CUDA kernels yet; they will come with the extras "
    '"nbconv[cuda12]" and "nbconv[cuda13]"; until then use backend="cpu"'
)


@functools.cache
def get(name: str) -> ModuleType:
    """The ops of a backend, imported now if they were not yet.

    Raises:
        BackendUnavailable: if the backend cannot run here.
        ValueError: if there is none of that name.
    """
    check(name)
    return importlib.import_module(_MODULES[name])


def check(name: str) -> None:
    """Raise as :func:`get` does, but import nothing."""
    reason = available().get(name)
    if reason is None:
        raise ValueError(f"unknown backend {name!r}; there are {', '.join(map(repr, available()))}")
    if reason is not True:
        raise BackendUnavailable(f"backend {name!r} is not available: {reason}")


def of_array(array: object) -> str:
    """The backend that computes with such an array: "cpu" for NumPy's.

    Raises:
        TypeError: if there is none.
    """
    if isinstance(array, np.ndarray):
        return "cpu"
    raise TypeError(f"expected an array, got {type(array).__name__}")


def available() -> dict[str, bool | str]:
    """For each backend True, or the reason why it cannot be used here."""
    numba = importlib.util.find_spec("numba") is not None
    return {
        "cpu": numba or 'Numba is not installed: run "pip install numba"',
        "reference": True,
        "cuda": _NO_CUDA,
    }
