"""The mean and the variance of channels, exact to the last digits of float32 even where the mean is large.

    mean = centre + S / M        var = (Q - S^2 / M) / M

with S and Q the sums over M elements of x - centre and of (x - centre)^2, the centre being each channel's
first element. Both sums are kept to twice float32's digits: by each thread over its rows, over the block, and
in a second launch over the parts of the rows.

Limit: memory bandwidth, x being read once; the sums take about 20 instructions an element.
"""

from __future__ import annotations

from nbconv_kernels.cuda import twofold
from nbconv_kernels.cuda.build import Kernel, blocks, device_function, kernel
from nbconv_kernels.cuda.channels import BLOCK, Access, Sweep, for_widths, place_of, store_part
from nbconv_kernels.cuda.memory import Array, empty
from nbconv_kernels.cuda.reduction import lane_twofold
from nbconv_kernels.cuda.target import cuda, f32, f32s, float32, u32, uint32

__all__ = ["moments"]

_LANES = 3  # binary logarithm of the channels that a block finishes


@device_function
def _centre(x, first, rows):
    """What deviations are taken from: a channel's first element, if it is a number."""
    value = x[first] if rows > uint32(0) else float32(0)
    return value if twofold.is_finite(value) else float32(0)


@for_widths
def _moments(access: Access) -> Kernel:
    width, read = access.width, access.read

    @kernel(block=BLOCK, constants=(width,))
    def _moments(x: f32s, parts: f32s, channels: u32, rows: u32, pitch: u32, shift: u32):
        values, centres = cuda.local.array(width, float32), cuda.local.array(width, float32)
        sums, lost = cuda.local.array(width, float32), cuda.local.array(width, float32)
        squares, squares_lost = cuda.local.array(width, float32), cuda.local.array(width, float32)
        channel, row, step = place_of(shift, width)
        base = uint32(uint32(uint32(cuda.blockIdx.x) * rows) * pitch + channel)
        exists = channel < channels
        for j in range(width):
            sums[j], lost[j], squares[j], squares_lost[j] = float32(0), float32(0), float32(0), float32(0)
            centres[j] = _centre(x, uint32(base + uint32(j)), rows) if exists else float32(0)
        while exists and row < rows:
            read(x, uint32(base + uint32(row * pitch)), values)
            for j in range(width):
                deviation = values[j] - centres[j]
                sums[j], lost[j] = twofold.plus(sums[j], lost[j], deviation)
                square, rest = twofold.product(deviation, deviation)
                squares[j], squares_lost[j] = twofold.plus(squares[j], squares_lost[j] + rest, square)
            row = uint32(row + step)
        for j in range(width):
            sums[j], lost[j] = lane_twofold(sums[j], lost[j], shift)
            squares[j], squares_lost[j] = lane_twofold(squares[j], squares_lost[j], shift)
        if exists and uint32(cuda.threadIdx.x) < uint32(uint32(1) << shift):
            store_part(parts, 0, 4, channel, channels, sums, width)
            store_part(parts, 1, 4, channel, channels, lost, width)
            store_part(parts, 2, 4, channel, channels, squares, width)
            store_part(parts, 3, 4, channel, channels, squares_lost, width)

    return _moments


@kernel(block=BLOCK)
def _finish(
    x: f32s, parts: f32s, mean: f32s, var: f32s, channels: u32, rows: u32, pitch: u32, count: u32, size: f32
):
    thread, image = uint32(cuda.threadIdx.x), uint32(cuda.blockIdx.x)
    lane = uint32(thread & uint32(uint32(1 << _LANES) - uint32(1)))
    c = uint32(uint32(uint32(cuda.blockIdx.y) << uint32(_LANES)) + lane)
    high, low, second, second_low = float32(0), float32(0), float32(0), float32(0)
    part = uint32(thread >> uint32(_LANES))
    while part < count and c < channels:
        at = uint32(uint32(uint32(uint32(image * count) + part) * uint32(uint32(4) * channels)) + c)
        high, low = twofold.joined(high, low, parts[at], parts[uint32(at + channels)])
        at = uint32(at + uint32(uint32(2) * channels))
        second, second_low = twofold.joined(second, second_low, parts[at], parts[uint32(at + channels)])
        part = uint32(part + uint32(BLOCK >> _LANES))
    high, low = lane_twofold(high, low, uint32(_LANES))
    second, second_low = lane_twofold(second, second_low, uint32(_LANES))
    if thread < uint32(1 << _LANES) and c < channels:
        shift = high / size
        product, lost = twofold.product(shift, size)
        rest = ((high - product) - lost + low) / size  # of the quotient
        product, lost = twofold.product(high, shift)
        lost += high * rest + low * shift
        variance = ((second - product) + (second_low - lost)) / size
        variance = float32(0) if variance < float32(0) else variance
        if not (twofold.is_finite(high) and twofold.is_finite(second)):
            shift, rest = high / size, float32(0)
            variance = second - abs(high)
        centre = _centre(x, uint32(uint32(uint32(image * rows) * pitch) + c), rows)
        mean[uint32(uint32(image * channels) + c)] = centre + (shift + rest)
        var[uint32(uint32(image * channels) + c)] = variance


def moments(x: Sweep) -> tuple[Array, Array]:
    """The mean and the biased variance of each image's channels, each (images, C)."""
    parts = empty(x.array, (x.images, x.parts, 4, x.channels))
    mean, var = (empty(x.array, (x.images, x.channels)) for _ in range(2))
    _moments(x.width)[x.grid](x.array, parts, *x.extents)
    grid = x.images, blocks(x.channels, 1 << _LANES)
    _finish[grid](x.array, parts, mean, var, *x.extents[:3], x.parts, x.rows)
    return mean, var
