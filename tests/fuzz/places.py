"""Where the fuzzer's own files are."""

from __future__ import annotations

import os

_MEMORY = "/dev/shm"


def in_memory() -> str | None:
    """A folder that is in memory, where there is one: thousands of small files need no disk."""
    return _MEMORY if os.access(_MEMORY, os.W_OK) else None
