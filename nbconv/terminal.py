"""Standard output as it may really be, missing, closed, of few letters; and what is fit to be shown there."""

from __future__ import annotations

import io
import os
import unicodedata
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from rich.console import Console

_WIDTH = 80  # of a terminal that does not tell


def visible(text: str) -> str:
    """``text`` with escape sequences in place of all that would not be shown as it is.

    Names of classes, messages about files, whatever somebody else wrote, may hold characters that command a
    terminal, begin a line or turn the direction of writing.
    """
    if text.isprintable():
        return text
    return "".join(c if _is_shown(c) else c.encode("unicode_escape").decode("ascii") for c in text)


def _is_shown(character: str) -> bool:
    return character.isprintable() or unicodedata.category(character) == "Zs"


def say(text: str, file: TextIO | EnduringStream | None = None) -> None:
    """Print a line, in which all that somebody else wrote is :func:`visible`."""
    print(visible(text), file=file)


class EnduringStream(io.TextIOBase):
    """A stream that takes everything, whether or not it can be written: who reports does not fail by that.

    Args:
        stream: such as ``sys.stdout``; None for none, which is how Python tells of a closed one.

    Attributes:
        failure: why nothing is written any more, or None.
    """

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = stream
        self.failure: OSError | ValueError | None = None

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """Of the stream."""
        return getattr(self._stream, "encoding", None) or "utf-8"

    def wraps(self, stream: TextIO | None) -> bool:
        """Whether this is that stream."""
        return self._stream is stream

    def writable(self) -> bool:
        """It always is."""
        return True

    def write(self, text: str) -> int:
        """Write what can be written, characters that the encoding lacks as escape sequences."""
        if self._stream is not None and self.failure is None:
            try:
                self._stream.write(self._encodable(text))
            except (OSError, ValueError) as error:
                self.failure = error
        return len(text)

    def flush(self) -> None:
        """Flush, if that is of use."""
        if self._stream is not None and self.failure is None:
            try:
                self._stream.flush()
            except (OSError, ValueError) as error:
                self.failure = error

    def isatty(self) -> bool:
        """Whether the stream is a terminal."""
        try:
            return self._stream is not None and self.failure is None and self._stream.isatty()
        except (OSError, ValueError):
            return False

    def fileno(self) -> int:
        """Of the stream.

        Raises:
            OSError: if it has none.
        """
        if self._stream is None:
            raise io.UnsupportedOperation("fileno")
        return self._stream.fileno()

    def _encodable(self, text: str) -> str:
        if text.isascii():
            return text
        try:
            text.encode(self.encoding, getattr(self._stream, "errors", None) or "strict")
        except (UnicodeError, LookupError):
            return text.encode("ascii", "backslashreplace").decode("ascii")
        return text


def enduring(stream: TextIO | EnduringStream | None) -> EnduringStream:
    """A stream such as ``sys.stdout``, made to endure."""
    return stream if isinstance(stream, EnduringStream) else EnduringStream(stream)


def console(stream: TextIO | EnduringStream | None) -> Console:
    """A console of rich's that writes to a stream, whatever that is."""
    from rich.console import Console

    unknown = (
        os.environ.get("COLUMNS", "").strip("0") == "" and "COLUMNS" in os.environ
    )  # rich takes 0 for true
    return Console(file=enduring(stream), width=_WIDTH if unknown else None, highlight=False)  # type: ignore[arg-type]
