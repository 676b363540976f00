"""Runs compiled PTX on the CPU, every lane of many blocks at once in NumPy, and watches for what goes wrong.

    statistics, hazards = launch(ptx, (blocks,), (256,), [x, y, n], race=True, banks=True)

A model of what a kernel computes and of what it must not do, not of how long it takes: bounds, alignment,
reads of memory nobody wrote, races between warps and blocks, lanes that wait for ever, bank conflicts and
sectors. Arithmetic is IEEE's, bit for bit; approximate functions and tensor cores give the nearest result
(see ``instructions/functions.py`` and ``matrix.py``). Not modelled, and an error: numbered barriers,
clusters, bulk copies and wgmma, calls, textures.
"""

from nbconv_kernels.cuda.emulator.errors import (
    DeadlockError,
    MemoryFaultError,
    PtxError,
    UnknownInstructionError,
)
from nbconv_kernels.cuda.emulator.hazards import Hazard
from nbconv_kernels.cuda.emulator.launch import Kernel, launch

__all__ = [
    "DeadlockError",
    "Hazard",
    "Kernel",
    "MemoryFaultError",
    "PtxError",
    "UnknownInstructionError",
    "launch",
]
