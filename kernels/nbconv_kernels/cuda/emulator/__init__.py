"""Runs compiled PTX on the CPU, every lane of many blocks at once in NumPy, and watches for hazards."""

from nbconv_kernels.cuda.emulator.machine import Kernel, PtxError, launch

__all__ = ["Kernel", "PtxError", "launch"]
