"""A process that runs cases, one after the other, as the runner names their seeds.

    python -m tests.fuzz.worker PART KEEP [MODULE ...]

reads a seed a line, and writes for each a line of JSON: what is wrong, or null. The modules are imported
first: tests plant faults by them.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import traceback
import warnings
from pathlib import Path


def main(part: str, keep: str, *modules: str) -> None:
    """Answer until the runner closes its end."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what is printed is not for the runner
    warnings.simplefilter("ignore")
    cases = importlib.import_module(f".{part}", __package__)
    for module in modules:
        importlib.import_module(module)
    for line in sys.stdin:
        try:
            found = cases.run(int(line), Path(keep))
        except Exception:
            found = f"the fuzzer itself: {traceback.format_exc()}"
        print(json.dumps(found), file=answers)


if __name__ == "__main__":
    main(*sys.argv[1:])
