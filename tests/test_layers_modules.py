"""What layers do beside their arithmetic: shapes, configuration, freezing, moving, modes."""

import copy
import pickle

import numpy as np
import pytest

import nbconv as nb

BACKENDS = ["reference", "cpu"]

# Layer, the shape of an input, the shape it gives, multiply-adds, repr.
LAYERS = [
    (nb.Conv2d(4, 8, 3), (2, 4, 9, 7), (2, 8, 7, 5), 2 * 8 * 7 * 5 * 4 * 9, "Conv2d(4, 8, 3)"),
    (
        nb.Conv2d(4, 8, (3, 1), 2, "valid", groups=2, bias=False),
        (2, 4, 9, 7),
        (2, 8, 4, 4),
        2 * 8 * 4 * 4 * 2 * 3,
        "Conv2d(4, 8, (3, 1), stride=2, padding='valid', groups=2, bias=False)",
    ),
    (
        nb.Conv2d(4, 4, 3, padding="same", dilation=(2, 3)),
        (1, 4, 5, 6),
        (1, 4, 5, 6),
        4 * 5 * 6 * 4 * 9,
        "Conv2d(4, 4, 3, padding='same', dilation=(2, 3))",
    ),
    (nb.Dense(6, 5), (3, 6), (3, 5), 90, "Dense(6, 5)"),
    (nb.Dense(6, 5, bias=False), (3, 6), (3, 5), 90, "Dense(6, 5, bias=False)"),
    (nb.MaxPool2d(2), (2, 4, 9, 7), (2, 4, 4, 3), 0, "MaxPool2d(2, stride=2)"),
    (
        nb.MaxPool2d(3, 2, padding=1, ceil_mode=True),
        (2, 4, 8, 8),
        (2, 4, 5, 5),
        0,
        "MaxPool2d(3, stride=2, padding=1, ceil_mode=True)",
    ),
    (nb.AvgPool2d((2, 3), 1), (2, 4, 9, 7), (2, 4, 8, 5), 0, "AvgPool2d((2, 3), stride=1)"),
    (
        nb.AvgPool2d(2, count_include_pad=False, divisor_override=3),
        (2, 4, 4, 4),
        (2, 4, 2, 2),
        0,
        "AvgPool2d(2, stride=2, count_include_pad=False, divisor_override=3)",
    ),
    (nb.AdaptiveAvgPool2d((None, 2)), (2, 4, 9, 7), (2, 4, 9, 2), 0, "AdaptiveAvgPool2d((None, 2))"),
    (nb.AdaptiveAvgPool2d(1), (2, 4, 9, 7), (2, 4, 1, 1), 0, "AdaptiveAvgPool2d(1)"),
    (nb.BatchNorm2d(4), (2, 4, 9, 7), (2, 4, 9, 7), 0, "BatchNorm2d(4)"),
    (
        nb.BatchNorm2d(4, eps=0.1, momentum=None, affine=False),
        (2, 4, 9, 7),
        (2, 4, 9, 7),
        0,
        "BatchNorm2d(4, eps=0.1, momentum=None, affine=False)",
    ),
    (nb.Flatten(), (2, 4, 3, 2), (2, 24), 0, "Flatten()"),
    (nb.Dropout(), (2, 4), (2, 4), 0, "Dropout()"),
    (nb.Dropout(0.2), (2, 4, 3, 2), (2, 4, 3, 2), 0, "Dropout(p=0.2)"),
    (nb.ReLU(), (2, 4, 3, 2), (2, 4, 3, 2), 0, "ReLU()"),
    (nb.LeakyReLU(0.1), (2, 4), (2, 4), 0, "LeakyReLU(negative_slope=0.1)"),
    (nb.ELU(), (2, 4, 3, 2), (2, 4, 3, 2), 0, "ELU()"),
    (nb.Sigmoid(), (2, 4), (2, 4), 0, "Sigmoid()"),
    (nb.Tanh(), (2, 4, 3), (2, 4, 3), 0, "Tanh()"),
    (nb.Softmax(), (2, 4, 3, 2), (2, 4, 3, 2), 0, "Softmax()"),
    (
        nb.Conv2d(4, 6, 3, padding=(1, 2), padding_mode="reflect"),
        (2, 4, 9, 8),
        (2, 6, 9, 10),
        2 * 9 * 10 * 6 * 36,
        "Conv2d(4, 6, 3, padding=(1, 2), padding_mode='reflect')",
    ),
    (
        nb.Conv2d(4, 2, 3, padding=1, padding_mode="constant", padding_value=0.5),
        (2, 4, 9, 8),
        (2, 2, 9, 8),
        2 * 9 * 8 * 2 * 36,
        "Conv2d(4, 2, 3, padding=1, padding_mode='constant', padding_value=0.5)",
    ),
    (
        nb.ConvTranspose2d(4, 6, 3, 2, padding=1, output_padding=1, groups=2),
        (2, 4, 5, 4),
        (2, 6, 10, 8),
        2 * 5 * 4 * 4 * 27,
        "ConvTranspose2d(4, 6, 3, stride=2, padding=1, output_padding=1, groups=2)",
    ),
    (nb.GlobalAvgPool2d(), (2, 4, 9, 7), (2, 4), 0, "GlobalAvgPool2d()"),
    (nb.GlobalAvgPool2d(True), (2, 4, 9, 7), (2, 4, 1, 1), 0, "GlobalAvgPool2d(keepdims=True)"),
    (nb.Pad2d(2), (2, 4, 9, 7), (2, 4, 13, 11), 0, "Pad2d(2)"),
    (nb.Pad2d((2, 1), value=1.5), (2, 4, 9, 7), (2, 4, 13, 9), 0, "Pad2d((2, 1), value=1.5)"),
    (
        nb.Pad2d(((1, 2), (0, 3)), "circular"),
        (2, 4, 9, 7),
        (2, 4, 12, 10),
        0,
        "Pad2d(((1, 2), (0, 3)), mode='circular')",
    ),
    (nb.Upsample(6), (2, 4, 9, 7), (2, 4, 6, 6), 0, "Upsample(size=6)"),
    (
        nb.Upsample(None, (2, 1.5), "bilinear", True),
        (2, 4, 9, 7),
        (2, 4, 18, 10),
        0,
        "Upsample(scale_factor=(2.0, 1.5), mode='bilinear', align_corners=True)",
    ),
    (nb.Dropout2d(0.2), (2, 4, 3, 2), (2, 4, 3, 2), 0, "Dropout2d(p=0.2)"),
    (nb.Maxout(), (2, 4, 3, 2), (2, 2, 3, 2), 0, "Maxout()"),
    (nb.Maxout(4), (2, 4), (2, 1), 0, "Maxout(pieces=4)"),
    (nb.GroupNorm(2, 4), (2, 4, 3, 2), (2, 4, 3, 2), 0, "GroupNorm(2, 4)"),
    (nb.GroupNorm(4, 4, 0.1, False), (2, 4, 3, 2), (2, 4, 3, 2), 0, "GroupNorm(4, 4, eps=0.1, affine=False)"),
    (nb.LayerNorm(4), (2, 4), (2, 4), 0, "LayerNorm((4,))"),
    (nb.LayerNorm([3, 2], bias=False), (2, 4, 3, 2), (2, 4, 3, 2), 0, "LayerNorm((3, 2), bias=False)"),
    (nb.LocalResponseNorm(5, k=2), (2, 4, 3, 2), (2, 4, 3, 2), 0, "LocalResponseNorm(5, k=2.0)"),
    (nb.SubtractiveNorm(), (2, 4, 3, 2), (2, 4, 3, 2), 0, "SubtractiveNorm()"),
    (
        nb.DivisiveNorm(3, 1.0, 0.1),
        (2, 4, 3, 2),
        (2, 4, 3, 2),
        0,
        "DivisiveNorm(kernel_size=3, sigma=1.0, eps=0.1)",
    ),
    (nb.ContrastNorm(5, 2.0), (2, 4, 3, 2), (2, 4, 3, 2), 0, "ContrastNorm(kernel_size=5, sigma=2.0)"),
    (nb.PReLU(), (2, 4), (2, 4), 0, "PReLU()"),
    (nb.PReLU(4, 0.1), (2, 4, 3, 2), (2, 4, 3, 2), 0, "PReLU(num_parameters=4, init=0.1)"),
    (nb.SELU(), (2, 4, 3, 2), (2, 4, 3, 2), 0, "SELU()"),
    (nb.GELU("tanh"), (2, 4, 3, 2), (2, 4, 3, 2), 0, "GELU(approximate='tanh')"),
    (nb.SiLU(), (2, 4, 3, 2), (2, 4, 3, 2), 0, "SiLU()"),
    (nb.Hardswish(), (2, 4, 3, 2), (2, 4, 3, 2), 0, "Hardswish()"),
    (nb.Softplus(2.0), (2, 4, 3, 2), (2, 4, 3, 2), 0, "Softplus(beta=2.0)"),
    (nb.LogSoftmax(-1), (2, 4, 3, 2), (2, 4, 3, 2), 0, "LogSoftmax(dim=-1)"),
    (
        nb.Sequential(nb.Conv2d(3, 2, 3), nb.Flatten()),
        (2, 3, 5, 4),
        (2, 12),
        2 * 2 * 6 * 27,
        "Sequential(\n  (0): Conv2d(3, 2, 3)\n  (1): Flatten()\n)",
    ),
]
IDS = [type(row[0]).__name__ for row in LAYERS]


def inputs(shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape, np.float32)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(("layer", "shape", "expected", "macs", "text"), LAYERS, ids=IDS)
def test_shapes_multiply_adds_and_repr(layer, shape, expected, macs, text, backend):
    layer.to(backend)
    assert layer.output_shape(shape) == expected
    assert layer.macs(shape) == macs
    assert repr(layer) == text
    for y in (layer(inputs(shape)), layer.forward(inputs(shape), training=True)[0]):
        assert y.shape == expected
        assert y.dtype == np.float32


@pytest.mark.parametrize(("layer", "shape"), [row[:2] for row in LAYERS], ids=IDS)
def test_a_layer_is_rebuilt_from_its_configuration(layer, shape):
    again = type(layer).from_config(layer.config()).to("reference")
    assert repr(again) == repr(layer)
    again.load_state_dict(layer.state_dict())
    np.testing.assert_array_equal(again(inputs(shape)), layer.to("reference")(inputs(shape)))


@pytest.mark.parametrize("copier", [copy.deepcopy, lambda layer: pickle.loads(pickle.dumps(layer))])
def test_layers_can_be_copied(copier):
    model = nb.Sequential(nb.BatchNorm2d(2), nb.ReLU(), nb.Dropout(), backend="reference", seed=0)
    x = inputs((3, 2, 4, 4))
    before = model(x)
    again = copier(model)
    again[0].weight.data[:] = 5
    np.testing.assert_array_equal(model(x), before)
    assert (again(x) != before).any()


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(("layer", "shape"), [row[:2] for row in LAYERS], ids=IDS)
def test_an_input_gradient_that_is_not_wanted_is_not_computed(layer, shape, backend):
    layer.to(backend)
    y, backprop = layer.forward(inputs(shape), input_grad=False)
    assert backprop(np.ones_like(y)) is None
    assert all(parameter.grad is not None for parameter in layer.parameters())


@pytest.mark.parametrize("layer", [nb.Conv2d(4, 3, 3), nb.Dense(4, 3), nb.BatchNorm2d(4)], ids=repr)
def test_frozen_parameters_get_no_gradient(layer):
    layer.to("reference").requires_grad_(False)
    assert not layer.is_trainable
    x = inputs((2, 4) if isinstance(layer, nb.Dense) else (2, 4, 5, 5))
    y, backprop = layer.forward(x)
    assert backprop(np.ones_like(y)).shape == x.shape
    assert layer.weight.grad is None
    assert layer.bias.grad is None
    layer.bias.requires_grad = True
    _, backprop = layer.forward(x)
    backprop(np.ones_like(y))
    assert layer.weight.grad is None
    assert layer.bias.grad.shape == layer.bias.shape


@pytest.mark.parametrize("backend", BACKENDS)
def test_empty_batches_pass(backend):
    model = nb.Sequential(
        nb.Conv2d(3, 4, 3),
        nb.BatchNorm2d(4),
        nb.ReLU(),
        nb.MaxPool2d(2),
        nb.AvgPool2d(2),
        nb.AdaptiveAvgPool2d(1),
        nb.Flatten(),
        nb.Dense(4, 5),
        nb.Softmax(),
        backend=backend,
    )
    x = inputs((0, 3, 12, 12))
    assert model(x).shape == (0, 5)
    assert model.predict(x).shape == (0, 5)
    y, backprop = model.forward(x)
    assert backprop(np.ones_like(y)).shape == x.shape
    assert all((parameter.grad == 0).all() for parameter in model.parameters())


def test_a_model_that_sees_many_shapes_remembers_few():
    layer = nb.ReLU().to("reference")
    for size in range(600):
        layer(np.ones((1, size), np.float32))
    assert len(layer._accepted) <= 256


def test_float64_stays_float64_all_the_way():
    model = nb.Sequential(nb.Conv2d(1, 2, 3), nb.BatchNorm2d(2), backend="reference", dtype="float64")
    y, backprop = model.forward(inputs((2, 1, 5, 5)), training=True)
    dx = backprop(np.ones_like(y))
    arrays = [y, dx, *model.state_dict().values(), *(p.grad for p in model.parameters())]
    assert {array.dtype for array in arrays} == {np.dtype(np.float64)}


@pytest.mark.parametrize(
    "layout", ["channels-first", "channels-last", "strided", "float64", "list", "big-endian"]
)
def test_any_layout_of_an_input_gives_the_same(layout):
    x = inputs((2, 3, 6, 5))
    layer = nb.Conv2d(3, 4, 3).to("reference")
    given = {
        "channels-first": x,
        "channels-last": np.ascontiguousarray(x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2),
        "strided": np.repeat(x, 2, axis=3)[..., ::2],
        "float64": x.astype(np.float64),
        "list": x.tolist(),
        "big-endian": x.astype(">f4"),
    }[layout]
    y = layer(given)
    np.testing.assert_array_equal(y, layer(x))
    assert y.dtype == np.float32


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("momentum", [0.1, 0.7, None])
def test_running_statistics_are_those_of_pytorch(backend, momentum):
    torch = pytest.importorskip("torch")
    ours = nb.BatchNorm2d(3, momentum=momentum).to(backend)
    theirs = torch.nn.BatchNorm2d(3, momentum=momentum)
    for seed in range(4):
        x = inputs((4, 3, 5, 6), seed) * 3 + 10
        y, _ = ours.forward(x, training=True)
        np.testing.assert_allclose(y, theirs(torch.tensor(x)).detach(), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(ours.running_mean, theirs.running_mean, rtol=1e-5)
    np.testing.assert_allclose(ours.running_var, theirs.running_var, rtol=1e-5)
    np.testing.assert_allclose(ours(x), theirs.eval()(torch.tensor(x)).detach(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("momentum", [1.0, None])
def test_the_first_batchs_statistics_replace_those_before(backend, momentum):
    """Of a variance of 1e-8 after the initial 1, that is digits behind the last one of 1."""
    layer = nb.BatchNorm2d(3, momentum=momentum).to(backend)
    layer.running_mean += 1000
    x = inputs((4, 3, 5, 6)) * np.float32(1e-4)
    layer.forward(x, training=True)
    exact = x.astype(np.float64)
    np.testing.assert_allclose(layer.running_var, exact.var(axis=(0, 2, 3), ddof=1), rtol=1e-6)
    np.testing.assert_allclose(layer.running_mean, exact.mean(axis=(0, 2, 3)), rtol=1e-5)


@pytest.mark.parametrize("momentum", [0.5, 0.1, 0.001])
def test_running_statistics_of_equal_batches_come_to_theirs(momentum):
    layer = nb.BatchNorm2d(3, momentum=momentum).to("reference")
    x = inputs((4, 3, 5, 6)) + 10
    exact = x.astype(np.float64).mean(axis=(0, 2, 3)), x.astype(np.float64).var(axis=(0, 2, 3), ddof=1)
    layer.running_mean, layer.running_var = (value.astype(np.float32) for value in exact)
    for _ in range(round(3 / momentum)):
        layer.forward(x, training=True)
    np.testing.assert_allclose(layer.running_mean, exact[0], rtol=2e-6)
    np.testing.assert_allclose(layer.running_var, exact[1], rtol=2e-6)


def test_evaluation_leaves_the_running_statistics_alone():
    layer = nb.BatchNorm2d(3).to("reference")
    layer(inputs((4, 3, 5, 6)))
    layer.forward(inputs((4, 3, 5, 6)), training=False)
    assert (layer.running_mean == 0).all()
    assert (layer.running_var == 1).all()


def test_untracked_statistics_are_the_batchs_even_in_evaluation():
    layer = nb.BatchNorm2d(3, track_running_stats=False).to("reference")
    x = inputs((4, 3, 5, 6)) * 3 + 10
    assert layer.running_mean is None
    assert list(layer.state_dict()) == ["weight", "bias"]
    np.testing.assert_allclose(layer(x), layer.forward(x, training=True)[0])
    assert np.abs(layer(x).mean(axis=(0, 2, 3))).max() < 1e-5


@pytest.mark.parametrize("backend", BACKENDS)
def test_dropout_keeps_the_expectation(backend):
    layer = nb.Dropout(0.3).to(backend)
    layer.seed = 1
    x = np.ones((8, 50, 50), np.float32)
    y, _ = layer.forward(x, training=True)
    assert set(np.unique(y)) == {np.float32(0), np.float32(1 / 0.7)}
    assert (y == 0).mean() == pytest.approx(0.3, abs=0.01)
    assert y.mean() == pytest.approx(1, abs=0.02)
    other, _ = layer.forward(x, training=True)
    assert (other != y).any()
    np.testing.assert_array_equal(layer(x), x)


def test_dropout_drops_all_or_nothing_at_the_ends():
    x = inputs((3, 4))
    assert (nb.Dropout(1.0).to("reference").forward(x, training=True)[0] == 0).all()
    np.testing.assert_array_equal(nb.Dropout(0.0).to("reference").forward(x, training=True)[0], x)


def test_parameters_move_between_dtypes():
    layer = nb.BatchNorm2d(2).to("reference")
    layer.weight.data = [1.5, 2.5]
    layer.forward(inputs((3, 2, 2, 2)), training=True)[1](np.ones((3, 2, 2, 2), np.float32))
    layer.to(dtype="float64")
    assert layer.weight.data.dtype == layer.weight.grad.dtype == layer.running_var.dtype == np.float64
    assert layer.weight.data.tolist() == [1.5, 2.5]


def test_assigned_values_are_copied():
    values = np.ones((2, 3), np.float32)
    layer = nb.Dense(3, 2)
    layer.weight.data = values
    values[:] = 7
    assert (layer.weight.data == 1).all()
    with pytest.raises(ValueError, match=r"expected values of shape \(2, 3\), got shape \(3, 2\)"):
        layer.weight.data = values.T


class _Scale(nb.Layer):
    """A user's own layer."""

    def __init__(self, factor: float = 2.0) -> None:
        self.factor = factor
        self.weight = nb.Parameter((1,), nb.initializers.ones())

    def output_shape(self, input_shape):
        return input_shape

    def forward(self, x, training=False, *, input_grad=True):
        weight = self.weight.data * np.float32(self.factor)

        def backprop(dy):
            self.weight.accumulate(np.sum(dy * x * np.float32(self.factor), keepdims=True).reshape(1))
            return dy * weight

        return x * weight, backprop


def test_a_layer_of_ones_own_fits_in(tmp_path):
    model = nb.Sequential(_Scale(3.0), nb.ReLU(), backend="reference")
    x = inputs((2, 5))
    np.testing.assert_allclose(model(x), np.maximum(3 * x, 0))
    y, backprop = model.forward(x)
    backprop(np.ones_like(y))
    assert dict(model.named_parameters())["0.weight"].grad.shape == (1,)
    model.save(tmp_path / "own.safetensors")
    again = nb.load(tmp_path / "own.safetensors", backend="reference")
    assert repr(again[0]) == "_Scale(factor=3.0)"
    np.testing.assert_array_equal(again(x), model(x))
