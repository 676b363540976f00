"""The gradients of the reference against slopes: how much further outputs go when everything goes a little.

One step h along a random direction of the input and all parameters, forward and back, tells the slope of
``sum(y * dy)`` to within what the step of h / 2 tells otherwise. Where a ReLU or a maximum bends between
the two, the slope is another one: so a gradient is wrong only if three directions say so.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

import nbconv as nb

from .passes import Array, examples, model_of, plain

if TYPE_CHECKING:
    from .case import Case

_STEP = 2.0**-16
_TRIES = 3
_ROUNDING = 2.0**-52


def wrong(case: Case) -> str | None:
    """How far the gradients are off the slope; None if they agree with one of three."""
    x = examples(case, "float64")
    if not x.size or case.special is not None:
        return None
    told = None
    for number in range(_TRIES):
        told = _disagreement(case, x, np.random.default_rng([case.seed, 8, number]), _STEP / 16**number)
        if told is None:
            return None
    return told


def _disagreement(case: Case, x: Array, rng: np.random.Generator, step: float) -> str | None:
    model = _model(case)
    y, backprop = model.forward(x, training=True)
    dy = rng.standard_normal(y.shape)
    dx = backprop(dy)
    assert dx is not None
    directions = {name: rng.standard_normal(p.shape) for name, p in model.named_parameters()}
    along = rng.standard_normal(x.shape)
    gradient = float((along * dx).sum())
    for name, parameter in model.named_parameters():
        if parameter.grad is not None:
            gradient += float((directions[name] * parameter.grad).sum())

    def value(t: float) -> float:
        moved = _model(case)
        for name, parameter in moved.named_parameters():
            if parameter.requires_grad:
                parameter.data = parameter.data + t * directions[name]
        return float((moved.forward(x + t * along, training=True)[0] * dy).sum())

    whole, half = ((value(h) - value(-h)) / (2 * h) for h in (step, step / 2))
    size = float(np.abs(y * dy).sum())
    # The error of the half step is a third of the difference; ten times that, and what rounding leaves.
    allowed = 10 * abs(whole - half) + 1000 * _ROUNDING * size / step + 1e-9 * abs(gradient)
    if abs(half - gradient) <= allowed:
        return None
    return f"the gradients say {gradient:.9g}, the outputs {half:.9g}, which are within {allowed:.3g} right"


def _model(case: Case) -> nb.Sequential:
    return plain(model_of(case, "reference", "float64"))
