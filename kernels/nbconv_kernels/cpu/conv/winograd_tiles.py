"""Where the tiles of Winograd's F(4 x 4, 3 x 3) lie: what ``winograd`` and ``winograd_deep`` share."""

from __future__ import annotations

from nbconv_kernels.cpu.jit import kernel
from nbconv_kernels.cpu.memory import Array
from nbconv_kernels.cpu.movement import address
from nbconv_kernels.cpu.vector import lanes, transpose_square

POINTS = 36
SKEW = 16  # elements between rows that would else fall into one set of the cache


def grid(y: Array) -> tuple[int, int, int]:
    """The tiles of an output (N, P, Q, K): images, tiles down, tiles across."""
    return len(y), -(-y.shape[1] // 4), -(-y.shape[2] // 4)


@kernel
def pixel_table(tile, tiles_y, tiles_x, size, step, pad_y, pad_x, image, outside, table):
    """Addresses of the ``size`` x ``size`` pixels of a tile: of ``outside`` where there is no pixel."""
    _, h, w, c = image.shape
    base = address(image, 0)
    index = tile // (tiles_y * tiles_x)
    tile_y = (tile - index * tiles_y * tiles_x) // tiles_x
    tile_x = tile - (index * tiles_y + tile_y) * tiles_x
    for row in range(size):
        y = tile_y * step - pad_y + row
        for column in range(size):
            x = tile_x * step - pad_x + column
            inside = (y >= 0) & (y < h) & (x >= 0) & (x < w)
            pixel = base + ((index * h + y) * w + x) * c * image.itemsize
            table[row * size + column] = pixel if inside else outside


@kernel
def store_taps(taps, width, gradient, to):
    """Put 9 taps of ``width`` input channels, ``taps[tap * width + channel]``, in the order (in, 3, 3)."""
    side = lanes(taps)
    for first_tap in range(0, 9, side):
        rows = min(side, 9 - first_tap)
        for channel in range(0, width, side):
            at = first_tap * width + channel
            transpose_square(taps, at, width, gradient, to + channel * 9 + first_tap, 9, rows, side)
