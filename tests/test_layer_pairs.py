"""Every layer alone, and every pair of layers, as a model: evaluation is what they compute one by one.

Evaluation merges layers into few steps, into programs and into chains of small networks; which of them it
takes depends on what stands beside what. The oracle is the reference backend in float64, layer by layer.
"""

import itertools

import numpy as np
import pytest

import nbconv as nb

IMAGES, FEATURES = (4, 8, 8), (8,)

# What a slice of a model, or trying something out, may consist of. Made anew for each model.
MAKERS = {
    "Conv2d": lambda: nb.Conv2d(4, 4, 3, padding=1),
    "Conv2d of strides": lambda: nb.Conv2d(4, 8, 3, stride=2, bias=False),
    "Conv2d depthwise": lambda: nb.Conv2d(4, 4, 3, padding=1, groups=4),
    "Conv2d reflect": lambda: nb.Conv2d(4, 4, 3, padding=1, padding_mode="reflect"),
    "ConvTranspose2d": lambda: nb.ConvTranspose2d(4, 4, 3, 2),
    "MaxPool2d": lambda: nb.MaxPool2d(2),
    "MaxPool2d overlapping": lambda: nb.MaxPool2d(3, 2, 1, ceil_mode=True),
    "AvgPool2d": lambda: nb.AvgPool2d(2),
    "AdaptiveAvgPool2d": lambda: nb.AdaptiveAvgPool2d(2),
    "GlobalAvgPool2d": lambda: nb.GlobalAvgPool2d(),
    "GlobalAvgPool2d keepdims": lambda: nb.GlobalAvgPool2d(True),
    "ReLU": lambda: nb.ReLU(),
    "ReLU6": lambda: nb.ReLU6(),
    "LeakyReLU": lambda: nb.LeakyReLU(0.1),
    "PReLU": lambda: nb.PReLU(),
    "ELU": lambda: nb.ELU(),
    "SELU": lambda: nb.SELU(),
    "GELU": lambda: nb.GELU(),
    "SiLU": lambda: nb.SiLU(),
    "Hardswish": lambda: nb.Hardswish(),
    "Softplus": lambda: nb.Softplus(),
    "Sigmoid": lambda: nb.Sigmoid(),
    "Tanh": lambda: nb.Tanh(),
    "Softmax": lambda: nb.Softmax(),
    "LogSoftmax": lambda: nb.LogSoftmax(),
    "Maxout": lambda: nb.Maxout(),
    "BatchNorm2d": lambda: nb.BatchNorm2d(4),
    "GroupNorm": lambda: nb.GroupNorm(2, 4),
    "LayerNorm": lambda: nb.LayerNorm(8),
    "LocalResponseNorm": lambda: nb.LocalResponseNorm(3),
    "SubtractiveNorm": lambda: nb.SubtractiveNorm(3),
    "DivisiveNorm": lambda: nb.DivisiveNorm(3),
    "ContrastNorm": lambda: nb.ContrastNorm(3),
    "Dropout": lambda: nb.Dropout(),
    "Dropout2d": lambda: nb.Dropout2d(),
    "Flatten": lambda: nb.Flatten(),
    "Dense": lambda: nb.Dense(8, 8),
    "Pad2d": lambda: nb.Pad2d(1),
    "Upsample": lambda: nb.Upsample(scale_factor=2),
    "Resize": lambda: nb.preprocess.Resize(5),
    "CenterCrop": lambda: nb.preprocess.CenterCrop(4),
    "Sequential": lambda: nb.Sequential(),
    "Sequential of pools": lambda: nb.Sequential(nb.MaxPool2d(2), nb.Sequential(nb.MaxPool2d(2))),
    "Residual of nothing": lambda: nb.Residual(nb.Sequential()),
    "Residual": lambda: nb.Residual(nb.Conv2d(4, 4, 1), activation=None),
    "Residual of pools": lambda: nb.Residual(nb.MaxPool2d(2), nb.AvgPool2d(2), nb.ReLU6()),
    "Concat of nothing": lambda: nb.Concat(nb.Sequential()),
    "Concat of pools": lambda: nb.Concat(nb.MaxPool2d(2), nb.AvgPool2d(2)),
    "Concat": lambda: nb.Concat(nb.Conv2d(4, 2, 1), nb.Sequential(nb.Conv2d(4, 2, 1), nb.ReLU())),
    "DenseBlock": lambda: nb.DenseBlock(nb.Conv2d(4, 4, 1)),
    "DenseBlock of nothing": lambda: nb.DenseBlock(),
}
# These merge with nothing, as others do not that are tried in pairs.
PLAIN = {"SELU", "GELU", "SiLU", "Hardswish", "Softplus", "Sigmoid", "ELU", "LogSoftmax", "Resize"}
PAIRED = [name for name in MAKERS if name not in PLAIN]


def check(names, dtype):
    """Compare the model of these layers, and tell whether some input fits them."""
    model = nb.Sequential(*(MAKERS[name]() for name in names), seed=3, dtype=dtype)
    for _, layer in model.named_layers():
        if isinstance(layer, nb.BatchNorm2d):
            layer.running_mean, layer.running_var = layer.running_mean + 0.3, layer.running_var * 2
    plain = nb.Sequential(*(MAKERS[name]() for name in names), backend="reference", dtype=np.float64)
    plain.load_state_dict(model.state_dict())
    fitted = 0
    for shape in (IMAGES, FEATURES):
        try:
            model.output_shape((2, *shape))
        except nb.LayerError:
            continue
        fitted += 1
        x = np.random.default_rng(len(names)).standard_normal((2, *shape)).astype(dtype)
        expected = plain.forward(x.astype(np.float64))[0]
        limit = 64 * np.finfo(dtype).eps * max(1.0, np.abs(expected).max())
        for images in (0, 1, 2):
            for how in (model, model.predict, lambda x: model.forward(x)[0]):
                kept = x[:images].copy()
                y = how(kept)
                assert y.dtype == dtype
                assert y.shape == model.output_shape(kept.shape)
                np.testing.assert_allclose(y, expected[:images], rtol=0, atol=limit, err_msg=f"{names}")
                np.testing.assert_array_equal(kept, x[:images], err_msg="the input has changed")
    return fitted


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", MAKERS)
def test_alone(name, dtype):
    assert check([name], dtype)


@pytest.mark.parametrize("first", PAIRED)
def test_in_pairs(first):
    assert sum(check([first, second], np.float32) for second in PAIRED) > 5


def test_none_at_all():
    model, x = nb.Sequential(), np.ones((2, 3), np.float32)
    for y in (model(x), model.predict(x), model.forward(x)[0]):
        np.testing.assert_array_equal(y, x)


def test_slices_of_a_model():
    """Each run of layers of LeNet-5, as slicing gives it, goes on where the one before it ended."""
    model = nb.models.lenet5(seed=0)
    x = np.random.default_rng(0).random((2, 1, 32, 32)).astype(np.float32)
    shapes = [(2, *x.shape[1:])]
    for layer in model:
        shapes.append(layer.output_shape(shapes[-1]))
    between = [x]
    for layer in model:
        between.append(layer(between[-1]))
    for first, last in itertools.combinations(range(len(model) + 1), 2):
        part = model[first:last]
        for y in (part(between[first]), part.predict(between[first])):
            np.testing.assert_allclose(y, between[last], rtol=1e-5, atol=1e-5)
