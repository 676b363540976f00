"""The short number formats of tensor cores, and operands brought into them.

A *chunk* is 16 bytes along the terms of a product: four numbers in TF32, eight in bf16. Kernels on tensor
cores copy and multiply chunks, so that one source serves both formats. Operands are rounded here, once, to
the nearest; what they are padded with is zero.

Limit: memory bandwidth. A thread makes a chunk.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import numpy as np

from nbconv_kernels.cuda.build import Kernel, blocks, kernel
from nbconv_kernels.cuda.conv.packing import table
from nbconv_kernels.cuda.intrinsics import (
    load4,
    multiply_bf16,
    multiply_tf32,
    pack_bf16,
    round_tf32,
    store4,
    thread_index,
)
from nbconv_kernels.cuda.memory import Array, empty, whole
from nbconv_kernels.cuda.target import cuda, f32s, float32, i32s, u32, u32s, uint32

__all__ = ["BF16", "TF32", "VARIANTS", "Format", "chunks", "staged"]

_BLOCK = 256


class Format(NamedTuple):
    """A number format, and the warp's product of fragments in it."""

    name: str
    chunk: int
    multiply: Any


TF32, BF16 = Format("tf32", 4, multiply_tf32), Format("bf16", 8, multiply_bf16)


def chunks(count: int, form: Format) -> int:
    """Chunks that ``count`` numbers take."""
    return -(-count // form.chunk)


@functools.lru_cache
def _make(form: Format) -> Kernel:
    chunk = form.chunk
    short = form is BF16

    @kernel(block=_BLOCK, capability=(8, 0), constants=(form.name,))
    def _stage(
        x: f32s,
        y: u32s,
        order: i32s,
        size: u32,
        slots: u32,
        wide: u32,
        elements: u32,
        row_step: u32,
        element_step: u32,
        group_step: u32,
        vectors: u32,
    ):
        values = cuda.local.array(chunk, float32)
        i = thread_index()
        if i < size:
            rest = uint32(i // wide)
            first = uint32(uint32(i - rest * wide) * uint32(chunk))
            row = uint32(rest // slots)
            slot = uint32(rest - row * slots)
            group = uint32(cuda.blockIdx.y)
            at = uint32(group * group_step + row * row_step + first * element_step + uint32(order[slot]))
            if vectors != uint32(0) and uint32(first + uint32(chunk)) <= elements:
                values[0], values[1], values[2], values[3] = load4(x, at)
                if short:
                    values[4], values[5], values[6], values[7] = load4(x, uint32(at + uint32(4)))
            else:
                for e in range(chunk):
                    values[e] = float32(0)
                    if uint32(first + uint32(e)) < elements:
                        values[e] = x[at]
                    at = uint32(at + element_step)
            to = uint32(uint32(group * size + i) * uint32(4))
            if short:
                store4(
                    y,
                    to,
                    pack_bf16(values[0], values[1]),
                    pack_bf16(values[2], values[3]),
                    pack_bf16(values[4], values[5]),
                    pack_bf16(values[6], values[7]),
                )
            else:
                store4(
                    y,
                    to,
                    round_tf32(values[0]),
                    round_tf32(values[1]),
                    round_tf32(values[2]),
                    round_tf32(values[3]),
                )

    return _stage


def staged(
    x: Array,
    form: Format,
    rows: int,
    elements: int,
    steps: tuple[int, int, int] | None = None,
    order: tuple[int, ...] = (0,),
    groups: int = 1,
) -> Array:
    """Chunks (groups, rows, slots, chunks, 4) of 32 bits each, of ``elements`` of every row and slot.

    Between a row and the next, an element and the next, a group and the next, ``x`` has ``steps`` elements;
    a slot begins so many elements on as ``order`` says. Without them the rows lie one after another.
    """
    row_step, element_step, group_step = steps or (elements, 1, 0)
    wide = chunks(elements, form)
    y = empty(x, (groups, rows, len(order), wide, 4), np.uint32)
    size = rows * len(order) * wide
    vectors = element_step == 1 and order == (0,) and row_step % 4 == 0 and group_step % 4 == 0
    _make(form)[blocks(size, _BLOCK), groups](
        *(whole(x), y, table(x, (order,)), size, len(order), wide, elements),
        *(row_step, element_step, group_step, vectors),
    )
    return y


VARIANTS = [_make(TF32), _make(BF16)]
