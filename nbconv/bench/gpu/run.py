"""Runs the races on a GPU, prints tables, and keeps what was measured.

Before a race the results are compared: who disagrees with nbconv does not start.
"""

from __future__ import annotations

import gc
import json
import math
import platform
from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

import nbconv as nb
from nbconv import backends
from nbconv.bench import cases
from nbconv.bench.gpu import clock, own, plan
from nbconv.bench.options import Row
from nbconv.bench.report import table
from nbconv.files import whole_file
from nbconv.typing import Array

FILE = "gpu.json"
SECTIONS = ("convolutions", "training", "inference", "bandwidth")
PRECISIONS = ("highest", "high", "medium")
_TOLERANCE = {"highest": 1e-4, "high": 5e-3, "medium": 5e-2}  # relative L2
_MOVED = (64, 64, 112, 112)  # what kernels bound by memory move: 206 MB

Race = Callable[[Mapping[str, clock.Run]], dict[str, float]]


class Bench:
    """The races of one precision.

    Args:
        precision: "highest", "high" or "medium".
        names: of networks; None for all.
        say: takes a line for the user.
        race: gives the seconds of each contestant's call.
    """

    def __init__(
        self,
        precision: str,
        names: list[str] | None = None,
        say: Callable[[str], None] = print,
        race: Race = clock.race,
    ) -> None:
        self.precision, self.say, self._race = precision, say, race
        self._networks = plan.networks(names)
        self._peer = _peer(say)
        nb.set_precision(precision)
        if self._peer is not None:
            self._peer.set_precision(precision)

    def section(self, name: str) -> list[Row]:
        """What one of ``SECTIONS`` measures."""
        rows = []
        for row in getattr(self, name)():
            self.say("  " + row["name"] + (f": ratio {row['ratio']:.2f}" if "ratio" in row else ""))
            rows.append(row)
        return rows

    def convolutions(self) -> Iterator[Row]:
        """ResNet-50's convolutions, each forward and for both gradients."""
        rng = np.random.default_rng(cases.SEED)
        for conv in plan.convolutions(nb.models.resnet50(), (3, 224, 224)):
            shapes = conv.input_shape, conv.weight_shape, conv.output_shape
            arrays = [rng.standard_normal(shape, dtype=np.float32) for shape in shapes]
            for which in plan.PASSES:
                runs: dict[str, clock.Run] = {"nbconv": own.convolution(conv, which, *arrays)}
                for layout in self._layouts():
                    call = self._peer.convolution(conv, which, *arrays, layout, self.precision)
                    runs[f"pytorch_{layout}"] = call
                about = {"shape": conv.name, "pass": which, "count": conv.count}
                yield self._row(f"{conv.name} {which}", runs, None, about)

    def training(self) -> Iterator[Row]:
        """Training steps; "nbconv" replays recorded passes where it can, "nbconv_direct" never does."""
        for network in self._networks:
            for batch, target in network.training.items():
                case = network.case
                x, targets = case.images(batch), case.targets(batch)
                runs: dict[str, clock.Run] = {
                    "nbconv": own.training(case.model(), x, targets, record=True),
                    "nbconv_direct": own.training(case.model(), x, targets, record=False),
                }
                for layout in self._layouts():
                    call = self._peer.training(case.model(), x, targets, layout, self.precision)
                    runs[f"pytorch_{layout}"] = call
                about = {"title": case.title, "batch": batch}
                yield self._row(f"{case.name}-{batch}", runs, target, about, compare=False)
                gc.collect()  # a model is a circle of references, and fills much of the GPU

    def inference(self) -> Iterator[Row]:
        """Inference, everything on the GPU already."""
        for network in self._networks:
            for batch, target in network.inference.items():
                case = network.case
                x = case.images(batch)
                runs: dict[str, clock.Run] = {"nbconv": own.inference(case.model(), x)}
                for layout in self._layouts():
                    runs[f"pytorch_{layout}"] = self._peer.inference(case.model(), x, layout, self.precision)
                yield self._row(f"{case.name}-{batch}", runs, target, {"title": case.title, "batch": batch})

    def bandwidth(self) -> Iterator[Row]:
        """Kernels that do little but move memory, beside a copy."""
        x = np.random.default_rng(cases.SEED).standard_normal(_MOVED, dtype=np.float32)
        kernels = own.bandwidth_bound(x)
        times = self._race({name: run for name, (run, _) in kernels.items()})
        speeds = {name: moved * x.nbytes / times[name] / 1e9 for name, (_, moved) in kernels.items()}
        for name, speed in speeds.items():
            share = speed / speeds["copy"]
            yield {"name": name, "gb_per_s": speed, "of_copy": share, "target": plan.COPY_TARGET}

    def _layouts(self) -> tuple[str, ...]:
        return () if self._peer is None else self._peer.LAYOUTS

    def _row(
        self,
        name: str,
        runs: dict[str, clock.Run],
        target: float | None,
        about: dict[str, Any],
        compare: bool = True,
    ) -> Row:
        errors: dict[str, float] = {}
        absent: dict[str, str] = {}
        if compare:
            errors, absent = self._compare(runs)
        seconds = self._race({key: run for key, run in runs.items() if key not in absent})
        times = {key: value * 1e3 for key, value in seconds.items()}
        row: Row = {"name": name, **about, "ms": times, "errors": errors, "absent": absent, "target": target}
        others = {key: value for key, value in times.items() if key.startswith("pytorch")}
        if others:
            row["best_peer"] = min(others, key=lambda key: others[key])
            row["ratio"] = others[row["best_peer"]] / times["nbconv"]
        runs.clear()
        return row

    def _compare(self, runs: Mapping[str, clock.Run]) -> tuple[dict[str, float], dict[str, str]]:
        errors: dict[str, float] = {}
        absent: dict[str, str] = {}
        expected = _result(runs["nbconv"]())
        for name, run in runs.items():
            if name.startswith("pytorch"):
                given = self._peer.to_numpy(run())
                errors[name] = float(np.linalg.norm(given - expected) / np.linalg.norm(expected))
                if not errors[name] <= _TOLERANCE[self.precision]:  # NaN disagrees as well
                    absent[name] = f"its result differs from nbconv's by {errors[name]:.1e}"
        return errors, absent


def run(
    sections: list[str],
    precisions: list[str],
    names: list[str] | None,
    folder: Path | None,
    say: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Measure, print tables and, if there is a ``folder``, keep the results in it.

    Raises:
        BackendUnavailable: if there is no GPU, saying what is missing.
    """
    backends.check("cuda")
    measured: dict[str, Any] = {"conditions": conditions()}
    before = nb.get_precision()
    try:
        for precision in precisions:
            bench = Bench(precision, names, say)
            for section in sections:
                say(f"\n{section}, precision {precision}")
                rows = bench.section(section)
                measured.setdefault(precision, {})[section] = rows
                say("\n" + described(section, rows, precision))
                if folder is not None:
                    save(folder, measured)
    finally:
        nb.set_precision(before)
    return measured


def described(section: str, rows: list[Row], precision: str) -> str:
    """A table of a section, and of convolutions the geometric means."""
    if section == "bandwidth":
        lines = [[row["name"], f"{row['gb_per_s']:,.0f}", f"{row['of_copy']:.2f}"] for row in rows]
        return table(["kernel", "GB/s", "of a copy's"], lines)
    contestants = list(dict.fromkeys(name for row in rows for name in row["ms"]))
    lines = [
        [
            row["name"],
            *(f"{row['ms'][name]:.3f}" if name in row["ms"] else "-" for name in contestants),
            f"{row['ratio']:.2f}" if "ratio" in row else "-",
        ]
        for row in rows
    ]
    text = table(["", *(f"{name} ms" for name in contestants), "ratio"], lines)
    if section == "convolutions":
        text += "\n" + means(rows, plan.CONV_TARGETS[precision])
    return text


def means(rows: list[Row], target: float) -> str:
    """The geometric means of the ratios, of each pass and of all."""
    parts = []
    for which in (*plan.PASSES, "all"):
        ratios = [row["ratio"] for row in rows if which in (row["pass"], "all") and "ratio" in row]
        if ratios:
            parts.append(f"{which} {math.exp(sum(map(math.log, ratios)) / len(ratios)):.2f}")
    return f"geometric mean of the ratios (wanted: {target}): " + (", ".join(parts) or "no peer")


def save(folder: Path, measured: Mapping[str, Any]) -> Path:
    """Write the results, beside those of other precisions and sections that are there."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / FILE
    stored: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    stored["conditions"] = measured["conditions"]
    for precision in PRECISIONS:
        if precision in measured:
            stored.setdefault(precision, {}).update(measured[precision])
    with whole_file(path) as stream:
        stream.write((json.dumps(stored, indent=1) + "\n").encode())
    return path


def conditions() -> dict[str, Any]:
    """The GPU and the versions that a result belongs to."""
    cupy = import_module("cupy")
    properties = cupy.cuda.runtime.getDeviceProperties(cupy.cuda.runtime.getDevice())
    packages = ("nbconv", "numba", "numba-cuda", "cupy-cuda13x", "cupy-cuda12x", "torch", "numpy")
    return {
        "gpu": properties["name"].decode(),
        "driver": cupy.cuda.runtime.driverGetVersion(),
        "python": platform.python_version(),
        "versions": {name: found for name in packages if (found := _version(name)) is not None},
        "clock": "CUDA events around calls in a row, contestants in turn, medians of 15 rounds",
        "conv_batch": plan.CONV_BATCH,
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _peer(say: Callable[[str], None]) -> Any:
    """The module for PyTorch; None where it is missing or has no CUDA."""
    try:
        torch = import_module("torch")
        if torch.cuda.is_available():
            return import_module("nbconv.bench.gpu.torch_peer")
        say("PyTorch has no CUDA here: nbconv runs alone")
    except ImportError:
        say("PyTorch is not installed: nbconv runs alone")
    return None


def _result(value: Any) -> Array:
    return backends.to_numpy(value).astype(np.float32)
