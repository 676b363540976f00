"""PTX and machine code of kernels on disk, named by all that decides them.

The directory is named by a digest of the sources and the compilers' versions; kernels of other packages are
not kept. A file in it is named by the kernel's name, types and launch bounds, and by the functions it is made
of as they are in this process: their bytecode, and the constants of a factory in their closures. So neither
are two kernels of one factory taken for each other, nor does a process that began before an edit leave its
kernels to those that begin after it. A constant of a kind that has no known text keeps its kernel out of the
store.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import platform
import re
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from types import CodeType
from typing import TYPE_CHECKING, Any

import numpy as np

from nbconv_kernels import disk_cache
from nbconv_kernels.cuda.target import types

if TYPE_CHECKING:
    from nbconv_kernels.cuda.build import Kernel

__all__ = ["directory", "fetch", "place"]

_COMPILERS = (
    "numba",
    "numba-cuda",
    "llvmlite",
    "nvidia-nvvm",
    "nvidia-cuda-nvcc-cu12",
    "nvidia-nvjitlink",
    "nvidia-nvjitlink-cu12",
)


@functools.cache
def _sources() -> disk_cache.Sources:
    return disk_cache.Sources("cuda", without="emulator")


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


@functools.cache
def place() -> disk_cache.Place:
    """Where this process keeps its kernels; the files and all that compiles them decide the name."""
    versions = [f"{name} {_version(name)}" for name in _COMPILERS]
    return disk_cache.prepared(_sources().digest([platform.python_version(), *versions]), "cuda-")


def directory() -> Path | None:
    """The directory of this process's kernels, or None where none are kept."""
    return place().path


def fetch(kernel: Kernel, kind: str, make: Callable[[], bytes]) -> bytes:
    """The ``kind`` of code (the file's ending) of ``kernel``: what was kept, or what ``make`` gives now."""
    name = _file_name(kernel) if _sources().hold(kernel.function.__module__) else None
    if name is None:
        return make()
    code = place().read(f"{name}.{kind}")
    if code is None:
        code = make()
        place().write(f"{name}.{kind}", code)
    return code


class _NoText(Exception):  # noqa: N818 - no error: it only keeps a kernel out of the store
    pass


def _file_name(kernel: Kernel) -> str | None:
    try:
        constants = _captured(kernel.function, set())
    except _NoText:
        return None
    decisive = (
        kernel.name,
        *map(str, kernel.argument_types),
        kernel.block,
        kernel.min_blocks,
        kernel.capability,
        constants,
    )
    readable = re.sub(r"[^\w.]+", "-", kernel.name).strip("-")[:80]
    return f"{readable}-{hashlib.sha256(repr(decisive).encode()).hexdigest()[:16]}"


def _captured(function: Any, seen: set[int]) -> str:
    """A function's code, closure and defaults, and those of the functions it finds there or calls by name."""
    if id(function) in seen:
        return "again"
    seen.add(id(function))
    code = function.__code__
    held = [cell.cell_contents for cell in function.__closure__ or ()]
    held += [*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()]
    parts = [f"{function.__module__}.{function.__qualname__}", _code(code), *(_text(v, seen) for v in held)]
    for name in code.co_names:
        with contextlib.suppress(_NoText):  # a global; what it is stands in the sources
            parts.append(f"{name}: {_text(function.__globals__.get(name), seen)}")
    return f"({', '.join(parts)})"


def _code(code: CodeType) -> str:
    constants = [_code(c) if isinstance(c, CodeType) else f"{type(c).__name__} {c!r}" for c in code.co_consts]
    return f"{code.co_code.hex()} {constants} {code.co_names}"


def _text(value: Any, seen: set[int]) -> str:
    if value is None or isinstance(value, bool | int | float | str | bytes | np.generic | np.dtype):
        return f"{type(value).__name__} {value!r}"
    if isinstance(value, tuple | list):
        return f"[{', '.join(_text(item, seen) for item in value)}]"
    if isinstance(value, np.ndarray) and not value.dtype.hasobject:
        return f"{value.dtype} {value.shape} {value.tobytes().hex()}"
    if isinstance(value, types.Type):
        return f"type {value}"
    for wrapped in ("py_func", "_defn"):  # a device function, an intrinsic
        function = getattr(value, wrapped, None)
        if hasattr(function, "__closure__"):
            return _captured(function, seen)
    if hasattr(value, "__closure__") and hasattr(value, "__code__"):
        return _captured(value, seen)
    raise _NoText
