"""The product of ``implicit_gemm`` on tensor cores: TF32 or bf16 operands, sums in float32.

Both operands lie in memory with the terms of a row one after another, in chunks of 16 bytes (``formats``). A
stage holds 4 chunks of 128 pixels and of 128 or 64 filters. Three stages are in shared memory at once: one is
multiplied while the copies of the next two are on their way past the registers (cp.async). A row's chunks
are exchanged by an exclusive or with its number, so that the eight rows that a matrix load takes at a time
lie in different banks. Eight warps have 64 x 32 (or 32 x 32) results each, as 16 x 8 products of fragments.

Limit: products of single warps, which on Hopper reach only part of the rate of those of four warps together;
and room for two blocks a processor, by their registers.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

from nbconv_kernels.cuda.build import Kernel, blocks, device_function, kernel
from nbconv_kernels.cuda.conv.finish import Target, add_up, finished
from nbconv_kernels.cuda.conv.formats import BF16, TF32, Format
from nbconv_kernels.cuda.conv.implicit_gemm import Gather, Phase
from nbconv_kernels.cuda.conv.packing import table
from nbconv_kernels.cuda.conv.tile import split_count
from nbconv_kernels.cuda.intrinsics import (
    copy_async,
    copy_commit,
    copy_wait,
    load4,
    load_matrices,
    shared_address,
    store4,
)
from nbconv_kernels.cuda.memory import Array, address, empty, whole
from nbconv_kernels.cuda.target import cuda, f32, f32s, float32, i32, i32s, int32, u32, u32s, uint32, uint64

__all__ = ["LARGE", "NARROW", "SHOWN", "VARIANTS", "WarpTile", "best_tile", "launch", "shower"]

_NOWHERE = -(1 << 30)  # a row outside every image
_CHUNKS = 4  # of a row in a stage
_STAGES = 3
SHOWN = 64
"""Rows of results that are in shared memory at once."""


class WarpTile(NamedTuple):
    """Results of a block and of a warp."""

    rows: int
    columns: int
    warp_rows: int
    warp_columns: int

    @property
    def threads(self) -> int:
        """Threads of a block."""
        return 32 * (self.rows // self.warp_rows) * (self.columns // self.warp_columns)

    def grid(self, rows: int, columns: int) -> int:
        """Blocks for a product of so many rows and columns."""
        return -(-rows // self.rows) * -(-columns // self.columns)


LARGE, NARROW = WarpTile(128, 128, 64, 32), WarpTile(128, 64, 32, 32)


@device_function
def _put_one(y, to, total, bias, at, has_bias, adding, low, high):
    if has_bias != 0:
        total += bias[at]
    if adding != 0:
        total += y[to]
    y[to] = finished(total, low, high)


@device_function
def _put(y, to, sums, bias, group, column, columns, vectors, has_bias, adding, low, high):
    """Four neighbouring results to their place, as far as there are columns."""
    a, b, c, d = sums
    at = uint32(group * columns + column)
    if vectors != 0:
        if has_bias != 0:
            e, f, g, h = bias[at], bias[uint32(at + 1)], bias[uint32(at + 2)], bias[uint32(at + 3)]
            a, b, c, d = a + e, b + f, c + g, d + h
        if adding != 0:
            e, f, g, h = load4(y, to)
            a, b, c, d = a + e, b + f, c + g, d + h
        a, b, c, d = (
            finished(a, low, high),
            finished(b, low, high),
            finished(c, low, high),
            finished(d, low, high),
        )
        store4(y, to, a, b, c, d)
    else:
        _put_one(y, to, a, bias, at, has_bias, adding, low, high)
        if int32(column + 1) < columns:
            _put_one(y, uint32(to + 1), b, bias, uint32(at + 1), has_bias, adding, low, high)
        if int32(column + 2) < columns:
            _put_one(y, uint32(to + 2), c, bias, uint32(at + 2), has_bias, adding, low, high)
        if int32(column + 3) < columns:
            _put_one(y, uint32(to + 3), d, bias, uint32(at + 3), has_bias, adding, low, high)


@functools.lru_cache
def shower(tile: WarpTile) -> Any:
    """A device function that lays a part of the block's results out in shared memory.

    Part ``half`` are ``SHOWN`` rows, to be written to memory in one piece; a row has eight more elements than
    columns, so that those of a fragment lie in different banks, or two in one at most.
    """
    pitch = tile.columns + 8
    down_16, across_8 = tile.warp_rows // 16, tile.warp_columns // 8

    @device_function
    def put(shared, at, sums, first):
        shared[at] = sums[first]
        shared[at + uint64(1)] = sums[first + 1]
        shared[at + uint64(8 * pitch)] = sums[first + 2]
        shared[at + uint64(8 * pitch + 1)] = sums[first + 3]

    @device_function
    def show(shared, sums, half, warp_row, warp_column, lane):
        if int32(warp_row // SHOWN) == half:
            row = int32(int32(warp_row % SHOWN) + (lane >> 2))
            at = uint64(uint32(row * pitch + warp_column + (lane & 3) * 2))
            for i in range(down_16):
                for j in range(across_8):
                    put(shared, at + uint64(16 * i * pitch + 8 * j), sums, (i * across_8 + j) * 4)

    return show


@functools.lru_cache
def _make(tile: WarpTile, form: Format) -> Kernel:
    rows, columns, warp_rows, warp_columns = tile
    pass_rows = tile.threads // _CHUNKS
    loads_a, loads_b = rows // pass_rows, columns // pass_rows
    warps_down = rows // warp_rows
    down_16, across_8 = warp_rows // 16, warp_columns // 8
    fragments_a, fragments_b, sums_size = 4 * down_16, 2 * across_8, 4 * down_16 * across_8
    row_bytes = 16 * _CHUNKS
    size_a = rows * row_bytes
    stage = size_a + columns * row_bytes
    total = _STAGES * stage
    words = total // 4
    quads, result_pitch, threads = columns // 4, columns + 8, tile.threads
    places = SHOWN * result_pitch
    show = shower(tile)
    multiply, wait, wait_all = form.multiply, copy_wait(_STAGES - 2), copy_wait(0)

    @device_function
    def swizzled(row, chunk):
        """Where a row's chunk lies in its matrix, in bytes."""
        return uint32(row * row_bytes + ((chunk ^ ((row >> 1) & 3)) << 4))

    @device_function
    def fetch_source(source, to, base, top, left, dh, dw, term, terms, height, width, offset):
        for i in range(loads_a):
            row, column = uint32(top[i] + dh), uint32(left[i] + dw)
            inside = row < uint32(height) and column < uint32(width) and term < terms
            at = uint32(base[i] + offset) if inside else uint32(0)
            size = uint32(16) if inside else uint32(0)
            copy_async(uint32(to + i * pass_rows * row_bytes), source, uint32(at * uint32(4)), size)

    @device_function
    def fetch_filters(filters, to, at, step, term, terms, column, last):
        for i in range(loads_b):
            inside = term < terms and int32(column + i * pass_rows) < last
            from_ = uint32(at + uint32(i) * step) if inside else uint32(0)
            size = uint32(16) if inside else uint32(0)
            copy_async(uint32(to + i * pass_rows * row_bytes), filters, uint32(from_ * uint32(4)), size)

    @kernel(
        block=tile.threads,
        capability=(8, 0),
        min_blocks=2,
        max_registers=128,
        constants=(form.name, rows, columns),
        main_loop="HMMA",
    )
    def _tensor_gemm(
        source: u32s,
        filters: u32s,
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
        vectors: i32,
        adding: i32,
        low: f32,
        high: f32,
    ):
        shared = cuda.shared.array(words, float32, alignment=128)
        placed = shared.view(int32)
        sums = cuda.local.array(sums_size, float32)
        a = cuda.local.array(fragments_a, uint32)
        b = cuda.local.array(fragments_b, uint32)
        base = cuda.local.array(loads_a, uint32)
        top = cuda.local.array(loads_a, int32)
        left = cuda.local.array(loads_a, int32)
        thread = int32(cuda.threadIdx.x)
        lane, warp = int32(thread & 31), int32(thread >> 5)
        warp_row = int32(int32(warp % warps_down) * warp_rows)
        warp_column = int32(int32(warp // warps_down) * warp_columns)
        for i in range(sums_size):
            sums[i] = float32(0)

        z = uint32(cuda.blockIdx.z)
        rest = uint32(z // splits)
        split = uint32(z - rest * splits)
        number = uint32(rest // groups)
        group = int32(rest - number * groups)
        phase = uint32(number * uint32(9))
        phase_rows, phase_columns = phases[phase], phases[phase + uint32(1)]
        taps_h, taps_w = phases[phase + uint32(6)], phases[phase + uint32(7)]
        pixels = uint32(phase_rows * phase_columns)
        tile_row, tile_column = int32(int32(cuda.blockIdx.x) * rows), int32(int32(cuda.blockIdx.y) * columns)

        in_tile, part = int32(thread >> 2), int32(thread & 3)
        for i in range(loads_a):
            row = uint32(tile_row + in_tile + i * pass_rows)
            image = uint32(row // pixels)
            inside = uint32(row - image * pixels)
            below = int32(inside // uint32(phase_columns))
            right = int32(inside - uint32(below) * uint32(phase_columns))
            left[i] = int32(right * step_w + phases[phase + uint32(5)])
            top[i] = int32(_NOWHERE)
            if int32(image) < images:
                top[i] = int32(below * step_h + phases[phase + uint32(4)])
            base[i] = uint32(((int32(image) * height + top[i]) * width + left[i]) * pitch)

        terms = int32(taps_h * taps_w * channels)
        steps = uint32(uint32(terms + int32(_CHUNKS - 1)) // uint32(_CHUNKS))
        share = uint32(uint32(steps + splits - uint32(1)) // splits)
        begin = uint32(split * share)
        count = int32(int32(min(steps, uint32(begin + share))) - int32(begin))

        term = int32(int32(begin) * int32(_CHUNKS) + part)
        tap = uint32(uint32(term) // uint32(channels))
        channel = int32(term - int32(tap) * channels)
        tap_row = uint32(tap // uint32(taps_w))
        dh = int32(int32(tap_row) * tap_h)
        dw = int32(int32(tap - tap_row * uint32(taps_w)) * tap_w)
        dw_end = int32(taps_w * tap_w)
        first_channel = int32(group * channels)
        offset = uint32((dh * width + dw) * pitch + first_channel + channel)

        column = int32(tile_column + in_tile)
        at_b = uint32(column * filter_pitch + phases[phase + uint32(8)] * channels + term)
        at_b = uint32(at_b + uint32(group) * filter_group)
        pass_b = uint32(filter_pitch * pass_rows)
        first = shared_address(shared, uint32(0))
        to_a = uint32(first + swizzled(in_tile, part))
        lane_row, lane_chunk = int32(lane & 15), int32(lane >> 4)
        row_b, chunk_b = int32((lane & 7) + ((lane >> 4) << 3)), int32((lane >> 3) & 1)

        fetch, step = uint32(0), int32(-(_STAGES - 1))
        stage_now = uint32(0)
        while step < count:
            if step >= 0:
                wait()
                cuda.syncthreads()
            if int32(step + (_STAGES - 1)) < count:
                fetch_source(
                    source, uint32(to_a + fetch), base, top, left, dh, dw, term, terms, height, width, offset
                )
                fetch_filters(
                    filters, uint32(to_a + fetch + size_a), at_b, pass_b, term, terms, column, out_columns
                )
                channel, offset = int32(channel + int32(_CHUNKS)), uint32(offset + uint32(_CHUNKS))
                term, at_b = int32(term + int32(_CHUNKS)), uint32(at_b + uint32(_CHUNKS))
                while channel >= channels:
                    channel, dw = int32(channel - channels), int32(dw + tap_w)
                    if dw == dw_end:
                        dw, dh = int32(0), int32(dh + tap_h)
                    offset = uint32((dh * width + dw) * pitch + first_channel + channel)
            copy_commit()
            fetch = uint32(fetch + uint32(stage))
            if fetch == uint32(total):
                fetch = uint32(0)
            if step >= 0:
                for half in range(2):
                    from_a = uint32(
                        first + stage_now + swizzled(int32(warp_row + lane_row), int32(lane_chunk + 2 * half))
                    )
                    from_b = uint32(
                        first
                        + stage_now
                        + size_a
                        + swizzled(int32(warp_column + row_b), int32(chunk_b + 2 * half))
                    )
                    for i in range(down_16):
                        a[4 * i], a[4 * i + 1], a[4 * i + 2], a[4 * i + 3] = load_matrices(
                            uint32(from_a + i * 16 * row_bytes)
                        )
                    for j in range(across_8 // 2):
                        b[4 * j], b[4 * j + 1], b[4 * j + 2], b[4 * j + 3] = load_matrices(
                            uint32(from_b + j * 16 * row_bytes)
                        )
                    for i in range(down_16):
                        for j in range(across_8):
                            multiply(sums, (i * across_8 + j) * 4, a, 4 * i, b, 2 * j)
                stage_now = uint32(stage_now + uint32(stage))
                if stage_now == uint32(total):
                    stage_now = uint32(0)
            step = int32(step + 1)

        # Where the rows of results go, in the memory that the stages leave.
        wait_all()
        cuda.syncthreads()
        if thread < rows:
            row = uint32(tile_row + thread)
            image = uint32(row // pixels)
            inside = uint32(row - image * pixels)
            below = int32(inside // uint32(phase_columns))
            right = int32(inside - uint32(below) * uint32(phase_columns))
            to = int32(-1)
            if int32(image) < images:
                below = int32(int32(image) * out_height + below * out_step_h + phases[phase + uint32(2)])
                right = int32(right * out_step_w + phases[phase + uint32(3)])
                to = int32((below * out_width + right) * out_pitch + out_first + int32(split * split_size))
            placed[uint32(places + thread)] = to
        cuda.syncthreads()
        for half in range(rows // SHOWN):
            show(shared, sums, half, warp_row, warp_column, lane)
            cuda.syncthreads()
            item = int32(thread)
            while item < int32(SHOWN * quads):
                row, quad = int32(item // quads), int32(int32(item % quads) * 4)
                to, column = placed[uint32(places + row + half * SHOWN)], int32(tile_column + quad)
                if to >= 0 and column < out_columns:
                    to = int32(to + column + group * out_columns)
                    c = load4(shared, uint32(row * result_pitch + quad))
                    _put(
                        y,
                        uint32(to),
                        c,
                        bias,
                        group,
                        column,
                        out_columns,
                        vectors,
                        has_bias,
                        adding,
                        low,
                        high,
                    )
                item = int32(item + threads)
            cuda.syncthreads()

    return _tensor_gemm


def best_tile(columns: int) -> WarpTile:
    """The tile that is not mostly margin."""
    return LARGE if columns > NARROW.columns else NARROW


def launch(
    source: Array,
    filters: Array,
    bias: Array | None,
    target: Target,
    gather: Gather,
    form: Format,
    phases: tuple[Phase, ...] = (Phase(1, 1, 0, 0, 0, 0, 1, 1, 0),),
    groups: int = 1,
) -> None:
    """Multiply into the target; all of the gather's terms are counted in chunks.

    The filters are (groups, columns, terms).
    """
    rows = max(gather.images * phase.rows * phase.columns for phase in phases)
    if rows == 0:
        return
    bias = None if bias is None else whole(bias)
    steps = max(-(-phase.taps_h * phase.taps_w * gather.channels // _CHUNKS) for phase in phases)
    batch = len(phases) * groups
    tile = best_tile(gather.columns)
    splits = split_count(tile.grid(rows, gather.columns) * batch, steps)
    to = target
    if splits > 1:
        pixels, columns = gather.images * gather.out_height * gather.out_width, groups * gather.columns
        to = Target(empty(source, (splits, pixels, columns)), columns)
    vectors = gather.columns % 4 == to.pitch % 4 == to.channel % 4 == 0 and address(to.y) % 16 == 0
    low, high, adding = to.finish
    started = bias if splits == 1 else None
    grid = (blocks(rows, tile.rows), blocks(gather.columns, tile.columns), batch * splits)
    _make(tile, form)[grid](
        *(source, filters, started, to.y, table(source, phases), *gather, to.pitch, to.channel),
        *(groups, splits, to.y.size // splits if splits > 1 else 0),
        *(started is not None, vectors, adding, low, high),
    )
    if splits > 1:
        add_up(to.y, bias, target)


VARIANTS = [_make(tile, form) for form in (TF32, BF16) for tile in (LARGE, NARROW)]
