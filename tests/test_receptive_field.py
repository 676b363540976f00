from fractions import Fraction

import numpy as np
import pytest

import nbconv as nb
from nbconv.inspect import receptive_field
from nbconv_kernels import geometry


def conv(kernel_size, **settings):
    return nb.Conv2d(2, 2, kernel_size, **settings)


def last(*layers):
    return receptive_field(nb.Sequential(*layers)).rows[-1]


def measured(model, size, output):
    """Rows and columns of the input whose change reaches an output pixel: (first, last) each."""
    model.to("reference", dtype="float64")
    for parameter in model.parameters():
        parameter.data = np.abs(parameter.data) + 0.1
    x = np.random.default_rng(0).uniform(1, 2, (1, 2, *size))
    y, backprop = model.forward(x)
    dy = np.zeros_like(y)
    dy[:, :, output[0], output[1]] = 1
    touched = np.abs(backprop(dy)).sum(axis=(0, 1)) > 0
    return [
        (int(np.flatnonzero(axis)[0]), int(np.flatnonzero(axis)[-1]))
        for axis in (touched.any(1), touched.any(0))
    ]


def test_stacked_convolutions():
    """C14: two 3x3 layers see 5x5, three see 7x7; dilation d makes a kernel span d (k - 1) + 1."""
    rows = receptive_field(nb.Sequential(*(conv(3) for _ in range(3)))).rows
    assert [row.size for row in rows] == [(3, 3), (5, 5), (7, 7)]
    assert [row.stride for row in rows] == [(1, 1)] * 3
    for dilation in (1, 2, 5):
        assert last(conv(3, dilation=dilation)).size == (2 * dilation + 1,) * 2


def test_lenet():
    rows = receptive_field(nb.models.lenet5()).rows
    assert [row.size for row in rows[:6]] == [(n, n) for n in (5, 5, 6, 14, 14, 16)]
    assert rows[6].size is None
    assert [row.position for row in rows] == [str(i) for i in range(len(rows))]
    assert rows[5].stride == (4, 4)
    assert rows[5].offset == (0, 0)
    assert rows[-1].size is rows[-1].stride is rows[-1].offset is None


def test_the_formula_of_the_kernels():
    layers = [(7, 2, 1), (3, 2, 1), (3, 1, 2), (1, 2, 1), (5, 3, 1)]
    model = nb.Sequential(*(conv(k, stride=s, dilation=d) for k, s, d in layers))
    for count, row in enumerate(receptive_field(model).rows, 1):
        assert row.size == (geometry.receptive_field(layers[:count]),) * 2
        assert row.stride == (np.prod([s for _, s, _ in layers[:count]]),) * 2


@pytest.mark.parametrize(
    "layers",
    [
        [conv(3, stride=2, padding=1), nb.AvgPool2d(3, 2, padding=1), conv(3, padding=1)],
        [conv((1, 4), padding="same"), nb.AvgPool2d((2, 1)), conv(2, dilation=(1, 3))],
        [conv(3, padding=1), nb.BatchNorm2d(2), nb.Residual(conv(5, padding=2), conv(1))],
        [nb.Residual(conv(3, padding=1), conv(7, padding=3)), conv(2, stride=2)],
        [nb.Concat(conv(1), nb.Sequential(conv(3, padding=1), conv(3, padding=1))), nb.Conv2d(4, 2, 2)],
        [nb.DenseBlock(conv(3, padding=1), nb.Conv2d(4, 2, 3, padding=1)), nb.AvgPool2d(2)],
        [nb.Pad2d(((3, 0), (1, 2))), conv(3, stride=2), conv(3, padding=1, padding_mode="replicate")],
    ],
)
def test_what_gradients_reach(layers):
    """The gradient of an output in the middle of a large image touches just its receptive field."""
    model = nb.Sequential(*layers)
    row = receptive_field(model).rows[-1]
    p, q = 3, 4
    rows, columns = measured(model, (40, 48), (p, q))
    for (first, final), output, axis in ((rows, p, 0), (columns, q, 1)):
        start = row.offset[axis] + output * row.stride[axis]
        assert (first, final) == (max(0, start), start + row.size[axis] - 1)


@pytest.mark.parametrize(
    ("layers", "stride"),
    [
        ([nb.Upsample(scale_factor=2), conv(3, padding=1)], ("1/2", "1/2")),
        ([nb.Upsample(scale_factor=(3, 2)), conv(2), conv(2)], ("1/3", "1/2")),
        (
            [conv(3, stride=2, padding=1), nb.Upsample(scale_factor=2, mode="bilinear"), conv(3, padding=1)],
            ("1", "1"),
        ),
        ([nb.ConvTranspose2d(2, 2, 4, 2, 1), conv(3, padding=1)], ("1/2", "1/2")),
        (
            [conv(3, stride=2), nb.ConvTranspose2d(2, 2, 3, 2), nb.ConvTranspose2d(2, 2, (2, 5), (2, 3))],
            ("1/2", "1/3"),
        ),
        (
            [
                nb.Concat(nb.Sequential(nb.AvgPool2d(4), nb.Upsample(scale_factor=4)), conv(3, padding=1)),
                nb.Conv2d(4, 2, 3, padding=1),
            ],
            ("1", "1"),
        ),
    ],
)
def test_the_widest_field_behind_layers_that_enlarge(layers, stride):
    model = nb.Sequential(*layers)
    row = receptive_field(model).rows[-1]
    assert row.stride == tuple(map(Fraction, stride))
    spans = [measured(model, (24, 28), (12 + shift, 11 + shift)) for shift in range(12)]
    for axis in (0, 1):
        assert row.size[axis] == max(span[axis][1] - span[axis][0] + 1 for span in spans)


def test_windows_of_pools():
    rows = receptive_field(nb.Sequential(nb.MaxPool2d((3, 2), 2, (1, 0), dilation=(2, 1)))).rows
    assert (rows[0].size, rows[0].stride, rows[0].offset) == ((5, 2), (2, 2), (-1, 0))


def test_windows_of_contrast_normalisation():
    layers = nb.SubtractiveNorm(5), nb.DivisiveNorm(3), nb.ContrastNorm(5)
    rows = receptive_field(nb.Sequential(*layers)).rows
    assert [row.size for row in rows] == [(5, 5), (7, 7), (15, 15)]
    assert rows[-1].offset == (-7, -7)


def test_rows_are_those_of_the_summary():
    model = nb.Sequential(
        conv(3, padding=1),
        nb.Residual(
            nb.Sequential(conv(3, padding=1), nb.Concat(conv(1), conv(3, padding=1))), nb.Conv2d(2, 4, 1)
        ),
        nb.DenseBlock(nb.Conv2d(4, 3, 3, padding=1), nb.Conv2d(7, 2, 3, padding=1)),
    )
    rows = receptive_field(model).rows
    summary = model.summary((2, 8, 8))
    assert [(row.position, row.layer) for row in rows] == [(row.position, row.layer) for row in summary.rows]
    sizes = {row.position: row.size[0] for row in rows}
    assert sizes == {
        "0": 3,
        "1.body.0": 5,
        "1.body.1.0": 5,
        "1.body.1.1": 7,
        "1.body.1": 7,
        "1.shortcut": 3,
        "1": 7,
        "2.0": 9,
        "2.1": 11,
        "2": 11,
    }


@pytest.mark.parametrize(
    "layer",
    [
        nb.Flatten(),
        nb.Dense(3, 2),
        nb.AdaptiveAvgPool2d(2),
        nb.Softmax(2),
        nb.Concat(conv(3), nb.Softmax(-1)),
    ],
)
def test_what_sees_everything(layer):
    rows = receptive_field(nb.Sequential(conv(3), layer, nb.ReLU())).rows
    assert rows[0].size == (3, 3)
    assert rows[-1].size is None


def test_the_table():
    model = nb.Sequential(nb.Conv2d(1, 6, (5, 3), stride=(1, 2), padding=2), nb.Flatten())
    assert str(receptive_field(model)).splitlines() == [
        "layer      receptive field  stride  offset",
        "------------------------------------------",
        "0 Conv2d   5 x 3            1, 2    -2, -2",
        "1 Flatten  whole input",
    ]


def test_a_single_layer_is_a_model():
    (row,) = receptive_field(conv(3)).rows
    assert (row.position, row.size, row.stride) == ("", (3, 3), (Fraction(1), Fraction(1)))
