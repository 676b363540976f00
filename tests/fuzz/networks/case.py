"""One case: a network drawn from a seed, an input for it, and all that is looked at."""

from __future__ import annotations

import traceback
from dataclasses import dataclass

import numpy as np

from . import checks, shrinking
from .containers import CONTAINERS, weighted
from .elements import ELEMENTS, ROWS, draw_dense, draw_flat, draw_to_rows
from .images import WINDOWS, Random, one_of
from .node import Path, Shape, build

_LARGEST = 60_000  # elements between two layers: more take long and show no more
_WORK = 6_000_000  # multiply-adds
_DRAWS = 60


@dataclass(frozen=True)
class Case:
    """A network, its input's shape, and how it is run.

    Attributes:
        special: what some pixels are: None, inf, -inf, NaN, or a large number.
        layout: how the input lies in memory.
        precision: what ``nb.set_precision`` is told.
        frozen: which of the layers is frozen, if one is.
    """

    seed: int
    path: Path
    shape: Shape
    dtype: str
    special: float | None
    layout: str
    precision: str
    frozen: int | None

    def __str__(self) -> str:
        told = [f"input {self.shape} {self.dtype}, {self.layout}, precision {self.precision}"]
        told += [f"special {self.special}"] if self.special is not None else []
        told += [f"layer {self.frozen} frozen"] if self.frozen is not None else []
        return "; ".join(told) + "".join(f"\n  {node}" for node in self.path)


def drawn(seed: int) -> Case:
    """The case of a seed."""
    rng = np.random.default_rng([seed, 1])
    n = int(one_of(rng, 0, 1, 1, 2, 2, 3, 5))
    c = int(one_of(rng, 1, 2, 3, 3, 4, 8, 16, 32, 64))
    shape: Shape = (n, c, *(int(size) for size in rng.integers(1, 15, 2)))
    if rng.random() < 0.1:
        shape = (n, int(rng.integers(1, 40)))
    path = _path(rng, shape, int(rng.integers(1, 8)))
    special = float(one_of(rng, "inf", "-inf", "nan", 1e6)) if rng.random() < 0.1 else None
    return Case(
        seed,
        path,
        shape,
        one_of(rng, "float32", "float32", "float64"),
        special,
        one_of(rng, "planes", "pixels", "fortran", "strided", "reversed", "read-only"),
        one_of(rng, "high", "high", "highest"),
        int(rng.integers(len(path))) if rng.random() < 0.1 and path else None,
    )


def _path(rng: Random, shape: Shape, length: int) -> Path:
    """So many layers that fit, or fewer."""
    path: Path = ()
    work = 0
    for _ in range(_DRAWS):
        if len(path) == length:
            break
        node = weighted(rng, ROWS if len(shape) == 2 else WINDOWS | ELEMENTS | CONTAINERS | _ENDS)
        try:
            (layer, *_), after = build((node,), (max(shape[0], 1), *shape[1:]))
            work += layer.macs((max(shape[0], 1), *shape[1:]))
        except ValueError:
            continue  # it does not fit this shape
        if np.prod(after) > _LARGEST or work > _WORK:
            break
        path, shape = (*path, node), (shape[0], *after[1:])
    if len(shape) == 4 and rng.random() < 0.3:
        path = (*path, draw_flat(rng), draw_dense(rng))
    return path


_ENDS = {draw_to_rows: 1.0}


def run(seed: int, keep: object = None) -> str | None:
    """What is wrong with the case of a seed, with a smaller network that shows it; None if nothing is."""
    case = drawn(seed)
    found = looked_at(case)
    if found is None:
        return None
    small = shrinking.shrunk(case, found, looked_at)
    text = f"{found}\n{case}"
    if small != case:
        text += f"\nsmaller: {looked_at(small)}\n{small}"
    return text


def looked_at(case: Case) -> str | None:
    """What is wrong with a case; an exception is as well."""
    try:
        return checks.run(case)
    except Exception as error:
        return f"{type(error).__name__}: {error}\n{traceback.format_exc()}"
