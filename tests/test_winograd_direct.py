"""What Winograd's transforms would spoil: infinities, NaN, values near overflow and bright pixels.

The oracle is the reference in float64. "Far" outputs are those that do not see what is special.
"""

import numpy as np
import pytest

import nbconv as nb
from nbconv_kernels import reference
from nbconv_kernels.cpu import conv
from nbconv_kernels.cpu.conv import winograd, winograd_deep, winograd_deep_weight
from nbconv_kernels.geometry import conv2d_geometry

# N, C, H, W, K: by blocks of tiles, the weights' points written down; and of few tiles and many channels.
BLOCKS, DEEP = (2, 64, 21, 22, 64), (1, 192, 14, 13, 160)
SHAPES = {"blocks": BLOCKS, "deep": DEEP}
# Far outputs may be off by so much of their spread: what the stated bound comes to here.
SPREAD = 0.01


def geometry(shape, padding=1):
    n, c, h, w, k = shape
    return conv2d_geometry((n, c, h, w), (k, c, 3, 3), padding=padding)


def operands(shape, padding=1):
    g = geometry(shape, padding)
    rng = np.random.default_rng(0)
    x = rng.standard_normal(g.input_shape).astype(np.float32)
    weight = (0.05 * rng.standard_normal(g.weight_shape)).astype(np.float32)
    dy = rng.standard_normal(g.output_shape).astype(np.float32)
    return g, x, weight, dy


def rows_of(images):
    return np.ascontiguousarray(images.transpose(0, 2, 3, 1))


def exact(array):
    return array.astype(np.float64)


def directly(x, weight, padding=1):
    return reference.conv2d(exact(x), exact(weight), padding=padding)


def by_parts(x, weight, g):
    """The forward pass in each of its forms."""
    kept = {}
    winograd.prepared(weight, None, g, kept)
    return {
        "anew": winograd.forward(rows_of(x), weight, None, g),
        "kept": winograd.forward(rows_of(x), weight, None, g, kept=kept),
    }


def turned(weight):
    return np.ascontiguousarray(weight.transpose(1, 0, 2, 3)[:, :, ::-1, ::-1])


def assert_as_exact(y, expected):
    """Not finite where it is due, with the right sign, and everywhere else as close as without."""
    np.testing.assert_array_equal(np.isnan(y), np.isnan(expected))
    infinite = np.isinf(expected)
    np.testing.assert_array_equal(np.isinf(y), infinite)
    np.testing.assert_array_equal(y[infinite], expected[infinite])
    finite = np.isfinite(expected)
    np.testing.assert_allclose(y[finite], expected[finite], rtol=0, atol=2e-4)


def test_the_shapes_are_those_of_both_ways():
    tiles = {name: s[0] * -(-s[2] // 4) * -(-s[3] // 4) for name, s in SHAPES.items()}
    assert not winograd_deep.suits(tiles["blocks"], BLOCKS[1])
    assert winograd_deep.suits(tiles["deep"], DEEP[1])
    assert not winograd_deep_weight.suits(tiles["blocks"], BLOCKS[1], BLOCKS[4])
    assert winograd_deep_weight.suits(tiles["deep"], DEEP[1], DEEP[4])


@pytest.mark.parametrize("padding", [0, 1, 2])
@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_what_is_not_finite_stays_with_those_that_see_it(shape, value, padding):
    g, x, weight, dy = operands(shape, padding)
    clean = by_parts(x, weight, g)
    places = ((0, 3, 0, 0), (0, 40, 5, 6), (0, 63, shape[2] - 1, shape[3] - 1))
    for place in places:
        spoilt = x.copy()
        spoilt[place] = value
        with np.errstate(invalid="ignore"):
            expected = directly(spoilt, weight, padding)
        for name, y in by_parts(spoilt, weight, g).items():
            assert_as_exact(y, expected)
            np.testing.assert_array_equal(y[1:], clean[name][1:])  # other images: not one bit
        spoilt = dy.copy()
        spoilt[(0, place[1], min(place[2], g.p - 1), min(place[3], g.q - 1))] = value
        with np.errstate(invalid="ignore"):
            expected = reference.conv2d(exact(spoilt), exact(turned(weight)), padding=2 - padding)
        assert_as_exact(winograd.backward_input(rows_of(spoilt), weight, g), expected)


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_weight_gradients_are_not_finite_where_that_is_due(shape, value):
    g, x, _, dy = operands(shape)
    for side, place in (("x", (0, 40, 5, 6)), ("x", (0, 3, 0, 0)), ("dy", (0, 40, 5, 6))):
        spoilt = {"x": x.copy(), "dy": dy.copy()}
        spoilt[side][place] = value
        with np.errstate(invalid="ignore"):
            expected = reference.conv2d_backward_weight(
                exact(spoilt["dy"]), exact(spoilt["x"]), g.weight_shape, padding=1
            )
        found = winograd.backward_weight(rows_of(spoilt["dy"]), rows_of(spoilt["x"]), g)
        np.testing.assert_array_equal(np.isnan(found), np.isnan(expected))
        infinite = np.isinf(expected)
        np.testing.assert_array_equal(found[infinite], expected[infinite])
        finite = np.isfinite(expected)
        np.testing.assert_allclose(found[finite], expected[finite], rtol=0, atol=1e-3)
        assert finite.any()


@pytest.mark.parametrize("brightness", [30, 300, 1e3, 1e4, 1e6, 1e12])
@pytest.mark.parametrize("region", ["pixel", "one channel", "patch", "row", "lines", "corner", "border"])
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_far_from_bright_pixels(shape, region, brightness):
    """The stated bound: tiles with a range beyond it are computed directly."""
    g, x, weight, _ = operands(shape)
    mask = np.zeros(shape[2:4], bool)
    where = {
        "pixel": np.s_[6, 6],
        "patch": np.s_[4:6, 5:7],
        "row": np.s_[3],
        "lines": np.s_[
            3::4
        ],  # every tile and each of its quadrants has one, and half of its outputs see none
        "corner": np.s_[0, 0],
        "border": np.s_[[0, -1]],
        "one channel": np.s_[6, 6],
    }[region]
    mask[where] = True
    x[:, : 1 if region == "one channel" else None, mask] *= brightness
    padded = np.pad(mask, 1)
    near = np.lib.stride_tricks.sliding_window_view(padded, (3, 3)).any(axis=(2, 3))
    expected = directly(x, weight)
    spread = expected[..., ~near].std()
    for y in by_parts(x, weight, g).values():
        assert np.abs(y - expected)[..., ~near].max() < SPREAD * spread
        largest = np.abs(expected).max()
        assert np.abs(y - expected).max() < 1e-4 * largest


@pytest.mark.parametrize("brightness", [300, 1e4, 1e6])
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_input_gradients_far_from_bright_ones(shape, brightness):
    g, _, weight, dy = operands(shape)
    dy[:, :, 6, 6] *= brightness
    near = np.zeros(shape[2:4], bool)
    near[5:8, 5:8] = True
    expected = reference.conv2d(exact(dy), exact(turned(weight)), padding=1)
    dx = winograd.backward_input(rows_of(dy), weight, g)
    assert np.abs(dx - expected)[..., ~near].max() < SPREAD * expected[..., ~near].std()


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_weight_gradients_of_taps_that_do_not_see_a_bright_pixel(shape):
    """The corner's pixel meets the padding under five of the nine taps."""
    g, x, _, dy = operands(shape)
    x[:, :, 0, 0] *= 1e6
    expected = reference.conv2d_backward_weight(exact(dy), exact(x), g.weight_shape, padding=1)
    found = winograd.backward_weight(rows_of(dy), rows_of(x), g)
    far = np.ones((3, 3), bool)
    far[:2, :2] = False
    error = np.abs(found - expected)
    assert error[..., far].max() < SPREAD * expected[..., far].std()
    assert error.max() < 1e-5 * np.abs(expected).max()


@pytest.mark.parametrize("size", [1e18, 1e30, 1e37])
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_sums_that_float32_holds_do_not_overflow(shape, size):
    g, x, weight, dy = operands(shape)
    x = (size * np.sign(x)).astype(np.float32)
    dy = (size / 1e4 * np.sign(dy)).astype(np.float32)
    expected = directly(x, weight)
    assert np.abs(expected).max() < 3e38
    for y in by_parts(x, weight, g).values():
        np.testing.assert_allclose(y, expected, rtol=0, atol=1e-5 * np.abs(expected).max())
    expected = reference.conv2d(exact(dy), exact(turned(weight)), padding=1)
    dx = winograd.backward_input(rows_of(dy), weight, g)
    np.testing.assert_allclose(dx, expected, rtol=0, atol=1e-5 * np.abs(expected).max())
    small = (dy / size).astype(np.float32)
    expected = reference.conv2d_backward_weight(exact(small), exact(x), g.weight_shape, padding=1)
    found = winograd.backward_weight(rows_of(small), rows_of(x), g)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_outputs_that_see_zeros_only_are_zeros(shape):
    g, x, weight, _ = operands(shape)
    x[:] = 0
    x[0, :, 6:9, 6] = 1
    seen = np.zeros(shape[2:4], bool)
    seen[5:10, 5:8] = True
    for y in by_parts(x, weight, g).values():
        assert not y[..., ~seen].any()
        np.testing.assert_allclose(y, directly(x, weight), rtol=0, atol=1e-5)


@pytest.mark.parametrize("activation", [None, "relu", "relu6"])
@pytest.mark.parametrize("add", [False, True])
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_into_a_part_of_an_array_after_an_activation(shape, add, activation):
    g, x, weight, dy = operands(shape)
    x[0, 5, 6, 6], x[0, 9, 0, 0], x[-1, :, -1, -1] = np.inf, np.nan, 1e6
    bias = np.linspace(-1, 1, g.k, dtype=np.float32)
    beside = np.concatenate([dy[:, :3], dy, dy[:, :2]], axis=1)
    expected = exact(beside)
    options = {"padding": 1, "activation": activation, "channel": 3, "add": add}
    with np.errstate(invalid="ignore"):
        reference.conv2d_onto(expected, exact(x), exact(weight), exact(bias), **options)
    assert conv.algorithm(g, 4) is winograd or shape is DEEP
    y = np.ascontiguousarray(rows_of(beside)).transpose(0, 3, 1, 2)
    conv.conv2d_onto(y, x, weight, bias, **options)
    np.testing.assert_array_equal(np.isnan(y), np.isnan(expected))
    infinite = np.isinf(expected)
    np.testing.assert_array_equal(y[infinite], expected[infinite])
    usual = np.isfinite(expected) & (np.abs(expected) < 100)
    np.testing.assert_allclose(y[usual], expected[usual], rtol=0, atol=2e-3)
    np.testing.assert_array_equal(y[:, [0, 1, 2, -2, -1]], beside[:, [0, 1, 2, -2, -1]])


def network(**options):
    return nb.Sequential(
        nb.Conv2d(64, 64, 3, padding=1),
        nb.BatchNorm2d(64),
        nb.ReLU(),
        nb.Residual(nb.Conv2d(64, 64, 3, padding=1)),
        nb.Concat(nb.Conv2d(64, 32, 3, padding=1), nb.Conv2d(64, 64, 3, padding=1)),
        **options,
    )


def test_in_the_programs_of_inference():
    """Convolutions in one compiled call: the second reads what the first has mended."""
    model, plain = network(seed=0), network(backend="reference", dtype=np.float64)
    x = np.random.default_rng(0).standard_normal((2, 64, 24, 24)).astype(np.float32)
    clean = model(x)
    assert [row.algorithm for row in nb.inspect.plan(model, (64, 24, 24)).rows][:1] == ["winograd"]
    x[0, 3, 12, 13] = np.inf
    plain.load_state_dict(model.state_dict())
    with np.errstate(invalid="ignore"):
        expected = plain(x.astype(np.float64))
    for y in (model(x), model(x)):
        np.testing.assert_array_equal(np.isfinite(y), np.isfinite(expected))
        np.testing.assert_array_equal(np.isnan(y), np.isnan(expected))
        finite = np.isfinite(expected)
        np.testing.assert_allclose(y[finite], expected[finite], rtol=0, atol=1e-4)
        np.testing.assert_array_equal(y[1], clean[1])
