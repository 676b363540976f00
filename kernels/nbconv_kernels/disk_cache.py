"""Where compiled kernels are kept on disk, such that a stale one can never run.

The directory is named by a digest of the sources and the compilers' versions that decide what is compiled,
so any edit starts an empty one. The place is ``$NBCONV_CACHE_DIR``, or ``nbconv`` in the user's cache
directory. Where it cannot be written, kernels are compiled anew in each process.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path

__all__ = ["base_directory", "digest_of", "prepared", "read", "write"]

_KEPT = 4  # digests whose kernels stay on disk: a few branches of a checkout, a few versions
_DIGEST = 20


def base_directory() -> Path:
    """The directory that holds one directory of kernels for each state of the sources."""
    chosen = os.environ.get("NBCONV_CACHE_DIR")
    if chosen:
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "nbconv"


def digest_of(versions: Iterable[str], sources: Iterable[Path]) -> str:
    """A digest of versions and of source files in this package, the same wherever the package lies."""
    root = Path(__file__).resolve().parent
    digest = hashlib.sha256()
    for version in versions:
        digest.update(version.encode() + b"\0")
    for path in sorted(sources):
        digest.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:_DIGEST]


def prepared(digest: str, kind: str = "") -> Path | None:
    """The directory for kernels of one kind and state of the sources, or None where none can be written."""
    try:
        path = base_directory() / (kind + digest)
        new = not path.exists()
        path.mkdir(parents=True, exist_ok=True)
        if not os.access(path, os.W_OK):
            return None
        if new:
            _drop_old(path, kind)
    except (OSError, RuntimeError):  # RuntimeError: there is no home directory
        return None
    return path


def _drop_old(path: Path, kind: str) -> None:
    """Remove the oldest directories of other states of the sources."""
    others = [
        p
        for p in path.parent.iterdir()
        if p != path and p.is_dir() and p.name.startswith(kind) and len(p.name) == len(path.name)
    ]
    others.sort(key=lambda p: p.stat().st_mtime, reverse=True)
    for stale in others[_KEPT - 1 :]:
        shutil.rmtree(stale, ignore_errors=True)


def write(path: Path, data: bytes) -> None:
    """Keep ``data``, whole or not at all; a full or read-only disk is no error."""
    with contextlib.suppress(OSError):
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=".")
        try:
            with os.fdopen(descriptor, "wb") as stream:
                stream.write(hashlib.sha256(data).digest() + data)
            os.replace(name, path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(name)
            raise


def read(path: Path) -> bytes | None:
    """What :func:`write` kept; None where there is nothing, or what there is was cut short or altered."""
    try:
        stored = path.read_bytes()
    except OSError:
        return None
    data = stored[32:]
    return data if hashlib.sha256(data).digest() == stored[:32] else None
