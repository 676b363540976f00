"""Every op of the CPU backend with arguments as networks have them, to be tracked and held to its limits."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from nbconv.typing import Array
from nbconv_kernels import cpu

_IMAGES = (16, 64, 56, 56)
_LOGITS = (4096, 1000)
NOT_TIMED = frozenset({"asarray", "name", "to_numpy"})
"""Public names of the backend that do no work."""

_IN_PLACE = frozenset(
    {"accumulate", "accumulate_channels", "accumulate_relu", "add_scaled", "conv2d_onto", "put_channels"}
)
"""Ops that write to their first argument; those of optimisers write to all but the gradients."""

Arguments = tuple[tuple[Any, ...], dict[str, Any]]


class Run(NamedTuple):
    """A call to time, and what it has to do.

    Attributes:
        operations: floating-point operations.
        footprint: bytes of all its arrays.
        moved: bytes to and from memory: each array once, a new one twice, as its lines are read before they
            are written.
    """

    call: Callable[[], object]
    operations: float
    footprint: float
    moved: float


@dataclass(frozen=True)
class Kernel:
    """An op and its arguments.

    Attributes:
        op: its name in the backend.
        case: what the arguments are, where an op has several rows.
        make: the arguments, positional and by name.
        operations: counts those of multiply-adds.
    """

    op: str
    case: str
    make: Callable[[], Arguments]
    operations: float = 0.0

    @property
    def name(self) -> str:
        """The op and the case."""
        return f"{self.op} {self.case}".strip()

    def prepare(self) -> Run:
        """The call with its arguments made, run once."""
        arguments, options = self.make()
        function = getattr(cpu, self.op)
        result = function(*arguments, **options)
        written: tuple[Any, ...] = ()
        if self.op.endswith("_step"):
            written = (arguments[0], *arguments[2:])
        elif self.op in _IN_PLACE:
            written = arguments[:1]
        given = _bytes(arguments) + _bytes(options.values())
        new = 0 if written else _bytes([result])
        moved = given + 2 * new + _bytes(written)
        return Run(lambda: function(*arguments, **options), self.operations, given + new, moved)


def _bytes(values: Iterable[Any]) -> int:
    """The size of all arrays in there."""
    total = 0
    for value in values:
        if isinstance(value, np.ndarray):
            total += value.nbytes
        elif isinstance(value, list | tuple):
            total += _bytes(value)
    return total


def _noise(*shape: int) -> Array:
    array = np.random.default_rng(0).standard_normal(shape, dtype=np.float32)
    return cpu.channels_last(array) if len(shape) == 4 else array


def _arguments(*arguments: Any, **options: Any) -> Arguments:
    return arguments, options


def _images(count: int, *rest: Any, **options: Any) -> Callable[[], Arguments]:
    """So many arrays of images, and the rest."""
    return lambda: _arguments(*(_noise(*_IMAGES) for _ in range(count)), *rest, **options)


def _convolution(n: int, c: int, h: int, k: int, r: int, stride: int = 1, groups: int = 1) -> list[Kernel]:
    """The convolution and its gradients."""
    case = f"{n}x{c}x{h}x{h} {k}x{r}x{r}" + f"/{stride}" * (stride > 1) + " depthwise" * (groups > 1)
    window = {"stride": stride, "padding": r // 2, "groups": groups}
    x_shape, weight_shape = (n, c, h, h), (k, c // groups, r, r)
    out = (h + 2 * (r // 2) - r) // stride + 1
    y_shape = (n, k, out, out)
    operations = 2.0 * math.prod(y_shape) * math.prod(weight_shape[1:])
    rows = {
        "conv2d": lambda: _arguments(_noise(*x_shape), _weight(weight_shape), _noise(k), **window),
        "conv2d_backward_input": lambda: _arguments(
            _noise(*y_shape), _weight(weight_shape), x_shape, **window
        ),
        "conv2d_backward_weight": lambda: _arguments(
            _noise(*y_shape), _noise(*x_shape), weight_shape, **window
        ),
    }
    return [Kernel(op, case, make, operations) for op, make in rows.items()]


def _weight(shape: tuple[int, ...]) -> Array:
    return np.random.default_rng(1).standard_normal(shape, dtype=np.float32)


def _transposed() -> list[Kernel]:
    """Twice the size, as segmentation networks and generators grow their images."""
    x_shape, weight_shape, y_shape = (8, 128, 28, 28), (128, 64, 4, 4), (8, 64, 56, 56)
    options = {"stride": 2, "padding": 1}
    operations = 2.0 * math.prod(x_shape) * math.prod(weight_shape[1:])
    rows = {
        "conv_transpose2d": lambda: _arguments(_noise(*x_shape), _weight(weight_shape), None, **options),
        "conv_transpose2d_backward_input": lambda: _arguments(
            _noise(*y_shape), _weight(weight_shape), x_shape, **options
        ),
        "conv_transpose2d_backward_weight": lambda: _arguments(
            _noise(*y_shape), _noise(*x_shape), weight_shape, **options
        ),
    }
    return [Kernel(op, "4/2", make, operations) for op, make in rows.items()]


def _dense(n: int, width: int, out: int) -> list[Kernel]:
    case, operations = f"{n}x{width} {out}", 2.0 * n * width * out
    rows = {
        "dense": lambda: _arguments(_noise(n, width), _noise(out, width), _noise(out)),
        "dense_backward_input": lambda: _arguments(_noise(n, out), _noise(out, width)),
        "dense_backward_weight": lambda: _arguments(_noise(n, out), _noise(n, width)),
    }
    return [Kernel(op, case, make, operations) for op, make in rows.items()]


def _pooling() -> list[Kernel]:
    def argmax(*rest: Any) -> Callable[[], Arguments]:
        def make() -> Arguments:
            y, indices = cpu.max_pool2d(_noise(*_IMAGES), 2)
            return _arguments(_noise(*y.shape), indices, *rest)

        return make

    half = (*_IMAGES[:2], 28, 28)
    return [
        Kernel("max_pool2d", "2", _images(1, 2)),
        Kernel("max_pool2d", "3/2", _images(1, 3, stride=2, padding=1)),
        Kernel("max_pool2d_backward", "2", argmax(_IMAGES)),
        Kernel("max_unpool2d", "", argmax(_IMAGES)),
        Kernel(
            "max_unpool2d_backward",
            "",
            lambda: _arguments(_noise(*_IMAGES), cpu.max_pool2d(_noise(*_IMAGES), 2)[1]),
        ),
        Kernel("avg_pool2d", "2", _images(1, 2)),
        Kernel("avg_pool2d_backward", "2", lambda: _arguments(_noise(*half), _IMAGES, 2)),
        Kernel("adaptive_avg_pool2d", "1", _images(1, 1)),
        Kernel("adaptive_avg_pool2d_backward", "1", lambda: _arguments(_noise(*_IMAGES[:2], 1, 1), _IMAGES)),
    ]


_WINDOWED = {"divisive_norm": 1, "subtractive_norm": 1, "divisive_norm_backward": 2} | {
    "subtractive_norm_backward": 1
}


def _norms() -> list[Kernel]:
    channels, window = _IMAGES[1], np.full((9, 9), 1 / 81, np.float32)

    def statistics(count: int, *, shift: bool) -> Callable[[], Arguments]:
        def make() -> Arguments:
            ones = [np.ones(channels, np.float32) for _ in range(4 if shift else 3)]
            return _arguments(*(_noise(*_IMAGES) for _ in range(count)), *ones)

        return make

    return [
        Kernel("batch_norm2d_statistics", "", _images(1)),
        Kernel("batch_norm2d", "", statistics(1, shift=True)),
        Kernel("batch_norm2d_backward", "", statistics(2, shift=False)),
        Kernel("batch_norm2d_inference_backward", "", statistics(2, shift=False)),
        Kernel("group_norm", "", _images(1, 8)),
        Kernel("group_norm_backward", "", _images(2, 8)),
        Kernel("layer_norm", "", lambda: _arguments(_noise(*_LOGITS), _LOGITS[1:])),
        Kernel(
            "layer_norm_backward", "", lambda: _arguments(_noise(*_LOGITS), _noise(*_LOGITS), _LOGITS[1:])
        ),
        *(Kernel(op, "", _images(count, window)) for op, count in _WINDOWED.items()),
        Kernel("local_response_norm", "", _images(1, 5)),
        Kernel("local_response_norm_backward", "", _images(2, 5)),
    ]


def _elementwise() -> list[Kernel]:
    functions = ["relu", "relu6", "leaky_relu", "elu", "selu", "sigmoid", "tanh", "gelu", "silu"]
    functions += ["hardswish", "softplus"]
    rows = [Kernel(op, "", _images(1)) for op in functions]
    rows += [Kernel(f"{op}_backward", "", _images(2)) for op in functions]
    rows += [Kernel(op, "", _images(2)) for op in ("add", "add_relu", "accumulate", "accumulate_relu")]
    rows += [
        Kernel("prelu", "", _images(1, np.full(1, 0.25, np.float32))),
        Kernel("prelu_backward", "", _images(2, np.full(1, 0.25, np.float32))),
        Kernel("add_scaled", "", _images(2, 0.5)),
        Kernel("sum_of_squares", "", lambda: _arguments([_noise(*_IMAGES)])),
        Kernel("dropout", "", _images(1, 0.5, 1, 2)),
        Kernel("dropout2d", "", _images(1, 0.5, 1, 2)),
        Kernel("maxout", "", _images(1, 2)),
        Kernel("maxout_backward", "", _maxout_backward),
        *(Kernel(op, "", lambda: _arguments(_noise(*_LOGITS))) for op in ("softmax", "log_softmax")),
        *(
            Kernel(f"{op}_backward", "", lambda: _arguments(_noise(*_LOGITS), _noise(*_LOGITS)))
            for op in ("softmax", "log_softmax")
        ),
    ]
    return rows


def _maxout_backward() -> Arguments:
    y, which = cpu.maxout(_noise(*_IMAGES), 2)
    return _arguments(_noise(*y.shape), which, 2)


def _movement() -> list[Kernel]:
    n, c, h, w = _IMAGES
    flat = (n, c * h * w)
    return [
        Kernel("channels_last", "", lambda: _arguments(np.ascontiguousarray(_noise(*_IMAGES)))),
        Kernel("flatten", "", _images(1)),
        Kernel("unflatten", "", lambda: _arguments(_noise(*flat), _IMAGES)),
        Kernel("concat", "", lambda: _arguments([_noise(*_IMAGES), _noise(*_IMAGES)])),
        Kernel("take_channels", "", _images(1, 0, c // 2)),
        Kernel("accumulate_channels", "", lambda: _arguments(_noise(n, c // 2, h, w), _noise(*_IMAGES), 0)),
        Kernel("put_channels", "", lambda: _arguments(_noise(*_IMAGES), _noise(n, c // 2, h, w), 0)),
        Kernel("split", "", _images(1, [c // 2, c // 2])),
        Kernel("pad2d", "reflect", _images(1, 1, mode="reflect")),
        Kernel(
            "pad2d_backward",
            "reflect",
            lambda: _arguments(_noise(n, c, h + 2, w + 2), _IMAGES, 1, mode="reflect"),
        ),
        Kernel("upsample2d", "nearest", _images(1, (2 * h, 2 * w))),
        Kernel("upsample2d", "bilinear", _images(1, (2 * h, 2 * w), mode="bilinear")),
        Kernel(
            "upsample2d_backward",
            "bilinear",
            lambda: _arguments(_noise(n, c, 2 * h, 2 * w), _IMAGES, mode="bilinear"),
        ),
    ]


def _losses() -> list[Kernel]:
    def labelled(*rest: Any) -> Arguments:
        return _arguments(_noise(*_LOGITS), np.arange(_LOGITS[0]) % _LOGITS[1], *rest)

    regression = ("mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss")
    rows = [Kernel(op, "", lambda: _arguments(_noise(*_LOGITS), _noise(*_LOGITS))) for op in regression]
    return [
        *rows,
        Kernel(
            "hinge_loss", "", lambda: _arguments(_noise(*_LOGITS), np.where(_noise(*_LOGITS) > 0, 1.0, -1.0))
        ),
        Kernel(
            "binary_cross_entropy_with_logits",
            "",
            lambda: _arguments(_noise(*_LOGITS), np.ones(_LOGITS, np.float32)),
        ),
        *(Kernel(op, "", labelled) for op in ("cross_entropy", "multi_margin_loss", "multiclass_hinge_loss")),
    ]


def _optimizers() -> list[Kernel]:
    def lists(count: int, **options: Any) -> Callable[[], Arguments]:
        return lambda: _arguments(*([np.abs(_noise(4_000_000))] for _ in range(count)), **options)

    return [
        Kernel("sgd_step", "momentum", lists(3, lr=1e-3, momentum=0.9)),
        Kernel("adam_step", "", lists(4, lr=1e-3, step=10)),
        Kernel("adagrad_step", "", lists(3, lr=1e-3, step=10)),
        Kernel("rmsprop_step", "", lists(3, lr=1e-3)),
        Kernel("lion_step", "", lists(3, lr=1e-4)),
    ]


def _augmentation() -> list[Kernel]:
    n, size = 64, 32
    shape = (n, 3, size, size)
    each = [np.full(n, 1.1, np.float32) for _ in range(3)]
    turn = np.tile(np.array([[0.9, -0.1, 0.0], [0.1, 0.9, 0.0]], np.float32), (n, 1, 1))
    boxes = np.tile(np.array([4, 4, 12, 12]), (n, 1))
    rows: dict[str, Callable[[], Arguments]] = {
        "affine_sample": lambda: _arguments(_noise(*shape), turn),
        "color_jitter": lambda: _arguments(_noise(*shape), *each),
        "erase_boxes": lambda: _arguments(_noise(*shape), boxes),
        "gaussian_noise": lambda: _arguments(_noise(*shape), each[0], 1, 2),
        "mix_images": lambda: _arguments(_noise(*shape), np.arange(n)[::-1].copy(), each[0]),
    }
    return [Kernel(op, "", make) for op, make in rows.items()]


def _product(size: int) -> Kernel:
    return Kernel(
        "matmul", f"{size}", lambda: _arguments(_noise(size, size), _noise(size, size)), 2.0 * size**3
    )


KERNELS: tuple[Kernel, ...] = (
    *map(_product, (512, 1024)),
    *_convolution(32, 64, 32, 64, 3),
    *_convolution(32, 256, 8, 256, 3),
    *_convolution(4, 64, 56, 64, 3),
    *_convolution(4, 512, 7, 512, 3),
    *_convolution(4, 128, 28, 128, 3, stride=2),
    *_convolution(4, 3, 224, 64, 7, stride=2),
    *_convolution(4, 256, 56, 64, 1),
    *_convolution(4, 64, 56, 256, 1),
    *_convolution(8, 256, 28, 256, 3, groups=256),
    Kernel(
        "conv2d_onto",
        "added, relu",
        lambda: _arguments(
            _noise(4, 64, 56, 56),
            _noise(4, 64, 56, 56),
            _weight((64, 64, 3, 3)),
            padding=1,
            add=True,
            activation="relu",
        ),
        2.0 * 4 * 64 * 56 * 56 * 64 * 9,
    ),
    *_transposed(),
    Kernel("conv2d_backward_bias", "", _images(1)),
    *_dense(128, 400, 120),
    *_dense(64, 4096, 4096),
    *_dense(1, 4096, 4096),
    Kernel("dense_backward_bias", "", lambda: _arguments(_noise(*_LOGITS))),
    *_pooling(),
    *_norms(),
    *_elementwise(),
    *_movement(),
    *_losses(),
    *_optimizers(),
    *_augmentation(),
)
"""All rows."""


def missing() -> set[str]:
    """Public ops of the backend that have no row."""
    return set(cpu.__all__) - NOT_TIMED - {kernel.op for kernel in KERNELS}
