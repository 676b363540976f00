"""What the lanes of a warp do together: shuffles, votes, sums, and matrices read from shared memory."""

from __future__ import annotations

from typing import Any

import numpy as np

from nbconv_kernels.cuda.emulator.batch import WARP, Batch, Mask
from nbconv_kernels.cuda.emulator.errors import PtxError
from nbconv_kernels.cuda.emulator.instructions.registry import Function, Step, instruction
from nbconv_kernels.cuda.emulator.operands import address, items, reader, writer
from nbconv_kernels.cuda.emulator.program import Instruction, Label, Pair
from nbconv_kernels.cuda.emulator.types import DTYPES, Array

_LANE = np.arange(WARP, dtype=np.int64)[None, :]
_BIT = np.uint32(1) << np.arange(WARP, dtype=np.uint32)


@instruction("shfl")
def _shfl(i: Instruction) -> Step:
    """A value from another lane; all bits set where that lane takes no part: hardware promises nothing."""
    i.only("sync", "up", "down", "bfly", "idx")
    mode = i.one_of("up", "down", "bfly", "idx")
    first = i.operands[0].first if isinstance(i.operands[0], Pair) else i.operands[0]
    second = i.operands[0].second if isinstance(i.operands[0], Pair) else Label("_")
    value, offset, bounds = (
        reader(o, kind) for o, kind in zip(i.operands[1:4], ("b32", "u32", "u32"), strict=True)
    )
    write, write_valid = writer(first, "b32"), writer(second, "pred")

    def step(batch: Batch, mask: Mask) -> None:
        values = batch.whole(value(batch)).reshape(-1, WARP)
        by = batch.whole(offset(batch)).reshape(-1, WARP).astype(np.int64) & 31
        bound = batch.whole(bounds(batch)).reshape(-1, WARP).astype(np.int64)
        segment, clamp = (bound >> 8) & 31, bound & 31
        last = (_LANE & segment) | (clamp & ~segment)
        if mode in ("up", "down"):
            source = _LANE - by if mode == "up" else _LANE + by
        else:
            source = _LANE ^ by if mode == "bfly" else (_LANE & segment) | (by & ~segment)
        valid = source >= last if mode == "up" else source <= last
        source = np.where(valid, source, _LANE)
        result = np.take_along_axis(values, source, 1)
        here = batch.active(mask)
        if not here.all():
            result = np.where(np.take_along_axis(here, source, 1), result, ~np.uint32(0))
        write(batch, result.reshape(-1), mask)
        write_valid(batch, valid.reshape(-1), mask)

    return step


@instruction("vote")
def _vote(i: Instruction) -> Step:
    i.only("sync", "all", "any", "uni", "ballot")
    mode = i.one_of("all", "any", "uni", "ballot")
    asked, write = reader(i.operands[1], "pred"), writer(i.operands[0], "b32" if mode == "ballot" else "pred")

    def step(batch: Batch, mask: Mask) -> None:
        here = batch.active(mask)
        true = batch.whole(asked(batch)).reshape(-1, WARP)
        if mode == "ballot":
            result: Any = ((true & here) * _BIT).sum(1, dtype=np.uint32)
        elif mode == "any":
            result = (true & here).any(1)
        else:
            result = (true | ~here).all(1)
            if mode == "uni":
                result = result | ~(true & here).any(1)
        write(batch, np.repeat(result, WARP), mask)

    return step


@instruction("activemask")
def _activemask(i: Instruction) -> Step:
    write = writer(i.operands[0], "b32")

    def step(batch: Batch, mask: Mask) -> None:
        write(batch, np.repeat((batch.active(mask) * _BIT).sum(1, dtype=np.uint32), WARP), mask)

    return step


@instruction("match")
def _match(i: Instruction) -> Step:
    i.only("sync", "any")
    value, write = reader(i.operands[1], i.kind), writer(i.operands[0], "b32")

    def step(batch: Batch, mask: Mask) -> None:
        values, here = batch.whole(value(batch)).reshape(-1, WARP), batch.active(mask)
        equal = (values[:, :, None] == values[:, None, :]) & here[:, None, :]
        write(batch, (equal * _BIT).sum(2, dtype=np.uint32).reshape(-1), mask)

    return step


_REDUCTIONS: dict[str, tuple[Function, int | None]] = {
    "add": (np.add.reduce, 0),
    "min": (np.minimum.reduce, None),
    "max": (np.maximum.reduce, None),
    "and": (np.bitwise_and.reduce, -1),
    "or": (np.bitwise_or.reduce, 0),
    "xor": (np.bitwise_xor.reduce, 0),
}


@instruction("redux")
def _redux(i: Instruction) -> Step:
    i.only("sync", *_REDUCTIONS)
    name, dtype = i.one_of(*_REDUCTIONS) or "add", DTYPES[i.kind]
    reduce, neutral = _REDUCTIONS[name]
    if neutral is None:
        neutral = int(np.iinfo(dtype).max if name == "min" else np.iinfo(dtype).min)
    nothing = np.array(neutral).astype(dtype)
    value, write = reader(i.operands[1], i.kind), writer(i.operands[0], i.kind)

    def step(batch: Batch, mask: Mask) -> None:
        values = np.where(batch.active(mask), batch.whole(value(batch)).reshape(-1, WARP), nothing)
        write(
            batch,
            np.repeat(reduce(values, axis=1, dtype=dtype) if name == "add" else reduce(values, axis=1), WARP),
            mask,
        )

    return step


def full_warps(batch: Batch, mask: Mask, i: Instruction) -> Array:
    """Which warps take part, a bool each.

    Raises:
        PtxError: if one takes part in part.
    """
    here = batch.active(mask)
    some, every = np.asarray(here.any(1)), np.asarray(here.all(1))
    if (some != every).any():
        lane = int(np.nonzero(some & ~every)[0][0]) * WARP
        raise PtxError(f"only a part of a warp, that of {batch.place(lane)}, takes part: {i.text}")
    return every


@instruction("ldmatrix")
def _ldmatrix(i: Instruction) -> Step:
    """Matrices of 8 x 8 numbers of 16 bits; lanes 8 k to 8 k + 7 give the addresses of matrix k's rows."""
    i.only("sync", "aligned", "m8n8", "x1", "x2", "x4", "trans", "shared", "shared::cta")
    writes, at = [writer(o, "b32") for o in items(i.operands[0])], address(i.operands[1])
    transposed = "trans" in i.modifiers

    def step(batch: Batch, mask: Mask) -> None:
        taking_part = full_warps(batch, mask, i)
        warps = np.nonzero(taking_part)[0]
        addresses = at(batch)
        for k, write in enumerate(writes):
            lanes = (warps[:, None] * WARP + 8 * k + np.arange(8)).reshape(-1)
            words = batch.memory.load(batch, "shared", addresses, lanes, np.dtype(np.uint32), 4, i.text)
            rows = np.ascontiguousarray(np.stack(words, 1)[lanes]).reshape(len(warps), 8, 4)
            if transposed:
                halves = rows.view(np.uint16).reshape(-1, 8, 8).transpose(0, 2, 1)
                rows = np.ascontiguousarray(halves).view(np.uint32)
            result = np.zeros((batch.count // WARP, WARP), np.uint32)
            result[warps] = rows.reshape(len(warps), WARP)
            write(batch, result.reshape(-1), mask)

    return step
