"""Memory that nobody has written holds NaN: what a kernel forgets to write, or reads too early, shows."""

import numpy as np

from nbconv_kernels.cpu import memory


def poison():
    """Fill the memory that the CPU backend and NumPy will hand out next; no array in use changes."""
    for buffers in memory._pool.values():
        for buffer in buffers:
            if memory._references(buffer) == memory._NO_VIEWS:
                buffer.memory.fill(0xFF)
    for array in memory._local.__dict__.values():
        array.view(np.uint8).fill(0xFF)
    # NumPy and malloc give freed pieces of about the same size again, the last one first.
    pieces = [np.empty(size, np.uint8) for size in _SIZES for _ in range(3)]
    for piece in pieces:
        piece.fill(0xFF)


_SIZES = sorted(
    {*range(16, 1040, 16), *(1 << power for power in range(10, 18)), *(3 << p for p in range(9, 16))}
)
