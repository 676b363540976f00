"""The parity table's rows for the ops behind less common layers and losses."""

from __future__ import annotations

import numpy as np
from parity_table import Call, Rng, call, case

from nbconv_kernels import reference

SHAPES = ((3, 4), (2, 3, 5, 4), (7,), (), (0, 3), (2, 3, 4, 5, 2), (3, 33, 20, 20), (1, 1))


def _activations() -> None:
    for shape in SHAPES:
        for op, extra in (
            ("selu", {}),
            ("gelu", {}),
            ("gelu", {"approximate": "tanh"}),
            ("silu", {}),
            ("hardswish", {}),
            ("softplus", {}),
            ("softplus", {"beta": 2.0, "threshold": 3.0}),
        ):
            name = f"{shape}" + "".join(f", {key} = {value}" for key, value in extra.items())
            case(op, name, lambda rng, s=shape, extra=extra: call(np.array(3 * rng.normal(size=s)), **extra))
            case(
                op + "_backward",
                name,
                lambda rng, s=shape, extra=extra: call(
                    rng.normal(size=s), np.array(3 * rng.normal(size=s)), **extra
                ),
            )
        for shared in (False, True):
            if not shared and len(shape) < 2:
                continue
            width = 1 if shared else shape[1]
            name = f"{shape}" + ", shared" * shared
            elements = max(1, int(np.prod(shape)))
            case("prelu", name, lambda rng, s=shape, w=width: call(rng.normal(size=s), rng.normal(size=w)))
            case(
                "prelu_backward",
                name,
                lambda rng, s=shape, w=width: call(
                    rng.normal(size=s), rng.normal(size=s), rng.normal(size=w)
                ),
                elements // width,
            )
        for axis in range(-len(shape), len(shape)):
            terms = max(shape[axis], 1)
            name = f"{shape}, axis {axis}"
            case(
                "log_softmax",
                name,
                lambda rng, s=shape, axis=axis: call(np.array(5 * rng.normal(size=s)), axis),
                terms,
            )

            def log_softmax_backward(rng: Rng, s=shape, axis=axis) -> Call:
                return call(rng.normal(size=s), reference.log_softmax(rng.normal(size=s), axis), axis)

            case("log_softmax_backward", name, log_softmax_backward, terms)


def fill() -> None:
    """Put the rows into the table."""
    for rows in (_activations,):
        rows()
