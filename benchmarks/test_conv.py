"""Convolution and its gradients beside PyTorch's, in both of its memory formats."""

import numpy as np
import pytest

from nbconv_kernels import cpu

# N, C, H, W, K, R, stride, pad
SHAPES = [
    (32, 3, 32, 32, 64, 3, 1, 1),
    (32, 64, 32, 32, 64, 3, 1, 1),
    (32, 128, 16, 16, 128, 3, 1, 1),
    (32, 256, 8, 8, 256, 3, 1, 1),
    (4, 3, 224, 224, 64, 7, 2, 3),
    (4, 64, 56, 56, 256, 1, 1, 0),
    (4, 256, 56, 56, 64, 1, 1, 0),
    (4, 128, 28, 28, 128, 3, 2, 1),
    (4, 256, 14, 14, 256, 3, 1, 1),
    (8, 512, 7, 7, 512, 3, 1, 1),
]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("what", ["forward", "input gradient", "weight gradient"])
def test_conv2d(race, torch, shape, what):
    n, c, h, w, k, r, stride, pad = shape
    rng = np.random.default_rng(0)
    x = cpu.channels_last(rng.standard_normal((n, c, h, w), dtype=np.float32))
    weight = rng.standard_normal((k, c, r, r), dtype=np.float32) / np.float32((c * r * r) ** 0.5)
    bias = rng.standard_normal(k, dtype=np.float32)
    y = cpu.conv2d(x, weight, bias, stride, pad)
    dy = cpu.channels_last(rng.standard_normal(y.shape, dtype=np.float32))
    runs = {
        "forward": lambda: cpu.conv2d(x, weight, bias, stride, pad),
        "input gradient": lambda: cpu.conv2d_backward_input(dy, weight, x.shape, stride, pad),
        "weight gradient": lambda: cpu.conv2d_backward_weight(dy, x, weight.shape, stride, pad),
    }
    peers = {}
    if torch is not None:
        for name, layout in (("torch", torch.contiguous_format), ("channels_last", torch.channels_last)):
            run = _torch_run(torch, layout, what, x, weight, bias, dy, stride, pad)
            # The race is honest if all run the same course.
            np.testing.assert_allclose(runs[what](), run().numpy(), rtol=1e-3, atol=1e-2)
            peers[name] = run
    race(f"conv2d {what}", str(shape), runs[what], **peers)


def _torch_run(torch, layout, what, *arrays_and_geometry):
    *arrays, stride, pad = arrays_and_geometry
    x, weight, bias, dy = (torch.from_numpy(np.ascontiguousarray(array)) for array in arrays)
    x, weight, dy = (tensor.contiguous(memory_format=layout) for tensor in (x, weight, dy))
    if what == "forward":

        def run():
            with torch.no_grad():
                return torch.nn.functional.conv2d(x, weight, bias, stride, pad)

        return run
    wanted = [what == "input gradient", what == "weight gradient", False]

    def run():
        window = ([len(bias)], [stride] * 2, [pad] * 2, [1, 1], False, [0, 0], 1)
        gradients = torch.ops.aten.convolution_backward(dy, x, weight, *window, wanted)
        return next(gradient for gradient, want in zip(gradients, wanted, strict=True) if want)

    return run
