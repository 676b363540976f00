"""The weight gradient as a matrix product over pixels.

    dweight[(r, s, c), k] = sum over pixels of x[pixel under the tap (r, s), c] * dy[pixel, k]

Rows are (tap, channel), columns are filters, terms are output pixels. Both factors lie in memory with the
terms as rows, so their slabs of 8 pixels go to shared memory as they are. A thread brings the same channels
of the same tap from every eighth pixel and steps from one to the next without a division.

There are few results and very many terms: these are split among blocks, which write partial sums to a
workspace; a second launch adds them up in a fixed order and puts them into the layout of the weights, so that
every run gives the same bits. Tiles and buffers as in ``implicit_gemm``.

Limit: multiply-adds.
"""

from __future__ import annotations

import functools

from nbconv_kernels.cuda.build import Kernel, blocks, device_function, kernel
from nbconv_kernels.cuda.conv.packing import fours
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
from nbconv_kernels.cuda.intrinsics import load4, store4, thread_index
from nbconv_kernels.cuda.memory import Array, empty
from nbconv_kernels.cuda.target import cuda, f32s, float32, i32, int32, u32, uint32, uint64
from nbconv_kernels.geometry import Conv2dGeometry

__all__ = ["VARIANTS", "collect", "partial_sums"]

_NOWHERE = -(1 << 30)  # a row outside every image
_BLOCK = 256


@functools.lru_cache
def _make(tile: Tile) -> Kernel:
    rows, columns, each = tile
    halves, half_rows, half_columns = each // 4, rows // 2, columns // 2
    loads = tile.loads(rows)  # vectors of x a thread brings of a slab; of dy it brings one
    pass_quads, quads_dy = rows // 4 // loads, columns // 4
    size_a, size_b = DEPTH * rows, DEPTH * columns
    other_a, other_b = second_buffer(size_a), second_buffer(size_b)
    both_a, both_b, sums_size, fetched = other_a + size_a, other_b + size_b, each * each, 4 * loads
    place, add_products = position(tile), multiply(tile, rows, columns)

    @device_function
    def fetch_x(x, into, term, end, image_row, top, left, dh, dw, height, width, pitch, channel):
        for i in range(loads):
            into[4 * i] = into[4 * i + 1] = into[4 * i + 2] = into[4 * i + 3] = float32(0)
            row, column = int32(top + dh[i]), int32(left + dw[i])
            if uint32(row) < uint32(height) and uint32(column) < uint32(width) and term < end:
                at = uint32(((image_row + row) * width + column) * pitch + channel[i])
                into[4 * i], into[4 * i + 1], into[4 * i + 2], into[4 * i + 3] = load4(x, at)

    @device_function
    def fetch_dy(dy, into, term, terms, at):
        into[0] = into[1] = into[2] = into[3] = float32(0)
        if term < terms:
            into[0], into[1], into[2], into[3] = load4(dy, at)

    @device_function
    def put(a, b, to_a, to_b, from_x, from_dy):
        for i in range(loads):
            to = to_a + uint64(4 * i * pass_quads)
            store4(a, to, from_x[4 * i], from_x[4 * i + 1], from_x[4 * i + 2], from_x[4 * i + 3])
        store4(b, to_b, from_dy[0], from_dy[1], from_dy[2], from_dy[3])

    @device_function
    def put_row(i, partial, first_row, last_row, sums, first, width, base):
        row = int32(first_row + (i >> 2) * half_rows + (i & 3))
        if row < last_row:
            for h in range(halves):
                column = int32(first + h * half_columns)
                if column < width:
                    store4(
                        partial,
                        uint32(base + uint32(row * width + column)),
                        sums[i * each + 4 * h],
                        sums[i * each + 4 * h + 1],
                        sums[i * each + 4 * h + 2],
                        sums[i * each + 4 * h + 3],
                    )

    @kernel(
        block=tile.threads,
        constants=(rows, columns),
        **limits(tile),
    )
    def _weight_gradient(
        x: f32s,
        dy: f32s,
        partial: f32s,
        height: i32,
        width: i32,
        pitch: i32,
        channels: i32,
        taps_w: u32,
        results: i32,
        filters: i32,
        dy_pitch: i32,
        out_height: i32,
        out_width: i32,
        stride_h: i32,
        stride_w: i32,
        pad_top: i32,
        pad_left: i32,
        dilation_h: i32,
        dilation_w: i32,
        pixels: i32,
        share: i32,
        groups: u32,
        jump_images: i32,
        jump_rows: i32,
        jump_columns: i32,
    ):
        a = cuda.shared.array(both_a, float32, alignment=16)
        b = cuda.shared.array(both_b, float32, alignment=16)
        sums = cuda.local.array(sums_size, float32)
        next_a = cuda.local.array(fetched, float32)
        next_b = cuda.local.array(4, float32)
        dh = cuda.local.array(loads, int32)
        dw = cuda.local.array(loads, int32)
        channel = cuda.local.array(loads, int32)
        thread = int32(cuda.threadIdx.x)
        across, down = place(thread)
        for i in range(sums_size):
            sums[i] = float32(0)
        z = uint32(cuda.blockIdx.z)
        split = uint32(z // groups)
        group = int32(z - split * groups)
        begin = int32(int32(split) * share)
        end = int32(min(pixels, int32(begin + share)))

        tile_row = int32(int32(cuda.blockIdx.x) * rows)
        term_x, quad = int32(thread // pass_quads), int32(int32(thread % pass_quads) * 4)
        to_a = int32(term_x * rows + quad)
        for i in range(loads):
            row = uint32(tile_row + quad + 4 * i * pass_quads)
            tap = uint32(row // uint32(channels))
            channel[i] = int32(int32(row - tap * uint32(channels)) + group * channels)
            tap_row = uint32(tap // taps_w)
            dw[i] = int32(int32(tap - tap_row * taps_w) * dilation_w)
            dh[i] = int32(int32(tap_row) * dilation_h) if int32(row) < results else int32(_NOWHERE)
        term_x = int32(begin + term_x)
        image = uint32(uint32(term_x) // uint32(out_height * out_width))
        inside = uint32(uint32(term_x) - image * uint32(out_height * out_width))
        below = uint32(inside // uint32(out_width))
        image_row = int32(int32(image) * height)
        top = int32(int32(below) * stride_h - pad_top)
        left = int32(int32(inside - below * uint32(out_width)) * stride_w - pad_left)

        tile_column = int32(int32(cuda.blockIdx.y) * columns)
        term, quad = int32(thread // quads_dy), int32(int32(thread % quads_dy) * 4)
        to_b = int32(term * columns + quad)
        column = int32(tile_column + quad)
        term = int32(begin + term)
        at_b = uint32(term * dy_pitch + group * filters + column)
        ahead = uint32(DEPTH * dy_pitch)
        last_term = end if column < filters else int32(0)
        end_w, end_h = int32(out_width * stride_w - pad_left), int32(out_height * stride_h - pad_top)

        fetch_x(x, next_a, term_x, end, image_row, top, left, dh, dw, height, width, pitch, channel)
        fetch_dy(dy, next_b, term, last_term, at_b)
        into_a, into_b, from_a, from_b = uint32(to_a), uint32(to_b), uint32(down * 4), uint32(across * 4)
        put(a, b, uint64(into_a), uint64(into_b), next_a, next_b)
        cuda.syncthreads()
        while begin < end:
            begin = int32(begin + int32(DEPTH))
            if begin < end:
                left = int32(left + jump_columns * stride_w)
                top = int32(top + jump_rows * stride_h)
                image_row = int32(image_row + jump_images * height)
                if left >= end_w:
                    left = int32(left - out_width * stride_w)
                    top = int32(top + stride_h)
                if top >= end_h:
                    top = int32(top - out_height * stride_h)
                    image_row = int32(image_row + height)
                term_x, term, at_b = (
                    int32(term_x + int32(DEPTH)),
                    int32(term + int32(DEPTH)),
                    uint32(at_b + ahead),
                )
                fetch_x(x, next_a, term_x, end, image_row, top, left, dh, dw, height, width, pitch, channel)
                fetch_dy(dy, next_b, term, last_term, at_b)
            add_products(a, b, uint64(from_a), uint64(from_b), sums)
            if begin >= end:
                break
            into_a, from_a = uint32(into_a ^ uint32(other_a)), uint32(from_a ^ uint32(other_a))
            into_b, from_b = uint32(into_b ^ uint32(other_b)), uint32(from_b ^ uint32(other_b))
            put(a, b, uint64(into_a), uint64(into_b), next_a, next_b)
            cuda.syncthreads()

        base = uint32(z * uint32(results * filters))
        first_row, first = int32(tile_row + down * 4), int32(tile_column + across * 4)
        # Written out: sums that a loop variable picks would not stay in registers.
        put_row(0, partial, first_row, results, sums, first, filters, base)
        put_row(1, partial, first_row, results, sums, first, filters, base)
        put_row(2, partial, first_row, results, sums, first, filters, base)
        put_row(3, partial, first_row, results, sums, first, filters, base)
        if each == 8:
            put_row(4, partial, first_row, results, sums, first, filters, base)
            put_row(5, partial, first_row, results, sums, first, filters, base)
            put_row(6, partial, first_row, results, sums, first, filters, base)
            put_row(7, partial, first_row, results, sums, first, filters, base)

    return _weight_gradient


@kernel(block=_BLOCK)
def _collect(
    partial: f32s,
    dweight: f32s,
    size: u32,
    splits: u32,
    split_size: u32,
    filters: u32,
    padded_filters: u32,
    channels: u32,
    padded_channels: u32,
    taps: u32,
    results: u32,
    filter_step: u32,
    channel_step: u32,
):
    i = thread_index()
    if i < size:
        rest = uint32(i // padded_filters)
        filter_ = uint32(i - rest * padded_filters)
        group = uint32(rest // results)
        row = uint32(rest - group * results)
        tap = uint32(row // padded_channels)
        channel = uint32(row - tap * padded_channels)
        if filter_ < filters and channel < channels:
            total = float32(0)
            for _ in range(splits):
                total += partial[i]
                i = uint32(i + split_size)
            filter_ = uint32(group * filters + filter_)
            dweight[uint32(filter_ * filter_step + channel * channel_step + tap)] = total


def collect(partial: Array, dweight: Array, steps: tuple[int, int], g: Conv2dGeometry) -> None:
    """Sum ``partial`` (splits, groups, taps, channels, filters) over the splits into the gradient.

    The last two axes are padded. ``steps`` lie between a filter and the next and between a channel and the
    next in ``dweight``, where the taps are neighbours.
    """
    splits, _, taps, padded_channels, padded_filters = partial.shape
    size = partial.size // splits
    _collect[blocks(size, _BLOCK)](
        *(partial, dweight, size, splits, size, g.k // g.groups, padded_filters),
        *(g.c // g.groups, padded_channels, taps, taps * padded_channels, *steps),
    )


def partial_sums(x: Array, dy: Array, g: Conv2dGeometry, tile: Tile | None = None) -> Array:
    """(splits, groups, taps, channels, filters), the last two axes padded; x and dy are (``packing``)."""
    channels, filters, pixels = fours(g.c // g.groups), fours(g.k // g.groups), g.n * g.p * g.q
    results = g.r * g.s * channels
    slabs = -(-pixels // DEPTH)
    tile = tile or best_tile(results, filters, g.groups * max(1, slabs // 4))
    splits = split_count(tile.grid(results, filters) * g.groups, slabs)
    share = max(1, -(-slabs // splits)) * DEPTH
    partial = empty(x, (splits, g.groups, g.r * g.s, channels, filters))
    jump_images, rest = divmod(DEPTH, g.p * g.q)
    grid = (blocks(results, tile.rows), blocks(filters, tile.columns), g.groups * splits)
    _make(tile)[grid](
        *(x, dy, partial, g.h, g.w, g.groups * channels, channels, g.s, results),
        *(filters, g.groups * filters, g.p, g.q, g.stride_h, g.stride_w, g.pad_top, g.pad_left),
        *(g.dilation_h, g.dilation_w, pixels, share, g.groups, jump_images, *divmod(rest, g.q)),
    )
    return partial


VARIANTS = [_make(tile) for tile in (LARGE, NARROW, SMALL)]
