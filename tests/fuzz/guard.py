"""What damaged input may cost, and what may come of it.

Loading takes memory and time in proportion to what is loaded: ``ROOM`` and 20 times its size of address
space, ``SECONDS`` of the CPU's time. It ends well, in an exception of nbconv's own, or in an OSError as the
documentation says; on the command line, in a line that begins with the command's name. All else is a failure:
another exception, a traceback, more memory or time, and, as the runner sees, a process that is gone.
"""

from __future__ import annotations

import contextlib
import errno
import io
import json
import resource
import signal
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import nbconv as nb

ROOM = 768 << 20  # bytes, above what the readers say they may take, see docs/reliability.md
TIMES = 20
SECONDS = 5.0
_NO_ROOM = ("MemoryError", "Unable to allocate", "annot allocate memory")
_USAGE, _INTERRUPTED = 2, 130


class Reached(BaseException):
    """Raised where a command would begin to compute: it has accepted its input."""


class _Late(BaseException):
    """The time is over."""


class Wrong(Exception):
    """Something came of an input that should not."""


def attempt(call: Callable[[], object], size: int) -> str | None:
    """Run ``call`` on an input of ``size`` bytes; what it does that it should not, or None."""
    try:
        with _limited(size):
            call()
    except (nb.NbconvError, Reached):
        return None
    except _Late:
        return f"Hang: it takes more than {SECONDS:g} s of the CPU's time\n{traceback.format_exc()}"
    except OSError as error:
        return _told(error) if error.errno in (None, errno.ENOMEM) else None
    except Exception as error:
        return _told(error)
    return None


def command(*arguments: str) -> None:
    """Run ``nbconv`` with arguments, and look at what it says.

    Raises:
        Wrong: if it says what it should not.
    """
    from nbconv.cli import main

    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = main(arguments)
        except SystemExit as left:
            code = left.code
            if code not in (0, _USAGE):
                raise Wrong(f"it leaves with {code!r}") from None
    said, told = out.getvalue(), err.getvalue()
    if any(text in told for text in _NO_ROOM):
        raise Wrong(f"it runs out of memory: {told[-300:]}")
    if "Traceback" in told:
        raise Wrong(f"it prints a traceback: {told[-2000:]}")
    if code == 1 and (not told.startswith("nbconv ") or told.count("\n") != 1):
        raise Wrong(f"it fails with more or less than a line of its own: {told!r}")
    if "\x1b" in said + told:
        raise Wrong(f"a file writes to the terminal: {(said + told)[:300]!r}")
    if code == 0 and "--json" in arguments:
        json.loads(said.rstrip("\n").rpartition("\n")[2])


def _told(error: BaseException) -> str:
    return f"{type(error).__name__}: {str(error)[:300]}\n{''.join(traceback.format_exception(error)[-12:])}"


@contextlib.contextmanager
def _limited(size: int) -> Iterator[None]:
    def late(*_: object) -> None:
        raise _Late

    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    before, hard = resource.getrlimit(resource.RLIMIT_AS)
    previous = signal.signal(signal.SIGPROF, late)
    resource.setrlimit(resource.RLIMIT_AS, (used + ROOM + TIMES * size, hard))
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, previous)
        resource.setrlimit(resource.RLIMIT_AS, (before, hard))
