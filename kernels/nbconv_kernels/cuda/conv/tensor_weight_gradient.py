"""The weight gradient (``weight_gradient``) on tensor cores: TF32 or bf16 operands, sums in float32.

Terms are pixels, and both operands lie in memory with one pixel's numbers side by side: terms go down, not
along. In bf16 the matrix loads transpose on their way to registers; for TF32 there is no such load, so that a
lane picks its numbers one by one. A pixel's chunks are exchanged by an exclusive or with the pixel's number,
for the lanes of a warp to find theirs in different banks. A stage has 16 pixels in TF32 and 32 in bf16; three
stages, tiles and copies as in ``tensor_gemm``, splits and the second launch as in ``weight_gradient``.

Limit: reads from shared memory in TF32, the warp-wide products in bf16.
"""

from __future__ import annotations

import functools

from nbconv_kernels.cuda.build import Kernel, blocks, device_function, kernel
from nbconv_kernels.cuda.conv.formats import BF16, TF32, Format, chunks
from nbconv_kernels.cuda.conv.tensor_gemm import LARGE, NARROW, SHOWN, WarpTile, best_tile, shower
from nbconv_kernels.cuda.conv.tile import split_count
from nbconv_kernels.cuda.intrinsics import (
    copy_async,
    copy_commit,
    copy_wait,
    load4,
    load_matrices_turned,
    shared_address,
    store4,
)
from nbconv_kernels.cuda.memory import Array, empty
from nbconv_kernels.cuda.target import cuda, f32s, float32, i32, int32, u32, u32s, uint32, uint64
from nbconv_kernels.geometry import Conv2dGeometry

__all__ = ["VARIANTS", "partial_sums"]

_NOWHERE = -(1 << 30)  # a row outside every image
_STAGES = 3


@functools.lru_cache
def _make(tile: WarpTile, form: Format) -> Kernel:
    rows, columns, warp_rows, warp_columns = tile
    short, chunk, threads = form is BF16, form.chunk, tile.threads
    depth = 4 * chunk  # pixels of a stage
    across = threads // depth  # threads that bring a pixel's chunks
    loads_a, loads_b = rows // chunk // across, columns // chunk // across
    bytes_a, bytes_b = 16 * rows // chunk, 16 * columns // chunk  # of a pixel in a stage
    size_a = depth * bytes_a
    stage = size_a + depth * bytes_b
    total = _STAGES * stage
    words = total // 4
    half_a, half_b = depth // 2 * bytes_a, depth // 2 * bytes_b  # bytes of the pixels of one product
    warps_down = rows // warp_rows
    down_16, across_8 = warp_rows // 16, warp_columns // 8
    fragments_a, fragments_b, sums_size = 4 * down_16, 2 * across_8, 4 * down_16 * across_8
    places_a, places_b = (down_16, across_8 // 2) if short else (2 * down_16, across_8)
    quads, result_pitch = columns // 4, columns + 8
    show = shower(tile)
    multiply, wait, wait_all = form.multiply, copy_wait(_STAGES - 2), copy_wait(0)

    @device_function
    def swizzled(chunk_in_row, pixel):
        """Where a pixel has this chunk, in bytes."""
        return int32((chunk_in_row ^ (pixel & 7 if short else (pixel & 3) << 1)) << 4)

    @device_function
    def load_one(shared, at):
        """A number's bits, by its place in bytes."""
        return shared[uint64(uint32(at >> uint32(2)))]

    @device_function
    def load_fragments(shared, first, from_a, from_b, at_a, at_b, a, b):
        if short:
            for i in range(places_a):
                a[4 * i], a[4 * i + 1], a[4 * i + 2], a[4 * i + 3] = load_matrices_turned(
                    uint32(first + from_a + at_a[i])
                )
            for j in range(places_b):
                b[4 * j], b[4 * j + 1], b[4 * j + 2], b[4 * j + 3] = load_matrices_turned(
                    uint32(first + from_b + at_b[j])
                )
        else:
            for i in range(places_a // 2):
                a[4 * i] = load_one(shared, uint32(from_a + at_a[2 * i]))
                a[4 * i + 1] = load_one(shared, uint32(from_a + at_a[2 * i + 1]))
                a[4 * i + 2] = load_one(shared, uint32(from_a + at_a[2 * i] + 4 * bytes_a))
                a[4 * i + 3] = load_one(shared, uint32(from_a + at_a[2 * i + 1] + 4 * bytes_a))
            for j in range(places_b):
                b[2 * j] = load_one(shared, uint32(from_b + at_b[j]))
                b[2 * j + 1] = load_one(shared, uint32(from_b + at_b[j] + 4 * bytes_b))

    @kernel(
        block=threads,
        capability=(8, 0),
        min_blocks=2,
        max_registers=128,
        constants=(form.name, rows, columns),
        main_loop="HMMA",
    )
    def _tensor_weight_gradient(
        x: u32s,
        dy: u32s,
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
        shared = cuda.shared.array(words, float32, alignment=128)
        bits = shared.view(uint32)
        sums = cuda.local.array(sums_size, float32)
        a = cuda.local.array(fragments_a, uint32)
        b = cuda.local.array(fragments_b, uint32)
        at_a = cuda.local.array(places_a, uint32)
        at_b = cuda.local.array(places_b, uint32)
        dh = cuda.local.array(loads_a, int32)
        dw = cuda.local.array(loads_a, int32)
        channel = cuda.local.array(loads_a, int32)
        thread = int32(cuda.threadIdx.x)
        lane, warp = int32(thread & 31), int32(thread >> 5)
        warp_row = int32(int32(warp % warps_down) * warp_rows)
        warp_column = int32(int32(warp // warps_down) * warp_columns)
        for i in range(sums_size):
            sums[i] = float32(0)
        z = uint32(cuda.blockIdx.z)
        split = uint32(z // groups)
        group = int32(z - split * groups)
        begin = int32(int32(split) * share)
        end = int32(min(pixels, int32(begin + share)))
        tile_row, tile_column = int32(int32(cuda.blockIdx.x) * rows), int32(int32(cuda.blockIdx.y) * columns)

        in_stage, part = int32(thread // across), int32(thread % across)
        first = shared_address(shared, uint32(0))
        for i in range(loads_a):
            row = uint32(tile_row // chunk + part + i * across)
            tap = uint32(row // uint32(channels))
            channel[i] = int32(int32(row - tap * uint32(channels)) + group * channels)
            tap_row = uint32(tap // taps_w)
            dw[i] = int32(int32(tap - tap_row * taps_w) * dilation_w)
            dh[i] = int32(int32(tap_row) * dilation_h) if int32(row) < results else int32(_NOWHERE)
        pixel = int32(begin + in_stage)
        image = uint32(uint32(pixel) // uint32(out_height * out_width))
        inside = uint32(uint32(pixel) - image * uint32(out_height * out_width))
        below = uint32(inside // uint32(out_width))
        image_row = int32(int32(image) * height)
        top = int32(int32(below) * stride_h - pad_top)
        left = int32(int32(inside - below * uint32(out_width)) * stride_w - pad_left)
        end_w, end_h = int32(out_width * stride_w - pad_left), int32(out_height * stride_h - pad_top)
        column = int32(tile_column // chunk + part)
        from_dy = int32(group * filters + column)

        if short:
            k = int32((lane & 7) + ((lane >> 4) << 3))
            for i in range(places_a):
                place = int32(warp_row // chunk + 2 * i + ((lane >> 3) & 1))
                at_a[i] = uint32(k * bytes_a + swizzled(place, k))
            k = int32(lane & 15)
            for j in range(places_b):
                place = int32(warp_column // chunk + 2 * j + (lane >> 4))
                at_b[j] = uint32(size_a + k * bytes_b + swizzled(place, k))
        else:
            k = int32(lane & 3)
            for i in range(places_a):
                place = int32(warp_row + 8 * i + (lane >> 2))
                at_a[i] = uint32(k * bytes_a + swizzled(int32(place >> 2), k) + (place & 3) * 4)
            for j in range(places_b):
                place = int32(warp_column + 8 * j + (lane >> 2))
                at_b[j] = uint32(size_a + k * bytes_b + swizzled(int32(place >> 2), k) + (place & 3) * 4)

        count = int32(int32(end - begin + int32(depth - 1)) // depth)
        step, fetch, now = int32(-(_STAGES - 1)), uint32(0), uint32(0)
        while step < count:
            if step >= 0:
                wait()
                cuda.syncthreads()
            if int32(step + (_STAGES - 1)) < count:
                for i in range(loads_a):
                    row, right = int32(top + dh[i]), int32(left + dw[i])
                    there = uint32(row) < uint32(height) and uint32(right) < uint32(width) and pixel < end
                    at = (
                        uint32(((image_row + row) * width + right) * pitch + channel[i])
                        if there
                        else uint32(0)
                    )
                    to = int32(in_stage * bytes_a + swizzled(int32(part + i * across), in_stage))
                    size = uint32(16) if there else uint32(0)
                    copy_async(uint32(first + fetch + to), x, uint32(at * uint32(4)), size)
                for i in range(loads_b):
                    there = pixel < end and int32(column + i * across) < filters
                    at = uint32(pixel * dy_pitch + from_dy + i * across) if there else uint32(0)
                    to = int32(size_a + in_stage * bytes_b + swizzled(int32(part + i * across), in_stage))
                    size = uint32(16) if there else uint32(0)
                    copy_async(uint32(first + fetch + to), dy, uint32(at * uint32(4)), size)
                pixel = int32(pixel + depth)
                left = int32(left + jump_columns * stride_w)
                top = int32(top + jump_rows * stride_h)
                image_row = int32(image_row + jump_images * height)
                if left >= end_w:
                    left = int32(left - out_width * stride_w)
                    top = int32(top + stride_h)
                if top >= end_h:
                    top = int32(top - out_height * stride_h)
                    image_row = int32(image_row + height)
            copy_commit()
            fetch = uint32(fetch + uint32(stage))
            if fetch == uint32(total):
                fetch = uint32(0)
            if step >= 0:
                for half in range(2):
                    from_a, from_b = uint32(now + half * half_a), uint32(now + half * half_b)
                    load_fragments(bits, first, from_a, from_b, at_a, at_b, a, b)
                    for i in range(down_16):
                        for j in range(across_8):
                            multiply(sums, (i * across_8 + j) * 4, a, 4 * i, b, 2 * j)
                now = uint32(now + uint32(stage))
                if now == uint32(total):
                    now = uint32(0)
            step = int32(step + 1)

        wait_all()
        cuda.syncthreads()
        wide = int32(filters * chunk)
        base = uint32(z * uint32(results * chunk * wide))
        for half in range(rows // SHOWN):
            show(shared, sums, half, warp_row, warp_column, lane)
            cuda.syncthreads()
            item = int32(thread)
            while item < int32(SHOWN * quads):
                in_tile, quad = int32(item // quads), int32(int32(item % quads) * 4)
                row, place = int32(tile_row + half * SHOWN + in_tile), int32(tile_column + quad)
                if row < int32(results * chunk) and place < wide:
                    c, d, e, f = load4(shared, uint32(in_tile * result_pitch + quad))
                    store4(partial, uint32(base + uint32(row * wide + place)), c, d, e, f)
                item = int32(item + threads)
            cuda.syncthreads()

    return _tensor_weight_gradient


def partial_sums(x: Array, dy: Array, g: Conv2dGeometry, form: Format) -> Array:
    """(splits, groups, taps, channels, filters), the last two axes padded; x and dy are in chunks."""
    channels, filters, pixels = chunks(g.c // g.groups, form), chunks(g.k // g.groups, form), g.n * g.p * g.q
    results, depth = g.r * g.s * channels, 4 * form.chunk
    stages = -(-pixels // depth)
    tile = best_tile(filters * form.chunk)
    splits = split_count(tile.grid(results * form.chunk, filters * form.chunk) * g.groups, stages)
    share = max(1, -(-stages // splits)) * depth
    shape = (splits, g.groups, g.r * g.s, channels * form.chunk, filters * form.chunk)
    partial = empty(x, shape)
    jump_images, rest = divmod(depth, g.p * g.q)
    grid = (blocks(shape[2] * shape[3], tile.rows), blocks(shape[4], tile.columns), g.groups * splits)
    _make(tile, form)[grid](
        *(x, dy, partial, g.h, g.w, g.groups * channels, channels, g.s, results),
        *(filters, g.groups * filters, g.p, g.q, g.stride_h, g.stride_w, g.pad_top, g.pad_left),
        *(g.dilation_h, g.dilation_w, pixels, share, g.groups, jump_images, *divmod(rest, g.q)),
    )
    return partial


VARIANTS = [_make(tile, form) for form in (TF32, BF16) for tile in (LARGE, NARROW)]
