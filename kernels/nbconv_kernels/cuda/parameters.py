"""The frame around optimisers: a formula for one element becomes a step over all parameters, in place.

A formula takes an element of the parameter and of its gradient, those of up to three states, numbers, and the
bits of a mask; it gives the new parameter and states:

    @device_function
    def _lion(p, g, m, b, c, numbers, mask): ...
        return p, m, b, c

    _LION = updating(_lion, 1, 1)

One launch a parameter; four elements a thread, in 128-bit accesses. Limit: memory bandwidth, and for small
parameters the launches.
"""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from typing import Any

from nbconv_kernels.cuda.build import Kernel, blocks, device_function, kernel
from nbconv_kernels.cuda.intrinsics import load4, store4, thread_index
from nbconv_kernels.cuda.memory import Array, address, check_float, in_fours, namespace
from nbconv_kernels.cuda.target import f32, f32s, float32, u32, uint32

__all__ = ["FLAG", "MAXIMIZE", "direction", "update", "updating"]

_BLOCK = 256
_NUMBERS = 9
MAXIMIZE = 8
"""The mask's bit that negates the gradient; the three before it say which states there are."""
FLAG = 16
"""The first of the mask's bits that mean what a formula likes."""


@device_function
def direction(p, g, decay, mask) -> Any:
    """The gradient to descend along: negated to maximise, plus the weight decay."""
    g = -g if uint32(mask & uint32(MAXIMIZE)) != uint32(0) else g
    return g + decay * p if decay != float32(0) else g


def updating(formula: Any, least: int, most: int) -> Kernel:
    """The kernel of a formula over ``least`` to ``most`` states."""

    @device_function
    def there(state, mask):
        return state < least or (state < most and uint32(mask & uint32(1 << state)) != uint32(0))

    @device_function
    def read(memory, i, state, mask):
        if there(state, mask):
            return load4(memory, i)
        return float32(0), float32(0), float32(0), float32(0)

    @kernel(block=_BLOCK, constants=(formula.__name__.lstrip("_"),))
    def _update(
        p: f32s,
        grad: f32s,
        a: f32s,
        b: f32s,
        c: f32s,
        k0: f32,
        k1: f32,
        k2: f32,
        k3: f32,
        k4: f32,
        k5: f32,
        k6: f32,
        k7: f32,
        k8: f32,
        mask: u32,
        n: u32,
        fours: u32,
    ):
        numbers = (k0, k1, k2, k3, k4, k5, k6, k7, k8)
        i = uint32(uint32(4) * thread_index())
        if uint32(i + uint32(4)) <= fours:
            ps, gs = load4(p, i), load4(grad, i)
            as_, bs, cs = read(a, i, 0, mask), read(b, i, 1, mask), read(c, i, 2, mask)
            e = formula(ps[0], gs[0], as_[0], bs[0], cs[0], numbers, mask)
            f = formula(ps[1], gs[1], as_[1], bs[1], cs[1], numbers, mask)
            g = formula(ps[2], gs[2], as_[2], bs[2], cs[2], numbers, mask)
            h = formula(ps[3], gs[3], as_[3], bs[3], cs[3], numbers, mask)
            store4(p, i, e[0], f[0], g[0], h[0])
            if there(0, mask):
                store4(a, i, e[1], f[1], g[1], h[1])
            if there(1, mask):
                store4(b, i, e[2], f[2], g[2], h[2])
            if there(2, mask):
                store4(c, i, e[3], f[3], g[3], h[3])
            return
        last = min(n, uint32(i + uint32(4)))
        while i < last:
            one = a[i] if there(0, mask) else float32(0)
            two = b[i] if there(1, mask) else float32(0)
            three = c[i] if there(2, mask) else float32(0)
            new = formula(p[i], grad[i], one, two, three, numbers, mask)
            p[i] = new[0]
            if there(0, mask):
                a[i] = new[1]
            if there(1, mask):
                b[i] = new[2]
            if there(2, mask):
                c[i] = new[3]
            i = uint32(i + uint32(1))

    return _update


def update(
    op: str,
    launch: Kernel,
    numbers: Sequence[float],
    mask: int,
    params: Sequence[Array],
    grads: Sequence[Array],
    **states: Sequence[Array] | None,
) -> None:
    """Launch a kernel of ``updating`` for each parameter, once all arrays are checked.

    Raises:
        TypeError: if a parameter and what belongs to it are not all float32.
        ValueError: if lists or shapes do not fit, or a parameter or state is read-only or not C-contiguous.
    """
    kept = {name: arrays for name, arrays in states.items() if arrays is not None}
    for name, arrays in {"grads": grads, **kept}.items():
        if len(arrays) != len(params):
            raise ValueError(f"{op}: expected {len(params)} arrays in {name}, got {len(arrays)}")
    if not params:
        return
    aligned = _lasting(op, {"params": params, **kept})
    for index, (param, grad) in enumerate(zip(params, grads, strict=True)):
        if getattr(grad, "shape", None) != param.shape or grad.dtype != param.dtype:
            _check(op, "grads", index, param, grad)
    settings = [*map(float, numbers), *[0.0] * (_NUMBERS - len(numbers))]
    for state, arrays_or_none in enumerate(states.values()):
        mask |= (arrays_or_none is not None) << state
    nothing = [None] * len(params)
    rows = [nothing if arrays is None else arrays for arrays in states.values()]
    rows += [nothing] * (3 - len(rows))
    for param, given, fours, *own in zip(params, grads, aligned, *rows, strict=True):
        size = param.size
        if size:
            grad = given if given.flags.c_contiguous else namespace(given).ascontiguousarray(given)
            count = in_fours(size, grad) if fours else 0
            launch[blocks(size, 4 * _BLOCK)](param, grad, *own, *settings, mask, size, count)


# Parameters and states are the same arrays at each step: they are checked once.
_known: dict[tuple[int, ...], tuple[list[weakref.ref[Array]], list[bool]]] = {}
_MOST_KNOWN = 256


def _lasting(op: str, lists: dict[str, Sequence[Array]]) -> list[bool]:
    """Check arrays that are updated in place; for each parameter, whether its may be taken in fours."""
    arrays = [array for some in lists.values() for array in some]
    key = (len(arrays), *(id(some[0]) for some in lists.values()))
    references, aligned = _known.get(key, ([], []))
    if references and all(reference() is array for reference, array in zip(references, arrays, strict=True)):
        return aligned
    for name, some in lists.items():
        for index, (param, array) in enumerate(zip(lists["params"], some, strict=True)):
            _check(op, name, index, param, array)
            if not (array.flags.c_contiguous and getattr(array.flags, "writeable", True)):
                raise ValueError(f"{op}: expected {name}[{index}] to be C-contiguous and writeable")
    aligned = [all(address(array) % 16 == 0 for array in own) for own in zip(*lists.values(), strict=True)]
    if len(_known) >= _MOST_KNOWN:
        _known.clear()
    _known[key] = (list(map(weakref.ref, arrays)), aligned)
    return aligned


def _check(op: str, name: str, index: int, param: Array, array: Array) -> None:
    check_float(op, param, array)
    if array.shape != param.shape:
        raise ValueError(f"{op}: expected {name}[{index}] of shape {param.shape}, got shape {array.shape}")
