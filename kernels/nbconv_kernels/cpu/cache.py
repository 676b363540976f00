"""Compiled kernels on disk, such that a stale one can never run.

Numba's own cache watches the file a function stands in, not the files it imports, keeps an index that two
processes can overwrite for each other, and runs what it finds. Here the directory is named by a digest of
every file that CPU kernels are made from and of the compilers' versions, so any edit starts an empty one, and
each signature has its own file there; a kernel of another package is not kept. ``disk_cache`` tells where
that is, and whose files are read.
"""

from __future__ import annotations

import functools
import hashlib
import pickle
import platform
import sys
from pathlib import Path
from typing import Any

import llvmlite
import numba
from numba.core import caching, config
from numba.core.compiler import CompileResult
from numba.core.serialize import dumps

from nbconv_kernels import disk_cache
from nbconv_kernels.cpu.simd import SIMD


@functools.cache
def _sources() -> disk_cache.Sources:
    return disk_cache.Sources("cpu")


@functools.cache
def place() -> disk_cache.Place:
    """Where this process keeps its kernels: what decides a kernel's code, but for the CPU, is in the name.

    Numba keys the CPU itself.
    """
    settings = (config.OPT, config.LOOP_VECTORIZE, config.SLP_VECTORIZE, config.BOUNDSCHECK)
    debugging = (config.DEBUGINFO_DEFAULT, sys.flags.optimize)
    versions = (platform.python_version(), numba.__version__, llvmlite.__version__, SIMD.name)
    return disk_cache.prepared(_sources().digest([*versions, repr(settings), repr(debugging)]))


def directory() -> Path | None:
    """The directory of this process's kernels, or None where none are kept."""
    return place().path


class _Cache(caching.FunctionCache):
    """A kernel's compiled signatures, each in a file named by its key."""

    def __init__(self, function: Any) -> None:
        self._py_func = function
        self._name = f"{function.__module__}.{function.__qualname__}-{function.__code__.co_firstlineno}"

    @property
    def cache_path(self) -> str:
        return str(directory())

    def flush(self) -> None:
        """Nothing: there is no index, and each file is replaced by itself."""

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        target_context.refresh()
        data = place().read(self._file_of(sig, target_context.codegen()))
        if data is None:
            return None
        try:
            return CompileResult._rebuild(target_context, *pickle.loads(data))
        except Exception:  # whole, and yet nothing that can be built here: compile anew
            return None

    def save_overload(self, sig: Any, result: Any) -> None:
        if not result.library.has_dynamic_globals:  # addresses in this process
            place().write(self._file_of(sig, result.codegen), dumps(result._reduce()))

    def _file_of(self, sig: Any, codegen: Any) -> str:
        key = hashlib.sha256(repr(self._index_key(sig, codegen)).encode()).hexdigest()
        return f"{self._name}.{key[:32]}.nbc"


def enable(dispatcher: Any) -> None:
    """Keep ``dispatcher``'s machine code on disk, where there is a place for it."""
    function = dispatcher.py_func
    if directory() is not None and _sources().hold(function.__module__):
        dispatcher._cache = _Cache(function)
