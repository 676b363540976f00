"""Convolutions in one compiled call give the bits that they give one by one, and notice every change."""

import threading

import numpy as np
import pytest

import nbconv as nb
from nbconv.inference.program import ProgramStep
from nbconv_kernels.cpu.program import Program

PAIR = Program.pair
C = 20  # channels: with padding, too many for a tap to span a kernel's row, which no program does


def conv(k=C, kernel=3, channels=C, **options):
    return nb.Conv2d(channels, k, kernel, padding=kernel // 2, **options)


def block(activation=None, shortcut=None, channels=C):
    body = nb.Sequential(conv(channels, channels=channels), nb.ReLU(), conv(channels, channels=channels))
    return nb.Residual(body, shortcut, activation)


class _Half(nb.layers.Layer):
    """Gives half as many rows as it says."""

    def output_shape(self, input_shape):
        return input_shape

    def forward(self, x, training=False, input_grad=True):
        return self.infer(x), lambda dy: dy

    def infer(self, x):
        return x[:, :, ::2].copy()


# Layers on an input (2, 20, 9, 7), and how many of the plan's steps are left as they are.
MODELS = {
    "one by one": (lambda: [conv(33), nb.ReLU(), conv(8, 1, 33), conv(5, channels=8)], 0),
    "depthwise": (lambda: [conv(groups=C), nb.BatchNorm2d(C), nb.ReLU6(), conv(40, 1), nb.ReLU6()], 0),
    "groups and strides": (lambda: [conv(40, groups=4, stride=2), nb.ReLU(), conv(16, 1, 40, stride=2)], 0),
    "winograd": (lambda: [conv(64, 1), conv(64, channels=64), nb.ReLU(), conv(64, channels=64)], 0),
    "residuals": (lambda: [conv(), block(nb.ReLU()), block(), conv(3)], 0),
    "residual of a pool": (lambda: [nb.MaxPool2d(2, 1), block(nb.ReLU()), conv()], 1),
    "residual with a projection": (lambda: [conv(), block(nb.ReLU(), nb.Sequential(conv(kernel=1)))], 0),
    "residual of winograd": (lambda: [conv(64), block(nb.ReLU(), channels=64)], 0),
    "residual of the input": (lambda: [block(nb.ReLU()), conv()], 1),
    "concat": (lambda: [conv(), nb.Concat(conv(3), nb.Sequential(conv(9, 1), nb.ReLU())), conv(4, 1, 12)], 0),
    "concat behind a pool": (
        lambda: [
            nb.Concat(conv(3), nb.Sequential(nb.MaxPool2d(3, 1, 1), conv(9, 1)), conv(4)),
            conv(2, 1, 16),
        ],
        1,
    ),
    "a pool in between": (
        lambda: [conv(), conv(), nb.MaxPool2d(2), nb.ReLU(), conv(), conv(40), nb.Tanh()],
        3,
    ),
    "not a program": (lambda: [conv(padding_mode="reflect"), nb.Conv2d(C, 3, 3), nb.Tanh()], 3),
}


# The same for images of 13 x 33 pixels, where a depthwise convolution and a 1 x 1 one behind it are a pair.
PAIRS = {
    "pair": lambda: [conv(groups=C), nb.BatchNorm2d(C), nb.ReLU6(), conv(40, 1), nb.ReLU6()],
    "pair of two activations": lambda: [conv(groups=C), nb.ReLU(), conv(70, 1), nb.ReLU6()],
    "strided pair": lambda: [
        conv(),
        conv(groups=C, stride=2),
        nb.ReLU(),
        conv(7, 1),
        nb.ReLU(),
        conv(5, 1, 7),
    ],
    "unpadded pair": lambda: [nb.Conv2d(C, C, 3, groups=C), nb.ReLU(), conv(7, 1)],
    "pair at the end of a residual": lambda: [
        conv(),
        nb.Residual(nb.Sequential(conv(), conv(groups=C), conv(kernel=1)), None, nb.ReLU()),
        conv(3),
    ],
    "no pair: it would write over its input": lambda: [
        conv(),
        nb.Residual(nb.Sequential(conv(groups=C), conv(kernel=1))),
        conv(3),
    ],
    "pair in a concat": lambda: [
        nb.Concat(conv(3), nb.Sequential(conv(groups=C), conv(9, 1))),
        conv(2, 1, 12),
    ],
    "no pair: read twice": lambda: [conv(groups=C), nb.Residual(conv(kernel=1)), conv(3)],
}


# First layers, of images of 13 x 33 pixels, and the channels of these.
IMAGES = {
    "strided and padded": (3, lambda: nb.Conv2d(3, 33, 3, stride=2, padding=1)),
    "padded unevenly": (3, lambda: nb.Conv2d(3, 5, (4, 2), padding="same")),
    "not padded": (4, lambda: nb.Conv2d(4, 40, (2, 5))),
    "dilated rows": (2, lambda: nb.Conv2d(2, 9, 3, dilation=(3, 1), padding=(3, 1))),
    "padded beyond the kernel": (2, lambda: nb.Conv2d(2, 9, 2, padding=(3, 5))),
    "pixels that no window reaches": (3, lambda: nb.Conv2d(3, 9, (3, 2), stride=(5, 7))),
    "a window that sees padding only": (2, lambda: nb.Conv2d(2, 9, 3, stride=200, padding=60)),
    "many filters of a gray image": (1, lambda: nb.Conv2d(1, 40, 3, padding=1)),
    "side by side": (3, lambda: nb.Concat(nb.Conv2d(3, 9, 3, padding=1), nb.Conv2d(3, 7, 5, padding=2))),
}


def images(dtype=np.float32, height=9, width=7):
    return np.random.default_rng(0).standard_normal((2, C, height, width)).astype(dtype)


def one_by_one(model, x):
    """The output without programs."""
    plan = model.plan()
    programs, plan._programs = plan._programs, None
    y = model(x)
    plan._programs = programs
    return y


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", MODELS)
def test_a_program_gives_the_same_bits(name, dtype):
    make, left = MODELS[name]
    model = nb.Sequential(*make(), seed=0, dtype=dtype)
    x = images(dtype)
    before = x.copy()
    y, again, strided = model(x), model(x), model(np.asfortranarray(x))
    steps, _ = model.plan()._programs.find(x)
    assert sum(not isinstance(step, ProgramStep) for step in steps) == left
    for other in (again, strided, one_by_one(model, x)):
        np.testing.assert_array_equal(other, y)
    np.testing.assert_array_equal(x, before)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", PAIRS)
def test_a_pair_gives_the_same_bits(name, dtype, monkeypatch):
    pairs = []
    monkeypatch.setattr(Program, "pair", lambda *args: pairs.append(1) or PAIR(*args))
    model, x = nb.Sequential(*PAIRS[name](), seed=0, dtype=dtype), images(dtype, 13, 33)
    y = model(x)
    assert len(pairs) == (not name.startswith("no pair"))
    np.testing.assert_array_equal(model(x), y)
    np.testing.assert_array_equal(one_by_one(model, x), y)
    one = x[:1]  # an odd number of bands, of which two threads share one
    np.testing.assert_array_equal(model(one), one_by_one(model, one))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", IMAGES)
def test_images_may_lie_as_planes(name, dtype):
    channels, make = IMAGES[name]
    model = nb.Sequential(make(), nb.ReLU(), nb.Tanh(), seed=0, dtype=dtype)  # more than a small network
    x = np.random.default_rng(0).standard_normal((3, channels, 13, 33)).astype(dtype)
    pixels = np.ascontiguousarray(x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    before = x.copy()
    expected = one_by_one(model, pixels)
    assert isinstance(model.plan()._programs.find(x)[0][0], ProgramStep)
    assert model.plan().takes_planes(x) == (name != "side by side")
    for other in (x, pixels, np.asfortranarray(x), x):
        np.testing.assert_array_equal(model(other), expected)
    np.testing.assert_array_equal(model.predict(x, batch_size=1), expected)
    np.testing.assert_array_equal(x, before)
    held = [p.data for p in model.parameters()]  # no program now: the convolution lays the planes out itself
    np.testing.assert_array_equal(model(x), expected)
    assert held


def test_an_own_way_to_prepare_is_kept():
    class Halved(nb.Sequential):
        def prepare(self, x):
            return super().prepare(x) / 2

    layers = [nb.Conv2d(3, 5, 3, padding=1, bias=False), nb.Tanh()]
    x = images()[:, :3].copy()
    y = nb.Sequential(*layers, seed=0)(x / 2)
    np.testing.assert_array_equal(Halved(*layers)(x), y)


def test_a_result_stays_when_the_model_computes_another():
    model, x = nb.Sequential(conv(), conv(), seed=0), images()
    y = model(x)
    before = y.copy()
    model(-x)
    np.testing.assert_array_equal(y, before)


@pytest.mark.parametrize("change", ["weight", "bias", "statistics"])
def test_a_program_sees_changes_in_place(change):
    model, x = nb.Sequential(conv(), nb.BatchNorm2d(C), conv(), seed=0), images()
    y = model(x)
    if change == "statistics":
        model[1].running_mean[:] += 1
    else:
        getattr(model[0], change).data[:] += 1
    changed = model(x)
    assert not np.array_equal(changed, y)
    np.testing.assert_array_equal(changed, one_by_one(model, x))


def test_no_program_while_somebody_holds_weights():
    model, x = nb.Sequential(conv(), conv(bias=False), seed=0), images()
    model(x)
    held = model[1].weight.data
    y = model(x)
    held *= 2
    np.testing.assert_array_equal(model(x), 2 * y)


def test_threads_and_precision_have_programs_of_their_own():
    model, x = nb.Sequential(conv(64), conv(64, channels=64), conv(64, channels=64), seed=0), images()
    y = model(x)
    threads = nb.get_num_threads()
    nb.set_num_threads(1)
    try:
        np.testing.assert_array_equal(model(x), y)
    finally:
        nb.set_num_threads(threads)
    nb.set_precision("highest")
    try:
        np.testing.assert_array_equal(model(x), one_by_one(model, x))
    finally:
        nb.set_precision("high")
    np.testing.assert_array_equal(model(x), y)


def test_a_layer_that_tells_another_shape():
    model, x = nb.Sequential(conv(), _Half(), conv(), conv(), seed=0), images()
    y = model(x)
    assert y.shape == (2, C, 5, 7)
    np.testing.assert_array_equal(y, one_by_one(model, x))


def test_threads_share_a_program():
    model, x = nb.Sequential(conv(), block(nb.ReLU()), conv(), seed=0), images()
    inputs = [x * scale for scale in range(1, 9)]
    expected = [model(x) for x in inputs]
    results = [None] * 8

    def work(index):
        for _ in range(20):
            results[index] = model(inputs[index])

    threads = [threading.Thread(target=work, args=(index,)) for index in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for result, wanted in zip(results, expected, strict=True):
        np.testing.assert_array_equal(result, wanted)
