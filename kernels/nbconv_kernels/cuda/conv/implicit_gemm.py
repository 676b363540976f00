"""A matrix product whose left factor is read out of an image: convolutions, dense layers.

    y[pixel, k] = sum over taps and channels of source[pixel under tap, channel] * filters[tap, channel, k]

Rows are output pixels, columns are filters, terms are (tap, channel). Nothing is rearranged in memory: a
thread keeps where in the source its rows begin, and walks with its terms over the taps.

A *phase* is a grid of output pixels under which the taps lie alike. A convolution has one. In the gradient of
a convolution with stride s, the pixels y = a (mod s) are reached by every s-th tap only, so that they form
one phase for each a; no product with zero is made, and no two threads add to the same pixel.

Slabs of 8 terms go through two buffers in shared memory: while one is multiplied, the next is on its way from
global memory in registers. 128 x 128 results a block of 256 threads, 8 x 8 a thread; smaller tiles for small
problems (``tile``). All global accesses are 128 bits wide; channels are padded to multiples of four before
(``packing``). Where there are fewer tiles than processors, the terms are split among blocks whose partial
sums a second launch adds up in a fixed order.

Limit: issuing multiply-adds, which are four fifths of the main loop's instructions.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

from nbconv_kernels.cuda.build import Kernel, blocks, device_function, kernel
from nbconv_kernels.cuda.conv.finish import Target, add_up, finished
from nbconv_kernels.cuda.conv.packing import table
from nbconv_kernels.cuda.conv.tile import (
    DEPTH,
    LARGE,
    NARROW,
    SMALL,
    Tile,
    best_tile,
    limits,
    multiply,
    position,
    second_buffer,
    split_count,
)
from nbconv_kernels.cuda.intrinsics import load4, store4
from nbconv_kernels.cuda.memory import Array, address, empty, whole
from nbconv_kernels.cuda.target import cuda, f32, f32s, float32, i32, i32s, int32, u32, uint32, uint64

__all__ = ["VARIANTS", "Gather", "Phase", "launch"]

_NOWHERE = -(1 << 30)  # a row outside every image


class Phase(NamedTuple):
    """Output pixels that see the taps alike: (first_row + i * step, first_column + j * step)."""

    rows: int
    columns: int
    first_row: int
    first_column: int
    top: int  # where the first tap of the pixel i = j = 0 reads
    left: int
    taps_h: int
    taps_w: int
    first_tap: int  # of the packed filters


class Gather(NamedTuple):
    """How output pixels, taps and source pixels go together, beside the phases."""

    images: int
    height: int  # of the source
    width: int
    pitch: int  # elements of a source pixel
    channels: int  # of a group
    step_h: int  # source rows from an output row of a phase to its next
    step_w: int
    tap_h: int  # source rows from a tap to the next
    tap_w: int
    out_height: int
    out_width: int
    out_step_h: int
    out_step_w: int
    columns: int  # results of a pixel and group
    filter_terms: int  # of a group and phase; what the source has beyond counts for nothing
    filter_pitch: int  # elements from a term's filters to the next term's
    filter_group: int  # elements of a group's filters


@functools.lru_cache
def _make(tile: Tile, transposed: bool) -> Kernel:
    rows, columns, each = tile
    loads = tile.loads(rows)  # vectors of the source a thread brings of a slab; of the filters it brings one
    halves, half_rows, half_columns = each // 4, rows // 2, columns // 2
    pass_rows = tile.threads // 2  # two vectors hold the terms of a row
    quads = columns // 4
    # Four more elements a term keep the transposing stores of a warp in different banks.
    pitch_a, pitch_b = rows + 4, columns + (4 if transposed else 0)
    size_a, size_b = DEPTH * pitch_a, DEPTH * pitch_b
    other_a, other_b = second_buffer(size_a), second_buffer(size_b)
    both_a, both_b, sums_size, fetched = other_a + size_a, other_b + size_b, each * each, 4 * loads
    place, add_products = position(tile), multiply(tile, pitch_a, pitch_b)

    @device_function
    def fetch_source(source, into, base, top, left, dh, dw, end, height, width, offset):
        for i in range(loads):
            into[4 * i] = into[4 * i + 1] = into[4 * i + 2] = into[4 * i + 3] = float32(0)
            row, column = uint32(top[i] + dh), uint32(left[i] + dw)
            if row < uint32(height) and column < uint32(width) and dh != end:
                into[4 * i], into[4 * i + 1], into[4 * i + 2], into[4 * i + 3] = load4(
                    source, uint32(base[i] + offset)
                )

    @device_function
    def fetch_filters(filters, into, term, terms, at):
        into[0] = into[1] = into[2] = into[3] = float32(0)
        if term < terms:
            into[0], into[1], into[2], into[3] = load4(filters, at)

    @device_function
    def put_turned(shared, at, values, i, pitch, step):
        shared[at + uint64(i * step)] = values[4 * i]
        shared[at + uint64(i * step + pitch)] = values[4 * i + 1]
        shared[at + uint64(i * step + 2 * pitch)] = values[4 * i + 2]
        shared[at + uint64(i * step + 3 * pitch)] = values[4 * i + 3]

    @device_function
    def put(a, b, to_a, to_b, values_of_a, values_of_b):
        for i in range(loads):
            put_turned(a, to_a, values_of_a, i, pitch_a, pass_rows)
        if transposed:
            put_turned(b, to_b, values_of_b, 0, pitch_b, 0)
        else:
            store4(b, to_b, values_of_b[0], values_of_b[1], values_of_b[2], values_of_b[3])

    @device_function
    def put_row(i, y, placed, down, sums, first, width, starts, whole, adding, low, high):
        at = placed[uint32(down * 4 + (i >> 2) * half_rows + (i & 3))]
        if at >= 0:
            for h in range(halves):
                column = int32(first + h * half_columns)
                to = uint32(at + column)
                if whole != 0 and column < width:
                    a, b, c, d = float32(0), float32(0), float32(0), float32(0)
                    if adding != 0:
                        a, b, c, d = load4(y, to)
                    store4(
                        y,
                        to,
                        finished(sums[i * each + 4 * h] + starts[4 * h] + a, low, high),
                        finished(sums[i * each + 4 * h + 1] + starts[4 * h + 1] + b, low, high),
                        finished(sums[i * each + 4 * h + 2] + starts[4 * h + 2] + c, low, high),
                        finished(sums[i * each + 4 * h + 3] + starts[4 * h + 3] + d, low, high),
                    )
                else:
                    for j in range(4):
                        if int32(column + j) < width:
                            total = sums[i * each + 4 * h + j] + starts[4 * h + j]
                            if adding != 0:
                                total += y[uint32(to + uint32(j))]
                            y[uint32(to + uint32(j))] = finished(total, low, high)

    @kernel(
        block=tile.threads,
        constants=(rows, columns, "transposed" if transposed else "plain"),
        **limits(tile),
    )
    def _implicit_gemm(
        source: f32s,
        filters: f32s,
        bias: f32s,
        y: f32s,
        phases: i32s,
        images: i32,
        height: i32,
        width: i32,
        pitch: i32,
        channels: i32,
        step_h: i32,
        step_w: i32,
        tap_h: i32,
        tap_w: i32,
        out_height: i32,
        out_width: i32,
        out_step_h: i32,
        out_step_w: i32,
        out_columns: i32,
        filter_terms: i32,
        filter_pitch: i32,
        filter_group: u32,
        out_pitch: i32,
        out_first: i32,
        groups: u32,
        splits: u32,
        split_size: u32,
        has_bias: i32,
        whole: i32,
        adding: i32,
        low: f32,
        high: f32,
    ):
        a = cuda.shared.array(both_a, float32, alignment=16)
        b = cuda.shared.array(both_b, float32, alignment=16)
        placed = cuda.shared.array(rows, int32)
        sums = cuda.local.array(sums_size, float32)
        next_a = cuda.local.array(fetched, float32)
        next_b = cuda.local.array(4, float32)
        base = cuda.local.array(loads, uint32)
        top = cuda.local.array(loads, int32)
        left = cuda.local.array(loads, int32)
        thread = int32(cuda.threadIdx.x)
        across, down = place(thread)
        for i in range(sums_size):
            sums[i] = float32(0)

        z = uint32(cuda.blockIdx.z)
        rest = uint32(z // splits)
        split = uint32(z - rest * splits)
        number = uint32(rest // groups)
        group = int32(rest - number * groups)
        phase = uint32(number * uint32(9))
        phase_rows, phase_columns = phases[phase], phases[phase + uint32(1)]
        first_row, first_column = phases[phase + uint32(2)], phases[phase + uint32(3)]
        phase_top, phase_left = phases[phase + uint32(4)], phases[phase + uint32(5)]
        taps_h, taps_w = phases[phase + uint32(6)], phases[phase + uint32(7)]
        first_term = int32(phases[phase + uint32(8)] * channels)

        row_in_tile, part = int32(thread >> 1), int32((thread & 1) * 4)
        pixels = uint32(phase_rows * phase_columns)
        for i in range(loads):
            in_tile = int32(row_in_tile + i * pass_rows)
            row = uint32(int32(cuda.blockIdx.x) * rows + in_tile)
            image = uint32(row // pixels)
            inside = uint32(row - image * pixels)
            below = int32(inside // uint32(phase_columns))
            right = int32(inside - uint32(below) * uint32(phase_columns))
            top[i], left[i] = int32(_NOWHERE), int32(right * step_w + phase_left)
            to = int32(-1)
            if int32(image) < images:
                top[i] = int32(below * step_h + phase_top)
                out_row = int32(int32(image) * out_height + below * out_step_h + first_row)
                to = int32((out_row * out_width + right * out_step_w + first_column) * out_pitch + out_first)
                to = int32(to + int32(split * split_size))
            base[i] = uint32(((int32(image) * height + top[i]) * width + left[i]) * pitch)
            if part == 0:
                placed[uint32(in_tile)] = to

        terms = int32(taps_h * taps_w * channels)
        slabs = uint32(uint32(terms + int32(DEPTH - 1)) // uint32(DEPTH))
        share = uint32(uint32(slabs + splits - uint32(1)) // splits)
        begin = uint32(split * share)
        end = uint32(min(slabs, uint32(begin + share)))
        remaining = int32(int32(end) - int32(begin))

        term = int32(int32(begin) * int32(DEPTH) + part)
        tap = uint32(uint32(term) // uint32(channels))
        channel = int32(term - int32(tap) * channels)
        tap_row = uint32(tap // uint32(taps_w))
        dh = int32(int32(tap_row) * tap_h)
        dw = int32(int32(tap - tap_row * uint32(taps_w)) * tap_w)
        dh_end, dw_end = int32(taps_h * tap_h), int32(taps_w * tap_w)
        first_channel = int32(group * channels)
        offset = uint32((dh * width + dw) * pitch + first_channel + channel)

        tile_column = int32(int32(cuda.blockIdx.y) * columns)
        if transposed:
            column = int32(tile_column + row_in_tile)
            to_b = int32(part * pitch_b + row_in_tile)
            at_b, ahead = uint32(column * filter_pitch + term), uint32(DEPTH)
            filter_width = out_columns
        else:
            below, right = int32(thread // quads), int32(int32(thread % quads) * 4)
            column = int32(tile_column + right)
            to_b = int32(below * pitch_b + right)
            term = int32(int32(begin) * int32(DEPTH) + below)
            at_b, ahead = uint32((first_term + term) * filter_pitch + column), uint32(DEPTH * filter_pitch)
            filter_width = filter_pitch
        at_b = uint32(at_b + uint32(group) * filter_group)
        # Beyond the last filter nothing is read.
        terms = min(terms, filter_terms) if column < filter_width else int32(0)
        to_a = int32(part * pitch_a + row_in_tile)

        if remaining > 0:
            fetch_source(source, next_a, base, top, left, dh, dw, dh_end, height, width, offset)
            fetch_filters(filters, next_b, term, terms, at_b)
        into_a, into_b, from_a, from_b = uint32(to_a), uint32(to_b), uint32(down * 4), uint32(across * 4)
        put(a, b, uint64(into_a), uint64(into_b), next_a, next_b)
        cuda.syncthreads()
        while remaining > 0:
            remaining = int32(remaining - 1)
            if remaining > 0:
                channel, offset = int32(channel + int32(DEPTH)), uint32(offset + uint32(DEPTH))
                while channel >= channels:
                    channel, dw = int32(channel - channels), int32(dw + tap_w)
                    if dw == dw_end:
                        dw, dh = int32(0), int32(dh + tap_h)
                    offset = uint32((dh * width + dw) * pitch + first_channel + channel)
                term, at_b = int32(term + int32(DEPTH)), uint32(at_b + ahead)
                fetch_source(source, next_a, base, top, left, dh, dw, dh_end, height, width, offset)
                fetch_filters(filters, next_b, term, terms, at_b)
            add_products(a, b, uint64(from_a), uint64(from_b), sums)
            if remaining == 0:
                break
            into_a, from_a = uint32(into_a ^ uint32(other_a)), uint32(from_a ^ uint32(other_a))
            into_b, from_b = uint32(into_b ^ uint32(other_b)), uint32(from_b ^ uint32(other_b))
            put(a, b, uint64(into_a), uint64(into_b), next_a, next_b)
            cuda.syncthreads()

        starts = cuda.local.array(each, float32)
        first = int32(tile_column + across * 4)
        for h in range(halves):
            for j in range(4):
                column = int32(first + h * half_columns + j)
                starts[4 * h + j] = float32(0)
                if has_bias != 0 and column < out_columns:
                    starts[4 * h + j] = bias[uint32(group * out_columns + column)]
        first = int32(first + group * out_columns)
        last = int32(out_columns + group * out_columns)
        # Written out: sums that a loop variable picks would not stay in registers.
        put_row(0, y, placed, down, sums, first, last, starts, whole, adding, low, high)
        put_row(1, y, placed, down, sums, first, last, starts, whole, adding, low, high)
        put_row(2, y, placed, down, sums, first, last, starts, whole, adding, low, high)
        put_row(3, y, placed, down, sums, first, last, starts, whole, adding, low, high)
        if each == 8:
            put_row(4, y, placed, down, sums, first, last, starts, whole, adding, low, high)
            put_row(5, y, placed, down, sums, first, last, starts, whole, adding, low, high)
            put_row(6, y, placed, down, sums, first, last, starts, whole, adding, low, high)
            put_row(7, y, placed, down, sums, first, last, starts, whole, adding, low, high)

    return _implicit_gemm


def launch(
    source: Array,
    filters: Array,
    bias: Array | None,
    target: Target,
    gather: Gather,
    phases: tuple[Phase, ...] = (Phase(1, 1, 0, 0, 0, 0, 1, 1, 0),),
    groups: int = 1,
    transposed: bool = False,
    tile: Tile | None = None,
) -> None:
    """Multiply into the target; source and filters are padded and aligned (``packing``).

    The filters are (groups, terms, filter_pitch), or (columns, filter_pitch) if ``transposed``.
    """
    rows = max(gather.images * phase.rows * phase.columns for phase in phases)
    if rows == 0:
        return
    bias = None if bias is None else whole(bias)
    slabs = max(-(-phase.taps_h * phase.taps_w * gather.channels // DEPTH) for phase in phases)
    batch = len(phases) * groups
    tile = tile or best_tile(rows, gather.columns, batch)
    splits = split_count(tile.grid(rows, gather.columns) * batch, slabs)
    to = target
    if splits > 1:
        pixels, columns = gather.images * gather.out_height * gather.out_width, groups * gather.columns
        to = Target(empty(source, (splits, pixels, columns)), columns)
    vectors = gather.columns % 4 == to.pitch % 4 == to.channel % 4 == 0 and address(to.y) % 16 == 0
    low, high, adding = to.finish
    started = bias if splits == 1 else None
    grid = (
        blocks(rows, tile.rows),
        blocks(gather.columns, tile.columns),
        batch * splits,
    )
    _make(tile, transposed)[grid](
        source,
        filters,
        started,
        to.y,
        table(source, phases),
        *gather,
        to.pitch,
        to.channel,
        groups,
        splits,
        to.y.size // splits if splits > 1 else 0,
        started is not None,
        vectors,
        adding,
        low,
        high,
    )
    if splits > 1:
        add_up(to.y, bias, target)


VARIANTS = [_make(tile, transposed) for tile in (LARGE, NARROW, SMALL) for transposed in (False, True)]
