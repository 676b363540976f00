"""What each PTX instruction does, a family a file."""

from nbconv_kernels.cuda.emulator.instructions import (  # noqa: F401 - importing them registers them
    access,
    arithmetic,
    bits,
    compare,
    convert,
    functions,
    matrix,
    warp,
)
from nbconv_kernels.cuda.emulator.instructions.registry import Step, build

__all__ = ["Step", "build"]
