"""Rows of the parity table: optimisers that scale each element by its own past."""

from __future__ import annotations

import numpy as np
from parity_table import IN_PLACE, Call, Rng, call, case

SHAPES = ((6, 1, 5, 5), (6,), (0, 3), (), (150, 300), (7, 11))


def arrays(rng: Rng, low: float | None = None, high: float = 1.0) -> list[np.ndarray]:
    return [rng.normal(size=s) if low is None else rng.uniform(low, high, s) for s in SHAPES]


def named(kwargs: dict[str, object]) -> str:
    return ", ".join(f"{key} {value}" for key, value in kwargs.items() if value)


def fill() -> None:
    IN_PLACE.update({"rmsprop_step": (0, 2), "adagrad_step": (0, 2), "lion_step": (0, 2)})
    for momentum, centered, decay, maximize in (
        (0.0, False, 0.0, False),
        (0.0, False, 0.1, True),
        (0.9, False, 0.0, False),
        (0.0, True, 0.1, False),
        (0.9, True, 0.1, True),
    ):
        kwargs = {"lr": 0.1, "alpha": 0.9, "eps": 1e-4, "momentum": momentum, "weight_decay": decay}
        kwargs |= {"maximize": maximize}

        def rmsprop(rng: Rng, kwargs=kwargs, momentum=momentum, centered=centered) -> Call:
            states = {"momentum_buffers": arrays(rng)} if momentum else {}
            if centered:
                states["grad_avgs"] = arrays(rng, -0.3, 0.3)
            return call(arrays(rng), arrays(rng), arrays(rng, 0.5), **states, **kwargs)

        case("rmsprop_step", named(kwargs) + ", centered" * centered, rmsprop)
    for decay, rate_decay, maximize, step in ((0.0, 0.0, False, 1), (0.1, 0.01, True, 7)):
        kwargs = {"step": step, "lr": 0.1, "lr_decay": rate_decay, "weight_decay": decay}
        kwargs |= {"maximize": maximize}
        case(
            "adagrad_step",
            named(kwargs),
            lambda rng, kwargs=kwargs: call(arrays(rng), arrays(rng), arrays(rng, 0.1), **kwargs),
        )
    for decay, maximize in ((0.0, False), (0.1, False), (0.1, True)):
        kwargs = {"lr": 0.1, "beta1": 0.8, "weight_decay": decay, "maximize": maximize}
        case(
            "lion_step",
            named(kwargs),
            lambda rng, kwargs=kwargs: call(arrays(rng), arrays(rng), arrays(rng), **kwargs),
        )
