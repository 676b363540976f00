"""Runs sections of the benchmarks, stores what they measure and tells about it."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import nbconv as nb
from nbconv.bench import chart, report
from nbconv.bench.options import Options, Row
from nbconv.bench.tables import TABLES
from nbconv.errors import NbconvError

SECTIONS = {
    "inference": ("networks", "whole networks, inference"),
    "training": ("networks", "whole networks, training step"),
    "memory": ("memory", "peak memory of a training step"),
    "scaling": ("scaling", "effective speed by batch and image size"),
    "accuracy": ("accuracy", "errors of 3 x 3 convolutions against float64"),
    "curves": ("curves", "ResNet-18 on the digits, with Winograd's transforms and without"),
    "gemm": ("gemm", "matrix products beside the machine's peak"),
    "roofline": ("roofline", "every kernel beside its limit"),
    "avx2": ("avx2", "without AVX-512"),
}
"""Of each section the module whose function of that name measures, and what it is about."""


def run(sections: list[str], options: Options, folder: Path | None) -> dict[str, Any]:
    """Measure, print tables and, if there is a ``folder``, keep the results and a chart in it.

    Returns:
        What this run measured: {"conditions": ..., section: [rows]}.
    """
    nb.set_num_threads(options.threads)
    conditions = report.conditions(options.threads)
    measured: dict[str, Any] = {"conditions": conditions}
    for section in sections:
        module, title = SECTIONS[section]
        options.say(f"\n{title}, {options.threads} threads")
        function: Callable[[Options], Iterator[Row]] = getattr(
            importlib.import_module(f"nbconv.bench.{module}"), section
        )
        rows = []
        for row in function(options):
            rows.append(row)
            options.say(f"  {row['name']}" + (f": ratio {row['ratio']:.2f}" if "ratio" in row else ""))
            if folder is not None:
                # Row by row, so that an interrupted run keeps what it has.
                _store(folder, section, [row], conditions)
        measured[section] = rows
        if rows:
            options.say("\n" + TABLES[section](rows))
    if folder is not None:
        _draw(folder, options)
    return measured


def _store(folder: Path, section: str, rows: list[Row], conditions: dict[str, Any]) -> None:
    stored = report.load(folder)
    report.merge(stored, section, rows, conditions)
    report.save(folder, stored)


def _draw(folder: Path, options: Options) -> None:
    options.say(f"\nwrote {folder / report.FILE}")
    try:
        chart.draw(report.load(folder), folder / chart.FILE)
    except (NbconvError, ValueError) as error:
        options.say(f"no chart: {error}")
    else:
        options.say(f"wrote {folder / chart.FILE}")
