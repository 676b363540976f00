"""Measuring in a process of its own, for what one process cannot be twice."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

from nbconv.errors import NbconvError

_TIMEOUT = 900  # seconds


def measure(module: str, arguments: Mapping[str, Any], environment: Mapping[str, str]) -> Any:
    """What ``python -m nbconv.bench.MODULE`` prints as JSON on its last line.

    Args:
        module: run with the arguments as one JSON object.
        arguments: of its measuring function, by name.
        environment: on top of this process's.

    Raises:
        NbconvError: if it fails, with the last line of what it complained about, or goes on for too long.
    """
    command = [sys.executable, "-m", f"nbconv.bench.{module}", json.dumps(arguments)]
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=_TIMEOUT,
            env={**os.environ, **environment},
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise NbconvError(f"{module}: no result after {_TIMEOUT} s of {dict(arguments)}") from None
    if done.returncode:
        reason = " ".join(done.stderr.strip().splitlines()[-1:])
        raise NbconvError(f"{module}: the process for {dict(arguments)} failed: {reason}")
    return json.loads(done.stdout.splitlines()[-1])
