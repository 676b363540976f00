"""How far apart two correct computations of a network may be: measured, for each of its results.

The network is computed in float64 by the reference, exactly for our purpose, and then twice as float32 sees
it: in float32, and in float64 with every number between two layers off by a rounding error. How far these
two lie from the exact result, and one rounding of the result itself, tell what rounding each number once does
to it, however the layers pass errors on or blow them up. Two more things are known:

* A sum of K numbers rounds K times. The errors are as often up as down, so they grow with the root of K; in
  the kernels K / 8, as vectors hold at least 8 sums. K is that of the network's longest sum of products.
* Winograd's F(4 x 4, 3 x 3) sums numbers that are several times larger than what is left at the end.

Eight times that is allowed, where of 3,400 results a thousandth came to more than 1.2 times and one to 4.3;
in float64 as much less as its numbers are finer.

Where a ReLU or a maximum is within that of its kink, the gradient may jump. When a result is too far off,
``jumps`` tells whether there is a kink so near: then errors of that size make the reference jump as well.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

import nbconv as nb

from .node import build
from .noise import shake
from .passes import Array, Found, examples, model_of, passes, plain

if TYPE_CHECKING:
    from .case import Case

_ROUNDING = 2.0**-24
_FINER = {"float32": 1.0, "float64": 2.0**-29}
_WINOGRAD = 4.0
_LANES = 8
_DEVIATIONS = 8.0
_TRIES = 12


def exact(case: Case) -> Found:
    """All results, from the reference in float64."""
    return passes(plain(model_of(case, "reference", "float64")), examples(case, "float64"), case)


def noisy(case: Case, number: int, size: float = _ROUNDING) -> Found:
    """All results with errors of about ``size`` in every number."""
    rng = np.random.default_rng([case.seed, 5, number])
    model, x = plain(model_of(case, "reference", "float64")), examples(case, "float64")
    names = list(model.state_dict())
    shake(model, rng, size)
    for parameter in model.parameters():
        parameter.data = parameter.data * (1 + size * rng.standard_normal(parameter.shape))
    with np.errstate(invalid="ignore"):
        found = passes(model, x * (1 + size * rng.standard_normal(x.shape)), case)
    return _renamed(found, dict(zip(model.state_dict(), names, strict=True)))


def tolerances(case: Case, right: Found) -> dict[str, float]:
    """By result, how far off an element of it may be."""
    rounded = passes(plain(model_of(case, "reference", "float32")), examples(case, "float32"), case)
    off = noisy(case, 0)
    factor = _DEVIATIONS * growth(case) * _FINER[case.dtype]
    return {
        name: factor
        * (distance(rounded, right, name) + distance(off, right, name) + _ROUNDING * _size(value))
        for name, value in right.items()
    }


def _size(value: Array) -> float:
    """The largest finite number."""
    return float(np.abs(value[np.isfinite(value)]).max(initial=0.0))


def jumps(case: Case, right: Found, name: str, distance_seen: float) -> bool:
    """Whether errors as large as they may be make the reference jump as far."""
    size = _ROUNDING * _FINER[case.dtype] * growth(case)
    return any(
        distance(noisy(case, number, size * 2.0 ** (number % 4)), right, name) > distance_seen / 4
        for number in range(1, _TRIES)
    )


def growth(case: Case) -> float:
    """How much more than one rounding the longest sum has, and Winograd's."""
    shape = (max(case.shape[0], 1), *case.shape[1:])
    model = nb.Sequential(*build(case.path, shape)[0])
    longest, winograd = 1, False
    for traced in model.trace(shape):
        results = [math.prod(traced.output_shape), math.prod(traced.input_shape)]
        results += [parameter.size for parameter in traced.layer.parameters()]
        longest = max(longest, traced.macs // max(1, min(results)))
        winograd |= isinstance(traced.layer, nb.Conv2d) and traced.layer.kernel_size == (3, 3)
    faster = winograd and case.precision != "highest"
    return max(1.0, math.sqrt(longest / _LANES)) * (_WINOGRAD if faster else 1.0)


def distance(found: Found, right: Found, name: str) -> float:
    """The largest difference where both are finite; 0 if there is nothing to compare."""
    if name not in found or found[name].shape != right[name].shape:
        return 0.0
    there, here = found[name].astype(np.float64), right[name].astype(np.float64)
    finite = np.isfinite(there) & np.isfinite(here)
    return float(np.abs(there[finite] - here[finite]).max(initial=0.0))


def _renamed(found: Found, names: dict[str, str]) -> Found:
    """The results under the names that they have without the layers of noise."""
    renamed = {}
    for name, value in found.items():
        for inside, outside in names.items():
            if name in (f"gradient of {inside}", f"{inside} after training"):
                name = name.replace(inside, outside)
                break
        renamed[name] = value
    return renamed
