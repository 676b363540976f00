"""Compiled kernels on disk, such that a stale one can never run.

Numba's own cache watches the file a function stands in, not the files it imports, and keeps an index that two
processes can overwrite for each other. Here the directory is named by a digest of every source file that CPU
kernels are made from and of the compilers' versions, so any edit starts an empty one, and each signature has
its own file, written under another name and renamed. ``disk_cache`` tells where that is.
"""

from __future__ import annotations

import functools
import hashlib
import platform
from pathlib import Path
from typing import Any

import llvmlite
import numba
from numba.core import caching

from nbconv_kernels import disk_cache
from nbconv_kernels.cpu.simd import SIMD


@functools.cache
def source_digest() -> str:
    """A digest of all that decides a kernel's machine code, except the CPU (Numba keys that itself)."""
    root = Path(__file__).resolve().parent.parent
    return disk_cache.digest_of(
        (platform.python_version(), numba.__version__, llvmlite.__version__, SIMD.name),
        [*root.glob("*.py"), *root.joinpath("cpu").rglob("*.py")],
    )


@functools.cache
def directory() -> Path | None:
    """The directory of this process's kernels, or None where none can be written."""
    return disk_cache.prepared(source_digest())


class _Locator(caching._CacheLocator):
    def __init__(self, function: Any, path: Path) -> None:
        self._py_file = function.__code__.co_filename
        self._name = f"{function.__module__}-{function.__code__.co_firstlineno}"
        self._path = path

    def get_cache_path(self) -> str:
        return str(self._path)

    def get_source_stamp(self) -> str:
        return source_digest()

    def get_disambiguator(self) -> str:
        return self._name

    @classmethod
    def from_function(cls, function: Any, _file: str) -> _Locator | None:
        path = directory()
        return cls(function, path) if path is not None else None


class _Implementation(caching.CompileResultCacheImpl):
    _locator_classes = [_Locator]  # noqa: RUF012 - Numba's own form


class _FilePerSignature(caching.IndexDataCacheFile):
    """A kernel's compiled signatures, each in a file named by its key."""

    def _file_of(self, key: Any) -> str:
        return f"{self._index_name[:-4]}.{hashlib.sha256(repr(key).encode()).hexdigest()[:16]}.nbc"

    def save(self, key: Any, data: Any) -> None:
        self._save_data(self._file_of(key), (repr(key), data))

    def load(self, key: Any) -> Any:
        try:
            stored, data = self._load_data(self._file_of(key))
        except Exception:  # absent, cut short by a full disk, or written by something else: compile anew
            return None
        return data if stored == repr(key) else None


class _Cache(caching.FunctionCache):
    _impl_class = _Implementation

    def __init__(self, function: Any) -> None:
        super().__init__(function)
        self._cache_file = _FilePerSignature(
            cache_path=self._cache_path,
            filename_base=self._impl.filename_base,
            source_stamp=source_digest(),
        )


def enable(dispatcher: Any) -> None:
    """Keep ``dispatcher``'s machine code on disk, where there is a place for it."""
    if directory() is not None:
        dispatcher._cache = _Cache(dispatcher.py_func)
