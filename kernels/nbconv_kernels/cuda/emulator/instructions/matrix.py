"""Tensor-core products of a warp: D = A B + C, fragments of the matrices held in the lanes' registers.

Products are exact and their sum is rounded once; hardware cuts terms off a little beyond float32's digits, in
an order of its own, so its last bits differ. Of TF32 operands only the upper 19 bits count, as in hardware.

Source: the PTX ISA, "Matrix fragments for mma".
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from nbconv_kernels.cuda.emulator.batch import WARP, Batch, Mask
from nbconv_kernels.cuda.emulator.instructions.registry import Step, instruction
from nbconv_kernels.cuda.emulator.instructions.warp import full_warps
from nbconv_kernels.cuda.emulator.operands import Reader, items, reader, writer
from nbconv_kernels.cuda.emulator.program import Instruction
from nbconv_kernels.cuda.emulator.types import Array

_LANE = np.arange(WARP)
_GROUP, _IN_GROUP = _LANE >> 2, _LANE & 3
_DEPTH = {("m16n8k4", "tf32"): 4, ("m16n8k8", "tf32"): 8} | {
    (shape, kind): depth for shape, depth in (("m16n8k8", 8), ("m16n8k16", 16)) for kind in ("f16", "bf16")
}


def _tf32(bits: Array) -> list[Array]:
    return [(bits & np.uint32(0xFFFFE000)).view(np.float32)]


def _bf16(bits: Array) -> list[Array]:
    high = np.uint32(0xFFFF0000)
    return [(bits << np.uint32(16)).view(np.float32), (bits & high).view(np.float32)]


def _f16(bits: Array) -> list[Array]:
    halves = bits.view(np.uint16).view(np.float16)
    return [halves[0::2], halves[1::2]]


_UNPACK: dict[str, Callable[[Array], list[Array]]] = {"tf32": _tf32, "bf16": _bf16, "f16": _f16}


def _fragment(batch: Batch, reads: list[Reader], kind: str, depth: int, rows: bool) -> Array:
    """A (16 x depth, ``rows``) or B (depth x 8) of every warp in float64."""
    unpack = _UNPACK[kind]
    outer = 16 if rows else 8
    matrix = np.empty((batch.count // WARP, outer, depth))
    for r, read in enumerate(reads):
        parts = unpack(batch.whole(read(batch)))
        across = _GROUP + (8 * (r % 2) if rows else 0)
        along = (r // 2 if rows else r) * 4 * len(parts)
        for e, part in enumerate(parts):
            matrix[:, across, along + len(parts) * _IN_GROUP + e] = part.reshape(-1, WARP)
    return matrix if rows else matrix.transpose(0, 2, 1)


@instruction("mma")
def _mma(i: Instruction) -> Step:
    m = i.modifiers
    shape = m[2] if len(m) == 9 else ""
    if m[:2] != ("sync", "aligned") or m[3:6] != ("row", "col", "f32") or m[-1] != "f32" or m[6] != m[7]:
        raise i.unknown("its form")
    kind = m[6]
    if (shape, kind) not in _DEPTH:
        raise i.unknown(f".{shape} of .{kind}")
    depth = _DEPTH[shape, kind]
    d, a, b, c = (items(operand) for operand in i.operands)
    writes = [writer(o, "f32") for o in d]
    read_a, read_b = [reader(o, "b32") for o in a], [reader(o, "b32") for o in b]
    read_c = [reader(o, "f32") for o in c]

    def step(batch: Batch, mask: Mask) -> None:
        full_warps(batch, mask, i)
        product = np.matmul(
            _fragment(batch, read_a, kind, depth, rows=True),
            _fragment(batch, read_b, kind, depth, rows=False),
        )
        for r, (write, read) in enumerate(zip(writes, read_c, strict=True)):
            terms = product[:, _GROUP + 8 * (r // 2), 2 * _IN_GROUP + r % 2].reshape(-1)
            write(batch, (terms + read(batch)).astype(np.float32), mask)

    return step
