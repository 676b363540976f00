"""Runs cases in worker processes, and tells what failed.

A worker that says nothing for too long is killed, and one that dies was killed by its case: both are
failures. Workers are replaced after some cases, so that what one leaves behind harms no other for long.
"""

from __future__ import annotations

import itertools
import json
import os
import re
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO

PARTS = {"networks": (300.0, 500), "files": (60.0, 3000), "kills": (180.0, 200)}
"""By part, the seconds that a case may take in all, and the cases of one worker."""

_ROOT = Path(__file__).resolve().parents[2]


@dataclass
class Report:
    """What came of one part.

    Attributes:
        cases: that were run.
        failures: by seed, what was wrong.
    """

    part: str
    cases: int = 0
    seconds: float = 0.0
    failures: dict[int, str] = field(default_factory=dict)

    def sorts(self) -> dict[str, list[int]]:
        """The seeds of failures that look alike: by their first lines and the last place in nbconv."""
        found: dict[str, list[int]] = {}
        for seed, text in sorted(self.failures.items()):
            first = re.sub(
                r"'[^']*'|\"[^\"]*\"|\([^)]*\)|/\S+|[-+\d.e]*\d|0x\w+", "*", text.partition("\n")[0]
            )
            places = re.findall(r"/(nbconv\w*/[\w/]+\.py)\", line (\d+)", text)
            found.setdefault(first[:120] + (f" at {':'.join(places[-1])}" if places else ""), []).append(seed)
        return found


def run(
    part: str,
    seeds: Iterable[int],
    keep: Path,
    *,
    seconds: float = float("inf"),
    jobs: int = 1,
    plant: Iterable[str] = (),
    out: TextIO | None = None,
) -> Report:
    """Run the cases of the seeds, or as many as there is time for."""
    report, seeds = Report(part), iter(seeds)
    begin = time.monotonic()
    with selectors.DefaultSelector() as selector:
        workers = [_Worker(part, keep, tuple(plant)) for _ in range(jobs)]
        try:
            for worker in workers:
                worker.next(seeds, selector)
            while selector.get_map():
                ready = {key.data for key, _ in selector.select(1.0)}
                for worker in [key.data for key in selector.get_map().values()]:
                    if worker not in ready and not worker.is_late:
                        continue
                    selector.unregister(worker.reads)
                    seed, failure = worker.answer()
                    report.cases += 1
                    if failure is not None:
                        report.failures[seed] = failure
                        if out is not None:
                            print(
                                f"FAILED {part} {seed}: {failure.partition(chr(10))[0][:200]}",
                                file=out,
                                flush=True,
                            )
                    over = time.monotonic() - begin > seconds
                    worker.next(iter(()) if over else seeds, selector)
        finally:
            for worker in workers:
                worker.stop()
    report.seconds = time.monotonic() - begin
    return report


class _Worker:
    """A process, and the case that it has been given."""

    def __init__(self, part: str, keep: Path, plant: tuple[str, ...]) -> None:
        self._arguments = (part, str(keep), *plant)
        self._limit, self._most = PARTS[part]
        self._last_words = keep / "stderr.txt"
        self._process: subprocess.Popen[str] | None = None
        self._done, self._seed, self._since = 0, 0, 0.0

    @property
    def reads(self) -> TextIO:
        assert self._process is not None
        assert self._process.stdout is not None
        return self._process.stdout

    @property
    def is_late(self) -> bool:
        return time.monotonic() - self._since > self._limit

    def next(self, seeds: Iterator[int], selector: selectors.BaseSelector) -> None:
        """Give it the next seed; none if there is no more."""
        for seed in seeds:
            if self._process is None or self._done >= self._most:
                self.stop()
                self._start()
            assert self._process is not None
            assert self._process.stdin is not None
            self._seed, self._since = seed, time.monotonic()
            self._process.stdin.write(f"{seed}\n")
            self._process.stdin.flush()
            selector.register(self.reads, selectors.EVENT_READ, self)
            return

    def answer(self) -> tuple[int, str | None]:
        """The seed, and what was wrong with its case."""
        if self.is_late:
            self.stop()
            return self._seed, f"Hang: no answer within {self._limit:g} s"
        line = self.reads.readline()
        self._done += 1
        if line:
            failure: str | None = json.loads(line)
            if failure is not None and ("MemoryError" in failure or "Hang" in failure):
                self._done = self._most  # who knows what it has left behind
            return self._seed, failure
        assert self._process is not None
        code = self._process.wait()
        self.stop()
        died = signal.Signals(-code).name if code < 0 else f"exit status {code}"
        return self._seed, f"Crash: the process ended with {died}"

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None

    def _start(self) -> None:
        environment = os.environ | {
            "MALLOC_ARENA_MAX": "2",  # each arena reserves address space, which is what is limited
            "MALLOC_PERTURB_": "128",  # fresh memory holds large numbers
            "OPENBLAS_NUM_THREADS": "1",
            "PYTHONPATH": os.pathsep.join([str(_ROOT / "tests"), *sys.path]),
        }
        command = [sys.executable, "-m", "fuzz.worker", *self._arguments]
        # What libraries say of damaged files, and the last words of those that abort.
        with self._last_words.open("a") as said:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=said,
                text=True,
                env=environment,
                cwd=_ROOT,
            )
        self._done = 0


def seeds_from(first: int, count: int | None) -> Iterator[int]:
    """The first seed and those behind it; without end if there is no count."""
    return iter(itertools.count(first) if count is None else range(first, first + count))
