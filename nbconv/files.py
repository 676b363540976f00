"""Files that appear whole or not at all.

A file is written beside its place, as ``.nbconv-DIGEST OF ITS NAME-RANDOM.tmp``, and moved when it is on the
disk. The writer holds a lock on it, which ends with its process: so the next one to write to that place knows
what a killed one has left, and removes it. Devices and pipes are not replaced; they are written to.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import re
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import BinaryIO

_TEMPORARY = re.compile(r"\.nbconv-[0-9a-f]{16}-[0-9a-f]{8}\.tmp")


@contextmanager
def whole_file(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """A stream to write to in the block; behind it the file is at ``path``, unless the block failed.

    A link is followed. A file that was there gives the new one its rights.

    Raises:
        OSError: if it cannot be written; it names ``path``.
    """
    given = os.fspath(path)
    before = _found(given)
    if before is not None and not stat.S_ISREG(before.st_mode):
        with _naming(given), open(given, "wb") as stream:
            yield stream
        return
    place, name = os.path.split(os.path.realpath(given))
    with _naming(given, place), _opened_folder(place) as folder:
        _remove_left(folder, name)
        temporary, file = _locked_file(folder, name, 0o666 if before is None else 0o600)
        try:
            with os.fdopen(file, "wb") as stream:
                yield stream
                stream.flush()
                if before is not None:
                    _take_over_rights(file, before)
                os.fsync(file)
                os.replace(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)
        except BaseException:
            with suppress(OSError):
                os.unlink(temporary, dir_fd=folder)
            raise
        with suppress(OSError):  # not every file system can
            os.fsync(folder)


def check_writable(path: str | os.PathLike[str]) -> None:
    """Find out what can be known before there is anything to write.

    Raises:
        OSError: as :func:`whole_file` would.
    """
    given = os.fspath(path)
    before = _found(given)
    if before is None or stat.S_ISREG(before.st_mode):
        place = os.path.dirname(os.path.realpath(given))
        if not os.path.isdir(place):
            raise FileNotFoundError(errno.ENOENT, f"there is no directory {place}", given)
    else:
        place = given
    if not os.access(place, os.W_OK):
        raise PermissionError(errno.EACCES, f"nothing may be written to {place}", given)


def _found(path: str) -> os.stat_result | None:
    """What is at ``path`` now, behind links; None if nothing is.

    Raises:
        IsADirectoryError: for a directory.
    """
    try:
        found = os.stat(path)
    except FileNotFoundError:
        return None
    if stat.S_ISDIR(found.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
    return found


@contextmanager
def _naming(path: str, place: str | None = None) -> Iterator[None]:
    """Let errors name the file that was asked for, not the folder and the file that we have opened for it."""
    try:
        yield
    except OSError as error:
        about = error.filename
        ours = about is None or about == place or (isinstance(about, str) and _TEMPORARY.fullmatch(about))
        if not ours or error.errno is None:
            raise
        raise type(error)(error.errno, error.strerror, path) from error


@contextmanager
def _opened_folder(path: str) -> Iterator[int]:
    folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield folder
    finally:
        os.close(folder)


def _beginning(name: str) -> str:
    """Of the names of temporary files for ``name``, which may itself be as long as a name can be."""
    return f".nbconv-{hashlib.sha256(os.fsencode(name)).hexdigest()[:16]}-"


def _locked_file(folder: int, name: str, rights: int) -> tuple[str, int]:
    """A new file's name in the folder, and the descriptor that holds its lock."""
    while True:
        temporary = f"{_beginning(name)}{secrets.token_hex(4)}.tmp"
        file = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL, rights, dir_fd=folder)
        with suppress(OSError):  # where there are no locks, nobody can take the file for a killed one's
            fcntl.flock(file, fcntl.LOCK_EX)
        with suppress(FileNotFoundError):  # removed by another one before it was locked
            if os.path.samestat(os.stat(temporary, dir_fd=folder), os.fstat(file)):
                return temporary, file
        os.close(file)


def _remove_left(folder: int, name: str) -> None:
    """Remove what killed processes have left of ``name``; what cannot be removed stays."""
    beginning = _beginning(name)
    with suppress(OSError):
        for entry in os.listdir(folder):
            if entry.startswith(beginning) and _TEMPORARY.fullmatch(entry):
                _remove_if_left(folder, entry)


def _remove_if_left(folder: int, entry: str) -> None:
    with suppress(OSError):
        file = os.open(entry, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=folder)
        try:
            found = os.fstat(file)
            if stat.S_ISREG(found.st_mode) and found.st_uid == os.geteuid():
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                os.unlink(entry, dir_fd=folder)
        finally:
            os.close(file)


def _take_over_rights(file: int, before: os.stat_result) -> None:
    """Give a file the owner, group and rights of the one that it replaces; never rights for another group."""
    rights = stat.S_IMODE(before.st_mode) & 0o777
    with suppress(OSError):  # only root may give files away
        os.fchown(file, before.st_uid, -1)
    try:
        os.fchown(file, -1, before.st_gid)
    except OSError:
        rights &= 0o707
    os.fchmod(file, rights)
