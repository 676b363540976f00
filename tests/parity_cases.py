"""The parity table: for every op, the calls whose results each backend must share with the reference.

``CASES[op][name]`` makes a call's arguments from a random generator, arrays in float64. Adding an op means
adding a row here. Beside each row stands what is special about its error, if anything: ``terms`` is how many
numbers are added up in one element of the result.
"""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import parity_augment_cases
import parity_layer_cases
import parity_optim_cases
from parity_table import CASES, IN_PLACE, IN_PLACE_ANY_LAYOUT, Call, Rng, call, case

from nbconv_kernels import reference
from nbconv_kernels.geometry import pool2d_geometry

__all__ = ["CASES", "IN_PLACE", "IN_PLACE_ANY_LAYOUT", "Call", "Rng"]


# Convolution: input shape, weight shape, keyword arguments.
CONVOLUTIONS: dict[str, tuple[tuple[int, ...], tuple[int, ...], dict[str, Any]]] = {
    "one pixel, one channel": ((1, 1, 1, 1), (1, 1, 1, 1), {}),
    "LeNet's first": ((2, 1, 12, 13), (6, 1, 5, 5), {"padding": 2}),
    "gray, wide rows": ((3, 1, 9, 40), (7, 1, 3, 4), {"padding": ((0, 2), (1, 3))}),
    "LeNet's second": ((3, 6, 9, 10), (16, 6, 5, 5), {}),
    "pointwise": ((2, 7, 5, 6), (9, 7, 1, 1), {}),
    "pointwise, strided": ((2, 20, 7, 6), (33, 20, 1, 1), {"stride": 2}),
    "pointwise on one pixel": ((5, 20, 1, 1), (10, 20, 1, 1), {}),
    "3x3": ((2, 33, 9, 7), (47, 33, 3, 3), {"padding": 1}),
    "3x3, no padding": ((2, 16, 8, 8), (16, 16, 3, 3), {}),
    "3x3, larger, several threads": ((4, 16, 20, 20), (40, 16, 3, 3), {"padding": 1}),
    "3x3, strided": ((2, 8, 9, 11), (12, 8, 3, 3), {"stride": 2, "padding": 1}),
    "rectangular": ((2, 3, 9, 8), (5, 3, 3, 2), {"stride": (1, 2), "padding": (1, 0)}),
    "same": ((1, 4, 7, 9), (6, 4, 3, 4), {"padding": "same", "dilation": (2, 1)}),
    "valid": ((1, 2, 6, 6), (3, 2, 2, 2), {"padding": "valid"}),
    "padded unevenly": ((2, 3, 6, 5), (4, 3, 3, 3), {"stride": 2, "padding": ((0, 2), (1, 0))}),
    "dilated": ((1, 5, 11, 10), (7, 5, 3, 3), {"dilation": (3, 2), "padding": 2}),
    "stride beyond the kernel": ((2, 3, 9, 10), (4, 3, 2, 2), {"stride": (4, 3)}),
    "kernel as large as the image": ((2, 3, 4, 5), (6, 3, 4, 5), {}),
    "padding beyond the kernel": ((1, 2, 3, 3), (2, 2, 2, 2), {"padding": 3}),
    "groups": ((2, 6, 6, 5), (8, 3, 3, 3), {"groups": 2, "padding": 1}),
    "groups, pointwise": ((2, 12, 4, 5), (9, 4, 1, 1), {"groups": 3}),
    "depthwise": ((2, 5, 8, 7), (5, 1, 3, 3), {"groups": 5, "padding": 1}),
    "depthwise, many channels, strided": ((2, 40, 9, 9), (40, 1, 3, 3), {"groups": 40, "stride": 2}),
    "depthwise, tiles beyond the edge": (
        (2, 37, 5, 17),
        (37, 1, 3, 3),
        {"groups": 37, "padding": ((1, 2), (0, 3))},
    ),
    "depthwise, strided, beyond the edge": (
        (2, 33, 8, 16),
        (33, 1, 3, 3),
        {"groups": 33, "stride": 2, "padding": ((2, 0), (1, 3))},
    ),
    "depthwise, padded by more than a kernel": ((1, 3, 2, 2), (3, 1, 3, 3), {"groups": 3, "padding": 4}),
    "depthwise, dilated": ((1, 3, 9, 8), (3, 1, 2, 3), {"groups": 3, "dilation": 2, "padding": (0, 1)}),
    "depthwise, two filters a channel": ((1, 4, 6, 6), (8, 1, 3, 3), {"groups": 4, "stride": 2}),
    "empty batch": ((0, 3, 5, 5), (4, 3, 3, 3), {"padding": 1}),
    "empty batch, depthwise": ((0, 3, 5, 5), (3, 1, 3, 3), {"groups": 3}),
}


def _convolutions() -> None:
    for number, (name, (x_shape, w_shape, kwargs)) in enumerate(CONVOLUTIONS.items()):
        y_shape = reference.conv2d(np.zeros(x_shape), np.zeros(w_shape), **kwargs).shape
        groups = kwargs.get("groups", 1)
        window = int(np.prod(w_shape[1:]))

        def forward(rng: Rng, x=x_shape, w=w_shape, kwargs=kwargs, bias=number % 2) -> Call:
            return call(
                rng.normal(size=x), rng.normal(size=w), rng.normal(size=w[0]) if bias else None, **kwargs
            )

        def backward_input(rng: Rng, x=x_shape, w=w_shape, y=y_shape, kwargs=kwargs) -> Call:
            return call(rng.normal(size=y), rng.normal(size=w), x, **kwargs)

        def backward_weight(rng: Rng, x=x_shape, w=w_shape, y=y_shape, kwargs=kwargs) -> Call:
            return call(rng.normal(size=y), rng.normal(size=x), w, **kwargs)

        def activated(rng: Rng, forward=forward, activation=("relu", "relu6")[number % 2]) -> Call:
            plain = forward(rng)
            return call(*plain.args, **plain.kwargs, activation=activation)

        def onto(rng: Rng, forward=forward, y=y_shape, number=number) -> Call:
            # Alone or beside other channels, added or not, with each activation.
            plain, beside = forward(rng), 3 * (number % 2)
            out = rng.normal(size=(y[0], y[1] + 2 * beside, *y[2:]))
            activation = (None, "relu", "relu6")[number % 3]
            options = {"channel": beside, "add": number % 4 > 0, "activation": activation}
            return call(out, *plain.args, **plain.kwargs, **options)

        pixels = y_shape[0] * y_shape[2] * y_shape[3]
        case("conv2d", name, forward, window)
        case("conv2d", name + ", activation", activated, window)
        case("conv2d_onto", name, onto, window)
        case("conv2d_backward_input", name, backward_input, window // w_shape[1] * w_shape[0] // groups)
        case("conv2d_backward_weight", name, backward_weight, max(pixels, 1))
        case("conv2d_backward_bias", name, lambda rng, y=y_shape: call(rng.normal(size=y)), max(pixels, 1))


def _dense() -> None:
    for n, width, out in (
        (1, 1, 1),
        (5, 400, 120),
        (0, 7, 3),
        (33, 84, 10),
        (130, 65, 257),
        (3, 1, 50),
        (1, 300, 40),
        (2, 1023, 131),
        (4, 1030, 67),
        (300, 65, 20),
    ):
        name = f"{n} x {width} -> {out}"
        for bias in (False, True):
            case(
                "dense",
                name + " with bias" * bias,
                lambda rng, n=n, width=width, out=out, bias=bias: call(
                    rng.normal(size=(n, width)),
                    rng.normal(size=(out, width)),
                    rng.normal(size=out) if bias else None,
                ),
                width,
            )
        case(
            "dense_backward_input",
            name,
            lambda rng, n=n, width=width, out=out: call(
                rng.normal(size=(n, out)), rng.normal(size=(out, width))
            ),
            out,
        )
        case(
            "dense_backward_weight",
            name,
            lambda rng, n=n, width=width, out=out: call(
                rng.normal(size=(n, out)), rng.normal(size=(n, width))
            ),
            max(n, 1),
        )
        case(
            "dense_backward_bias", name, lambda rng, n=n, out=out: call(rng.normal(size=(n, out))), max(n, 1)
        )
        case(
            "matmul",
            name,
            lambda rng, n=n, width=width, out=out: call(
                rng.normal(size=(n, width)), rng.normal(size=(width, out))
            ),
            width,
        )
    case("matmul", "inner size 0", lambda rng: call(np.zeros((3, 0)), np.zeros((0, 4))))


# Pooling: input shape, kernel, keyword arguments.
POOLS: dict[str, tuple[tuple[int, ...], Any, dict[str, Any]]] = {
    "halves": ((2, 3, 6, 8), 2, {}),
    "halves, several threads": ((8, 17, 20, 22), 2, {}),
    "one element": ((3, 2, 1, 1), 1, {}),
    "rectangular": ((2, 33, 7, 8), (3, 2), {"stride": (1, 3)}),
    "overlapping": ((2, 16, 7, 7), 3, {"stride": 2}),
    "padded": ((2, 5, 7, 6), 3, {"stride": 2, "padding": 1}),
    "padded unevenly": ((1, 2, 5, 6), (3, 4), {"stride": 2, "padding": ((0, 1), (2, 1))}),
    "gaps": ((1, 9, 9, 9), 2, {"stride": 4}),
    "ceil": ((2, 3, 6, 8), 3, {"stride": 2, "ceil_mode": True}),
    "ceil, padded": ((2, 2, 7, 8), 3, {"stride": 3, "padding": 1, "ceil_mode": True}),
    "ceil, last window in the padding": ((1, 2, 4, 4), 2, {"stride": 3, "padding": 1, "ceil_mode": True}),
    "whole image": ((2, 3, 4, 5), (4, 5), {}),
    "empty batch": ((0, 3, 6, 6), 2, {}),
}
DILATED_POOLS: dict[str, tuple[tuple[int, ...], Any, dict[str, Any]]] = {
    "dilated": ((2, 3, 9, 8), 3, {"stride": 1, "dilation": 2}),
    "dilated, strided, padded": ((2, 2, 9, 9), (3, 2), {"stride": 2, "padding": 1, "dilation": (2, 3)}),
    "dilated, ceil": ((1, 2, 9, 8), 2, {"stride": 3, "dilation": 2, "ceil_mode": True}),
}


def _pools() -> None:
    for name, (shape, kernel, kwargs) in (POOLS | DILATED_POOLS).items():
        y_shape = pool2d_geometry(shape, kernel, **kwargs).output_shape
        case(
            "max_pool2d",
            name,
            lambda rng, shape=shape, kernel=kernel, kwargs=kwargs: call(
                rng.normal(size=shape), kernel, **kwargs
            ),
        )
        case(
            "max_pool2d",
            name + ", ties",
            lambda rng, shape=shape, kernel=kernel, kwargs=kwargs: call(
                rng.integers(0, 3, shape).astype(float), kernel, **kwargs
            ),
        )

        def max_backward(rng: Rng, shape=shape, kernel=kernel, kwargs=kwargs, y=y_shape) -> Call:
            _, indices = reference.max_pool2d(rng.normal(size=shape), kernel, **kwargs)
            return call(rng.normal(size=y), indices, shape)

        case("max_pool2d_backward", name, max_backward, 9)
    for (name, (shape, kernel, kwargs)), count, divisor in itertools.product(
        POOLS.items(), (True, False), (None, 7)
    ):
        if divisor is not None and not count:
            continue
        y_shape = pool2d_geometry(shape, kernel, **kwargs).output_shape
        settings = kwargs | {"count_include_pad": count, "divisor_override": divisor}
        name += ", padding not counted" * (not count) + ", divided by 7" * (divisor is not None)
        case(
            "avg_pool2d",
            name,
            lambda rng, shape=shape, kernel=kernel, settings=settings: call(
                rng.normal(size=shape), kernel, **settings
            ),
            9,
        )
        case(
            "avg_pool2d_backward",
            name,
            lambda rng, shape=shape, kernel=kernel, settings=settings, y=y_shape: call(
                rng.normal(size=y), shape, kernel, **settings
            ),
            9,
        )
    for shape, output in (
        ((2, 3, 7, 7), 1),
        ((2, 5, 8, 6), (3, 4)),
        ((1, 2, 3, 4), (5, 9)),
        ((2, 17, 6, 5), (None, 2)),
        ((4, 40, 18, 18), 7),
        ((0, 2, 4, 4), 2),
    ):
        name = f"{shape} to {output}"
        y_shape = reference.adaptive_avg_pool2d(np.zeros(shape), output).shape
        terms = max(1, shape[2] // y_shape[2] * shape[3] // y_shape[3])
        case(
            "adaptive_avg_pool2d",
            name,
            lambda rng, shape=shape, output=output: call(rng.normal(size=shape), output),
            terms,
        )
        case(
            "adaptive_avg_pool2d_backward",
            name,
            lambda rng, shape=shape, y=y_shape: call(rng.normal(size=y), shape),
            terms,
        )


def _norms() -> None:
    shapes = ((2, 3, 5, 7), (1, 1, 3, 3), (3, 130, 2, 3), (8, 33, 12, 12), (2, 64, 4, 4))
    for shape, mean in (*((shape, 0.0) for shape in shapes), ((4, 6, 9, 9), 1000.0), ((0, 3, 4, 4), 0.0)):
        name = f"{shape}" + f" around {mean:g}" * (mean != 0)
        pixels = max(1, shape[0] * shape[2] * shape[3])

        def data(rng: Rng, shape=shape, mean=mean) -> tuple[Any, ...]:
            x = rng.normal(size=shape) + mean
            channels = shape[1]
            return (
                x,
                mean + rng.normal(size=channels),
                rng.uniform(0.5, 2, channels),
                *rng.normal(size=(2, channels)),
            )

        case("batch_norm2d_statistics", name, lambda rng, data=data: call(data(rng)[0]), pixels)
        case("batch_norm2d", name, lambda rng, data=data: call(*data(rng)[:3]))
        case("batch_norm2d", name + ", affine", lambda rng, data=data: call(*data(rng), eps=1e-2))
        if mean == 0:  # far from zero, float32 cannot tell which side of the ReLU's corner a value is on

            def rectified(rng: Rng, data=data) -> Call:
                return call(*data(rng), activation="relu")

            def rectified_backward(rng: Rng, data=data) -> Call:
                x, mean, var, weight, bias = data(rng)
                weight[::3] *= -1
                return call(rng.normal(size=x.shape), x, mean, var, weight, bias=bias, activation="relu")

            case("batch_norm2d", name + ", relu", rectified)
            case("batch_norm2d_backward", name + ", relu", rectified_backward, pixels)
        for op in ("batch_norm2d_backward", "batch_norm2d_inference_backward"):
            for affine in (False, True):

                def backward(rng: Rng, data=data, affine=affine) -> Call:
                    x, mean, var, weight, _ = data(rng)
                    dy = rng.normal(size=x.shape)
                    return call(dy, x, mean, var, weight if affine else None)

                case(op, name + ", affine" * affine, backward, pixels)


SHAPES = ((3, 4), (2, 3, 5, 4), (7,), (), (0, 3), (2, 3, 4, 5, 2), (3, 33, 20, 20), (1, 1))
LARGE = (3, 33, 20, 20)


def _activations() -> None:
    for op, axis in itertools.product(("softmax", "log_softmax"), (0, 1)):
        far = lambda rng, axis=axis: call(1e5 + rng.integers(0, 40, (9, 11)) / 4, axis)  # noqa: E731
        case(op, f"around 100000, axis {axis}", far, 9)
    for shape in SHAPES:
        for op, extra in (
            ("relu", {}),
            ("relu6", {}),
            ("leaky_relu", {}),
            ("leaky_relu", {"negative_slope": 0.3}),
            ("elu", {}),
            ("elu", {"alpha": 1.5}),
            ("sigmoid", {}),
            ("tanh", {}),
        ):
            name = f"{shape}" + "".join(f", {key} = {value}" for key, value in extra.items())
            case(op, name, lambda rng, s=shape, extra=extra: call(np.array(3 * rng.normal(size=s)), **extra))
            output = op in ("relu", "relu6", "sigmoid", "tanh")

            def backward(rng: Rng, s=shape, extra=extra, op=op, output=output) -> Call:
                # Not far out for ops whose gradient is known from 1 - y, where that is all rounding error.
                x = np.array((1 if output else 3) * rng.normal(size=s))
                return call(rng.normal(size=s), getattr(reference, op)(x) if output else x, **extra)

            case(op + "_backward", name, backward)
        for axis in range(-len(shape), len(shape)):
            terms = max(shape[axis], 1)
            case(
                "softmax",
                f"{shape}, axis {axis}",
                lambda rng, s=shape, axis=axis: call(np.array(5 * rng.normal(size=s)), axis),
                terms,
            )

            def softmax_backward(rng: Rng, s=shape, axis=axis) -> Call:
                y = reference.softmax(rng.normal(size=s), axis)
                return call(rng.normal(size=s), y, axis)

            case("softmax_backward", f"{shape}, axis {axis}", softmax_backward, terms)
        for op in ("add", "add_relu", "accumulate", "accumulate_relu"):
            case(op, f"{shape}", lambda rng, s=shape: call(rng.normal(size=s), rng.normal(size=s)))
        case(
            "add_scaled",
            f"{shape}",
            lambda rng, s=shape: call(rng.normal(size=s), rng.normal(size=s), -0.3),
        )
        case(
            "sum_of_squares",
            f"{shape}",
            lambda rng, s=shape: call([rng.normal(size=s), rng.normal(size=(3, 5))]),
            15 + int(np.prod(shape)),
        )
        case("asarray", f"{shape}", lambda rng, s=shape: call(rng.normal(size=s)))
        case("to_numpy", f"{shape}", lambda rng, s=shape: call(rng.normal(size=s)))
        for p, seed, offset in ((0.3, 1, 2), (0, 3, 4), (1, 5, 6), (0.5, 2**64 - 1, 2**63 + 1)):
            case(
                "dropout",
                f"{shape}, p = {p}",
                lambda rng, s=shape, p=p, seed=seed, offset=offset: call(rng.normal(size=s), p, seed, offset),
            )


def _layouts() -> None:
    for shape in ((2, 3, 5, 7), (0, 3, 4, 4), (4, 16, 5, 5), (2, 1, 9, 9), (3, 40, 1, 1), (2, 33, 25, 31)):
        case("channels_last", f"{shape}", lambda rng, s=shape: call(rng.normal(size=s)))
        case("flatten", f"{shape}", lambda rng, s=shape: call(rng.normal(size=s)))
        case(
            "unflatten",
            f"{shape}",
            lambda rng, s=shape: call(rng.normal(size=(s[0], s[1] * s[2] * s[3])), s),
        )
    case("flatten", "three axes", lambda rng: call(rng.normal(size=(2, 3, 4))))
    # Its values are undefined, so that it must have none to be compared.
    for shape in ((0, 3, 4, 5), (2, 0, 4, 5), (0, 7)):
        case("empty_like", f"{shape}", lambda rng, s=shape: call(rng.normal(size=(1, 2, 3, 4)), s))


def _losses() -> None:
    for shape, weighted, smoothing, reduction in itertools.product(
        ((7, 10), (1, 1), (0, 4), (2, 5, 4, 3), (4000, 11)),
        (False, True),
        (0.0, 0.1),
        ("mean", "sum", "none"),
    ):
        if shape == (1, 1) and (weighted or smoothing):
            continue  # the gradient of a single class is the rounding error of 0
        name = f"{shape}, {reduction}" + ", weighted" * weighted + ", smoothed" * (smoothing > 0)
        labels_shape = shape[:1] + shape[2:]
        rows = max(1, int(np.prod(labels_shape)))

        def logits(rng: Rng, shape=shape, weighted=weighted) -> tuple[Any, Any]:
            return 4 * rng.normal(size=shape), rng.uniform(0.2, 1, shape[1]) if weighted else None

        def labelled(rng: Rng, s=labels_shape, c=shape[1], smoothing=smoothing, how=reduction, logits=logits):
            x, weight = logits(rng)
            labels = rng.integers(0, c, s)
            if labels.size > 1:
                labels[rng.uniform(0, 1, s) < 0.2] = -1
            return call(x, labels, weight, -1, smoothing, how)

        def probable(rng: Rng, s=shape, smoothing=smoothing, how=reduction, logits=logits):
            x, weight = logits(rng)
            targets = reference.softmax(rng.normal(size=s))
            return call(x, targets, weight, label_smoothing=smoothing, reduction=how)

        terms = rows if reduction != "none" else shape[1]
        case("cross_entropy", name, labelled, terms)
        case("cross_entropy", name + ", probabilities", probable, terms)
    case(
        "cross_entropy",
        "all ignored",
        lambda rng: call(rng.normal(size=(3, 4)), np.full(3, -100, np.int32)),
    )
    for classes, smoothing in itertools.product((3, 40), (0.0, 0.1)):
        # Logits have few digits left for what they differ in, and the op may not lose any of these.
        case(
            "cross_entropy",
            f"{classes} logits around 100000" + ", smoothed" * (smoothing > 0),
            lambda rng, c=classes, smoothing=smoothing: call(
                1e5 + rng.integers(0, 40, (30, c)) / 4,
                rng.integers(0, c, 30),
                label_smoothing=smoothing,
                reduction="none",
            ),
        )
    for shape, reduction in itertools.product(
        ((3, 4), (2, 3, 4, 5), (0, 2), (), LARGE), ("mean", "sum", "none")
    ):
        case(
            "mse_loss",
            f"{shape}, {reduction}",
            lambda rng, s=shape, how=reduction: call(rng.normal(size=s), rng.normal(size=s), how),
            max(1, int(np.prod(shape))) if reduction != "none" else 1,
        )


def _optimisers() -> None:
    shapes = ((6, 1, 5, 5), (6,), (0, 3), (), (150, 300), (7, 11))

    def arrays(rng: Rng, positive: bool = False) -> list[np.ndarray]:
        return [rng.uniform(0.1, 1, s) if positive else rng.normal(size=s) for s in shapes]

    for momentum, dampening, decay, nesterov, maximize, first in (
        (0.0, 0.0, 0.0, False, False, False),
        (0.0, 0.0, 0.1, False, True, False),
        (0.9, 0.0, 0.0, False, False, True),
        (0.9, 0.0, 0.01, False, False, False),
        (0.9, 0.5, 0.0, False, True, False),
        (0.9, 0.0, 0.1, True, False, False),
    ):
        kwargs = {"momentum": momentum, "dampening": dampening, "weight_decay": decay, "nesterov": nesterov}
        kwargs |= {"maximize": maximize, "first_step": first, "lr": 0.1}

        def sgd(rng: Rng, kwargs=kwargs, momentum=momentum) -> Call:
            return call(arrays(rng), arrays(rng), arrays(rng) if momentum else None, **kwargs)

        case("sgd_step", ", ".join(f"{key} {value}" for key, value in kwargs.items() if value), sgd)
    for decay, decoupled, maximize, amsgrad, step in (
        (0.0, False, False, False, 1),
        (0.1, False, True, False, 3),
        (0.1, True, False, False, 1000),
        (0.0, True, False, True, 2),
        (0.1, False, False, True, 7),
    ):
        kwargs = {
            "step": step,
            "lr": 0.1,
            "weight_decay": decay,
            "decoupled": decoupled,
            "maximize": maximize,
        }

        def adam(rng: Rng, kwargs=kwargs, amsgrad=amsgrad) -> Call:
            largest = {"max_exp_avg_sqs": arrays(rng, positive=True)} if amsgrad else {}
            return call(
                arrays(rng), arrays(rng), arrays(rng), arrays(rng, positive=True), **kwargs, **largest
            )

        name = ", ".join(f"{key} {value}" for key, value in kwargs.items() if value)
        case("adam_step", name + ", amsgrad" * amsgrad, adam)
    case("sgd_step", "no parameters", lambda rng: call([], [], None, lr=0.1))


for _fill in (
    _convolutions,
    _dense,
    _pools,
    _norms,
    _activations,
    _layouts,
    _losses,
    _optimisers,
    parity_layer_cases.fill,
    parity_optim_cases.fill,
    parity_augment_cases.fill,
):
    _fill()
