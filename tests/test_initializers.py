import math

import numpy as np
import pytest

import nbconv as nb
from nbconv import initializers

SHAPE = (64, 32, 3, 3)  # fan_in 288, fan_out 576
FAN_IN, FAN_OUT = 288, 576


def draw(initializer, shape=SHAPE, seed=0):
    return initializer(shape, np.random.default_rng(seed))


@pytest.mark.parametrize(
    ("initializer", "bound"),
    [
        (initializers.uniform(-0.5, 0.5), 0.5),
        (initializers.kaiming_uniform(), math.sqrt(6 / FAN_IN)),
        (initializers.kaiming_uniform(mode="fan_out", nonlinearity="relu"), math.sqrt(6 / FAN_OUT)),
        (initializers.kaiming_uniform(a=math.sqrt(5)), 1 / math.sqrt(FAN_IN)),
        (initializers.kaiming_uniform(nonlinearity="tanh"), 5 / 3 * math.sqrt(3 / FAN_IN)),
        (initializers.xavier_uniform(), math.sqrt(6 / (FAN_IN + FAN_OUT))),
        (initializers.glorot_uniform(gain=2), 2 * math.sqrt(6 / (FAN_IN + FAN_OUT))),
    ],
)
def test_uniform_ones_fill_their_interval(initializer, bound):
    values = draw(initializer)
    assert values.dtype == np.float32
    assert values.shape == SHAPE
    assert np.abs(values).max() <= bound * (1 + 1e-6)
    assert values.min() < -0.99 * bound
    assert values.max() > 0.99 * bound
    assert abs(values.mean()) < 0.02 * bound


@pytest.mark.parametrize(
    ("initializer", "std"),
    [
        (initializers.normal(0, 0.3), 0.3),
        (initializers.kaiming_normal(), math.sqrt(2 / FAN_IN)),
        (initializers.kaiming_normal(mode="fan_out"), math.sqrt(2 / FAN_OUT)),
        (initializers.kaiming_normal(a=0.5), math.sqrt(2 / 1.25 / FAN_IN)),
        (initializers.kaiming_normal(nonlinearity="linear"), math.sqrt(1 / FAN_IN)),
        (initializers.xavier_normal(), math.sqrt(2 / (FAN_IN + FAN_OUT))),
        (initializers.glorot_normal(gain=0.5), 0.5 * math.sqrt(2 / (FAN_IN + FAN_OUT))),
    ],
)
def test_normal_ones_have_their_deviation(initializer, std):
    values = draw(initializer)
    assert values.dtype == np.float32
    assert values.std() == pytest.approx(std, rel=0.02)
    assert abs(values.mean()) < 0.02 * std
    assert np.abs(values).max() > 3.5 * std


def test_constants():
    assert (draw(initializers.zeros()) == 0).all()
    assert (draw(initializers.ones()) == 1).all()
    assert (draw(initializers.constant(0.25)) == 0.25).all()


@pytest.mark.parametrize("shape", [SHAPE, (10, 20)])
def test_fans_and_gains_are_those_of_pytorch(shape):
    init = pytest.importorskip("torch.nn.init")
    torch = pytest.importorskip("torch")
    assert initializers.fans(shape) == init._calculate_fan_in_and_fan_out(torch.empty(shape))
    for name in ("linear", "conv2d", "sigmoid", "tanh", "relu", "selu"):
        assert initializers.calculate_gain(name) == init.calculate_gain(name)
    assert initializers.calculate_gain("leaky_relu", 0.2) == init.calculate_gain("leaky_relu", 0.2)


@pytest.mark.parametrize(
    "layer",
    [nb.Conv2d(32, 64, 3), nb.Conv2d(32, 64, 3, groups=4), nb.Dense(200, 300)],
    ids=["conv", "grouped", "dense"],
)
def test_layers_start_as_in_pytorch(layer):
    bound = 1 / math.sqrt(math.prod(layer.weight.shape[1:]))
    for parameter in (layer.weight, layer.bias):
        largest = np.abs(parameter.data).max()
        assert 0.9 * bound < largest <= bound * (1 + 1e-6)


def test_batch_norm_starts_as_the_identity():
    layer = nb.BatchNorm2d(3)
    assert layer.weight.data.tolist() == [1, 1, 1]
    assert layer.bias.data.tolist() == [0, 0, 0]


def test_a_layer_can_be_told_how_to_start():
    layer = nb.Dense(3, 2, weight_init=initializers.constant(2), bias_init=initializers.ones())
    assert (layer.weight.data == 2).all()
    assert (layer.bias.data == 1).all()
    own = nb.Conv2d(1, 1, 2, bias=False, weight_init=lambda shape, rng: np.arange(4.0).reshape(shape))
    assert own.weight.data.ravel().tolist() == [0, 1, 2, 3]


def test_seeds_make_the_first_values_repeatable():
    def weights(seed):
        return [p.data for p in nb.models.lenet5(seed=seed).parameters()]

    for first, again, other in zip(weights(1), weights(1), weights(2), strict=True):
        np.testing.assert_array_equal(first, again)
        assert (first != other).any()


def test_without_a_seed_every_model_is_another():
    assert (nb.Dense(9, 9).weight.data != nb.Dense(9, 9).weight.data).any()


def test_the_first_values_do_not_depend_on_who_asks_first():
    def model():
        return nb.Sequential(nb.Dense(3, 4), nb.Dense(4, 5), seed=7)

    forwards, backwards = model(), model()
    first = [p.data for p in forwards.parameters()]
    last = [p.data for p in reversed(backwards.parameters())][::-1]
    for a, b in zip(first, last, strict=True):
        np.testing.assert_array_equal(a, b)


def test_no_two_parameters_draw_the_same():
    model = nb.Sequential(nb.Dense(5, 5, bias=False), nb.Dense(5, 5, bias=False), seed=0)
    assert (model[0].weight.data != model[1].weight.data).all()


def test_values_the_user_has_set_survive_a_seed():
    layer = nb.Dense(2, 2)
    layer.weight.data = [[1, 2], [3, 4]]
    nb.Sequential(layer, seed=0)
    assert layer.weight.data.tolist() == [[1, 2], [3, 4]]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: initializers.calculate_gain("step"), "unknown nonlinearity 'step'"),
        (lambda: initializers.fans((3,)), r"at least two axes, got shape \(3,\)"),
        (lambda: draw(initializers.kaiming_normal(mode="fan")), 'mode must be "fan_in" or "fan_out"'),
        (
            lambda: nb.Dense(3, 2, weight_init=lambda shape, rng: np.zeros(3)).weight.data,
            r"gave shape \(3,\), expected \(2, 3\)",
        ),
    ],
)
def test_mistakes_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
