"""Results on disk: one JSON file that keeps the latest row of every measurement, and tables of it.

Each row knows the run it is from, so that rows of several runs can stand in one file: only what is in one row
was measured side by side.
"""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from nbconv.bench.options import Row
from nbconv.files import whole_file

FILE = "bench.json"
_PACKAGES = ("nbconv", "numpy", "numba", "llvmlite", "torch", "onnxruntime", "openvino", "ncnn")


def conditions(threads: int) -> dict[str, Any]:
    """What a run's times depend on."""
    import llvmlite.binding as llvm

    from nbconv_kernels.cpu.simd import SIMD
    from nbconv_kernels.precision import get_precision

    versions: dict[str, str | None] = {}
    for package in _PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            versions[package] = None
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "threads": threads,
        "logical_cpus": os.cpu_count(),
        "cpu": llvm.get_host_cpu_name(),
        "simd": SIMD.name,
        "precision": get_precision(),
        "python": platform.python_version(),
        "versions": versions,
    }


def load(folder: Path) -> dict[str, Any]:
    """What is stored: {"runs": {date: conditions}, section: [rows]}.

    Raises:
        ValueError: if the file is something else.
    """
    path = folder / FILE
    if not path.exists():
        return {"runs": {}}
    stored = json.loads(path.read_text())
    if not isinstance(stored, dict) or "runs" not in stored:
        raise ValueError(f"{path} is no file of benchmark results")
    return stored


def merge(stored: dict[str, Any], section: str, rows: Sequence[Row], run: dict[str, Any]) -> None:
    """Put a section's new rows in the place of those of the same names."""
    stored["runs"][run["date"]] = run
    old = {row["name"]: row for row in stored.get(section, [])}
    new = {row["name"]: {**row, "run": run["date"]} for row in rows}
    stored[section] = list({**old, **new}.values())
    sections = [value for key, value in stored.items() if key != "runs"]
    used = {row["run"] for rows in sections for row in rows}
    stored["runs"] = {date: value for date, value in stored["runs"].items() if date in used}


def save(folder: Path, stored: dict[str, Any]) -> Path:
    """Write the file, whole or not at all, and return its path."""
    path = folder / FILE
    with whole_file(path) as stream:
        stream.write((json.dumps(_rounded(stored), indent=1) + "\n").encode())
    return path


def _rounded(value: Any) -> Any:
    """Four digits are all that is measured; more make every line of the file change."""
    if isinstance(value, float):
        return float(f"{value:.4g}")
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    return [_rounded(item) for item in value] if isinstance(value, list | tuple) else value


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns side by side: the first to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    lines = []
    for cells in (header, ["-" * width for width in widths], *rows):
        first, *rest = (
            cell.rjust(width) if i else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(cells, widths, strict=True))
        )
        lines.append("  ".join([first, *rest]).rstrip())
    return "\n".join(lines)
