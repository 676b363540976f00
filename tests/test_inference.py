"""Evaluation with fused layers gives what the layers give one by one, and never from weights of the past."""

import copy
import gc
import pickle
import threading

import numpy as np
import pytest

import nbconv as nb
from nbconv.inference.steps import ConcatStep, ConvStep, SumStep

BACKENDS = ["cpu", "reference"]
RNG = np.random.default_rng


def images(*shape, dtype=np.float32):
    return RNG(0).standard_normal(shape).astype(dtype)


def norm(channels, gain=1):
    """A BatchNorm2d whose statistics are not those of its beginning."""
    layer = nb.BatchNorm2d(channels)
    rng = RNG(channels)
    layer.running_mean = rng.standard_normal(channels).astype(np.float32)
    layer.running_var = rng.uniform(0.5, 2, channels).astype(np.float32)
    layer.weight.data = gain * rng.uniform(0.5, 2, channels)
    layer.bias.data = rng.standard_normal(channels)
    return layer


def conv(in_channels, out_channels, kernel=3, **options):
    return nb.Conv2d(in_channels, out_channels, kernel, padding=kernel // 2, **options)


def block(channels, activation=None, shortcut=None):
    body = nb.Sequential(
        conv(channels, channels), norm(channels), nb.ReLU(), conv(channels, channels), norm(channels)
    )
    return nb.Residual(body, shortcut, activation)


def projection():
    return nb.Sequential(conv(5, 5, 1, bias=False), norm(5))


# Layers on an input (2, 5, 9, 8), and how many steps they become.
MODELS = {
    "convolution and ReLU": (lambda: [conv(5, 7), nb.ReLU()], 1),
    "convolution, normalisation and ReLU6": (lambda: [conv(5, 7, bias=False), norm(7), nb.ReLU6()], 1),
    "normalisation without weights": (lambda: [conv(5, 7), nb.BatchNorm2d(7, affine=False)], 1),
    "normalisation by the batch": (lambda: [conv(5, 7), nb.BatchNorm2d(7, track_running_stats=False)], 2),
    "nested": (lambda: [nb.Sequential(conv(5, 7)), nb.Sequential(norm(7), nb.Sequential(nb.ReLU()))], 1),
    "depthwise": (lambda: [conv(5, 5, groups=5), norm(5), nb.ReLU6(), conv(5, 9, 1), nb.ReLU()], 2),
    "padded by reflection": (lambda: [conv(5, 7, padding_mode="reflect"), norm(7), nb.ReLU()], 1),
    "another activation": (lambda: [conv(5, 7), norm(7), nb.Tanh()], 2),
    "two activations": (lambda: [conv(5, 7), nb.ReLU(), nb.ReLU6()], 2),
    "residual of the input": (lambda: [block(5, nb.ReLU())], 4),
    "residual": (lambda: [conv(5, 5), block(5, nb.ReLU()), block(5)], 7),
    "residual, ReLU6": (lambda: [conv(5, 5), block(5, nb.ReLU6())], 4),
    "residual, Tanh": (lambda: [conv(5, 5), block(5, nb.Tanh())], 5),
    "residual with a projection": (lambda: [block(5, nb.ReLU(), projection())], 4),
    "residual in a residual": (
        lambda: [conv(5, 5), nb.Residual(nb.Sequential(block(5), conv(5, 5)), None)],
        7,
    ),
    "residual around an activation": (
        lambda: [conv(5, 5), nb.Residual(nb.Sequential(conv(5, 5), nb.ReLU()))],
        4,
    ),
    "residual around nothing": (lambda: [conv(5, 5), nb.Residual(nb.Sequential())], 3),
    "residual around a convolution": (lambda: [conv(5, 40, 1), nb.Residual(conv(40, 40, 1))], 4),
    "residual behind dropout": (lambda: [conv(5, 5), nb.Dropout(), block(5), nb.Dropout()], 4),
    "concat": (
        lambda: [nb.Concat(conv(5, 3), nb.Sequential(conv(5, 4, 1), norm(4), nb.ReLU())), conv(7, 2)],
        4,
    ),
    "concat with a pool": (lambda: [nb.Concat(conv(5, 3), nb.MaxPool2d(3, 1, 1))], 4),
    "concat of one": (lambda: [nb.Concat(conv(5, 3))], 2),
    "concat of the input": (lambda: [nb.Concat(nb.Sequential(), nb.Sequential())], 2),
    "residuals side by side": (lambda: [conv(5, 5), nb.Concat(block(5), block(5, nb.ReLU()))], 10),
    "flat branches": (lambda: [nb.Flatten(), nb.Concat(nb.Dense(360, 3), nb.Dense(360, 2)), nb.ReLU()], 6),
    "dense block": (lambda: [nb.DenseBlock(nb.Sequential(norm(5), nb.ReLU(), conv(5, 3)), conv(8, 3))], 1),
    "nothing": (list, 0),
}


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", MODELS)
def test_fused_is_what_the_layers_give(backend, dtype, name):
    make, steps = MODELS[name]
    model = nb.Sequential(*make(), backend=backend, seed=0, dtype=dtype)
    x = images(2, 5, 9, 8, dtype=dtype)
    before = x.copy()
    fused, again = model(x), model(x)
    assert len(model.plan().steps) == steps
    model.fuses = False
    expected = model(x)
    limit = 1e-6 if dtype == np.float32 else 1e-14
    assert np.linalg.norm(fused - expected) <= limit * np.linalg.norm(expected)
    np.testing.assert_array_equal(again, fused)
    np.testing.assert_array_equal(x, before)
    np.testing.assert_array_equal(model.forward(x)[0], expected)


def test_what_is_fused():
    kinds = [type(step) for step in nb.Sequential(conv(5, 5), block(5, nb.ReLU())).plan().steps]
    assert kinds.count(ConvStep) == 3
    assert SumStep not in kinds
    kinds = [type(step) for step in nb.Sequential(nb.Concat(conv(5, 3), conv(5, 4))).plan().steps]
    assert ConcatStep not in kinds


class Recorder(nb.Layer):
    """Holds on to its input and returns it."""

    def output_shape(self, input_shape):
        return input_shape

    def infer(self, x):
        self.seen = x
        return x


def test_what_a_layer_of_ones_own_holds_is_not_written_over():
    recorder = Recorder()
    model = nb.Sequential(conv(5, 5), recorder, block(5, nb.ReLU()), nb.Residual(conv(5, 5)), seed=0)
    x = images(1, 5, 6, 6)
    y = model(x)
    np.testing.assert_array_equal(recorder.seen, model[0](x))
    model.fuses = False
    np.testing.assert_allclose(y, model(x), rtol=1e-4, atol=1e-5)


def batch_normed(seed=0):
    return nb.Sequential(conv(5, 32), norm(32), nb.ReLU(), conv(32, 32), norm(32), nb.ReLU(), seed=seed)


def plainly(model, x):
    twin = copy.deepcopy(model)
    twin.fuses = False
    return twin(x)


CHANGES = {
    "a weight in place": lambda m: m[0].weight.data.__setitem__(0, 3.0),
    "a bias in place": lambda m: m[0].bias.data.__iadd__(1),
    "through numpy()": lambda m: m[3].weight.numpy().fill(0.25),
    "through a view of a view": lambda m: m[3].weight.data.reshape(-1)[5:9].fill(7),
    "a scale in place": lambda m: m[1].weight.data.__imul__(2),
    "a shift": lambda m: setattr(m[4].bias, "data", np.ones(32)),
    "a running mean in place": lambda m: m[1].running_mean.__iadd__(0.5),
    "a running variance": lambda m: setattr(m[4], "running_var", np.full(32, 3, np.float32)),
    "eps": lambda m: setattr(m[1], "eps", 0.5),
    "a parameter": lambda m: setattr(
        m[3], "weight", copy.deepcopy(nb.Sequential(conv(32, 32), seed=5)[0].weight)
    ),
    "a state dict": lambda m: m.load_state_dict(batch_normed(seed=9).state_dict()),
    "a layer": lambda m: m.__setitem__(2, nb.Tanh()),
    "a layer, in the list itself": lambda m: m.layers.__setitem__(5, nb.Tanh()),
    "one layer more": lambda m: m.append(nb.Sigmoid()),
    "one layer less": lambda m: m.__delitem__(1),
    "a step of training": lambda m: train(m),
}


def train(model):
    y, backprop = model.forward(images(2, 5, 6, 6), training=True)
    backprop(np.ones_like(y))
    nb.SGD(model.parameters(), lr=0.1).step()


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_after_a_prediction_counts(change):
    model, x = batch_normed(), images(2, 5, 6, 6)
    for _ in range(2):
        before = model(x)
    CHANGES[change](model)
    after = model(x)
    expected = plainly(model, x)
    np.testing.assert_allclose(after, expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())
    assert not np.allclose(before, after, rtol=1e-3)
    np.testing.assert_array_equal(model(x), after)


def test_who_holds_an_array_may_write_to_it_at_any_time():
    model, x = batch_normed(), images(2, 5, 6, 6)
    held = model[0].weight.data
    view = model[3].bias.data[3:5]
    for step in range(4):
        model(x)
        held[step] += 1
        view[:] = step
        np.testing.assert_allclose(model(x), plainly(model, x), rtol=1e-3, atol=1e-3)
    prepared = [step.weights for step in model.plan().steps]
    assert not any(weights.are_kept for weights in prepared)
    del held, view
    gc.collect()
    model(x)
    assert all(weights.are_kept for weights in prepared)


def test_weights_are_prepared_once():
    model = nb.Sequential(conv(128, 256), nb.BatchNorm2d(256), nb.ReLU())  # too large for one call
    x = images(2, 128, 6, 6)
    model(x)
    first = [step.weights.get() for step in model.plan().steps]
    model(x)
    again = [step.weights.get() for step in model.plan().steps]
    assert all(
        a.weight is b.weight and a.kept is b.kept is not None for a, b in zip(first, again, strict=True)
    )
    assert all(weights.kept for weights in first)


def test_the_precision_counts():
    model, x = nb.Sequential(conv(128, 256), seed=0), images(2, 128, 24, 24)  # too large for one call
    fast = model(x)
    nb.set_precision("highest")
    try:
        exact = model(x)
    finally:
        nb.set_precision("high")
    assert not np.array_equal(fast, exact)
    np.testing.assert_array_equal(model(x), fast)


def test_a_model_that_moves_computes_there():
    model, x = batch_normed(), images(2, 5, 6, 6)
    y = model(x)
    for backend in ("reference", "cpu"):
        np.testing.assert_allclose(model.to(backend)(x), y, rtol=1e-3, atol=1e-4)
    assert model.to(dtype=np.float64)(x).dtype == np.float64


@pytest.mark.parametrize("copier", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_a_copy_has_weights_of_its_own(copier):
    model, x = batch_normed(), images(2, 5, 6, 6)
    y = model(x)
    twin = copier(model)
    np.testing.assert_array_equal(twin(x), y)
    twin[0].weight.data[:] = 0
    assert not np.allclose(twin(x), y)
    np.testing.assert_array_equal(model(x), y)


def test_errors_name_the_layer():
    model = nb.Sequential(conv(5, 7), nb.ReLU(), nb.Sequential(conv(6, 7), norm(7)))
    with pytest.raises(nb.LayerError, match=r"Conv2d \(layer 2.0\): expected 6 input channels, got 7"):
        model(images(1, 5, 6, 6))
    with pytest.raises(nb.LayerError, match=r"BatchNorm2d \(layer 1\): expected 8"):
        nb.Sequential(conv(5, 7), norm(8))(images(1, 5, 6, 6))
    model = nb.Sequential(conv(5, 7), nb.Residual(conv(7, 8)))
    with pytest.raises(nb.LayerError, match=r"Residual \(layer 1\): cannot add"):
        model(images(1, 5, 6, 6))
    model = nb.Sequential(nb.Concat(conv(5, 7), nb.Conv2d(5, 7, 3)))
    with pytest.raises(nb.LayerError, match=r"Concat \(layer 0\): branch 1"):
        model(images(1, 5, 6, 6))
    with pytest.raises(nb.LayerError, match=r"Conv2d \(layer 0.0\): expected an input of shape"):
        model(images(3, 5))


def test_threads_share_a_model():
    model = nb.Sequential(
        conv(5, 32), norm(32), nb.ReLU(), block(32, nb.ReLU()), nb.GlobalAvgPool2d(), seed=0
    )
    inputs = [RNG(i).standard_normal((2, 5, 12, 12)).astype(np.float32) for i in range(4)]
    expected = [plainly(model, x) for x in inputs]
    model = copy.deepcopy(model)
    wrong = []

    def predict(x, y):
        outputs = [model(x) for _ in range(20)]
        wrong.extend(output for output in outputs if not np.allclose(output, y, rtol=1e-3, atol=1e-4))

    threads = [threading.Thread(target=predict, args=pair) for pair in zip(inputs, expected, strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_an_empty_batch():
    assert batch_normed()(images(0, 5, 6, 6)).shape == (0, 32, 6, 6)


CHAINS = {
    "LeNet-5": (lambda: nb.models.lenet5(seed=0), (1, 32, 32)),
    "bounds and padding": (
        lambda: nb.Sequential(
            *(conv(3, 20), norm(20), nb.ReLU6(), nb.MaxPool2d(3, 2, 1)),
            *(nb.Conv2d(20, 17, (3, 2), stride=2, dilation=(1, 2), padding=(0, 2)), nb.MaxPool2d(2, 1)),
            *(nb.Flatten(), nb.Dropout(), nb.Dense(17 * 2 * 4, 37), nb.ReLU6(), nb.Dense(37, 3, bias=False)),
            seed=0,
        ),
        (3, 13, 14),
    ),
    "gray images": (
        lambda: nb.Sequential(
            *(nb.Conv2d(1, 11, (3, 2), padding=(2, 1)), norm(11, 10), nb.ReLU6(), nb.MaxPool2d(2)),
            *(nb.Conv2d(11, 3, 3, bias=False), nb.ReLU()),
            seed=0,
        ),
        (1, 12, 73),
    ),
    "gray images, another pool": (
        lambda: nb.Sequential(nb.Conv2d(1, 9, 3), nb.MaxPool2d(2, ceil_mode=True), nb.MaxPool2d(2), seed=0),
        (1, 11, 35),
    ),
    "gray images out": (lambda: nb.Sequential(nb.Conv2d(1, 18, 5), nb.ReLU(), seed=0), (1, 6, 21)),
    "pooled gray images out": (
        lambda: nb.Sequential(nb.Conv2d(1, 3, 4, bias=False), nb.MaxPool2d(2), seed=0),
        (1, 8, 40),
    ),
    "images out": (lambda: nb.Sequential(conv(2, 5), nb.ReLU(), conv(5, 6), seed=0), (2, 7, 6)),
    "dense layers": (lambda: nb.Sequential(nb.Dense(7, 33), nb.ReLU(), nb.Dense(33, 5), seed=0), (7,)),
}


@pytest.mark.parametrize("name", CHAINS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_small_network_is_one_call(name, dtype):
    make, size = CHAINS[name]
    model = make().to(dtype=dtype)
    for batch in (1, 2, 3, 9, 70, 0):
        x = images(batch, *size, dtype=dtype)
        y = model(x)
        small = model.plan()._small
        assert small.run(model.prepare(x)) is not None
        expected = plainly(model, x)
        assert y.shape == expected.shape
        limit = 1e-6 if dtype == np.float32 else 1e-14
        assert np.linalg.norm(y - expected) <= limit * np.linalg.norm(expected)
        np.testing.assert_array_equal(model(x), y)
    x.flags.writeable = False
    model(x)
    x = images(4, *size, dtype=dtype)
    x[1] = np.nan
    bad = np.isnan(model(x)).reshape(4, -1).any(axis=1)
    np.testing.assert_array_equal(bad, [False, True, False, False])


@pytest.mark.parametrize("layer", [1, 3, 7])
def test_a_small_network_sees_changes_in_place(layer):
    model = nb.models.lenet5(seed=0)
    weights = [inner for inner in model if hasattr(inner, "weight")]
    x = images(2, 1, 32, 32)
    model(x)
    held = weights[layer % 5].weight.data
    for _ in range(2):
        held *= 2
        np.testing.assert_allclose(model(x), plainly(model, x), rtol=1e-4, atol=1e-5)
    small = model.plan()._small
    assert not small._chains[1, 32, 32].source.is_current  # made anew as long as somebody holds an array
    del held
    np.testing.assert_allclose(model(x), plainly(model, x), rtol=1e-4, atol=1e-5)
    model(x)
    assert small._chains[1, 32, 32].source.is_current


def test_who_holds_the_weights_of_a_small_network_leaves_its_bits():
    model, x = nb.models.lenet5(seed=0), images(5, 1, 32, 32)
    alone = model(x)
    held = model[0].weight.data
    np.testing.assert_array_equal(model(x), alone)
    assert held is model[0].weight.data


def test_what_is_no_small_network():
    for model in (
        nb.Sequential(conv(5, 5), nb.Tanh()),
        nb.Sequential(conv(5, 5, groups=5)),
        nb.Sequential(conv(5, 5), nb.Flatten()),
        nb.Sequential(nb.ReLU()),
        nb.Sequential(),
        nb.Sequential(conv(5, 600, 1), nb.ReLU(), conv(600, 600, 3)),
        nb.Sequential(conv(5, 5), backend="reference"),
    ):
        x = images(1, 5, 8, 8)
        np.testing.assert_allclose(model(x), plainly(model, x), rtol=1e-4, atol=1e-5)
        small = model.plan()._small
        assert small is None or small.run(model.prepare(x)) is None


def test_the_plan_can_be_looked_at():
    model = nb.Sequential(conv(32, 32), norm(32), nb.ReLU(), conv(32, 32, groups=32), nb.Flatten(), seed=0)
    table = nb.inspect.plan(model, (32, 24, 24), batch_size=2)
    assert [row.positions for row in table.rows] == [("0", "1", "2"), ("3",), ("4",)]
    assert [row.algorithm for row in table.rows] == ["winograd", "depthwise", "Flatten"]
    assert table.rows[0].layers == ("Conv2d", "BatchNorm2d", "ReLU")
    assert table.rows[0].output_shape == (2, 32, 24, 24)
    assert table.rows[0].flops == 2 * 2 * 24 * 24 * 32 * 32 * 9
    assert table.rows[0].bytes == 4 * (2 * 2 * 32 * 24 * 24 + 32 * 32 * 9 + 32 + 64)
    lines = str(table).splitlines()
    assert lines[0] == "input 2 x 32 x 24 x 24"
    assert lines[3].startswith("0 Conv2d + BatchNorm2d + ReLU  winograd ")
    nb.set_precision("highest")
    try:
        assert nb.inspect.plan(model, (32, 24, 24)).rows[0].algorithm == "direct"
    finally:
        nb.set_precision("high")
    model = nb.Sequential(
        nb.Concat(conv(5, 3), conv(5, 4)), nb.Residual(nb.Sequential(conv(7, 7), conv(7, 7)))
    )
    rows = nb.inspect.plan(model, (5, 6, 6)).rows
    assert [row.output_shape for row in rows] == [(1, 3, 6, 6), (1, 4, 6, 6), (1, 7, 6, 6), (1, 7, 6, 6)]
    assert rows[3].layers == ("Conv2d", "Residual")
    with pytest.raises(nb.LayerError, match="layer 0"):
        nb.inspect.plan(model, (4, 6, 6))


def test_the_summary_tells_what_is_fused():
    rows = nb.Sequential(conv(5, 6), norm(6), nb.ReLU(), nb.Tanh()).summary((5, 6, 6)).rows
    assert [row.fused_into for row in rows] == ["", "0", "0", ""]
