"""A batch of no images: outputs of no images, and gradients of parameters that are exactly zero."""

import numpy as np
import pytest
from poison import poison

import nbconv as nb
from nbconv import backends

BACKENDS = [
    *((name, dtype) for name in ("cpu", "reference") for dtype in (np.float32, np.float64)),
    *([("cuda-emulated", np.float32)] if backends.available().get("cuda-emulated") is True else []),
]

# By channels, kernel, groups and size each of the CPU's algorithms comes; see ``choice``.
CONVOLUTIONS = {
    "direct": (5, 3, 1, 9),
    "deep": (200, 1, 1, 5),
    "winograd": (64, 3, 1, 32),
    "winograd, deep": (192, 3, 1, 14),
    "grouped": (58, 5, 29, 9),
    "columns of a group": (25, 5, 5, 34),
    "pointwise": (32, 1, 1, 8),
    "depthwise": (8, 3, 8, 8),
    "gray": (1, 5, 1, 28),
}
LAYERS = {
    **{
        f"Conv2d {name}": (
            lambda c=c, k=k, g=g: nb.Conv2d(c, c, k, padding=k // 2, groups=g),
            (c, size, size),
        )
        for name, (c, k, g, size) in CONVOLUTIONS.items()
    },
    **{
        f"ConvTranspose2d {name}": (
            lambda c=c, k=k, g=g: nb.ConvTranspose2d(c, c, k, padding=k // 2, groups=g),
            (c, size, size),
        )
        for name, (c, k, g, size) in CONVOLUTIONS.items()
    },
    "Conv2d of few channels": (lambda: nb.Conv2d(3, 64, 7, stride=2, padding=3), (3, 32, 32)),
    "Conv2d gray to few": (lambda: nb.Conv2d(1, 6, 5), (1, 28, 28)),
    "Conv2d reflect": (lambda: nb.Conv2d(4, 4, 3, padding=1, padding_mode="reflect"), (4, 8, 8)),
    "Dense": (lambda: nb.Dense(400, 120), (400,)),
    "Dense small": (lambda: nb.Dense(3, 2), (3,)),
    "PReLU": (lambda: nb.PReLU(8), (8, 4, 4)),
    "PReLU of one slope": (lambda: nb.PReLU(), (8,)),
    "GroupNorm": (lambda: nb.GroupNorm(2, 8), (8, 4, 4)),
    "LayerNorm": (lambda: nb.LayerNorm(100), (100,)),
    "LayerNorm of images": (lambda: nb.LayerNorm((8, 4, 4)), (8, 4, 4)),
    "BatchNorm2d frozen": (lambda: nb.BatchNorm2d(8).freeze().requires_grad_(), (8, 4, 4)),
    "Residual": (lambda: nb.Residual(nb.Conv2d(8, 8, 3, padding=1), nb.Conv2d(8, 8, 1)), (8, 6, 6)),
    "Concat": (lambda: nb.Concat(nb.Conv2d(8, 8, 1), nb.Conv2d(8, 4, 3, padding=1)), (8, 6, 6)),
    "DenseBlock": (lambda: nb.DenseBlock(nb.Conv2d(8, 8, 1)), (8, 6, 6)),
}


@pytest.mark.parametrize(("backend", "dtype"), BACKENDS, ids=lambda value: getattr(value, "__name__", value))
@pytest.mark.parametrize("name", LAYERS)
def test_gradients_are_zero(name, backend, dtype):
    make, shape = LAYERS[name]
    layer = make()
    frozen = layer.frozen
    model = nb.Sequential(layer, backend=backend, dtype=dtype)
    if frozen:  # with a gradient: only the statistics stand still
        assert all(parameter.requires_grad for parameter in model.parameters())
    x = np.zeros((0, *shape), dtype)
    poison()
    y, backprop = model.forward(x, training=True)
    assert y.shape == model.output_shape(x.shape) == model(x).shape
    poison()
    dx = backprop(np.zeros(y.shape, dtype))
    assert dx.shape == x.shape
    for key, parameter in model.named_parameters():
        gradient = backends.to_numpy(parameter.grad)
        np.testing.assert_array_equal(gradient, np.zeros(parameter.shape, dtype), err_msg=key)
