"""Training runs that are killed, and go on from their checkpoint: to the bits of a run that never stopped.

A run of ``Trainer`` with all that has state (``resumed_run``), or of ``nbconv train`` on a few pictures, is
made in children of this process, which fork before anything has threads. First undisturbed; then a child is
killed by SIGKILL at its n-th call of anything, or in the middle of writing a file, or by the clock. What it
has written must be whole and of the last step that it said was saved; from there the next child goes on.
After one to three kills the last one must end as the first did, with nothing left behind.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import tempfile
import time
import traceback
from pathlib import Path
from typing import NamedTuple

import numpy as np

from nbconv.errors import NbconvError
from nbconv.training import snapshot

from .runs import Run, drawn

_LATE = 120.0


class Ended(NamedTuple):
    """How a child ended: its status, the calls it made, and those of them made while a file was written."""

    status: int
    calls: int
    writing: list[int]
    seconds: float
    told: str


def run(seed: int, keep: Path | None = None) -> str | None:
    """What is wrong with the case of a seed; None if nothing is."""
    rng = np.random.default_rng([seed, 7])
    case = drawn(rng)
    with tempfile.TemporaryDirectory() as place:
        straight, killed = Path(place) / "straight", Path(place) / "killed"
        straight.mkdir()
        killed.mkdir()
        whole = child(case, straight, None)
        if whole.status != 0:
            return f"{case}: a run that is not killed fails: {whole.told}"
        told = f"{case}; killed"
        for _ in range(int(rng.integers(1, 4))):
            at, how = _moment(rng, whole)
            ended = child(
                case, killed, at, after=float(rng.uniform(0, whole.seconds)) if at is None else None
            )
            told += f" {how}" if ended.status else f" ({how}, too late)"
            if ended.status not in (0, -signal.SIGKILL):
                return f"{told}: a child fails: {ended.told}"
            if (wrong := _lost(case, killed)) is not None:
                return f"{told}: {wrong}"
            if ended.status == 0:
                break
        last = ended if ended.status == 0 else child(case, killed, None)
        if last.status != 0:
            return f"{told}: the last run fails: {last.told}"
        return _differs(case, straight, killed, told)


def _moment(rng: np.random.Generator, whole: Ended) -> tuple[int | None, str]:
    """The call to be killed at, or None for one by the clock."""
    kind = rng.integers(4)
    if kind == 0 or not whole.calls:
        return None, "by the clock"
    if kind == 1 or not whole.writing:
        call = int(rng.integers(whole.calls))
        return call, f"at call {call} of {whole.calls}"
    call = whole.writing[rng.integers(len(whole.writing))]
    return call, f"at call {call} of {whole.calls}, in writing"


def child(case: Run, folder: Path, at: int | None, after: float | None = None) -> Ended:
    """Run a case in a folder, in a process that is killed at its call ``at`` or ``after`` so many seconds."""
    told = folder.parent / "told.txt"
    begin = time.monotonic()
    process = os.fork()
    if not process:
        _run_and_leave(case, folder, told, at)
    end = begin + (_LATE if after is None else after)
    while True:
        done, status = os.waitpid(process, os.WNOHANG)
        if done:
            break
        if time.monotonic() > end:
            os.kill(process, signal.SIGKILL)
        time.sleep(0.002)
    calls, writing = json.loads((folder.parent / "calls.json").read_text()) if status == 0 else (0, [])
    text = told.read_text(errors="replace")[-2000:]
    return Ended(os.waitstatus_to_exitcode(status), calls, writing, time.monotonic() - begin, text)


def _run_and_leave(case: Run, folder: Path, told: Path, at: int | None) -> None:
    status = 1
    try:
        out = os.open(told, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(out, 1)
        os.dup2(out, 2)
        os.chdir(folder)
        counter = _Counter(at)
        if case.counted:
            sys.setprofile(counter)
        try:
            case.run(folder)
        finally:
            sys.setprofile(None)
        (folder.parent / "calls.json").write_text(json.dumps([counter.calls, counter.writing]))
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


class _Counter:
    """Counts all calls of the main thread, and ends the process at one of them as nothing else does."""

    def __init__(self, at: int | None) -> None:
        self.at, self.calls, self.writing = at, 0, list[int]()

    def __call__(self, frame, event, argument) -> None:
        if event not in ("call", "c_call"):
            return
        if self.calls == self.at:
            os.kill(os.getpid(), signal.SIGKILL)
        if frame.f_code.co_filename.endswith(("nbconv/files.py", "nbconv/serialization.py")):
            self.writing.append(self.calls)
        self.calls += 1


def _lost(case: Run, folder: Path) -> str | None:
    """Whether the checkpoint is damaged, or of a step before the last that was said to be saved."""
    checkpoint, saved = folder / case.checkpoint, folder / "saved.txt"
    steps = saved.read_text().split() if saved.exists() else []
    if not checkpoint.exists():
        return f"there is no checkpoint, though step {steps[-1]} was saved" if steps else None
    try:
        step = snapshot.load(checkpoint).run["step"]
    except (NbconvError, OSError) as error:
        return f"the checkpoint cannot be read: {error}"
    return (
        f"the checkpoint is of step {step}, not of {steps[-1]}" if steps and step < int(steps[-1]) else None
    )


def _differs(case: Run, straight: Path, killed: Path, told: str) -> str | None:
    expected, actual = case.ended(straight), case.ended(killed)
    if expected.keys() != actual.keys():
        return f"{told}: {sorted(expected.keys() ^ actual.keys())} in one of the runs only"
    for name, value in expected.items():
        if not np.array_equal(actual[name], value, equal_nan=value.dtype.kind == "f"):
            return f"{told}: {name} differs from the run that was not killed: {actual[name]!r:.200}"
    names = [sorted(os.listdir(folder)) for folder in (straight, killed)]
    return None if names[0] == names[1] else f"{told}: it leaves {names[1]}, not {names[0]}"
