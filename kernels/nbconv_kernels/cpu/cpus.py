"""How many CPUs this process may keep busy: no more than its affinity and its container allow."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path

_CGROUPS = Path("/sys/fs/cgroup")
_OWN_GROUPS = Path("/proc/self/cgroup")


def available() -> int:
    """CPUs that threads of this one may run on, or fewer where a container's quota is less than that."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min([count, *map(math.ceil, _quotas())]))


def _quotas() -> Iterator[float]:
    """The CPUs' worth of time that each control group around this process allows, where one sets a limit.

    Source: Linux kernel documentation, "Control Group v2" (``cpu.max``) and, of version 1, "CFS Bandwidth
    Control".
    """
    try:
        groups = [line.split(":", 2) for line in _OWN_GROUPS.read_text().splitlines()]
    except OSError:  # no Linux
        return
    for number, controllers, path in groups:
        if number == "0":
            root, names = _CGROUPS, ("cpu.max",)
        elif "cpu" in controllers.split(","):
            root, names = _CGROUPS / "cpu", ("cpu.cfs_quota_us", "cpu.cfs_period_us")
        else:
            continue
        inner = Path(path.lstrip("/"))
        for group in (
            inner,
            *inner.parents,
        ):  # in a container the path may be one of the host's, and not here
            try:
                quota, period = " ".join((root / group / name).read_text() for name in names).split()
            except (OSError, ValueError):
                continue
            if quota not in ("max", "-1"):
                yield int(quota) / int(period)
