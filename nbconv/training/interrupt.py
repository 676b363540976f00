"""Ctrl-C during training."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from nbconv.callbacks.base import TrainingState


@contextmanager
def stop_on_interrupt(state: TrainingState) -> Iterator[None]:
    """Let the first Ctrl-C stop the run behind the current step, and a second one at once.

    Only in the main thread, the only one that gets signals, and where nobody else handles them.
    """
    handled = (
        threading.current_thread() is threading.main_thread()
        and signal.getsignal(signal.SIGINT) is signal.default_int_handler
    )
    if not handled:
        yield
        return

    def stop(number: int, frame: FrameType | None) -> None:
        if state.history.interrupted:
            raise KeyboardInterrupt
        state.history.interrupted = True

    signal.signal(signal.SIGINT, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
