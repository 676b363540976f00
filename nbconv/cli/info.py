"""Say what nbconv finds on this machine: versions, CPU, threads, cache and backends."""

from __future__ import annotations

import argparse
import os
import platform
from importlib import metadata
from typing import Any

from nbconv import backends
from nbconv.terminal import say

_PACKAGES = ("numpy", "numba", "llvmlite", "safetensors", "rich", "matplotlib", "pillow", "pooch")
_TELLING = (
    "sse4.2",
    "avx",
    "fma",
    "f16c",
    "amx",
    "neon",
    "sve",
)  # how the features that matter to kernels begin


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options to its parser: it has none."""


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Print what is here, and return it."""
    import nbconv as nb

    found: dict[str, Any] = {
        "command": "info",
        "versions": {"nbconv": nb.__version__, "python": platform.python_version(), **_versions()},
        "platform": platform.platform(),
        "cpu": _cpu(),
        "backends": backends.available(),
    }
    for name, value in found.items():
        if name == "command":
            continue
        if not isinstance(value, dict):
            _line(name, value)
            continue
        say(f"{name}:")
        for key, item in value.items():
            _line(f"  {key.replace('_', ' ')}", item)
    return found


def _versions() -> dict[str, str | None]:
    versions: dict[str, str | None] = {}
    for package in _PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            versions[package] = None
    return versions


def _cpu() -> dict[str, Any]:
    """What the CPU backend will use; only the number of CPUs where it cannot start."""
    found: dict[str, Any] = {"logical_cpus": os.cpu_count()}
    try:
        import llvmlite.binding as llvm

        from nbconv_kernels.cpu import cache, cpus, jit, simd
    except Exception as error:  # the command is here to report what is broken, not to break
        return {**found, "error": f"{type(error).__name__}: {error}"}
    place = cache.place()
    return {
        **found,
        "model": llvm.get_host_cpu_name(),
        "features": sorted(name for name in simd.host_features() if name.startswith(_TELLING)),
        "simd": simd.SIMD.name,
        "vector_bits": 8 * simd.SIMD.bytes,
        "threads": jit.get_num_threads(),
        "threading_layer": jit.threading_layer(),
        "available_cpus": cpus.available(),
        "cache_directory": None if place.path is None else str(place.path),
        "cache_state": place.state(),
    }


def _line(name: str, value: Any) -> None:
    if isinstance(value, list):
        value = " ".join(value)
    say(f"{name + ':':<20} {'none' if value is None else 'yes' if value is True else value}")
