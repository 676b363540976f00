"""Picks a namespace of ops by name: the only place that knows which backends exist.

A backend computes with arrays of one kind: NumPy's on the CPU, CuPy's on a GPU. Whatever handles arrays
without computing, wherever they are, finds here how to tell and to move them.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from types import ModuleType
from typing import Any, TypeGuard

import numpy as np

from nbconv.errors import BackendUnavailable, DataError
from nbconv.typing import Array, DType

_CUDA = "nbconv_kernels.cuda"
_MODULES = {
    "cpu": "nbconv_kernels.cpu",
    "reference": "nbconv_kernels.reference",
    "cuda": _CUDA,
    "cuda-emulated": _CUDA,
}
NUMPY_BACKENDS = frozenset({"cpu", "reference", "cuda-emulated"})
"""Backends whose arrays are NumPy arrays."""

_ARRAYS_OF = {"cupy": "cuda"}
"""By the package that a class of arrays is defined in, the backend that computes with them."""

_FLOAT32_ONLY = frozenset({"cuda", "cuda-emulated"})

_CUDA_IS_WHOLE = True  # every op has its kernel
_NO_CUDA = (
    "this version of nbconv has no CUDA kernels yet; they will come with the extras "
    '"nbconv[cuda12]" and "nbconv[cuda13]"; until then use backend="cpu"'
)
_INSTALL = 'run "pip install nbconv[cuda13]", or "nbconv[cuda12]" for a driver before 580'


@functools.cache
def get(name: str) -> ModuleType:
    """The ops of a backend, imported now if they were not yet.

    Raises:
        BackendUnavailable: if the backend cannot run here.
        ValueError: if there is none of that name.
    """
    check(name)
    module = importlib.import_module(_MODULES[name])
    return _placed(name, module) if module.__name__ == _CUDA else module


def check(name: str, dtype: DType | None = None) -> None:
    """Raise as :func:`get` does, but import nothing.

    Raises:
        ValueError: if a dtype is given that the backend does not compute in.
    """
    if name not in _MODULES:
        raise ValueError(f"unknown backend {name!r}; there are {', '.join(map(repr, _MODULES))}")
    reason = _state(name)
    if reason is not True:
        raise BackendUnavailable(f"backend {name!r} is not available: {reason}")
    if dtype is not None and name in _FLOAT32_ONLY and dtype != np.float32:
        raise ValueError(
            f"backend {name!r} computes in float32, got dtype {dtype}: "
            f'take dtype="float32", or backend="cpu" for {dtype}'
        )


def available() -> dict[str, bool | str]:
    """For each backend True, or the reason why it cannot be used here."""
    return {name: _state(name) for name in _MODULES}


def _state(name: str) -> bool | str:
    if name == "cpu":
        return _has_numba() or 'Numba is not installed: run "pip install numba"'
    if _MODULES[name] == _CUDA:
        return _cuda_state(emulated=name != "cuda")
    return True


@functools.cache  # asked for each layer that is made
def _has_numba() -> bool:
    return importlib.util.find_spec("numba") is not None


@functools.cache
def _cuda_state(emulated: bool) -> bool | str:
    """Whether kernels can be compiled and, unless they are emulated, run."""
    if not _CUDA_IS_WHOLE:
        return _NO_CUDA
    for package, module in (("numba-cuda", "numba_cuda"), ("cuda-bindings", "cuda.bindings")):
        if not _is_installed(module):
            return f"{package} is not installed: {_INSTALL}"
    pathfinder = importlib.import_module("cuda.pathfinder")
    try:
        pathfinder.load_nvidia_dynamic_lib("nvvm")
    except Exception as error:  # its class differs between versions
        return f"the compiler of CUDA (libnvvm) is not installed: {_INSTALL} ({_first_line(error)})"
    return True if emulated else _gpu_state()


def _gpu_state() -> bool | str:
    if not _is_installed("cupy"):
        return f"CuPy is not installed: {_INSTALL}"
    gpu = importlib.import_module("nbconv.gpu")
    state: bool | str = gpu.state()
    return state


def _is_installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # of the package that it is in
        return False


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _placed(name: str, module: ModuleType) -> ModuleType:
    """The CUDA ops with the name of a backend, and an ``asarray`` that brings arrays to where it computes."""
    placed = ModuleType(module.__name__, module.__doc__)
    memory = importlib.import_module(f"{module.__name__}.memory")
    vars(placed).update(vars(module), name=name, deferred=memory.deferred)
    if name not in NUMPY_BACKENDS:
        device, graph = (importlib.import_module(f"{module.__name__}.{room}") for room in ("device", "graph"))
        vars(placed).update(asarray=device.asarray, upload=device.upload, capture=graph.capture)
    return placed


def is_array(value: object) -> TypeGuard[Array]:
    """Whether something is an array that some backend computes with."""
    return isinstance(value, np.ndarray) or _package(value) in _ARRAYS_OF


def is_on_device(value: object) -> bool:
    """Whether something is an array of another kind than NumPy's, so that it lies on some device."""
    return not isinstance(value, np.ndarray) and _package(value) in _ARRAYS_OF


def of_array(array: object) -> str:
    """The backend that computes with such an array: "cpu" for NumPy's, "cuda" for CuPy's.

    Raises:
        TypeError: if there is none.
    """
    if isinstance(array, np.ndarray):
        return "cpu"
    name = _ARRAYS_OF.get(_package(array))
    if name is None:
        raise TypeError(f"expected an array, got {type(array).__name__}")
    return name


def array_of(value: Any) -> Array:
    """``value`` itself if it is an array, wherever it is; else a NumPy array of it.

    Raises:
        DataError: if there is none of it.
    """
    return value if is_array(value) else _made_of(value)


def to_numpy(value: Any) -> Array:
    """``value``, an array wherever it is or what can become one, as a NumPy array: itself if it is one.

    Raises:
        DataError: if it is neither.
    """
    if isinstance(value, np.ndarray):
        return value
    if not is_array(value):
        return _made_of(value)
    return np.asarray(get(of_array(value)).to_numpy(value))


def _made_of(value: Any) -> Array:
    """A NumPy array of a list, a tensor of PyTorch's, a table of pandas', ..."""
    try:
        if _package(value) == "torch":
            value = value.detach().cpu()
            # NumPy lacks the shortest types; float32 holds all of them exactly.
            value = value.float() if value.is_floating_point() and value.element_size() < 4 else value
        return np.asarray(value)
    except (ValueError, TypeError, RuntimeError) as error:
        kind, reason = type(value).__name__, str(error).partition("\n")[0] or type(error).__name__
        raise DataError(f"expected an array, got a {kind} that makes none: {reason}") from error


def to_backend(array: Any, name: str, dtype: DType | None = None) -> Array:
    """``array``, wherever it is, as one of a backend, and of a dtype; copied only if it must be."""
    here = isinstance(array, np.ndarray) or _ARRAYS_OF.get(_package(array)) == name
    moved: Array = get(name).asarray(array if here else to_numpy(array), dtype)
    return moved


def scalar_of(value: Any, dtype: DType) -> Any:
    """A number, or an array without axes wherever it is, in the dtype of the arrays that it shall scale."""
    return value.astype(dtype) if is_array(value) else np.dtype(dtype).type(value)


def deferred(name: str) -> AbstractContextManager[None]:
    """Within it, ops that give numbers may give arrays on the device instead, not yet waited for.

    They then look at no labels either: whoever asks for this has looked at them.
    """
    without: Callable[[], AbstractContextManager[None]] = getattr(get(name), "deferred", nullcontext)
    return without()


def _package(value: object) -> str:
    return type(value).__module__.partition(".")[0]
