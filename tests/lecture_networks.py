"""Rows P: parameter counts and shapes of the networks."""

import itertools
import math

import numpy as np
import pytest
from lecture_rows import count, row, shapes, zeros

import nbconv as nb


@row("P1")
def filter_parameters(backend):
    for (channels, filters, kernel), parameters in {
        (3, 1, 3): 28,
        (3, 8, 3): 224,
        (3, 16, 3): 448,
        (8, 16, 5): 3_216,
    }.items():
        assert count(nb.Conv2d(channels, filters, kernel).to(backend)) == parameters


@row("P2")
def small_network(backend):
    dense = [nb.Dense(16 * 16 * 16, 512), nb.ReLU(), nb.Dense(512, 4)]
    model = nb.Sequential(
        nb.Conv2d(3, 8, 3, padding="same"),
        nb.ReLU(),
        nb.Conv2d(8, 16, 5, stride=2, padding=2),
        nb.ReLU(),
        nb.Flatten(),
        *dense,
        backend=backend,
    )
    assert shapes(model, (3, 32, 32))[2::2] == [(16, 16, 16), (4096,), (512,)]
    assert shapes(model, (3, 32, 32))[-1] == (4,)
    assert sum(count(layer) for layer in dense) == 2_099_716
    assert count(model) == 2_103_156


@row("P3")
def lenet5(backend):
    model = nb.models.lenet5(backend=backend)
    met = shapes(model, (1, 32, 32))
    distinct = [shape for i, shape in enumerate(met) if i == 0 or shape != met[i - 1]]
    assert distinct == [
        (6, 28, 28),
        (6, 14, 14),
        (16, 10, 10),
        (16, 5, 5),
        (400,),
        (120,),
        (84,),
        (10,),
    ]


@row("P10")
def six_convolutions(backend):
    def block(channels):
        return [
            nb.Conv2d(channels, 10, 3, padding=1),
            nb.ReLU(),
            nb.Conv2d(10, 10, 3, padding=1),
            nb.ReLU(),
            nb.MaxPool2d(2),
        ]

    body = [*block(3), *block(10), *block(10)]
    connected = nb.Sequential(*body, nb.Flatten(), nb.Dense(160, 10), backend=backend)
    met = shapes(connected, (3, 32, 32))
    assert [met[4], met[9], met[14], met[-1]] == [(10, 16, 16), (10, 8, 8), (10, 4, 4), (10,)]
    counts = [count(layer) for layer in connected if count(layer)]
    assert counts == [280, 910, 910, 910, 910, 910, 1_610]

    averaged = nb.Sequential(*body, nb.AdaptiveAvgPool2d(1), nb.Flatten(), nb.Dense(10, 10), backend=backend)
    assert shapes(averaged, (3, 32, 32))[-2:] == [(10,), (10,)]
    assert count(averaged[-1]) == 110


@row("P11")
def fully_connected(backend):
    for sizes, weights, parameters in (((2, 4, 1), 12, 17), ((3, 4, 4, 2), 36, 46)):
        layers = [nb.Dense(a, b) for a, b in itertools.pairwise(sizes)]
        model = nb.Sequential(*layers, backend=backend)
        assert shapes(model, (sizes[0],)) == [(size,) for size in sizes[1:]]
        assert sum(layer.weight.size for layer in layers) == weights
        assert count(model) == parameters


@row("P5")
def vgg16(backend):
    model = nb.models.vgg16(backend=backend)
    layers = [layer for layer in model if isinstance(layer, nb.Conv2d | nb.Dense)]
    weights = [1_728, 36_864, 73_728, 147_456, 294_912, 589_824, 589_824, 1_179_648, *[2_359_296] * 5]
    assert [layer.weight.size for layer in layers] == [*weights, 102_760_448, 16_777_216, 4_096_000]
    summary = model.summary((3, 224, 224))
    assert 138e6 < summary.parameters < 139e6
    # The slide's rows are the image, and each layer with its ReLU; its counts leave out the biases.
    rows = [step for step in summary.rows if step.layer in ("Conv2d", "MaxPool2d", "Dense")]
    counted = [row.parameters - row.output_shape[0] for row in rows if row.layer != "MaxPool2d"]
    assert counted == [*weights, 102_760_448, 16_777_216, 4_096_000]
    assert not any(row.parameters for row in rows if row.layer == "MaxPool2d")
    met = [math.prod(summary.input_shape), *(math.prod(row.output_shape) for row in rows)]
    slide = "150K 3.2M 3.2M 800K 1.6M 1.6M 400K 800K 800K 800K 200K 400K 400K 400K 100K 100K 100K 100K 25K"
    for number, text in zip(met, [*slide.split(), "4096", "4096", "1000"], strict=True):
        value = float(text.rstrip("KM")) * {"K": 1e3, "M": 1e6}.get(text[-1], 1)
        assert number == pytest.approx(value, rel=0.01), text
    assert [row.activation_bytes for row in rows] == [4 * number for number in met[1:]]


@row("P7")
def resnets(backend):
    for depth, millions in {18: 11.174, 34: 21.282, 50: 23.521, 101: 42.513, 152: 58.157}.items():
        model = nb.models.get(f"resnet{depth}", small=True)(num_classes=10, backend=backend)
        assert round(count(model) / 1e6, 3) == millions
        assert model.output_shape((1, 3, 32, 32)) == (1, 10)


@row("P8")
def separable_convolution(backend):
    standard = nb.Conv2d(3, 256, 5).to(backend)
    separable = nb.Sequential(nb.Conv2d(3, 3, 5, groups=3), nb.Conv2d(3, 256, 1), backend=backend)
    assert shapes(separable, (3, 12, 12))[-1] == standard(zeros(1, 3, 12, 12)).shape[1:] == (256, 8, 8)
    assert count(standard) == 19_456
    assert [count(layer) for layer in separable] == [5 * 5 * 3 + 3, 3 * 256 + 256]
    assert count(separable) == 1_102


@row("P9")
def dense_block(backend):
    k0, k, layers = 16, 12, 4
    block = nb.models.densenet.dense_block(k0, layers, k, bottleneck=False).to(backend)
    for number, layer in enumerate(block.children().values(), start=1):
        channels = k0 + k * (number - 1)
        assert layer.output_shape((1, channels, 8, 8)) == (1, k, 8, 8)
        assert next(inner.in_channels for inner in layer if isinstance(inner, nb.Conv2d)) == channels
    x = np.random.default_rng(9).standard_normal((2, k0, 8, 8)).astype(np.float32)
    y = block(x)
    assert y.shape == (2, k0 + k * layers, 8, 8)
    np.testing.assert_array_equal(y[:, :k0], x)
    np.testing.assert_array_equal(y[:, k0 : k0 + k], block.children()["0"](x))


@row("P12")
def fully_connected_instead_of_convolution(backend):
    first = nb.models.vgg16(backend=backend)[0]
    image, maps = (1, 3, 224, 224), first.output_shape((1, 3, 224, 224))
    connected = nb.Dense(math.prod(image), math.prod(maps), bias=False).to(backend)
    assert connected.weight.size == 483_385_147_392
    assert first.weight.size == 1_728


@row("P4")
def alexnet(backend):
    model = nb.models.alexnet(backend=backend)
    summary = model.summary((3, 227, 227))
    met = [(step.layer, step.output_shape) for step in summary.rows]
    met = [(layer, shape) for layer, shape in met if layer not in ("ReLU", "Dropout", "Flatten")]
    assert met == [
        ("Conv2d", (96, 55, 55)),
        ("MaxPool2d", (96, 27, 27)),
        ("LocalResponseNorm", (96, 27, 27)),
        ("Conv2d", (256, 27, 27)),
        ("MaxPool2d", (256, 13, 13)),
        ("LocalResponseNorm", (256, 13, 13)),
        ("Conv2d", (384, 13, 13)),
        ("Conv2d", (384, 13, 13)),
        ("Conv2d", (256, 13, 13)),
        ("MaxPool2d", (256, 6, 6)),
        ("Dense", (4096,)),
        ("Dense", (4096,)),
        ("Dense", (1000,)),
    ]
    first = model[0]
    assert first.weight.size == 34_848
    assert (first.kernel_size, first.stride) == ((11, 11), (4, 4))
    assert sum(layer in ("Conv2d", "Dense") for layer, _ in met) == 8
    for grouped in (False, True):
        assert count(nb.models.alexnet(grouped=grouped)) == pytest.approx(60e6, rel=0.05)


GOOGLENET = {
    # Output; #1x1, #3x3 reduce, #3x3, #5x5 reduce, #5x5, pool proj; K (1024) parameters; M operations.
    "3a": ((256, 28, 28), (64, 96, 128, 16, 32, 32), 159, 128),
    "3b": ((480, 28, 28), (128, 128, 192, 32, 96, 64), 380, 304),
    "4a": ((512, 14, 14), (192, 96, 208, 16, 48, 64), 364, 73),
    "4b": ((512, 14, 14), (160, 112, 224, 24, 64, 64), 437, 88),
    "4c": ((512, 14, 14), (128, 128, 256, 24, 64, 64), 463, 100),
    "4d": ((528, 14, 14), (112, 144, 288, 32, 64, 64), 580, 119),
    "4e": ((832, 14, 14), (256, 160, 320, 32, 128, 128), 840, 170),
    "5a": ((832, 7, 7), (256, 160, 320, 32, 128, 128), 1072, 54),
    "5b": ((1024, 7, 7), (384, 192, 384, 48, 128, 128), 1388, 71),
}
# The slide contradicts itself: its filters give these numbers of parameters and operations, not those above.
PARAMETERS = {"4a": 367, "4c": 497, "4d": 590, "4e": 847, "5a": 1018, "5b": 1409}
OPERATIONS = {"5a": 51}


@row("P6")
def googlenet(backend):
    model = nb.models.googlenet(backend=backend)
    trace = list(model.trace((1, 3, 224, 224)))
    outside = [
        (type(step.layer).__name__, step.output_shape[1:]) for step in trace if "." not in step.position
    ]
    skipped = ("ReLU", "LocalResponseNorm", "Concat")
    assert [(layer, shape) for layer, shape in outside if layer not in skipped] == [
        ("Conv2d", (64, 112, 112)),
        ("MaxPool2d", (64, 56, 56)),
        ("Conv2d", (64, 56, 56)),
        ("Conv2d", (192, 56, 56)),
        ("MaxPool2d", (192, 28, 28)),
        ("MaxPool2d", (480, 14, 14)),
        ("MaxPool2d", (832, 7, 7)),
        ("GlobalAvgPool2d", (1024,)),
        ("Dropout", (1024,)),
        ("Dense", (1000,)),
    ]
    modules = [step for step in trace if isinstance(step.layer, nb.Concat)]
    for step, (name, (shape, filters, k, m)) in zip(modules, GOOGLENET.items(), strict=True):
        assert step.output_shape[1:] == shape, name
        convolutions = [layer for _, layer in step.layer.named_layers() if isinstance(layer, nb.Conv2d)]
        assert tuple(layer.out_channels for layer in convolutions) == filters, name
        weights = sum(layer.weight.size for layer in convolutions) / 1024
        operations = step.layer.macs(step.input_shape) / 1e6
        assert weights == pytest.approx(PARAMETERS.get(name, k), abs=1), name
        assert operations == pytest.approx(OPERATIONS.get(name, m), abs=1), name
        assert weights == pytest.approx(k, rel=0.08), name
        assert operations == pytest.approx(m, rel=0.06), name
    assert model[-1].weight.size / 1024 == 1000
    assert model[-2].p == 0.4
    with_heads = nb.models.googlenet(auxiliary=True, backend=backend)
    heads = [layer for layer in with_heads if isinstance(layer, nb.models.AuxiliaryHead)]
    assert len(heads) == 2
