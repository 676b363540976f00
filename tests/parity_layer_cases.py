"""The parity table's rows for the ops behind less common layers and losses."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
from parity_table import Call, Rng, call, case

from nbconv_kernels import reference
from nbconv_kernels.sampling import PAD_MODES

SHAPES = ((3, 4), (2, 3, 5, 4), (7,), (), (0, 3), (2, 3, 4, 5, 2), (3, 33, 20, 20), (1, 1))


# Transposed convolution: input shape, weight shape, keyword arguments.
TRANSPOSED: dict[str, tuple[tuple[int, ...], tuple[int, ...], dict[str, Any]]] = {
    "one pixel, one channel": ((1, 1, 1, 1), (1, 1, 1, 1), {}),
    "doubling": ((2, 12, 5, 6), (12, 7, 2, 2), {"stride": 2}),
    "doubling, smoothly": ((2, 17, 5, 4), (17, 33, 4, 4), {"stride": 2, "padding": 1}),
    "to an image": ((2, 16, 9, 8), (16, 3, 5, 5), {"stride": 2, "padding": 2, "output_padding": 1}),
    "3x3": ((2, 33, 9, 7), (33, 20, 3, 3), {"padding": 1}),
    "3x3, many tiles": ((4, 40, 20, 20), (40, 16, 3, 3), {"padding": 1}),
    "gaps": ((1, 5, 3, 4), (5, 6, 2, 2), {"stride": (3, 4), "output_padding": (2, 1)}),
    "output padding beyond the stride": ((1, 9, 4, 5), (9, 20, 2, 3), {"dilation": 3, "output_padding": 2}),
    "beyond it, few channels": ((2, 9, 4, 5), (9, 2, 2, 3), {"dilation": (3, 2), "output_padding": 1}),
    "beyond it, depthwise": (
        (1, 6, 4, 5),
        (6, 1, 3, 3),
        {"dilation": (3, 2), "output_padding": (2, 1), "groups": 6},
    ),
    "padded unevenly": ((2, 3, 6, 5), (3, 4, 3, 3), {"stride": 2, "padding": ((0, 2), (1, 0))}),
    "padding beyond the kernel": ((1, 2, 6, 6), (2, 3, 2, 2), {"padding": 3, "stride": 2}),
    "groups": ((2, 6, 4, 5), (6, 4, 3, 3), {"groups": 2, "stride": 2}),
    "depthwise": ((2, 40, 5, 4), (40, 1, 4, 4), {"groups": 40, "stride": 2, "padding": 1}),
    "empty batch": ((0, 3, 5, 5), (3, 4, 3, 3), {"stride": 2}),
}


def _transposed_convolutions() -> None:
    for number, (name, (x_shape, w_shape, kwargs)) in enumerate(TRANSPOSED.items()):
        groups = kwargs.get("groups", 1)
        y_shape = reference.conv_transpose2d(np.zeros(x_shape), np.zeros(w_shape), **kwargs).shape
        taps, out = w_shape[2] * w_shape[3], w_shape[1] * groups

        def forward(rng: Rng, x=x_shape, w=w_shape, kwargs=kwargs, bias=out * (number % 2)) -> Call:
            return call(
                rng.normal(size=x), rng.normal(size=w), rng.normal(size=bias) if bias else None, **kwargs
            )

        def backward_input(rng: Rng, x=x_shape, w=w_shape, y=y_shape, kwargs=kwargs) -> Call:
            return call(rng.normal(size=y), rng.normal(size=w), x, **kwargs)

        def backward_weight(rng: Rng, x=x_shape, w=w_shape, y=y_shape, kwargs=kwargs) -> Call:
            return call(rng.normal(size=y), rng.normal(size=x), w, **kwargs)

        pixels = max(1, x_shape[0] * x_shape[2] * x_shape[3])
        case("conv_transpose2d", name, forward, w_shape[0] // groups * taps)
        case("conv_transpose2d_backward_input", name, backward_input, w_shape[1] * taps)
        case("conv_transpose2d_backward_weight", name, backward_weight, pixels)


def _paddings() -> None:
    for shape, padding in (
        ((2, 3, 4, 5), 2),
        ((1, 17, 6, 5), ((0, 3), (2, 1))),
        ((3, 2, 3, 3), (1, 2)),
        ((2, 5, 4, 4), 0),
        ((4, 33, 18, 20), 1),
        ((0, 3, 4, 5), 1),
    ):
        for mode in PAD_MODES:
            name = f"{shape}, {padding}, {mode}"
            value = 1.5 if mode == "constant" else 0.0
            case(
                "pad2d",
                name,
                lambda rng, s=shape, p=padding, mode=mode, v=value: call(rng.normal(size=s), p, mode, v),
            )
            y_shape = reference.pad2d(np.zeros(shape), padding, mode).shape
            case(
                "pad2d_backward",
                name,
                lambda rng, s=shape, y=y_shape, p=padding, mode=mode: call(rng.normal(size=y), s, p, mode),
                9,
            )


def _resamplings() -> None:
    for shape, size in (
        ((2, 3, 3, 4), (6, 8)),
        ((1, 17, 5, 4), (8, 10)),
        ((2, 2, 7, 5), (3, 2)),
        ((1, 5, 1, 3), (4, 3)),
        ((1, 3, 9, 7), (1, 1)),
        ((4, 33, 16, 9), (32, 18)),
        ((0, 3, 4, 5), (8, 10)),
    ):
        for kwargs in (
            {},
            {"scale_factor": (1.7, 2.6)},
            {"mode": "bilinear"},
            {"mode": "bilinear", "scale_factor": 1.9},
            {"mode": "bilinear", "align_corners": True},
        ):
            name = f"{shape} to {size}, " + ", ".join(f"{key} = {value}" for key, value in kwargs.items())
            case(
                "upsample2d",
                name,
                lambda rng, s=shape, size=size, kwargs=kwargs: call(rng.normal(size=s), size, **kwargs),
            )
            case(
                "upsample2d_backward",
                name,
                lambda rng, s=shape, size=size, kwargs=kwargs: call(
                    rng.normal(size=(*s[:2], *size)), s, **kwargs
                ),
                9,
            )


def _channels() -> None:
    for shape, pieces in (
        ((3, 6), 2),
        ((2, 6, 3, 2), 3),
        ((2, 33, 4, 5), 11),
        ((3, 5), 1),
        ((4, 64, 20, 20), 2),
        ((0, 4, 2, 2), 2),
    ):
        for ties in (False, True):

            def data(rng: Rng, s=shape, ties=ties) -> np.ndarray:
                return rng.integers(0, 3, s).astype(float) if ties else rng.normal(size=s)

            name = f"{shape}, {pieces}" + ", ties" * ties
            case("maxout", name, lambda rng, data=data, pieces=pieces: call(data(rng), pieces))

            def backward(rng: Rng, data=data, pieces=pieces) -> Call:
                y, which = reference.maxout(data(rng), pieces)
                return call(rng.normal(size=y.shape), which, pieces)

            case("maxout_backward", name, backward)
    for shape, pool in (
        ((2, 3, 6, 8), (2,)),
        ((1, 40, 7, 7), (3, 1, 1)),
        ((8, 17, 20, 22), (2,)),
        ((0, 3, 4, 4), (2,)),
    ):
        for integer in (np.int32, np.int64, np.uint8):
            if integer == np.uint8 and shape[2] * shape[3] > 255:
                continue

            def unpool(rng: Rng, s=shape, pool=pool, integer=integer) -> Call:
                y, indices = reference.max_pool2d(rng.normal(size=s), *pool)
                return call(y, indices.astype(integer), s)

            def unpool_backward(rng: Rng, s=shape, pool=pool, integer=integer) -> Call:
                _, indices = reference.max_pool2d(rng.normal(size=s), *pool)
                return call(rng.normal(size=s), indices.astype(integer))

            name = f"{shape}, pooled by {pool}, {integer.__name__}"
            case("max_unpool2d", name, unpool)
            case("max_unpool2d_backward", name, unpool_backward)
    for rest in ((), (4, 5), (20, 22), (3,), (2, 0), (2, 3, 2)):
        for n, channels in ((2, (3, 1, 4)), (1, (33,)), (3, (64, 12)), (2, (2, 0, 1)), (0, (3, 2))):
            name = f"{channels} channels of ({n}, ..., {rest})"
            shapes = [(n, c, *rest) for c in channels]
            whole = (n, sum(channels), *rest)
            case("concat", name, lambda rng, shapes=shapes: call([rng.normal(size=s) for s in shapes]))
            case(
                "concat",
                name + ", with room for 5 more",
                lambda rng, shapes=shapes, room=whole[1] + 5: call(
                    [rng.normal(size=s) for s in shapes], room
                ),
            )
            case("split", name, lambda rng, s=whole, channels=channels: call(rng.normal(size=s), channels))
            first = sum(channels[:-1])
            case(
                "take_channels",
                name,
                lambda rng, s=whole, first=first, c=channels[-1]: call(rng.normal(size=s), first, c),
            )
            case(
                "accumulate_channels",
                name,
                lambda rng, s=whole, part=shapes[-1], first=first: call(
                    rng.normal(size=part), rng.normal(size=s), first
                ),
            )
            case(
                "put_channels",
                name,
                lambda rng, s=whole, part=shapes[-1], first=first: call(
                    rng.normal(size=s), rng.normal(size=part), first
                ),
            )
    for shape in ((2, 3, 4, 5), (8, 40, 12, 11), (0, 3, 4, 4)):
        for p, seed, offset in ((0.3, 1, 2), (0, 3, 4), (1, 5, 6), (0.5, 2**64 - 1, 2**63 + 1)):
            case(
                "dropout2d",
                f"{shape}, p = {p}",
                lambda rng, s=shape, p=p, seed=seed, offset=offset: call(rng.normal(size=s), p, seed, offset),
            )


def _group_norms() -> None:
    for shape, groups, mean in (
        ((2, 6, 4, 5), 2, 0.0),
        ((1, 64, 7, 7), 32, 0.0),
        ((3, 5, 1, 3), 5, 0.0),
        ((2, 33, 20, 20), 3, 0.0),
        ((5, 40, 9, 8), 1, 100.0),
        ((0, 4, 3, 3), 2, 0.0),
    ):
        for affine in (False, True):

            def data(rng: Rng, s=shape, mean=mean, affine=affine) -> tuple[Any, ...]:
                weight = rng.normal(size=s[1]), rng.normal(size=s[1])
                return mean + rng.normal(size=s), *(weight if affine else (None, None))

            def backward(rng: Rng, groups=groups, data=data) -> Call:
                x, weight, _ = data(rng)
                return call(rng.normal(size=x.shape), x, groups, weight, 1e-3)

            def forward(rng: Rng, groups=groups, data=data) -> Call:
                x, weight, bias = data(rng)
                return call(x, groups, weight, bias)

            name = f"{shape}, {groups} groups" + ", affine" * affine + f" around {mean:g}" * (mean != 0)
            case("group_norm", name, forward, 100 if mean else 1)
            terms = max(1, shape[0]) * shape[2] * shape[3]
            case("group_norm_backward", name, backward, terms * (100 if mean else 1))


def _layer_norms() -> None:
    for shape, trailing in (
        ((4, 7), 1),
        ((300, 130), 1),
        ((2, 3, 5), 2),
        ((6,), 1),
        ((2, 3, 4, 5), 3),
        ((8, 17, 12, 11), 3),
        ((2, 3, 4, 5), 2),
        ((2, 3, 4, 5), 1),
        ((2, 3, 4, 5, 2), 3),
        ((0, 5), 1),
        ((0, 3, 4, 5), 3),
    ):
        normalized = shape[len(shape) - trailing :]
        rows = max(1, int(np.prod(shape[: len(shape) - trailing])))
        for affine in (False, True):

            def parameters(rng: Rng, s=normalized, affine=affine) -> tuple[Any, ...]:
                return (rng.normal(size=s), rng.normal(size=s)) if affine else (None, None)

            def forward(rng: Rng, s=shape, normalized=normalized, parameters=parameters) -> Call:
                return call(rng.normal(size=s), normalized, *parameters(rng))

            def backward(rng: Rng, s=shape, normalized=normalized, parameters=parameters) -> Call:
                return call(rng.normal(size=s), rng.normal(size=s), normalized, parameters(rng)[0], 1e-3)

            name = f"{shape}, the last {trailing}" + ", affine" * affine
            case("layer_norm", name, forward)
            case("layer_norm_backward", name, backward, rows)


def _local_norms() -> None:
    for shape, size, kwargs in (
        ((2, 7, 3, 2), 5, {"alpha": 0.3, "k": 1.5}),
        ((1, 96, 9, 8), 5, {}),
        ((2, 3, 4, 5), 4, {"alpha": 1.0, "beta": 0.5, "k": 2.0}),
        ((4, 33, 18, 17), 1, {"alpha": 0.5, "beta": 2.0}),
        ((1, 2, 3, 3), 9, {"alpha": 0.5}),
        ((0, 4, 3, 3), 3, {}),
    ):
        name = f"{shape}, {size}"
        case(
            "local_response_norm",
            name,
            lambda rng, s=shape, size=size, kwargs=kwargs: call(2 * rng.normal(size=s), size, **kwargs),
        )
        case(
            "local_response_norm_backward",
            name,
            lambda rng, s=shape, size=size, kwargs=kwargs: call(
                rng.normal(size=s), 2 * rng.normal(size=s), size, **kwargs
            ),
            size,
        )
    for shape, window, eps in (
        ((2, 3, 6, 7), (3, 5), 1e-4),
        ((1, 1, 9, 9), (9, 9), 1e-4),
        ((2, 33, 20, 21), (5, 5), 1e-4),
        ((3, 4, 2, 3), (5, 7), 1.0),
        ((2, 2, 3, 3), (1, 1), 100.0),
        ((0, 2, 3, 3), (3, 3), 1e-4),
    ):
        name = f"{shape}, {window}" + f", eps {eps}" * (eps != 1e-4)
        terms = shape[1] * window[0] * window[1]

        def data(rng: Rng, s=shape, w=window) -> tuple[Any, ...]:
            return rng.normal(size=s), rng.normal(size=s), rng.uniform(0.1, 1, w)

        case("subtractive_norm", name, lambda rng, data=data: call(*data(rng)[1:]), terms)
        case("subtractive_norm_backward", name, lambda rng, data=data: call(*data(rng)[1:]), terms)
        case("divisive_norm", name, lambda rng, data=data, eps=eps: call(*data(rng)[1:], eps), terms)
        case("divisive_norm_backward", name, lambda rng, data=data, eps=eps: call(*data(rng), eps), terms)


REDUCTIONS = ("mean", "sum", "none")


def _elementwise_losses() -> None:
    for shape, reduction in itertools.product(
        ((3, 4), (2, 3, 4, 5), (0, 2), (), (3, 33, 20, 20), (5000,)), REDUCTIONS
    ):
        terms = max(1, int(np.prod(shape))) if reduction != "none" else 1
        for op, kwargs in (
            ("l1_loss", {}),
            ("smooth_l1_loss", {}),
            ("smooth_l1_loss", {"beta": 0.3}),
            ("smooth_l1_loss", {"beta": 0.0}),
            ("huber_loss", {}),
            ("huber_loss", {"delta": 0.3}),
        ):
            name = f"{shape}, {reduction}" + "".join(f", {key} = {value}" for key, value in kwargs.items())
            case(
                op,
                name,
                lambda rng, s=shape, how=reduction, kwargs=kwargs: call(
                    rng.normal(size=s), rng.normal(size=s), how, **kwargs
                ),
                terms,
            )
        for weighted, positive in itertools.product((False, True), repeat=2):

            def logits(rng: Rng, s=shape, how=reduction, weighted=weighted, positive=positive) -> Call:
                channels = (s[1], 1, 1) if len(s) == 4 else s[1:]
                return call(
                    np.array(4 * rng.normal(size=s)),
                    rng.uniform(0, 1, s),
                    rng.uniform(0.5, 2, s) if weighted else None,
                    rng.uniform(0.5, 2, channels) if positive else None,
                    how,
                )

            name = f"{shape}, {reduction}" + ", weighted" * weighted + ", positive weighted" * positive
            case("binary_cross_entropy_with_logits", name, logits, terms)
        for integers in (False, True):

            def signs(rng: Rng, s=shape, how=reduction, integers=integers) -> Call:
                signs = 2 * rng.integers(0, 2, s) - 1
                return call(rng.normal(size=s), np.array(signs, int if integers else float), how)

            case("hinge_loss", f"{shape}, {reduction}" + ", integers" * integers, signs, terms)


def _margin_losses() -> None:
    for shape, reduction in itertools.product(((7, 10), (1, 2), (0, 4), (200, 300)), REDUCTIONS):
        rows = max(1, shape[0]) if reduction != "none" else 1

        def scores(rng: Rng, s=shape) -> tuple[Any, Any]:
            return 2 * rng.normal(size=s), rng.integers(0, s[1], s[0])

        for p, margin, weighted in ((1, 1.0, False), (2, 1.0, False), (1, 0.3, True), (2, 2.0, True)):

            def margins(
                rng: Rng, p=p, margin=margin, weighted=weighted, scores=scores, how=reduction
            ) -> Call:
                x, labels = scores(rng)
                weight = rng.uniform(0.5, 2, x.shape[1]) if weighted else None
                return call(x, labels, p, margin, weight, how)

            name = f"{shape}, {reduction}, p = {p}, margin = {margin}" + ", weighted" * weighted
            case("multi_margin_loss", name, margins, rows * shape[1])
        name = f"{shape}, {reduction}"
        case(
            "multiclass_hinge_loss",
            name,
            lambda rng, scores=scores, how=reduction: call(*scores(rng), how),
            rows,
        )

        def ties(rng: Rng, s=shape, how=reduction) -> Call:
            return call(rng.integers(0, 3, s).astype(float), rng.integers(0, s[1], s[0]), how)

        case("multiclass_hinge_loss", name + ", ties", ties, rows)


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
    for rows in (
        _transposed_convolutions,
        _paddings,
        _resamplings,
        _channels,
        _group_norms,
        _layer_norms,
        _local_norms,
        _elementwise_losses,
        _margin_losses,
        _activations,
    ):
        rows()
