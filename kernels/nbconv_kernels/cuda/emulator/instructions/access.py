"""Loads and stores, atomic operations, and asynchronous copies from global to shared memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from nbconv_kernels.cuda.emulator.batch import Batch, Mask
from nbconv_kernels.cuda.emulator.errors import MemoryFaultError
from nbconv_kernels.cuda.emulator.instructions.registry import Function, Step, instruction
from nbconv_kernels.cuda.emulator.operands import Reader, address, constant, items, reader, writer
from nbconv_kernels.cuda.emulator.program import Address, Immediate, Instruction, Label, Operand, Variable
from nbconv_kernels.cuda.emulator.types import DTYPES, Array, width

_SPACES = {
    "global": "global",
    "const": "global",
    "shared": "shared",
    "shared::cta": "shared",
    "local": "local",
}
_ORDER = (
    "weak",
    "volatile",
    "relaxed",
    "acquire",
    "release",
    "acq_rel",
    "cta",
    "cluster",
    "gpu",
    "sys",
    "nc",
)
_HINTS = (
    *("ca", "cg", "cs", "lu", "cv", "wb", "wt"),
    *(f"{level}::{hint}" for level in ("L1", "L2") for hint in ("evict_normal", "evict_first", "evict_last")),
    *("L1::no_allocate", "L1::evict_unchanged", "L2::64B", "L2::128B", "L2::256B"),
)


def _space(i: Instruction) -> str | None:
    named = i.one_of(*_SPACES)
    return _SPACES[named] if named else None


def _count(i: Instruction) -> int:
    return 4 if "v4" in i.modifiers else 2 if "v2" in i.modifiers else 1


@instruction("ld", "ldu")
def _ld(i: Instruction) -> Step:
    if "param" in i.modifiers:
        return _parameter(i)
    i.only("v2", "v4", *_SPACES, *_ORDER, *_HINTS)
    kind, space, count = i.kind, _space(i), _count(i)
    at, dtype = address(i.operands[1]), DTYPES[kind]
    writes = [writer(o, kind) for o in items(i.operands[0])]

    def step(batch: Batch, mask: Mask) -> None:
        values = batch.memory.load(batch, space, at(batch), batch.lanes(mask), dtype, count, i.text)
        for write, value in zip(writes, values, strict=True):
            write(batch, value, mask)

    return step


def _parameter(i: Instruction) -> Step:
    i.only("param")
    source, write = i.operands[1], writer(i.operands[0], i.kind)
    if not isinstance(source, Address) or not isinstance(source.base, Variable) or source.offset:
        raise i.unknown("a part of a parameter")
    name, dtype = source.base.name, DTYPES[i.kind]

    def step(batch: Batch, mask: Mask) -> None:
        value = batch.memory.parameters[name]
        write(
            batch, value.view(dtype) if value.dtype.itemsize == dtype.itemsize else value.astype(dtype), mask
        )

    return step


@instruction("st")
def _st(i: Instruction) -> Step:
    i.only("v2", "v4", *_SPACES, *_ORDER, *_HINTS)
    space, at = _space(i), address(i.operands[0])
    reads = [reader(o, i.kind) for o in items(i.operands[1])]
    if len(reads) != _count(i):
        raise i.unknown(f"{len(reads)} values")

    def step(batch: Batch, mask: Mask) -> None:
        values = [read(batch) for read in reads]
        batch.memory.store(batch, space, at(batch), batch.lanes(mask), values, i.text)

    return step


_ATOMIC: dict[str, Function] = {
    "add": lambda old, b, c: old + b,
    "min": lambda old, b, c: min(old, b),
    "max": lambda old, b, c: max(old, b),
    "exch": lambda old, b, c: b,
    "cas": lambda old, b, c: c if old == b else old,
    "and": lambda old, b, c: old & b,
    "or": lambda old, b, c: old | b,
    "xor": lambda old, b, c: old ^ b,
    "inc": lambda old, b, c: old * 0 if old >= b else old + type(old)(1),
    "dec": lambda old, b, c: b if old == 0 or old > b else old - type(old)(1),
}


@instruction("atom", "red")
def _atomic(i: Instruction) -> Step:
    """One lane after another, in order; on a GPU the order is any."""
    i.only(*_ATOMIC, *_SPACES, *_ORDER)
    name = i.one_of(*_ATOMIC)
    if name is None:
        raise i.unknown("its operation")
    operands: tuple[Operand, ...] = i.operands if i.name == "atom" else (Label("_"), *i.operands)
    kind, space, function, dtype = i.kind, _space(i), _ATOMIC[name], DTYPES[i.kind]
    write, at, second = writer(operands[0], kind), address(operands[1]), reader(operands[2], kind)
    third = reader(operands[3], kind) if len(operands) > 3 else second

    def step(batch: Batch, mask: Mask) -> None:
        lanes, addresses, memory = batch.lanes(mask), at(batch), batch.memory
        watched, memory.hazards = memory.hazards, None
        before = memory.load(batch, space, addresses, lanes, dtype, 1, i.text)[0]
        b, c = batch.whole(second(batch)), batch.whole(third(batch))
        after = before.copy()
        held: dict[int, Any] = {}
        for lane in lanes:
            place = int(addresses[lane])
            before[lane] = held.get(place, before[lane])
            held[place] = after[lane] = function(before[lane], b[lane], c[lane])
        memory.store(batch, space, addresses, lanes, [after], i.text)
        memory.hazards = watched
        write(batch, before, mask)

    return step


@instruction("membar", "fence", "prefetch", "prefetchu", "nanosleep")
def _nothing(i: Instruction) -> Step:
    """Order and caches, of which there is nothing to be seen here."""
    return lambda batch, mask: None


@dataclass
class _Copy:
    """Data on their way to shared memory: for each lane the number of its group."""

    target: Array
    values: list[Array]
    lanes: Array
    groups: Array


_CP_HINTS = ("async", "ca", "cg", *_SPACES, *_HINTS)


@instruction("cp")
def _cp(i: Instruction) -> Step:
    """Each lane has its own groups; data land when that lane waits for them, and not before."""
    if i.modifiers[:2] == ("async", "commit_group"):
        return _commit
    if i.modifiers[:2] in (("async", "wait_group"), ("async", "wait_all")):
        return _wait(i)
    i.only(*_CP_HINTS)
    if "async" not in i.modifiers or not isinstance(i.operands[2], Immediate):
        raise i.unknown()
    target, source = address(i.operands[0]), address(i.operands[1])
    size = int(constant(i.operands[2].text, "u32"))
    if size not in (4, 8, 16) or ("cg" in i.modifiers and size != 16):
        raise i.unknown(f"a copy of {size} bytes")
    given = reader(i.operands[3], "u32") if len(i.operands) > 3 else None

    def step(batch: Batch, mask: Mask) -> None:
        lanes, to, at = batch.lanes(mask), target(batch), source(batch)
        values = _source(batch, at, lanes, size, given, i.text)
        batch.memory.claim(batch, to, lanes, size, i.text)
        batch.pending.append(_Copy(to, values, lanes, batch.commits[lanes]))

    return step


def _source(batch: Batch, at: Array, lanes: Array, size: int, given: Reader | None, text: str) -> list[Array]:
    """The words to copy; zeros beyond the bytes that a lane asks for, which are all that it reads."""
    if (misaligned := at[lanes] % size != 0).any():
        place = batch.place(lanes[misaligned][0])
        raise MemoryFaultError(f"misaligned: {size}-byte copy by {place}: {text}")
    count = size // 4
    if given is None:
        return batch.memory.load(batch, "global", at, lanes, np.dtype(np.uint32), count, text)
    asked = batch.whole(given(batch))
    if (asked[lanes] > size).any():
        raise MemoryFaultError(f"more than {size} bytes asked for: {text}")
    content = np.zeros((batch.count, size), np.uint8)
    for nbytes in np.unique(asked[lanes]):
        some = lanes[asked[lanes] == nbytes]
        if nbytes == size:
            words = batch.memory.load(batch, "global", at, some, np.dtype(np.uint32), count, text)
            content[some] = np.stack(words, 1).view(np.uint8)[some]
        for byte in range(int(nbytes) if nbytes < size else 0):
            content[some, byte] = batch.memory.load(
                batch, "global", at + byte, some, np.dtype(np.uint8), 1, text
            )[0][some]
    return list(np.ascontiguousarray(content.view(np.uint32).T))


def _commit(batch: Batch, mask: Mask) -> None:
    batch.commits[batch.lanes(mask)] += 1


def _wait(i: Instruction) -> Step:
    everything = i.modifiers[1] == "wait_all"
    allowed = 0
    if not everything:
        count = i.operands[0]
        if not isinstance(count, Immediate):
            raise i.unknown("its operand")
        allowed = int(constant(count.text, "u32"))

    def step(batch: Batch, mask: Mask) -> None:
        if everything:
            _commit(batch, mask)
        waiting = batch.alive if mask is None else mask
        still = []
        for copy in batch.pending:
            landed = waiting[copy.lanes] & (copy.groups < batch.commits[copy.lanes] - allowed)
            if landed.any():
                batch.memory.store(
                    batch, "shared", copy.target, copy.lanes[landed], list(copy.values), i.text
                )
            if not landed.all():
                still.append(_Copy(copy.target, copy.values, copy.lanes[~landed], copy.groups[~landed]))
        batch.pending = still

    return step


def widest_common_unit(instructions: list[Instruction]) -> int:
    """The width of the narrowest access to shared or global memory, at most 4 bytes."""
    widths = [
        width(i.kind) for i in instructions if i.name in ("ld", "st", "ldu") and "param" not in i.modifiers
    ]
    return min([4, *widths])
