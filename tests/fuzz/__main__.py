"""The command: ``python -m tests.fuzz --help``."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from . import runner

_MINUTES = 10.0


def main() -> int:
    """Run what is asked for; 1 if something failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("part", choices=[*runner.PARTS, "all"])
    parser.add_argument(
        "--minutes", type=float, help=f"in all ({_MINUTES:g}, unless a count or a seed is given)"
    )
    parser.add_argument("--seed", type=int, help="of the first case; alone, of the only one (0)")
    parser.add_argument("--count", type=int, help="cases of each part")
    parser.add_argument("--jobs", type=int, default=1, help="processes (%(default)s)")
    parser.add_argument("--keep", type=Path, help="folder for what fails (a new one)")
    options = parser.parse_args()
    parts = list(runner.PARTS) if options.part == "all" else [options.part]
    count, minutes = options.count, options.minutes
    if count is None and minutes is None:
        count, minutes = (None, _MINUTES) if options.seed is None else (1, None)
    seconds = float("inf") if minutes is None else 60 * minutes / len(parts)
    keep = options.keep or Path(tempfile.mkdtemp(prefix="nbconv-fuzz-"))
    keep.mkdir(parents=True, exist_ok=True)
    failed = 0
    for part in parts:
        seeds = runner.seeds_from(options.seed or 0, count)
        report = runner.run(part, seeds, keep, seconds=seconds, jobs=options.jobs, out=sys.stderr)
        _tell(report, keep)
        failed += len(report.failures)
    return 1 if failed else 0


def _tell(report: runner.Report, keep: Path) -> None:
    print(f"{report.part}: {report.cases:,} cases in {report.seconds:.0f} s, {len(report.failures)} failed")
    for sort, seeds in report.sorts().items():
        text = report.failures[seeds[0]]
        (keep / f"{report.part}-{seeds[0]}.txt").write_text(text, errors="replace")
        print(f"\n{len(seeds)} x {sort}\n{text}")
        print(f"again: python -m tests.fuzz {report.part} --seed {seeds[0]}")
    if report.failures:
        print(f"\nwhat failed is in {keep}")


if __name__ == "__main__":
    sys.exit(main())
