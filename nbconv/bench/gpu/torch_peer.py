"""PyTorch's part of the races: eager, cuDNN choosing its algorithms by trial, in both memory formats."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import torch

from nbconv.bench.gpu.plan import Convolution
from nbconv.bench.peers.base import LR, MOMENTUM
from nbconv.bench.peers.torch_twin import twin
from nbconv.sequential import Sequential
from nbconv.typing import Array

_DEVICE = "cuda"
LAYOUTS = ("contiguous", "channels_last")


def set_precision(precision: str) -> None:
    """Compute as nbconv does under this name: float32, TF32, or bfloat16 by autocast."""
    torch.backends.cudnn.benchmark = True
    torch.backends.cudnn.allow_tf32 = precision != "highest"
    torch.backends.cuda.matmul.allow_tf32 = precision != "highest"


def convolution(
    conv: Convolution, which: str, x: Array, w: Array, dy: Array, layout: str, precision: str
) -> Callable[[], Any]:
    """A pass of a convolution, its arrays on the GPU before the clock starts."""
    kind, dtype = _format(layout), torch.bfloat16 if precision == "medium" else torch.float32
    image, weight, gradient = (
        torch.from_numpy(array).to(_DEVICE, dtype).contiguous(memory_format=kind) for array in (x, w, dy)
    )
    (top, _), (left, _) = conv.padding
    window = list(conv.stride), [top, left], [1, 1]
    if which == "forward":
        return lambda: torch.conv2d(image, weight, None, *window, conv.groups)
    wanted = [which == "backward_input", which == "backward_weight", False]
    backward = torch.ops.aten.convolution_backward
    place = 0 if which == "backward_input" else 1
    rest = False, [0, 0], conv.groups, wanted
    return lambda: backward(gradient, image, weight, None, *window, *rest)[place]


def inference(model: Sequential, x: Array, layout: str, precision: str) -> Callable[[], Any]:
    """The outputs, which stay on the GPU."""
    module, images = _placed(model, x, layout)
    module.eval()

    def run() -> Any:
        with torch.inference_mode(), _cast(precision):
            return module(images)

    return run


def training(model: Sequential, x: Array, targets: Array, layout: str, precision: str) -> Callable[[], Any]:
    """A training step, with the fused optimiser."""
    module, images = _placed(model, x, layout)
    module.train()
    labels = torch.from_numpy(targets).to(_DEVICE)
    optimizer = torch.optim.SGD(module.parameters(), lr=LR, momentum=MOMENTUM, fused=True)

    def step() -> Any:
        optimizer.zero_grad()
        with _cast(precision):
            loss = torch.nn.functional.cross_entropy(module(images), labels)
        loss.backward()
        optimizer.step()
        return loss

    return step


def to_numpy(result: Any) -> Array:
    """A result on the host, in float32."""
    array: Array = result.detach().float().cpu().numpy()
    return array


def _format(layout: str) -> Any:
    return torch.channels_last if layout == "channels_last" else torch.contiguous_format


def _placed(model: Sequential, x: Array, layout: str) -> tuple[Any, Any]:
    kind = _format(layout)
    module = twin(model).to(_DEVICE, memory_format=kind)
    return module, torch.from_numpy(x).to(_DEVICE).contiguous(memory_format=kind)


def _cast(precision: str) -> Any:
    return torch.autocast(_DEVICE, torch.bfloat16) if precision == "medium" else nullcontext()
