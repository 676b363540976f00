"""Which vector instructions the CPU kernels use, decided once a process.

==========  =========================  ==============================================================
name        needs                      micro-kernel tile (rows x vectors), float32 lanes
==========  =========================  ==============================================================
avx512      AVX-512 F, VL, DQ          14 x 2 of 16 lanes: 28 accumulators of 32 registers
avx2        AVX2, FMA                  6 x 2 of 8 lanes: 12 accumulators of 16 registers
portable    nothing                    6 x 2 of 4 lanes; multiply and add, fused where the CPU can
==========  =========================  ==============================================================

``NBCONV_SIMD`` set to one of these names before the import forces a lower one, for tests and comparisons:
then everything is compiled for a CPU of that kind, so the result is what such a machine would run.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

import llvmlite.binding as llvm
import numba


@dataclass(frozen=True)
class Simd:
    """A vector instruction set and the micro-kernel tile that fills its registers."""

    name: str
    bytes: int  # of one vector register
    rows: int  # rows of a micro-kernel tile
    short_rows: int  # rows of the tile for what is left: with both, few rows are wasted
    vectors: int  # vectors in a row of it
    fused: bool  # a fused multiply-add is an instruction, not a library call

    def lanes(self, itemsize: int) -> int:
        """Elements of ``itemsize`` bytes in a vector."""
        return self.bytes // itemsize


AVX512 = Simd("avx512", 64, 14, 8, 2, True)
AVX2 = Simd("avx2", 32, 6, 4, 2, True)
PORTABLE = Simd("portable", 16, 6, 4, 2, False)
_BY_NAME = {simd.name: simd for simd in (AVX512, AVX2, PORTABLE)}
# The CPU that Numba compiles for when a lower instruction set is forced.
_TARGET_CPU = {"avx2": "haswell", "portable": "x86-64"}


def host_features() -> set[str]:
    """The names of the host CPU's features, as LLVM calls them."""
    return {name for name, present in llvm.get_host_cpu_features().items() if present}


def _best(features: set[str]) -> Simd:
    if {"avx512f", "avx512vl", "avx512dq", "fma"} <= features:
        return AVX512
    if {"avx2", "fma"} <= features:
        return AVX2
    return PORTABLE


def _select() -> Simd:
    best = _best(host_features())
    name = os.environ.get("NBCONV_SIMD")
    if not name:
        return best
    if name not in _BY_NAME:
        raise ValueError(f"NBCONV_SIMD: expected one of {', '.join(_BY_NAME)}, got {name!r}")
    forced = _BY_NAME[name]
    if forced.bytes > best.bytes:
        raise ValueError(f"NBCONV_SIMD={name}: this CPU offers {best.name} at the most")
    if forced is not best and not numba.config.CPU_NAME:
        numba.config.CPU_NAME = (
            _TARGET_CPU[name] if llvm.get_process_triple().startswith("x86") else "generic"
        )
        numba.config.CPU_FEATURES = ""
    return forced


SIMD = _select()
