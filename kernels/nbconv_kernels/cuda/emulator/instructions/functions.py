"""Roots, reciprocals, powers, logarithms, sines.

Where PTX allows an ``.approx`` form an error (2 units in the last place for ex2, an absolute 2^-20.9 for
sin), the results here are those of float64, rounded: what a GPU's error does to a kernel, only a GPU shows.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from nbconv_kernels.cuda.emulator.instructions.arithmetic import floating
from nbconv_kernels.cuda.emulator.instructions.registry import Step, elementwise, instruction
from nbconv_kernels.cuda.emulator.program import Instruction
from nbconv_kernels.cuda.emulator.types import Value

_FUNCTIONS: dict[str, Callable[[Value], Value]] = {
    "sqrt": np.sqrt,
    "rsqrt": lambda x: np.float64(1) / np.sqrt(x),
    "rcp": lambda x: np.float64(1) / x,
    "ex2": np.exp2,
    "lg2": np.log2,
    "sin": np.sin,
    "cos": np.cos,
    "tanh": np.tanh,
}


@instruction(*_FUNCTIONS)
def _function(i: Instruction) -> Step:
    i.only("approx", "rn", "ftz")
    function, kind = _FUNCTIONS[i.name], i.kind

    def computed(x: Value) -> Value:
        return function(x.astype(np.float64)).astype(x.dtype)

    return elementwise(i, floating(i, computed), [kind], kind)
