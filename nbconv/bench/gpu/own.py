"""nbconv's part of the races: functions that ask the GPU for work and do not wait for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import nbconv as nb
from nbconv import backends
from nbconv.bench.gpu.plan import Convolution
from nbconv.bench.peers.base import LR, MOMENTUM
from nbconv.training.recording import RecordedPasses, Results
from nbconv.typing import Array

_BACKEND = "cuda"


def convolution(conv: Convolution, which: str, x: Array, w: Array, dy: Array) -> Callable[[], Array]:
    """A pass of a convolution; the arrays are NumPy's, and are brought to the GPU before the clock starts."""
    ops = backends.get(_BACKEND)
    window = conv.stride, conv.padding, (1, 1), conv.groups
    weight = ops.asarray(w)
    image, gradient = (ops.channels_last(ops.asarray(array)) for array in (x, dy))
    if which == "forward":
        return lambda: ops.conv2d(image, weight, None, *window)
    if which == "backward_input":
        return lambda: ops.conv2d_backward_input(gradient, weight, conv.input_shape, *window)
    return lambda: ops.conv2d_backward_weight(gradient, image, conv.weight_shape, *window)


def inference(model: nb.Sequential, x: Array) -> Callable[[], Array]:
    """The outputs, which stay on the GPU."""
    model.to(_BACKEND)
    images = model.prepare(x)
    return lambda: model(images)


def training(model: nb.Sequential, x: Array, targets: Array, record: bool) -> Callable[[], Any]:
    """A step as ``Trainer`` makes it: its passes recorded, or asked for kernel by kernel."""
    model.to(_BACKEND)
    images, labels = model.prepare(x), backends.get(_BACKEND).asarray(targets)
    loss = nb.CrossEntropyLoss(backend=_BACKEND)
    optimizer = nb.SGD(model.parameters(), lr=LR, momentum=MOMENTUM)

    def passes(inputs: Array, answers: Array) -> Results:
        y, backprop = model.forward(inputs, training=True, input_grad=False)
        with backends.deferred(_BACKEND):
            value, dy = loss(y, answers)
        backprop(dy)
        return value, 0.0, None

    make = RecordedPasses(model, loss, passes).run if record else passes

    def step() -> Any:
        optimizer.zero_grad()
        value, *_ = make(images, labels)
        optimizer.step()
        return value

    return step


def bandwidth_bound(x: Array) -> dict[str, tuple[Callable[[], Any], int]]:
    """Kernels that do little but move ``x``, (N, C, H, W), and how many of its sizes they read and write."""
    ops = backends.get(_BACKEND)
    a = ops.channels_last(ops.asarray(x))
    b = a.copy(order="K")
    channels = ops.asarray(x[0, :, 0, 0] * 0 + 1)
    parameter, buffer = (a.copy(order="K").transpose(0, 2, 3, 1) for _ in range(2))
    gradient = b.transpose(0, 2, 3, 1)
    settings = {"lr": 1e-3, "momentum": 0.9, "dampening": 0.0, "weight_decay": 0.0}
    return {
        "copy": (lambda: a.copy(order="K"), 2),
        "relu": (lambda: ops.relu(a), 2),
        "add_relu": (lambda: ops.add_relu(a, b), 3),
        "batch_norm2d": (lambda: ops.batch_norm2d(a, channels, channels, channels, channels, 1e-5), 2),
        "batch_norm2d_statistics": (lambda: ops.batch_norm2d_statistics(a), 1),
        "sgd_step": (lambda: ops.sgd_step([parameter], [gradient], [buffer], **settings), 5),
    }
