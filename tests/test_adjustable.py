"""What is set after construction counts as if the constructor had been given it, or is refused.

The oracle is a new object made with the other argument.
"""

import copy
import inspect
import pickle

import numpy as np
import pytest

import nbconv as nb
from nbconv.layers.state import LAYER_CLASSES
from nbconv.parameter import Parameter

IMAGES = (2, 4, 8, 8)


def bodies():
    return nb.Sequential(nb.Conv2d(4, 4, 3, padding=1)), nb.Sequential(nb.ReLU(), nb.Conv2d(4, 4, 1))


BODY, OTHER = bodies()

# Class, arguments, what is set of them, and the shape of an input.
CHANGES = [
    (
        nb.Conv2d,
        {"in_channels": 4, "out_channels": 8, "kernel_size": 3},
        {"stride": 2, "padding": (2, 1), "dilation": 2},
        IMAGES,
    ),
    (
        nb.Conv2d,
        {"in_channels": 4, "out_channels": 8, "kernel_size": 3, "padding": 1, "padding_mode": "constant"},
        {"padding_value": 2, "padding_mode": "reflect", "padding": "same", "stride": (1, 2)},
        IMAGES,
    ),
    (
        nb.ConvTranspose2d,
        {"in_channels": 4, "out_channels": 6, "kernel_size": 3, "stride": 2},
        {"stride": (2, 3), "padding": 1, "dilation": 2, "output_padding": (1, 0)},
        IMAGES,
    ),
    (
        nb.MaxPool2d,
        {"kernel_size": 3, "stride": 2},
        {"kernel_size": 2, "stride": 3, "padding": 1, "dilation": (1, 2), "ceil_mode": True},
        IMAGES,
    ),
    (
        nb.AvgPool2d,
        {"kernel_size": 3, "stride": 2, "padding": 1},
        {"kernel_size": (3, 2), "stride": 3, "padding": 0, "ceil_mode": True, "count_include_pad": False},
        IMAGES,
    ),
    (nb.AvgPool2d, {"kernel_size": 3}, {"divisor_override": 5}, IMAGES),
    (nb.AdaptiveAvgPool2d, {"output_size": 2}, {"output_size": (3, None)}, IMAGES),
    (nb.GlobalAvgPool2d, {}, {"keepdims": True}, IMAGES),
    (nb.LeakyReLU, {}, {"negative_slope": 0.5}, IMAGES),
    (nb.ELU, {}, {"alpha": 3}, IMAGES),
    (nb.GELU, {}, {"approximate": "tanh"}, IMAGES),
    (nb.Softplus, {}, {"beta": 2, "threshold": 0.5}, IMAGES),
    (nb.Softmax, {}, {"dim": 2}, IMAGES),
    (nb.LogSoftmax, {}, {"dim": 3}, IMAGES),
    (nb.Maxout, {}, {"pieces": 4}, IMAGES),
    (nb.Dropout, {}, {"p": 0.2}, IMAGES),
    (nb.Dropout2d, {}, {"p": 0.2}, IMAGES),
    (nb.BatchNorm2d, {"num_features": 4}, {"eps": 0.5, "momentum": 0.9}, IMAGES),
    (nb.GroupNorm, {"num_groups": 2, "num_channels": 4}, {"num_groups": 4, "eps": 0.5}, IMAGES),
    (nb.LayerNorm, {"normalized_shape": (8, 8)}, {"eps": 0.5}, IMAGES),
    (nb.LocalResponseNorm, {"size": 3}, {"size": 5, "alpha": 0.5, "beta": 0.5, "k": 2}, IMAGES),
    (nb.SubtractiveNorm, {"kernel_size": 3}, {"kernel_size": 5, "sigma": 2}, IMAGES),
    (nb.DivisiveNorm, {"kernel_size": 3}, {"kernel_size": 5, "sigma": 2, "eps": 2}, IMAGES),
    (nb.ContrastNorm, {"kernel_size": 3}, {"kernel_size": 5, "sigma": 2, "eps": 2}, IMAGES),
    (nb.Pad2d, {"padding": 1}, {"padding": ((1, 2), (0, 3)), "mode": "circular", "value": 2}, IMAGES),
    (nb.Upsample, {"size": 5}, {"size": (6, 4), "mode": "bilinear"}, IMAGES),
    (
        nb.Upsample,
        {"scale_factor": 2, "mode": "bilinear"},
        {"scale_factor": 3, "align_corners": True},
        IMAGES,
    ),
    (nb.preprocess.Resize, {"size": 4}, {"size": (6, 5)}, IMAGES),
    (nb.preprocess.CenterCrop, {"size": 4}, {"size": (3, 5)}, IMAGES),
    (nb.Residual, {"body": BODY}, {"body": OTHER, "shortcut": OTHER, "activation": None}, IMAGES),
    (nb.Concat, {"branches": (BODY,)}, {"branches": (BODY, OTHER)}, IMAGES),
    (nb.DenseBlock, {"layers": (BODY,)}, {"layers": (OTHER, nb.Conv2d(8, 2, 1))}, IMAGES),
    (nb.Sequential, {"layers": (BODY,)}, {"layers": [OTHER, nb.Tanh()]}, IMAGES),
]

# What the parameters' shapes rest on, or says what they begin with.
FIXED = [
    (nb.Conv2d, {"in_channels": 4, "out_channels": 8, "kernel_size": 3}, {"in_channels": 8}),
    (nb.Conv2d, {"in_channels": 4, "out_channels": 8, "kernel_size": 3}, {"out_channels": 4}),
    (nb.Conv2d, {"in_channels": 4, "out_channels": 8, "kernel_size": 3}, {"kernel_size": 5}),
    (nb.Conv2d, {"in_channels": 4, "out_channels": 8, "kernel_size": 3}, {"groups": 2}),
    (nb.Conv2d, {"in_channels": 4, "out_channels": 8, "kernel_size": 3}, {"bias": False}),
    (nb.Conv2d, {"in_channels": 4, "out_channels": 8, "kernel_size": 3}, {"weight_init": None}),
    (nb.Conv2d, {"in_channels": 4, "out_channels": 8, "kernel_size": 3}, {"bias_init": None}),
    (nb.ConvTranspose2d, {"in_channels": 4, "out_channels": 8, "kernel_size": 3}, {"in_channels": 8}),
    (nb.ConvTranspose2d, {"in_channels": 4, "out_channels": 8, "kernel_size": 3}, {"out_channels": 4}),
    (nb.ConvTranspose2d, {"in_channels": 4, "out_channels": 8, "kernel_size": 3}, {"kernel_size": 5}),
    (nb.ConvTranspose2d, {"in_channels": 4, "out_channels": 8, "kernel_size": 3}, {"groups": 2}),
    (nb.ConvTranspose2d, {"in_channels": 4, "out_channels": 8, "kernel_size": 3}, {"bias": False}),
    (nb.ConvTranspose2d, {"in_channels": 4, "out_channels": 8, "kernel_size": 3}, {"weight_init": None}),
    (nb.ConvTranspose2d, {"in_channels": 4, "out_channels": 8, "kernel_size": 3}, {"bias_init": None}),
    (nb.ConvTranspose2d, {"in_channels": 4, "out_channels": 8, "kernel_size": 3}, {"padding_mode": "same"}),
    (nb.Dense, {"in_features": 4, "out_features": 3}, {"in_features": 5}),
    (nb.Dense, {"in_features": 4, "out_features": 3}, {"out_features": 5}),
    (nb.Dense, {"in_features": 4, "out_features": 3}, {"bias": False}),
    (nb.Dense, {"in_features": 4, "out_features": 3}, {"weight_init": None}),
    (nb.Dense, {"in_features": 4, "out_features": 3}, {"bias_init": None}),
    (nb.PReLU, {}, {"num_parameters": 4}),
    (nb.PReLU, {}, {"init": 0.5}),
    (nb.BatchNorm2d, {"num_features": 4}, {"num_features": 5}),
    (nb.BatchNorm2d, {"num_features": 4}, {"affine": False}),
    (nb.BatchNorm2d, {"num_features": 4}, {"track_running_stats": False}),
    (nb.BatchNorm2d, {"num_features": 4}, {"momentum": None}),  # would need a count of the batches
    (nb.BatchNorm2d, {"num_features": 4}, {"running_mean": None}),
    (nb.BatchNorm2d, {"num_features": 4}, {"running_var": np.ones(5, np.float32)}),
    (nb.BatchNorm2d, {"num_features": 4}, {"weight": None}),
    (nb.GroupNorm, {"num_groups": 2, "num_channels": 4}, {"num_channels": 8}),
    (nb.GroupNorm, {"num_groups": 2, "num_channels": 4}, {"affine": False}),
    (nb.LayerNorm, {"normalized_shape": 4}, {"normalized_shape": 5}),
    (nb.LayerNorm, {"normalized_shape": 4}, {"elementwise_affine": False}),
    (nb.LayerNorm, {"normalized_shape": 4}, {"bias": False}),
    (nb.preprocess.MeanImage, {"shape": 4}, {"shape": 5}),
    (nb.preprocess.ChannelMean, {"shape": 4}, {"shape": 5}),
    (nb.preprocess.Standardize, {"shape": 4}, {"shape": 5}),
    *(
        (kind, {"shape": 4, "n_components": 2}, change)
        for kind in (nb.preprocess.PCA, nb.preprocess.PCAWhitening, nb.preprocess.ZCA)
        for change in ({"shape": 5}, {"n_components": 3})
    ),
    (nb.Sequential, {"layers": ()}, {"backend": "reference"}),
    (nb.Sequential, {"layers": ()}, {"dtype": np.float64}),
]
ELSEWHERE = {
    (nb.MaxUnpool2d, "kernel_size"),  # by test_unpooling
    (nb.MaxUnpool2d, "stride"),
    (nb.MaxUnpool2d, "padding"),
    (nb.Sequential, "seed"),
}


def made(kind, arguments):
    rest = [n for n, p in inspect.signature(kind).parameters.items() if p.kind is p.VAR_POSITIONAL]
    positional = arguments[rest[0]] if rest else ()
    return kind(*positional, **{name: value for name, value in arguments.items() if name not in rest})


def behaviour(layer, shape, path):
    """All there is to see of a layer."""
    for _, inner in layer.named_layers():
        if isinstance(inner, nb.Dropout):
            inner.seed, inner.offset = 7, 3
    model = nb.Sequential(layer, nb.Tanh())
    rng = np.random.default_rng(0)
    x = rng.standard_normal(shape).astype(np.float32)
    model.save(path)
    seen = {"evaluation": model(x), "predict": model.predict(x), "the file": nb.load(path)(x)}
    seen["shape"] = layer.output_shape(shape)
    seen["repr"] = repr(layer)
    seen["macs"] = layer.macs(shape)
    seen["span"] = layer.input_span((0, 3), 0), layer.input_span((0, 3), 1)
    seen["pickled"] = pickle.loads(pickle.dumps(layer))(x)
    for parameter in model.parameters():
        parameter.grad = None
    y, backprop = model.forward(x, training=True)
    seen["training"] = y
    seen["gradient"] = backprop(rng.standard_normal(y.shape).astype(np.float32))
    for name, parameter in model.named_parameters():
        seen[f"gradient of {name}"] = parameter.grad
    seen |= {f"{key} afterwards": value for key, value in model.state_dict().items()}
    return seen


def assert_same(actual, expected):
    assert actual.keys() == expected.keys()
    for key, value in expected.items():
        if isinstance(value, np.ndarray):
            np.testing.assert_array_equal(actual[key], value, err_msg=key)
        else:
            assert actual[key] == value, key


@pytest.mark.parametrize(
    ("kind", "arguments", "name", "value", "shape"),
    [
        pytest.param(kind, arguments, name, value, shape, id=f"{kind.__name__}.{name}={value!r}"[:60])
        for kind, arguments, changes, shape in CHANGES
        for name, value in changes.items()
    ],
)
def test_a_setting_counts_everywhere(kind, arguments, name, value, shape, tmp_path):
    other = made(kind, {**arguments, name: value})
    path = tmp_path / "model.safetensors"
    layer = copy.deepcopy(made(kind, arguments))
    behaviour(layer, shape, path)  # whatever may be kept from before
    layer = copy.deepcopy(layer)
    setattr(layer, name, value)
    other.load_state_dict(layer.state_dict())
    assert_same(behaviour(layer, shape, path), behaviour(other, shape, path))


@pytest.mark.parametrize(
    ("kind", "arguments", "change"),
    FIXED,
    ids=[f"{kind.__name__}.{next(iter(change))}" for kind, _, change in FIXED],
)
def test_what_cannot_be_changed_is_refused(kind, arguments, change):
    layer = made(kind, arguments)
    before = repr(layer), repr(layer.state_dict())
    (name, value), *_ = change.items()
    with pytest.raises(nb.LayerError, match=name):
        setattr(layer, name, value)
    assert before == (repr(layer), repr(layer.state_dict()))


def test_no_argument_of_any_layer_is_left_out():
    tried = {(kind, name) for kind, _, changes, _ in CHANGES for name in changes}
    tried |= {(kind, name) for kind, _, change in FIXED for name in change} | ELSEWHERE
    missing = [
        f"{kind.__name__}.{name}"
        for kind in LAYER_CLASSES.values()
        if kind.__module__.startswith(("nbconv.layers", "nbconv.preprocess", "nbconv.sequential"))
        and not kind.__name__.startswith("_")
        for name in inspect.signature(kind).parameters
        if (kind, name) not in tried
    ]
    assert missing == []


def test_unpooling():
    x = np.arange(4 * 36, dtype=np.float32).reshape(1, 4, 6, 6)
    pool, unpool = nb.MaxPool2d(2), nb.MaxUnpool2d(3, 3, 1)
    y, indices, _ = pool.forward_with_indices(x)
    unpool.kernel_size, unpool.stride, unpool.padding = 2, 2, 0
    assert repr(unpool) == repr(nb.MaxUnpool2d(2))
    np.testing.assert_array_equal(unpool(y, indices), nb.MaxUnpool2d(2)(y, indices))


@pytest.mark.parametrize(
    ("name", "value"),
    [("stride", 0), ("stride", (1, 2, 3)), ("padding", -1), ("dilation", 1.5), ("groups", 3)],
)
def test_values_are_checked_as_by_the_constructor(name, value):
    with pytest.raises(ValueError, match=name) as expected:
        nb.Conv2d(4, 8, 3, **{name: value})
    conv = nb.Conv2d(4, 8, 3)
    with pytest.raises(type(expected.value)) as caught:
        setattr(conv, name, value)
    assert str(caught.value) == str(expected.value)
    assert conv.stride == (1, 1)


def test_inside_a_model_that_has_run():
    """The plan, what it keeps for a shape, and the containers around look again."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2, 1, 16, 16)).astype(np.float32)
    model = nb.Sequential(
        nb.Conv2d(1, 4, 3), nb.MaxPool2d(2), nb.ReLU(), nb.Residual(nb.Conv2d(4, 4, 3, padding=1)), seed=0
    )
    model(x), model.predict(x), model.forward(x, training=True)
    model[1].kernel_size = 3
    model[0].padding = 1
    expected = nb.Sequential(
        nb.Conv2d(1, 4, 3, padding=1),
        nb.MaxPool2d(3, 2),
        nb.ReLU(),
        nb.Residual(nb.Conv2d(4, 4, 3, padding=1)),
    )
    expected.load_state_dict(model.state_dict())
    np.testing.assert_array_equal(model(x), expected(x))
    np.testing.assert_array_equal(model.predict(x), expected(x))
    model[3].body.stride = 2
    with pytest.raises(nb.LayerError, match=r"layer 3.*cannot add"):
        model(x)
    with pytest.raises(nb.LayerError, match=r"layer 3.*cannot add"):
        model.forward(x, training=True)


def test_parameters_are_exchanged_for_ones_of_their_shape():
    conv, x = nb.Conv2d(4, 8, 3), np.ones(IMAGES, np.float32)
    weight = Parameter((8, 4, 3, 3), nb.initializers.ones())
    conv.weight, conv.bias = weight, None
    assert repr(conv) == "Conv2d(4, 8, 3, bias=False)"
    np.testing.assert_array_equal(nb.Sequential(conv)(x), np.full((2, 8, 6, 6), 36, np.float32))
    conv.bias = Parameter((8,), nb.initializers.ones())
    np.testing.assert_array_equal(conv(x), np.full((2, 8, 6, 6), 37, np.float32))
    with pytest.raises(nb.LayerError, match=r"bias needs a parameter of shape \(8,\)"):
        conv.bias = Parameter((9,), nb.initializers.ones())
    with pytest.raises(nb.LayerError, match=r"weight\.data"):
        conv.weight = np.ones((8, 4, 3, 3), np.float32)


def test_layers_that_are_put_in_follow_their_container():
    block = nb.Residual(nb.Conv2d(4, 4, 1)).to("reference", dtype=np.float64)
    block.body = nb.Conv2d(4, 4, 1)
    assert (block.body.backend, block.body.weight.dtype) == ("reference", np.float64)
    with pytest.raises(TypeError, match="holds layers"):
        block.body = 3


class Wide(nb.Conv2d):
    """A class with a constructor of its own, which sets what it likes."""

    def __init__(self, channels):
        super().__init__(channels, 2 * channels, 3)
        self.channels = channels
        self.calls = 0


def test_classes_of_ones_own():
    layer = Wide(4)
    layer.calls += 1
    with pytest.raises(nb.LayerError, match="stride cannot be set"):
        layer.stride = 2
    assert layer.stride == (1, 1)
    assert layer.calls == 1
    assert repr(layer) == "Wide(4)"


def test_counts_and_seeds_go_on():
    dropout = nb.Dropout(0.5)
    dropout.seed, dropout.offset = 11, 5
    dropout.p = 0.25
    assert (dropout.seed, dropout.offset, dropout.p) == (11, 5, 0.25)


@pytest.mark.parametrize(
    ("loss", "name", "value"),
    [
        (nb.SmoothL1Loss(), "beta", 2),
        (nb.HuberLoss(), "delta", 2),
        (nb.MSELoss(), "reduction", "sum"),
        (nb.SmoothL1Loss(), "reduction", "sum"),
        (nb.CrossEntropyLoss(), "label_smoothing", 0.3),
        (nb.CrossEntropyLoss(), "weight", [1, 2, 3]),
        (nb.CrossEntropyLoss(), "ignore_index", 1),
        (nb.MultiMarginLoss(), "margin", 2),
        (nb.MultiMarginLoss(), "p", 2),
        (nb.BCEWithLogitsLoss(), "pos_weight", [1, 2, 3]),
    ],
    ids=str,
)
def test_settings_of_losses(loss, name, value):
    rng = np.random.default_rng(0)
    y = (3 * rng.standard_normal((5, 3))).astype(np.float32)
    labels = isinstance(loss, nb.CrossEntropyLoss | nb.MultiMarginLoss)
    targets = np.arange(5) % 3 if labels else rng.random((5, 3)).astype(np.float32)
    loss(y, targets)
    setattr(loss, name, value)
    expected = type(loss)(**{name: value})
    assert repr(loss) == repr(expected)
    for actual, wanted in zip(loss(y, targets), expected(y, targets), strict=True):
        np.testing.assert_array_equal(actual, wanted)


def test_losses_and_transforms_refuse_what_their_constructors_do():
    for make, name, value in (
        (nb.SmoothL1Loss, "beta", -1),
        (nb.MSELoss, "reduction", "median"),
        (nb.CrossEntropyLoss, "label_smoothing", 2),
        (nb.augment.RandomHorizontalFlip, "p", 2),
        (nb.augment.RandomErasing, "scale", (0.5, 2)),
    ):
        thing = make()
        before = repr(thing)
        with pytest.raises(ValueError, match=name):
            setattr(thing, name, value)
        assert repr(thing) == before


def test_settings_of_transforms():
    jitter = nb.augment.ColorJitter(0.5)
    jitter.bounds, jitter.contrast = None, 0.25
    x = np.random.default_rng(0).random((4, 3, 8, 8)).astype(np.float32)
    expected = nb.augment.ColorJitter(0.5, 0.25, bounds=None)
    np.testing.assert_array_equal(jitter(x, np.arange(4), 1)[0], expected(x, np.arange(4), 1)[0])
    chain = nb.augment.Compose([nb.augment.GaussianNoise()])
    chain.transforms = [jitter]
    np.testing.assert_array_equal(chain(x, np.arange(4), 1)[0], expected(x, np.arange(4), 1)[0])


def test_settings_of_optimizers_lie_in_their_groups():
    optimizer = nb.optim.SGD(nb.Dense(3, 2).parameters(), lr=0.5)
    with pytest.raises(AttributeError, match="param_groups"):
        optimizer.lr = 0.1
    assert optimizer.param_groups[0]["lr"] == 0.5
