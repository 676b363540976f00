"""Locks and forks: a child has only the thread that forked, so nobody lets go of what another thread held."""

from __future__ import annotations

import os
from typing import Any

__all__ = ["wait_for"]


def wait_for(lock: Any) -> None:
    """Let the process fork only when nobody else holds ``lock``, so what it guards is whole in the child.

    Who holds it must wait for no other such lock, and not for long.
    """
    os.register_at_fork(before=lock.acquire, after_in_parent=lock.release, after_in_child=lock.release)
