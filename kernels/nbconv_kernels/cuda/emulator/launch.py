"""Kernels, and how a grid of blocks runs: as many at once as make whole arrays of lanes worth while."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from nbconv_kernels.cuda.emulator.batch import Batch, Shape
from nbconv_kernels.cuda.emulator.code import Code
from nbconv_kernels.cuda.emulator.errors import PtxError
from nbconv_kernels.cuda.emulator.hazards import Hazard, Hazards
from nbconv_kernels.cuda.emulator.instructions.access import widest_common_unit
from nbconv_kernels.cuda.emulator.memory import GlobalMemory, Memory, Traffic
from nbconv_kernels.cuda.emulator.parse import parse
from nbconv_kernels.cuda.emulator.schedule import run
from nbconv_kernels.cuda.emulator.types import DTYPES, unsigned

__all__ = ["Kernel", "launch"]

_LANES = 8192
_MOST_THREADS = 1024


class Kernel:
    """The first kernel of a PTX module, made ready to run.

    Args:
        ptx: the module's text.
        shared_bytes: dynamic shared memory of a block.

    Raises:
        PtxError: for text that cannot be read, and for instructions that are not modelled.
    """

    def __init__(self, ptx: str, shared_bytes: int = 0) -> None:
        self.program = parse(ptx, shared_bytes)
        self.code = Code(self.program)
        self.name = self.program.name
        self.unit = widest_common_unit(self.program.instructions)


def launch(
    ptx: str | None,
    grid: Sequence[int],
    block: Sequence[int],
    args: Sequence[Any],
    kernel: Kernel | None = None,
    race: bool = False,
    banks: bool = False,
) -> tuple[Counter[str], list[Hazard]]:
    """Run a kernel over a grid.

    Args:
        ptx: the kernel's module, where ``kernel`` is not given.
        grid: blocks in x, y, z; trailing ones may be left out.
        block: threads of a block, likewise.
        args: numbers, and contiguous NumPy arrays, passed as addresses and written in place.
        kernel: the kernel, so that many launches read it once.
        race: look for races and for reads of shared memory that nobody wrote.
        banks: count bank conflicts and sectors.

    Returns:
        For each opcode, how many times a warp met it; with ``banks``, "shared load wavefronts" and their
        "requests", "global load sectors" (of 32 bytes), and so on; and the hazards that ``race`` found.

    Raises:
        PtxError: whatever is wrong with the kernel or the call.
    """
    if kernel is None:
        if ptx is None:
            raise PtxError("neither PTX nor a kernel to launch")
        kernel = Kernel(ptx)
    program = kernel.program
    grid, block = _shape("grid", grid), _shape("block", block)
    threads = block[0] * block[1] * block[2]
    most = min(program.most_threads or _MOST_THREADS, _MOST_THREADS)
    if threads > most:
        raise PtxError(f"{kernel.name}: blocks of {threads} threads, {most} at most")
    memory = GlobalMemory()
    parameters = _parameters(kernel, args, memory)
    for name, content in program.constants.items():
        memory.variables[name] = memory.add(content.copy())
    counts = [0] * len(program.instructions)
    hazards = Hazards(kernel.unit) if race else None
    traffic = Traffic() if banks else None
    blocks = grid[0] * grid[1] * grid[2]
    together = max(1, _LANES // threads)
    with np.errstate(all="ignore"):
        for first in range(0, blocks, together):
            rooms = Memory(
                memory,
                (program.shared, program.shared_bytes),
                (program.local, program.local_bytes),
                parameters,
                hazards,
                traffic,
            )
            batch = Batch(program, grid, block, first, min(together, blocks - first), rooms)
            if hazards is not None:
                hazards.new_batch(batch)
            run(kernel.code, batch, counts)
    statistics: Counter[str] = Counter()
    for instruction, count in zip(program.instructions, counts, strict=True):
        statistics[instruction.opcode] += count
    statistics.update(traffic.counts if traffic else {})
    return statistics, hazards.found if hazards else []


def _shape(name: str, sizes: Sequence[int]) -> Shape:
    x, y, z = (*(int(size) for size in sizes), 1, 1, 1)[:3]
    if min(x, y, z) < 1 or len(sizes) > 3:
        raise PtxError(f"a {name} of {tuple(sizes)}: expected one to three positive sizes")
    return x, y, z


def _parameters(kernel: Kernel, args: Sequence[Any], memory: GlobalMemory) -> dict[str, Any]:
    declared = kernel.program.parameters
    if len(args) != len(declared):
        raise PtxError(f"{kernel.name}: {len(args)} arguments for {len(declared)} parameters")
    parameters = {}
    for (kind, name), value in zip(declared, args, strict=True):
        if isinstance(value, np.ndarray):
            if not value.flags.c_contiguous:
                raise PtxError(f"{kernel.name}: an array with gaps between its elements, {value.shape}")
            value = memory.add(value)
        if DTYPES[kind].kind == "f":
            parameters[name] = DTYPES[kind].type(value)
        else:
            bits = 8 * DTYPES[kind].itemsize
            parameters[name] = unsigned(kind).type(int(value) % (1 << bits)).view(DTYPES[kind])
    return parameters
