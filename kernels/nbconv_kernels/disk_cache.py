"""Where compiled kernels are kept on disk: never stale, never somebody else's, never fatal.

A directory is named by a digest of the files that kernels come from and of the compilers' versions, so any
edit starts an empty one; where the files cannot be read, nothing is kept. The place is ``$NBCONV_CACHE_DIR``,
or ``nbconv`` in the user's cache directory, and may hold other things: only directories with a tag of ours in
them are ever removed.

What is kept is machine code, and pickles. So it is read only from a directory and files that this user owns
and nobody else may write, and only with the checksum under which it was stored. A disk that is full, or has
become read-only, costs time alone: then kernels are compiled anew in each process.
"""

from __future__ import annotations

import functools
import hashlib
import logging
import os
import re
import secrets
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from importlib import resources
from importlib.machinery import all_suffixes
from pathlib import Path
from typing import Any

__all__ = ["Place", "Sources", "base_directory", "prepared"]

_KEPT = 4  # digests whose kernels stay on disk: a few branches of a checkout, a few versions
_DIGEST = 20
_TAG = "CACHEDIR.TAG"  # programs that make backups know it: https://bford.info/cachedir
_TAG_TEXT = (
    b"Signature: 8a477f597d28d172789f06886806bc55\n"
    b"# Kernels that nbconv has compiled. It removes this directory when there are newer ones.\n"
)
_FILES = re.compile(r"\..+|.+\.(nbc|ptx|cubin)")  # what such a directory holds beside its tag
_SUFFIXES = tuple(all_suffixes())  # of source, bytecode and extension modules
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH

_log = logging.getLogger("nbconv")


class Untrusted(Exception):  # noqa: N818 - no error: kernels are compiled anew
    """A place that others own or may write to; the message says which and why."""


class Sources:
    """The files that decide what is compiled, wherever Python has the package from.

    Args:
        folder: of kernels in this package; the files beside the folders count as well.
        without: a folder in it that compiles nothing.
    """

    def __init__(self, folder: str, without: str | None = None) -> None:
        self._root: Any = None
        self._files: dict[str, bytes] = {}
        self._held: dict[str, bool] = {}  # by module
        with suppress(Exception):  # of whatever loads the package: a zip file that is gone, for one
            self._root = resources.files("nbconv_kernels")
            self._files = dict(_contents(self._root, folder, {"__pycache__", without}))

    def digest(self, versions: Iterable[str]) -> str | None:
        """One of the files and of what compiles them; None where there are no files to look at."""
        if not self._files:
            return None
        digest = hashlib.sha256()
        for version in versions:
            digest.update(version.encode() + b"\0")
        for name, content in sorted(self._files.items()):
            digest.update(f"{name}\0{len(content)}\0".encode() + content)
        return digest.hexdigest()[:_DIGEST]

    def hold(self, module: str) -> bool:
        """Whether a module, just imported, is one of them, and was not edited since the digest was made."""
        if module not in self._held:
            package, _, name = module.partition(".")
            path = name.replace(".", "/")
            wanted = [path + end + suffix for end in ("", "/__init__") for suffix in _SUFFIXES]
            found = [file for file in wanted if package == "nbconv_kernels" and file in self._files]
            self._held[module] = bool(found) and all(map(self._is_as_it_was, found))
        return self._held[module]

    def _is_as_it_was(self, name: str) -> bool:
        try:
            return bool(self._root.joinpath(name).read_bytes() == self._files[name])
        except Exception:  # as above
            return False


def _contents(root: Any, folder: str, left_out: set[str | None]) -> Iterator[tuple[str, bytes]]:
    """Names and contents of the package's own files and of those in ``folder``."""
    pending = [("", entry) for entry in root.iterdir() if entry.name == folder or not entry.is_dir()]
    while pending:
        where, entry = pending.pop()
        name = f"{where}{entry.name}"
        if entry.is_dir():
            if entry.name not in left_out:
                pending += [(f"{name}/", inner) for inner in entry.iterdir()]
        elif entry.name.endswith(_SUFFIXES):
            yield name, entry.read_bytes()


def base_directory() -> Path:
    """The directory that holds one directory of kernels for each state of the sources.

    Raises:
        RuntimeError: where there is no home directory to look in.
    """
    chosen = os.environ.get("NBCONV_CACHE_DIR")
    if chosen:
        return Path(chosen).absolute()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache").absolute() / "nbconv"


class Place:
    """A directory of kernels.

    Attributes:
        path: None where no kernels are kept.
        reason: then why not, else "".
    """

    def __init__(self, path: Path | None, reason: str = "") -> None:
        self.path, self.reason = path, reason

    def state(self) -> str:
        """In words, whether kernels are kept."""
        if self.path is None:
            return f"nothing is kept: {self.reason}"
        try:
            with self._opened() as folder:
                writable = os.access(".", os.W_OK, dir_fd=folder)
        except (OSError, Untrusted) as error:
            return f"nothing is kept: {error}"
        return "in use" if writable else "in use, but nothing can be added to it"

    def write(self, name: str, data: bytes) -> None:
        """Keep ``data``, whole or not at all; a full or read-only disk is no error."""
        with suppress(OSError, Untrusted), self._opened() as folder:
            temporary = f".{secrets.token_hex(8)}"
            file = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600, dir_fd=folder)
            try:
                with os.fdopen(file, "wb") as stream:
                    stream.write(self._checksum(name, data))
                    stream.write(data)
                os.replace(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)
            except BaseException:
                with suppress(OSError):
                    os.unlink(temporary, dir_fd=folder)
                raise

    def read(self, name: str) -> bytes | None:
        """What :meth:`write` kept under this name; None where there is nothing, or anything else."""
        try:
            with self._opened() as folder:
                file = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=folder)
                with os.fdopen(file, "rb") as stream:
                    _check_own(file, name)
                    stored = stream.read()
        except (OSError, Untrusted):
            return None
        data = stored[32:]
        return data if self._checksum(name, data) == stored[:32] else None

    @contextmanager
    def _opened(self) -> Iterator[int]:
        """A descriptor of the directory, looked at anew: it may be another one by now."""
        if self.path is None:
            raise Untrusted(self.reason)
        folder = _open_folder(self.path)
        try:
            _check_own(folder, self.path)
            yield folder
        finally:
            os.close(folder)

    def _checksum(self, name: str, data: bytes) -> bytes:
        """Of the name too, and the digest of the sources: no file stands for another one."""
        assert self.path is not None
        digest = hashlib.sha256(f"{self.path.name}/{name}\0".encode())
        digest.update(data)
        return digest.digest()


def prepared(digest: str | None, kind: str = "") -> Place:
    """The place for kernels of one kind and state of the sources, made if need be."""
    if digest is None:
        return Place(None, "the sources of the kernels cannot be read")
    try:
        base = base_directory()
        _prepare(base, digest, kind)
    except Untrusted as error:
        _say(str(error))
        return Place(None, str(error))
    except (OSError, RuntimeError) as error:  # RuntimeError: there is no home directory
        return Place(None, str(error))
    return Place(base / f"{kind}{digest}")


@functools.cache  # once
def _say(reason: str) -> None:
    """By logging: a warning would end a program in which warnings are errors."""
    _log.warning("nbconv: compiled kernels are not kept on disk: %s", reason)


def _prepare(base: Path, digest: str, kind: str) -> None:
    base.parent.mkdir(parents=True, exist_ok=True)
    with suppress(FileExistsError):
        base.mkdir(0o700)
    place = os.open(base, os.O_RDONLY | os.O_DIRECTORY)
    try:
        _check_base(place, base)
        name = f"{kind}{digest}"
        new = False
        with suppress(FileExistsError):
            os.mkdir(name, 0o700, dir_fd=place)
            new = True
        folder = _open_folder(name, place)
        try:
            _check_own(folder, base / name)
            _leave_tag(folder)
        finally:
            os.close(folder)
        if new:
            _drop_old(place, name, kind)
    finally:
        os.close(place)


def _check_base(descriptor: int, path: Path) -> None:
    """Raise Untrusted if somebody else could exchange the directories in this one."""
    found = os.fstat(descriptor)
    if found.st_uid not in (os.geteuid(), 0):
        raise Untrusted(f"{path} belongs to another user")
    if found.st_mode & _OTHERS_WRITE and not found.st_mode & stat.S_ISVTX:
        raise Untrusted(f"others may write to {path} (mode {stat.S_IMODE(found.st_mode):04o})")


def _check_own(descriptor: int, path: Path | str) -> None:
    """Raise Untrusted unless a directory or a file is this user's and nobody else may write to it."""
    found = os.fstat(descriptor)
    if found.st_uid != os.geteuid():
        raise Untrusted(f"{path} belongs to another user")
    if found.st_mode & _OTHERS_WRITE:
        raise Untrusted(f"others may write to {path} (mode {stat.S_IMODE(found.st_mode):04o})")


def _open_folder(path: Path | str, place: int | None = None) -> int:
    return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=place)


def _leave_tag(folder: int) -> None:
    """Mark a directory as one that may be removed; where that fails, it stays for ever."""
    with suppress(OSError):
        file = os.open(_TAG, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600, dir_fd=folder)
        with os.fdopen(file, "wb") as stream:
            stream.write(_TAG_TEXT)


def _has_tag(folder: int) -> bool:
    file = os.open(_TAG, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=folder)
    with os.fdopen(file, "rb") as stream:
        return stream.read(len(_TAG_TEXT) + 1) == _TAG_TEXT


def _drop_old(place: int, kept: str, kind: str) -> None:
    """Remove the oldest directories of other states of the sources: those that this user's nbconv made."""
    ours = re.compile(rf"{kind}[0-9a-f]{{{_DIGEST}}}")
    ages: list[tuple[float, str]] = []
    for name in os.listdir(place):
        if name != kept and ours.fullmatch(name):
            with suppress(OSError, Untrusted):
                folder = _open_folder(name, place)
                try:
                    _check_own(folder, name)
                    if _has_tag(folder):
                        ages.append((os.fstat(folder).st_mtime, name))
                finally:
                    os.close(folder)
    for _, name in sorted(ages, reverse=True)[_KEPT - 1 :]:
        with suppress(OSError, Untrusted):
            _remove(place, name)


def _remove(place: int, name: str) -> None:
    """Remove what we have made in a directory, and the directory if nothing else is in it."""
    folder = _open_folder(name, place)
    try:
        _check_own(folder, name)
        if not _has_tag(folder):
            return
        for entry in os.listdir(folder):
            if _FILES.fullmatch(entry):
                os.unlink(entry, dir_fd=folder)
        if os.listdir(folder) == [_TAG]:  # it goes last: what stays half done is known by it
            os.unlink(_TAG, dir_fd=folder)
            os.rmdir(name, dir_fd=place)
    finally:
        os.close(folder)
