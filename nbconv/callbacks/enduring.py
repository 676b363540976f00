"""What a run tells of itself does not end it: a full disk, a pipe whose reader has left."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

_log = logging.getLogger("nbconv")


class Enduring:
    """Lets a run go on when something cannot be written to, and says so once.

    It says so by ``logging``, since a warning could be made an error, which would end the run.

    Args:
        what: cannot be written to.
    """

    def __init__(self, what: object) -> None:
        self._what, self._told = what, False

    @contextmanager
    def attempt(self) -> Iterator[None]:
        """Something that may fail."""
        try:
            yield
        except (OSError, ValueError) as error:  # ValueError: a stream that was closed, or lacks a letter
            self.tell(error)

    def tell(self, error: Exception) -> None:
        """Say that something has failed, unless that was said."""
        if not self._told:
            self._told = True
            reason = getattr(error, "strerror", None) or error
            _log.warning("nbconv: cannot write to %s: %s; training goes on", self._what, reason)
