"""State dicts, labels and inputs as callers may give them: other shapes, types, and no arrays at all."""

from __future__ import annotations

from typing import Any

import numpy as np

import nbconv as nb

from .damage import Random, one_of
from .models import small_network


def thing(rng: Random) -> Any:
    """Something where an array is expected."""
    shape = tuple(int(size) for size in rng.integers(0, 4, rng.integers(0, 4)))
    numbers = rng.standard_normal(shape)
    return one_of(
        rng, None, 1, -1.5, "text", b"bytes", [], [[1, 2], [3]], {}, {"a": 1}, object(), numbers,
        numbers.astype("f2"),
        numbers.astype("c8"), numbers > 0, np.array("text"), np.array([None, 1], object),
        numbers.astype("i8"),
        np.array(["2020-01-01"], "datetime64[D]"), np.zeros((0,)), np.full(shape, np.nan),
        numbers.astype(">f4"),
        np.ma.masked_array(numbers), iter([1, 2]), range(3), np.float32(3), float("nan"), 10**40, [10**40],
        np.broadcast_to(np.float32(1), (3, 3)), np.zeros((2,), [("a", "f4")]), lambda: 1, type, nb,
    )  # fmt: skip


def state_dict(rng: Random) -> Any:
    """A model's state with some of it changed, or something else."""
    if rng.random() < 0.1:
        return one_of(rng, [1, 2], "path", None, 3, [("0.weight", 1)], thing(rng))
    state: dict[Any, Any] = dict(small_network().state_dict())
    for _ in range(int(rng.integers(1, 4))):
        key = one_of(rng, *state)
        match one_of(rng, "value", "value", "drop", "rename", "shape"):
            case "value":
                state[key] = thing(rng)
            case "drop":
                del state[key]
            case "rename":
                state[
                    one_of(rng, "", 3, None, "0.weight.x", key.upper() if isinstance(key, str) else "y")
                ] = state.pop(key)
            case "shape":
                state[key] = np.asarray(state[key])[..., None]
    return state


def labels(count: int, rng: Random) -> Any:
    """Labels of so many examples, of which some are wrong."""
    good = rng.integers(0, 10, count)
    if rng.random() < 0.3:
        return thing(rng)
    bad = good.copy()
    bad[rng.integers(count)] = one_of(rng, -1, 10, 1 << 40, -100, 255, -(1 << 63))
    return one_of(
        rng, good, bad, bad.tolist(), good.astype("u1"), bad.astype("f4"), good[:, None], good[:-1], good > 4,
        np.eye(10, dtype="f4")[good], np.eye(10)[good][:, :9], np.stack([good, good]), good.astype("U"),
        good.astype(object),
        good.astype(">i4"), good.astype("u8") + (1 << 63), good[:0],
    )  # fmt: skip


def inputs(count: int, rng: Random) -> Any:
    """Images for the small network, or what is none."""
    good = rng.random((count, 1, 28, 28), np.float32)
    return one_of(
        rng, *[good] * 6, (good * 255).astype("u1"), good[:, 0], good[:, :, :3], good.astype("f2"),
        good.tolist(),
        good.astype(">f4"), good.astype("c8"), good[:0], np.full_like(good, np.nan), thing(rng),
    )  # fmt: skip
