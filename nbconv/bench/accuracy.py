"""Rounding errors of 3 x 3 convolutions, forward and both gradients, beside PyTorch's.

The truth is the convolution in float64, PyTorch's where there is one. "highest" is nbconv without Winograd's
transforms.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

import nbconv as nb
from nbconv.bench.networks import relative_l2
from nbconv.bench.options import Options, Row
from nbconv.typing import Array
from nbconv_kernels import cpu

_PIXELS = 8192  # as many as raced batches have, for the choice of algorithm depends on it
_TARGET = 1e-5
_PARTS = ("forward", "input gradient", "weight gradient")
_Shape = tuple[int, int, int, int, int]  # C, H, W, K, stride
_Conv = Callable[[Array, Array, Array, int], tuple[Array, ...]]


def accuracy(options: Options) -> Iterator[Row]:
    """A row for each 3 x 3 convolution in the networks: relative L2 errors."""
    theirs = _torch() if "pytorch" in options.peers else None
    truth = theirs or _ours
    for shape, users in _shapes(options).items():
        c, h, w, k, stride = shape
        batch = min(32, -(-_PIXELS // (h * w)))
        rng = np.random.default_rng(0)
        x: Array = rng.standard_normal((batch, c, h, w), dtype=np.float32)
        weight = np.asarray(rng.normal(0.0, (9 * c) ** -0.5, (k, c, 3, 3)), np.float32)
        out = cpu.conv2d(x, weight, None, stride, 1).shape
        dy = np.asarray(rng.normal(size=out), np.float32)
        exact = truth(x.astype(np.float64), weight.astype(np.float64), dy.astype(np.float64), stride)
        errors: dict[str, dict[str, float]] = {}
        before = nb.get_precision()
        try:
            for level in ("high", "highest"):
                nb.set_precision(level)
                errors[f"nbconv {level}"] = _errors(_ours(x, weight, dy, stride), exact)
        finally:
            nb.set_precision(before)
        if theirs is not None:
            errors["pytorch"] = _errors(theirs(x, weight, dy, stride), exact)
        yield {
            "name": f"{c}x{h}x{w}-{k}-{stride}",
            "shape": {"channels": c, "height": h, "width": w, "filters": k, "stride": stride},
            "batch": batch,
            "used_by": users,
            "errors": errors,
            "truth": "PyTorch float64" if theirs is not None else "nbconv float64",
            "target": _TARGET,
            "held": max(errors["nbconv high"].values()) < _TARGET,
        }


def _shapes(options: Options) -> dict[_Shape, list[str]]:
    """The 3 x 3 convolutions of the networks, by whom they are used."""
    shapes: dict[_Shape, list[str]] = {}
    for case in options.cases:
        for step in case.build().trace((1, *case.shape)):
            layer = step.layer
            if isinstance(layer, nb.Conv2d) and layer.kernel_size == (3, 3) and layer.groups == 1:
                _, c, h, w = step.input_shape
                users = shapes.setdefault((c, h, w, layer.out_channels, layer.stride[0]), [])
                if case.name not in users:
                    users.append(case.name)
    return shapes


def _errors(results: tuple[Array, ...], exact: tuple[Array, ...]) -> dict[str, float]:
    return {part: relative_l2(a, b) for part, a, b in zip(_PARTS, results, exact, strict=True)}


def _ours(x: Array, weight: Array, dy: Array, stride: int) -> tuple[Array, ...]:
    return (
        cpu.conv2d(x, weight, None, stride, 1),
        cpu.conv2d_backward_input(dy, weight, x.shape, stride, 1),
        cpu.conv2d_backward_weight(dy, x, weight.shape, stride, 1),
    )


def _torch() -> _Conv | None:
    try:
        import torch
    except ImportError:
        return None

    def conv(x: Array, weight: Array, dy: Array, stride: int) -> tuple[Array, ...]:
        tensors: list[Any] = [torch.from_numpy(np.ascontiguousarray(a)) for a in (x, weight)]
        for tensor in tensors:
            tensor.requires_grad_()
        y = torch.nn.functional.conv2d(*tensors, None, stride, 1)
        y.backward(torch.from_numpy(dy))
        return y.detach().numpy(), *(tensor.grad.numpy() for tensor in tensors)

    return conv
