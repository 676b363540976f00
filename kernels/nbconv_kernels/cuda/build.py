"""From a Python function to PTX and to machine code, with no GPU at hand.

    @kernel(block=256)
    def _scale(x: f32s, y: f32s, factor: f32, n: u32):
        i = thread_index()
        if i < n:
            y[i] = x[i] * factor

    _scale[blocks(n, 256)](x, y, factor, n)

The annotations are the types a kernel is compiled for: pointers into arrays and numbers. Nothing is compiled
before the first launch.

A module whose kernels come out of a factory when they are needed names representative ones in a tuple or list
``VARIANTS``: they are what the tests compile for every architecture and hold to their budgets.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from typing import Any, Literal, get_type_hints

from nbconv_kernels.cuda import assembly, store
from nbconv_kernels.cuda.launch import launch
from nbconv_kernels.cuda.target import Capability, compiling_for, cuda, types

__all__ = ["KERNELS", "Kernel", "blocks", "device_function", "kernel"]

KERNELS: list[Kernel] = []
"""Every kernel made so far, in order."""

Grid = tuple[int, ...]


class Kernel:
    """A compiled function over a grid of thread blocks.

    Attributes:
        name: module and function, with the constants compiled in.
        block: threads of a block.
        capability: the oldest compute capability it is compiled for; newer devices run the same PTX. With a
            letter, as (9, 0, "a"), only that one runs it.
        parameters: names of the parameters, in order.
        argument_types: their Numba types.
        pointers: which of them are arrays.
        max_registers: the budget of a thread. The assembler is not told: the tests hold the kernel to it.
        min_blocks: how many blocks a processor must have room for; this the assembler is told.
        shared_bytes: dynamic shared memory of a block.
        main_loop: what the loop that does the work consists of, "FFMA" or, on tensor cores, "HMMA"; None for
            a kernel that memory limits. The tests hold it to that.
    """

    def __init__(
        self,
        function: Callable[..., None],
        block: int,
        capability: Capability = (7, 5),
        max_registers: int = 64,
        min_blocks: int = 1,
        shared_bytes: int = 0,
        constants: tuple[Any, ...] = (),
        main_loop: Literal["FFMA", "HMMA"] | None = None,
    ) -> None:
        self.function = function
        self.block = block
        self.capability = capability
        self.max_registers = max_registers
        self.min_blocks = min_blocks
        self.shared_bytes = shared_bytes
        self.main_loop = main_loop
        own = f"{function.__module__.removeprefix('nbconv_kernels.cuda.')}.{function.__name__.lstrip('_')}"
        self.name = own + (f"[{', '.join(map(str, constants))}]" if constants else "")
        hints = get_type_hints(function)
        self.parameters = function.__code__.co_varnames[: function.__code__.co_argcount]
        self.argument_types = tuple(hints[name] for name in self.parameters)
        self.pointers = tuple(
            i for i, kind in enumerate(self.argument_types) if isinstance(kind, types.CPointer)
        )
        KERNELS.append(self)

    @functools.cached_property
    def ptx(self) -> str:
        """The kernel in PTX, for ``capability`` and everything after it."""
        return store.fetch(self, "ptx", lambda: self._compiled().encode()).decode()

    def _compiled(self) -> str:
        with compiling_for(self.capability):
            text: str
            text, _ = cuda.compile(
                self.function,
                types.void(*self.argument_types),
                cc=self.capability,
                device=False,
                abi="numba",
                output="ptx",
                launch_bounds=(self.block, self.min_blocks),
            )
        return text

    def cubin(self, capability: Capability) -> bytes:
        """The machine code for devices of ``capability``; no driver is needed to make it."""
        return store.fetch(
            self, f"{assembly.arch(capability)}.cubin", lambda: assembly.link(self.ptx, capability)
        )

    @functools.cached_property
    def entry(self) -> str:
        """The name under which machine code made of the PTX holds the kernel."""
        found = re.search(r"\.visible \.entry\s+([\w$]+)", self.ptx)
        assert found is not None
        return found[1]

    def __getitem__(self, grid: int | Grid) -> Callable[..., None]:
        """The kernel, to be called with its arguments, over so many blocks."""
        return functools.partial(launch, self, (grid,) if isinstance(grid, int) else grid)

    def __repr__(self) -> str:
        return f"Kernel({self.name})"


def kernel(*, block: int, **options: Any) -> Callable[[Callable[..., None]], Kernel]:
    """Make a :class:`Kernel` of a function whose parameters are annotated with types of ``target``.

    Args:
        block: threads of a block.
        options: as of :class:`Kernel`.
    """
    return functools.partial(Kernel, block=block, **options)


def device_function(function: Callable[..., Any]) -> Any:
    """A function that kernels call; it is compiled into each of them."""
    return cuda.jit(function, device=True, forceinline=True)


def blocks(count: int, size: int) -> int:
    """How many blocks of ``size`` cover ``count``; one at least, since a grid may not be empty."""
    return max(1, -(-count // size))
