"""What happens to the sums of a convolution or a dense layer on their way from registers to memory.

Adding what the target holds already (a residual's other path) and bounding the result (ReLU, ReLU6) cost two
or three instructions a vector here, and a sweep over memory each as operations of their own.

A *finish* is a triple (kind, low, high): kind 0 stores the sums as they are, 1 brings them into low .. high,
2 adds the target's values first. NaN passes through.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from nbconv_kernels.cpu.emitter import Emitter

Finish = tuple[int, float, float]
Vectors = list[list[Any]]

PLAIN: Finish = (0, -math.inf, math.inf)
ACTIVATIONS = {None: (-math.inf, math.inf), "relu": (0.0, math.inf), "relu6": (0.0, 6.0)}


def finish_of(op: str, activation: str | None, add: bool = False) -> Finish:
    """The finish of an operation with that activation, added to what the target holds if ``add``.

    Raises:
        ValueError: for an activation that has none.
    """
    if activation not in ACTIVATIONS:
        raise ValueError(f'{op}: activation must be None, "relu" or "relu6", got {activation!r}')
    low, high = ACTIVATIONS[activation]
    return (2 if add else int(activation is not None), low, high)


def finished(emit: Emitter, finish: Any, sums: Vectors, held: Callable[[int, int], Any]) -> Vectors:
    """The rows of vectors ``sums`` after a finish; ``held(row, vector)`` loads what the target holds."""
    builder = emit.builder
    kind = builder.extract_value(finish, 0)
    before = builder.block
    some = builder.append_basic_block("finish")
    adding = builder.append_basic_block("add")
    bounding = builder.append_basic_block("bound")
    done = builder.append_basic_block("finished")
    builder.cbranch(builder.icmp_signed(">", kind, kind.type(0)), some, done)

    builder.position_at_end(some)
    low, high = (
        emit.splat(builder.fptrunc(builder.extract_value(finish, i), emit.element))
        if emit.size == 4
        else emit.splat(builder.extract_value(finish, i))
        for i in (1, 2)
    )
    builder.cbranch(builder.icmp_signed(">", kind, kind.type(1)), adding, bounding)

    builder.position_at_end(adding)
    totals = [
        [builder.fadd(held(row, v), value) for v, value in enumerate(values)]
        for row, values in enumerate(sums)
    ]
    builder.branch(bounding)

    builder.position_at_end(bounding)
    unbounded = emit.phis(sums, some)
    emit.arrive(unbounded, totals, adding)
    bounded = [[within(builder, low, high, value) for value in values] for values in unbounded]
    builder.branch(done)

    builder.position_at_end(done)
    result = emit.phis(sums, before)
    emit.arrive(result, bounded, bounding)
    return result


def within(builder: Any, low: Any, high: Any, value: Any) -> Any:
    """``value`` in low .. high; of a comparison with NaN the second operand results, as the CPU has it."""
    value = builder.select(builder.fcmp_ordered(">", low, value), low, value)
    return builder.select(builder.fcmp_ordered("<", high, value), high, value)
