"""Peers for the benchmarks, equal threads, and a table of ratios at the end of a run."""

from __future__ import annotations

import json
import math
import platform
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pytest_benchmark.logger import PytestBenchmarkWarning

import nbconv as nb
from nbconv.bench.timing import alternate

_RACES = pytest.StashKey[list[tuple[str, str, dict[str, float]]]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """An option to keep the races."""
    parser.addoption("--races-json", help="write the races' medians and ratios to this file")


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Make room for the results, and let ``--benchmark-compare`` find the stored baseline."""
    config.stash[_RACES] = []
    # Another machine's baseline, or none, is worth a line and no more.
    config.addinivalue_line("filterwarnings", "default::pytest_benchmark.logger.PytestBenchmarkWarning")
    warnings.filterwarnings("default", category=PytestBenchmarkWarning)  # the line comes too late for now
    if config.option.benchmark_storage == "file://./.benchmarks":  # nobody has asked for another place
        config.option.benchmark_storage = f"file://{Path(__file__).parent / 'results' / 'tracked'}"


def pytest_benchmark_update_machine_info(config: pytest.Config, machine_info: dict[str, Any]) -> None:
    """Keep out of the stored results what tells the machine from others of its kind."""
    for key in ("node", "release"):
        machine_info.pop(key, None)


@pytest.fixture(scope="session")
def torch() -> Any:
    """PyTorch on as many threads as nbconv; None where it is not installed."""
    try:
        import torch
    except ImportError:
        return None
    torch.set_num_threads(nb.get_num_threads())
    return torch


@pytest.fixture
def race(request: pytest.FixtureRequest, benchmark: Any) -> Callable[..., None]:
    """Track ``nbconv`` with pytest-benchmark, and race it against its peers where there are any.

    The call ``race(group, name, nbconv, **peers)`` takes functions without arguments; peers may be None.
    """

    def run(
        group: str, name: str, nbconv: Callable[[], object], **peers: Callable[[], object] | None
    ) -> None:
        benchmark.group = group
        benchmark.pedantic(nbconv, rounds=7, warmup_rounds=2)
        present = {peer: call for peer, call in peers.items() if call is not None}
        if present:
            times = alternate({"nbconv": nbconv, **present})
            benchmark.extra_info.update({f"{key}_ms": value * 1e3 for key, value in times.items()})
            benchmark.extra_info["ratio"] = ratio(times)
            request.config.stash[_RACES].append((group, name, times))

    return run


def ratio(times: dict[str, float]) -> float:
    """The best peer's time over nbconv's: above 1, nbconv is faster."""
    return min(value for name, value in times.items() if name != "nbconv") / times["nbconv"]


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Print each race and each group's geometric mean."""
    races = config.stash[_RACES]
    if not races:
        return
    terminalreporter.section(f"nbconv beside its peers, {nb.get_num_threads()} threads, medians in ms")
    for group in dict.fromkeys(race[0] for race in races):
        rows = [(name, times) for kind, name, times in races if kind == group]
        for name, times in rows:
            columns = "  ".join(f"{key} {value * 1e3:8.3f}" for key, value in times.items())
            terminalreporter.write_line(f"{group:24} {name:34} {columns}  ratio {ratio(times):5.2f}")
        mean = math.exp(sum(math.log(ratio(times)) for _, times in rows) / len(rows))
        terminalreporter.write_line(f"{group:24} geometric mean of {len(rows)}: {mean:.3f}")
    path = config.getoption("--races-json")
    if path:
        Path(path).write_text(json.dumps(_as_data(races), indent=1) + "\n")
    everything = [ratio(times) for group, _, times in races if group.startswith("conv2d")]
    if len(everything) > 1:
        mean = math.exp(sum(map(math.log, everything)) / len(everything))
        terminalreporter.write_line(f"geometric mean over the {len(everything)} convolutions: {mean:.3f}")


def _as_data(races: list[tuple[str, str, dict[str, float]]]) -> dict[str, Any]:
    from nbconv_kernels.cpu.simd import SIMD

    return {
        "threads": nb.get_num_threads(),
        "simd": SIMD.name,
        "versions": {"nbconv": nb.__version__, "python": platform.python_version(), "numpy": np.__version__},
        "races": [
            {"group": group, "name": name, "ratio": ratio(times)}
            | {f"{contestant}_ms": value * 1e3 for contestant, value in times.items()}
            for group, name, times in races
        ],
    }
