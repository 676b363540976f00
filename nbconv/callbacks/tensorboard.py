"""Scalars for TensorBoard.

An event file is a row of records: the length of the data (8 bytes, little-endian), the masked CRC-32C of
these 8 bytes, the data, and their masked CRC-32C. The data are protocol-buffer messages, of which scalars
need four fields:

    Event:    1 wall_time (double)   2 step (int64)   3 file_version (string)   5 summary   7 session_log
    Summary:  1 value, repeated      Value: 1 tag (string), 2 simple_value (float)
    SessionLog: 1 status (1 is START: forget what came at this step and behind)

Source: TensorFlow's event.proto, summary.proto and lib/io/record_writer.
"""

from __future__ import annotations

import math
import os
import secrets
import socket
import struct
import time
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

from nbconv.callbacks.base import Callback, TrainingState
from nbconv.callbacks.enduring import Enduring

_POLYNOMIAL = 0x82F63B78  # Castagnoli's, its bits reversed


class TensorBoardLogger(Callback):
    """Writes the numbers of ``History`` after each epoch, for ``tensorboard --logdir DIRECTORY``.

    A resumed run writes a file of its own, which takes the place of what came behind its checkpoint. When the
    disk is full during the run, training goes on.

    Args:
        directory: made if it is not there.
    """

    def __init__(self, directory: str | os.PathLike[str]) -> None:
        self.directory = Path(directory)
        self._enduring = Enduring(self.directory)
        self._file: BinaryIO | None = None

    def on_train_begin(self, state: TrainingState) -> None:
        """Begin a file.

        Raises:
            OSError: if it cannot be written.
        """
        self.directory.mkdir(parents=True, exist_ok=True)
        name = f"events.out.tfevents.{int(time.time())}.{socket.gethostname()}.{secrets.token_hex(4)}"
        self._file = (self.directory / name).open("wb")
        self._write(0, _bytes(3, b"brain.Event:2"))
        if state.history.epochs:
            self._write(state.history.epochs + 1, _bytes(7, _varint(1 << 3) + _varint(1)))

    def on_epoch_end(self, state: TrainingState) -> None:
        """Write the epoch's numbers, at the step that is its number."""
        with self._enduring.attempt():
            self._write(state.epoch + 1, _bytes(5, _summary(state.logs)))

    def on_train_end(self, state: TrainingState) -> None:
        """Close the file."""
        if self._file is not None:
            with self._enduring.attempt():
                self._file.close()
            self._file = None

    def _write(self, step: int, content: bytes) -> None:
        if self._file is None:
            return
        event = b"\x09" + struct.pack("<d", time.time()) + b"\x10" + _varint(step) + content
        length = struct.pack("<Q", len(event))
        self._file.write(length + _masked_crc(length) + event + _masked_crc(event))
        self._file.flush()


def _summary(numbers: Mapping[str, float]) -> bytes:
    values = (_bytes(1, name.encode()) + b"\x15" + _float32(v) for name, v in numbers.items())
    return b"".join(_bytes(1, value) for value in values)


def _float32(value: float) -> bytes:
    """The number rounded to float32; what is too large becomes infinite."""
    try:
        return struct.pack("<f", value)
    except OverflowError:
        return struct.pack("<f", math.copysign(math.inf, value))


def _bytes(field: int, content: bytes) -> bytes:
    """A field of bytes, a string or a message."""
    return _varint(field << 3 | 2) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    """Seven bits a byte, the lowest first; the eighth says that more follow."""
    parts = []
    while value > 0x7F:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*parts, value])


def _masked_crc(data: bytes) -> bytes:
    crc = crc32c(data)
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)


def crc32c(data: bytes) -> int:
    """The CRC-32C of ``data``, bit by bit: the files are small."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (_POLYNOMIAL if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF
