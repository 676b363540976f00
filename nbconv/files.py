"""Files that appear whole or not at all.

A file is written in a folder of its own beside its place, ``.NAME.RANDOM.tmp``, and moved when it is on
the disk. The writer holds a lock on that folder, which ends with its process: so the next one to write NAME
knows what a killed one has left, and removes it.
"""

from __future__ import annotations

import fcntl
import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_CONTENT = "content"


@contextmanager
def whole_file(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A path to write to in the block; behind it the file is at ``path``, unless the block failed.

    Raises:
        OSError: if it cannot be written.
    """
    target = Path(path).resolve()
    _remove_left(target)
    folder, lock = _locked_folder(target)
    try:
        temporary = folder / _CONTENT
        temporary.touch()
        rights = temporary.stat().st_mode & 0o777
        yield temporary
        temporary.chmod(rights)  # some writers make a file that only its owner can read
        _flush_to_disk(temporary)
        os.replace(temporary, target)
    finally:
        _remove(folder)
        os.close(lock)
    _flush_to_disk(target.parent)


def _locked_folder(target: Path) -> tuple[Path, int]:
    """A new folder beside ``target``, and the descriptor that holds its lock."""
    while True:
        folder = target.with_name(f".{target.name}.{secrets.token_hex(4)}.tmp")
        try:
            folder.mkdir()
        except OSError as error:
            raise type(error)(error.errno, error.strerror, str(target)) from None
        with suppress(FileNotFoundError):  # removed by another one before it was locked
            lock = os.open(folder, os.O_RDONLY)
            with suppress(OSError):  # where there are no locks, nobody can take the folder for a killed one's
                fcntl.flock(lock, fcntl.LOCK_EX)
            if _is_there(folder, lock):
                return folder, lock
            os.close(lock)


def _is_there(folder: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(os.stat(folder), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _remove_left(target: Path) -> None:
    """Remove what killed processes have left of ``target``; what cannot be removed stays."""
    ours = re.compile(rf"\.{re.escape(target.name)}\.[0-9a-f]{{8}}\.tmp")
    with suppress(OSError):
        for name in os.listdir(target.parent):
            if ours.fullmatch(name):
                _remove_if_left(target.parent / name)


def _remove_if_left(folder: Path) -> None:
    with suppress(OSError):
        lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _remove(folder)
        finally:
            os.close(lock)


def _remove(folder: Path) -> None:
    with suppress(OSError):
        for entry in folder.iterdir():
            entry.unlink()
        folder.rmdir()


def _flush_to_disk(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
