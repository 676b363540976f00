"""Every layer's gradients against finite differences, in float64, for many legal arguments."""

import numpy as np
import pytest
from oracles import distinct

import nbconv as nb
from nbconv.inspect import GradientError, check_gradients

BACKENDS = ["reference", "cpu"]
IMAGE = (2, 4, 6, 5)

CASES = {
    "conv": (lambda: nb.Conv2d(4, 3, 3), IMAGE),
    "conv-no-bias": (lambda: nb.Conv2d(4, 3, 3, bias=False), IMAGE),
    "conv-1x1": (lambda: nb.Conv2d(4, 5, 1), IMAGE),
    "conv-padding": (lambda: nb.Conv2d(4, 3, 3, padding=1), IMAGE),
    "conv-padding-pair": (lambda: nb.Conv2d(4, 3, 3, padding=(2, 0)), IMAGE),
    "conv-padding-beyond-kernel": (lambda: nb.Conv2d(4, 2, 2, padding=3), (1, 4, 3, 3)),
    "conv-same": (lambda: nb.Conv2d(4, 3, 3, padding="same"), IMAGE),
    "conv-same-even-kernel": (lambda: nb.Conv2d(4, 3, (2, 4), padding="same"), IMAGE),
    "conv-same-dilated": (lambda: nb.Conv2d(4, 3, 3, padding="same", dilation=2), IMAGE),
    "conv-valid": (lambda: nb.Conv2d(4, 3, 3, padding="valid"), IMAGE),
    "conv-stride": (lambda: nb.Conv2d(4, 3, 3, stride=2), IMAGE),
    "conv-stride-pair": (lambda: nb.Conv2d(4, 3, 3, stride=(1, 3), padding=1), IMAGE),
    "conv-stride-beyond-kernel": (lambda: nb.Conv2d(4, 3, 2, stride=3), IMAGE),
    "conv-rectangular": (lambda: nb.Conv2d(4, 3, (1, 4), padding=(0, 2)), IMAGE),
    "conv-dilation": (lambda: nb.Conv2d(4, 3, 2, dilation=(3, 2)), IMAGE),
    "conv-groups": (lambda: nb.Conv2d(4, 6, 3, padding=1, groups=2), IMAGE),
    "conv-depthwise": (lambda: nb.Conv2d(4, 4, 3, padding=1, groups=4), IMAGE),
    "conv-depthwise-multiplier": (lambda: nb.Conv2d(4, 8, 3, stride=2, groups=4), IMAGE),
    "conv-everything": (
        lambda: nb.Conv2d(4, 6, (3, 2), stride=(2, 1), padding=(2, 1), dilation=(1, 2), groups=2, bias=False),
        IMAGE,
    ),
    "conv-reflect": (lambda: nb.Conv2d(4, 3, 3, padding=2, padding_mode="reflect"), IMAGE),
    "conv-symmetric": (lambda: nb.Conv2d(4, 3, 3, padding=(1, 3), padding_mode="symmetric"), IMAGE),
    "conv-replicate": (
        lambda: nb.Conv2d(4, 3, (2, 4), padding="same", padding_mode="replicate", bias=False),
        IMAGE,
    ),
    "conv-circular": (lambda: nb.Conv2d(4, 4, 3, 2, padding=1, groups=2, padding_mode="circular"), IMAGE),
    "conv-constant": (
        lambda: nb.Conv2d(4, 3, 3, padding=1, padding_mode="constant", padding_value=0.7),
        IMAGE,
    ),
    "transpose": (lambda: nb.ConvTranspose2d(4, 3, 3), IMAGE),
    "transpose-no-bias": (lambda: nb.ConvTranspose2d(4, 3, 2, bias=False), IMAGE),
    "transpose-stride": (lambda: nb.ConvTranspose2d(4, 3, 3, stride=2, padding=1, output_padding=1), IMAGE),
    "transpose-everything": (
        lambda: nb.ConvTranspose2d(4, 6, (3, 2), (2, 1), (2, 1), (1, 0), groups=2, dilation=(1, 2)),
        IMAGE,
    ),
    "dense": (lambda: nb.Dense(7, 5), (3, 7)),
    "dense-no-bias": (lambda: nb.Dense(7, 5, bias=False), (3, 7)),
    "dense-one-example": (lambda: nb.Dense(3, 4), (1, 3)),
    "maxpool": (lambda: nb.MaxPool2d(2), IMAGE),
    "maxpool-overlapping": (lambda: nb.MaxPool2d(3, stride=1), IMAGE),
    "maxpool-padded": (lambda: nb.MaxPool2d(3, stride=2, padding=1), IMAGE),
    "maxpool-dilated": (lambda: nb.MaxPool2d(2, stride=1, dilation=2), IMAGE),
    "maxpool-ceil": (lambda: nb.MaxPool2d((3, 2), stride=2, ceil_mode=True), IMAGE),
    "maxpool-rectangular": (lambda: nb.MaxPool2d((1, 3), stride=(2, 1)), IMAGE),
    "avgpool": (lambda: nb.AvgPool2d(2), IMAGE),
    "avgpool-overlapping": (lambda: nb.AvgPool2d(3, stride=1), IMAGE),
    "avgpool-padded": (lambda: nb.AvgPool2d(3, stride=2, padding=1), IMAGE),
    "avgpool-padding-not-counted": (
        lambda: nb.AvgPool2d(3, stride=2, padding=1, count_include_pad=False),
        IMAGE,
    ),
    "avgpool-ceil": (lambda: nb.AvgPool2d(3, stride=2, padding=1, ceil_mode=True), (2, 3, 6, 6)),
    "avgpool-divisor": (lambda: nb.AvgPool2d(2, divisor_override=3), IMAGE),
    "adaptive": (lambda: nb.AdaptiveAvgPool2d(1), IMAGE),
    "adaptive-overlapping": (lambda: nb.AdaptiveAvgPool2d((4, 3)), IMAGE),
    "adaptive-keep": (lambda: nb.AdaptiveAvgPool2d((None, 2)), IMAGE),
    "adaptive-larger": (lambda: nb.AdaptiveAvgPool2d((8, 7)), (1, 2, 3, 4)),
    "global": (lambda: nb.GlobalAvgPool2d(), IMAGE),
    "global-keepdims": (lambda: nb.GlobalAvgPool2d(keepdims=True), IMAGE),
    "pad": (lambda: nb.Pad2d(2, value=3.0), IMAGE),
    "pad-reflect": (lambda: nb.Pad2d(((1, 2), (0, 3)), "reflect"), IMAGE),
    "pad-symmetric": (lambda: nb.Pad2d((5, 2), "symmetric"), IMAGE),
    "pad-replicate": (lambda: nb.Pad2d((7, 1), "replicate"), IMAGE),
    "pad-circular": (lambda: nb.Pad2d(((0, 4), (2, 3)), "circular"), IMAGE),
    "upsample": (lambda: nb.Upsample(scale_factor=2), IMAGE),
    "upsample-size": (lambda: nb.Upsample((9, 4)), IMAGE),
    "upsample-bilinear": (lambda: nb.Upsample(scale_factor=(1.5, 2.3), mode="bilinear"), IMAGE),
    "upsample-corners": (lambda: nb.Upsample((9, 4), mode="bilinear", align_corners=True), IMAGE),
    "batchnorm": (lambda: _batch_norm(), IMAGE),
    "batchnorm-eps": (lambda: _batch_norm(eps=0.1, momentum=None), IMAGE),
    "batchnorm-no-affine": (lambda: _batch_norm(affine=False), IMAGE),
    "batchnorm-untracked": (lambda: _batch_norm(track_running_stats=False), IMAGE),
    "groupnorm": (lambda: _affine(nb.GroupNorm(2, 4)), IMAGE),
    "groupnorm-one": (lambda: _affine(nb.GroupNorm(1, 4, eps=0.1)), IMAGE),
    "groupnorm-each": (lambda: nb.GroupNorm(4, 4, affine=False), IMAGE),
    "layernorm": (lambda: _affine(nb.LayerNorm((4, 6, 5))), IMAGE),
    "layernorm-rows": (lambda: _affine(nb.LayerNorm((6, 5), bias=False)), IMAGE),
    "layernorm-flat": (lambda: _affine(nb.LayerNorm(7, eps=0.1)), (3, 7)),
    "layernorm-no-affine": (lambda: nb.LayerNorm(7, elementwise_affine=False), (3, 7)),
    "lrn": (lambda: nb.LocalResponseNorm(3, alpha=2.0), IMAGE),
    "lrn-even": (lambda: nb.LocalResponseNorm(2, alpha=1.0, beta=0.5, k=2.0), IMAGE),
    "lrn-beyond": (lambda: nb.LocalResponseNorm(11, alpha=3.0), IMAGE),
    "subtractive": (lambda: nb.SubtractiveNorm(3), IMAGE),
    "subtractive-wide": (lambda: nb.SubtractiveNorm(9, sigma=1.5), IMAGE),
    "divisive": (lambda: nb.DivisiveNorm(3), IMAGE),
    "divisive-eps": (lambda: nb.DivisiveNorm(5, eps=0.6), IMAGE),
    "contrast": (lambda: nb.ContrastNorm(5), IMAGE),
    "contrast-even-weights": (lambda: nb.ContrastNorm(3, sigma=np.inf), IMAGE),
    "flatten": (lambda: nb.Flatten(), IMAGE),
    "flatten-flat": (lambda: nb.Flatten(), (3, 4)),
    "dropout-off": (lambda: nb.Dropout(0.0), IMAGE),
    "dropout2d-off": (lambda: nb.Dropout2d(0.0), IMAGE),
    "relu": (lambda: nb.ReLU(), IMAGE),
    "relu-flat": (lambda: nb.ReLU(), (3, 4)),
    "relu6": (lambda: nb.ReLU6(), IMAGE),
    "leaky-relu": (lambda: nb.LeakyReLU(), IMAGE),
    "leaky-relu-slope": (lambda: nb.LeakyReLU(0.3), (3, 4)),
    "elu": (lambda: nb.ELU(), IMAGE),
    "elu-alpha": (lambda: nb.ELU(0.4), (3, 4)),
    "prelu": (lambda: nb.PReLU(), IMAGE),
    "prelu-channels": (lambda: nb.PReLU(4, init=0.6), IMAGE),
    "prelu-flat": (lambda: nb.PReLU(4), (3, 4)),
    "maxout": (lambda: nb.Maxout(), IMAGE),
    "maxout-one": (lambda: nb.Maxout(1), IMAGE),
    "maxout-flat": (lambda: nb.Maxout(3), (3, 12)),
    "maxout-of-dense": (lambda: nb.Sequential(nb.Dense(3, 4), nb.Maxout(2)), (5, 3)),
    "selu": (lambda: nb.SELU(), IMAGE),
    "gelu": (lambda: nb.GELU(), IMAGE),
    "gelu-tanh": (lambda: nb.GELU("tanh"), (3, 4)),
    "silu": (lambda: nb.SiLU(), IMAGE),
    "hardswish": (lambda: nb.Sequential(_scaled_by(5), nb.Hardswish()), IMAGE),
    "softplus": (lambda: nb.Softplus(), IMAGE),
    "softplus-beta": (lambda: nb.Softplus(beta=3.0, threshold=1.0), (3, 4)),
    "log-softmax": (lambda: nb.LogSoftmax(), (3, 4)),
    "log-softmax-channels": (lambda: nb.LogSoftmax(), IMAGE),
    "log-softmax-last": (lambda: nb.LogSoftmax(dim=-1), IMAGE),
    "sigmoid": (lambda: nb.Sigmoid(), IMAGE),
    "tanh": (lambda: nb.Tanh(), IMAGE),
    "softmax": (lambda: nb.Softmax(), (3, 4)),
    "softmax-channels": (lambda: nb.Softmax(), IMAGE),
    "softmax-last": (lambda: nb.Softmax(dim=-1), IMAGE),
    "empty-model": (lambda: nb.Sequential(), IMAGE),
    "model": (
        lambda: nb.Sequential(
            nb.Conv2d(4, 3, 3, padding=1),
            nb.Tanh(),
            nb.Sequential(nb.AvgPool2d(2), nb.Sigmoid()),
            nb.Flatten(),
            nb.Dense(18, 4),
            nb.ELU(),
        ),
        IMAGE,
    ),
}


def _scaled_by(factor):
    """Reaches the far ends of an activation: inputs are of at most 1."""
    return nb.Conv2d(4, 4, 1, groups=4, bias=False, weight_init=nb.initializers.constant(factor))


def _affine(layer):
    """With weights and biases away from their first values, which would hide mistakes."""
    for shift, parameter in enumerate(layer.parameters()):
        parameter.data = distinct(parameter.shape, seed=shift) / parameter.size + shift
    return layer


def _batch_norm(**settings):
    """With weights, biases and statistics away from their defaults, which would hide mistakes."""
    layer = nb.BatchNorm2d(4, **settings)
    if layer.affine:
        layer.weight.data = [0.5, -1.5, 2.0, 1.2]
        layer.bias.data = [0.1, 0.2, -0.3, 0.4]
    if layer.track_running_stats:
        layer.running_mean[:] = [0.3, -0.4, 0.1, 0.0]
        layer.running_var[:] = [0.5, 1.5, 2.5, 0.9]
    return layer


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("case", CASES)
def test_gradients_in_training(case, backend):
    _check(case, backend, training=True)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("case", [case for case in CASES if case.startswith(("batchnorm", "dropout"))])
def test_gradients_in_evaluation(case, backend):
    _check(case, backend, training=False)


def _check(case, backend, training):
    make, shape = CASES[case]
    layer = make().to(backend, dtype="float64")
    x = distinct(shape)  # no ties for a maximum, no zeros for a ReLU
    check_gradients(layer, x / np.abs(x).max(), training=training)


@pytest.mark.parametrize("backend", BACKENDS)
def test_dropout_gradient_drops_the_same_elements(backend):
    layer = nb.Dropout(0.4).to(backend, dtype="float64")
    x = distinct((2, 3, 4, 5))
    y, backprop = layer.forward(x, training=True)
    dx = backprop(np.ones_like(y))
    np.testing.assert_array_equal(dx, np.where(y == 0, 0, 1 / 0.6))


@pytest.mark.parametrize("backend", BACKENDS)
def test_dropout2d_drops_channels(backend):
    layer = nb.Dropout2d(0.4).to(backend, dtype="float64")
    layer.seed = 3
    x = distinct((8, 9, 4, 5))
    y, backprop = layer.forward(x, training=True)
    kept = (y != 0).all(axis=(2, 3))
    assert ((y == 0).all(axis=(2, 3)) != kept).all()
    assert 0.4 < kept.mean() < 0.8
    factors = np.broadcast_to((kept / 0.6)[:, :, None, None], x.shape)
    np.testing.assert_allclose(y, x * factors, rtol=1e-12)
    np.testing.assert_allclose(backprop(np.ones_like(y)), factors, rtol=1e-12)
    assert layer.forward(x, training=True)[0].tobytes() != y.tobytes()
    np.testing.assert_array_equal(layer(x), x)


@pytest.mark.parametrize("backend", BACKENDS)
def test_unpooling_to_a_size_where_the_default_leaves_nothing(backend):
    pool, unpool = nb.MaxPool2d(2, padding=1).to(backend), nb.MaxUnpool2d(2, padding=1).to(backend)
    x = np.full((1, 2, 1, 1), 3, np.float32)
    y, indices, _ = pool.forward_with_indices(x)
    np.testing.assert_array_equal(unpool(y, indices, x.shape), x)
    with pytest.raises(nb.LayerError, match="leaves nothing"):
        unpool(y, indices)
    with pytest.raises(nb.DTypeError, match="expected float32, got float64"):
        unpool.forward(y.astype(np.float64), indices=indices, output_size=x.shape)


@pytest.mark.parametrize("backend", BACKENDS)
def test_unpooling_puts_maxima_back(backend):
    pool, unpool = nb.MaxPool2d(2), nb.MaxUnpool2d(2)
    for layer in (pool, unpool):
        layer.to(backend, dtype="float64")
    x = distinct((2, 3, 6, 5))
    y, indices, _ = pool.forward_with_indices(x)
    np.testing.assert_array_equal(y, pool.forward(x)[0])
    image, backprop = unpool.forward(y, indices=indices, output_size=x.shape)
    assert image.shape == x.shape
    # What is there is the input itself, at one place a window.
    assert ((image == 0) | (image == x)).all()
    assert np.count_nonzero(image) == y.size
    np.testing.assert_array_equal(image, unpool(y, indices, (6, 5)))
    np.testing.assert_array_equal(pool(np.where(image == 0, -np.inf, image)), y)
    dy = distinct(x.shape, seed=1)
    dx = backprop(dy)
    np.testing.assert_allclose(
        np.sum(dx * y), np.sum(image * dy)
    )  # linear in y: the gradient is the transpose
    np.testing.assert_array_equal(
        dx, np.take_along_axis(dy.reshape(2, 3, -1), indices.reshape(2, 3, -1), 2).reshape(dx.shape)
    )
    assert unpool.output_shape((2, 3, 3, 2)) == (2, 3, 6, 4)
    assert unpool.forward(y[:0], indices=indices[:0], input_grad=False)[1](image[:0, :, :, :4]) is None


@pytest.mark.parametrize("backend", BACKENDS)
def test_tied_maxima_give_the_gradient_to_the_first(backend):
    layer = nb.MaxPool2d(2).to(backend)
    _, backprop = layer.forward(np.zeros((1, 1, 2, 4), np.float32))
    dx = backprop(np.array([[[[1, 2]]]], np.float32))
    np.testing.assert_array_equal(dx, [[[[1, 0, 2, 0], [0, 0, 0, 0]]]])


@pytest.mark.parametrize("case", ["conv", "dense", "batchnorm", "model"])
def test_gradients_add_up_until_they_are_forgotten(case):
    make, shape = CASES[case]
    layer = make().to("reference", dtype="float64")
    x = distinct(shape)
    dy = np.random.default_rng(0).standard_normal(layer.output_shape(shape))

    def run():
        _, backprop = layer.forward(x, training=True)
        backprop(dy)
        return [p.grad.copy() for p in layer.parameters()]

    for once, twice in zip(run(), run(), strict=True):
        np.testing.assert_allclose(twice, 2 * once, rtol=1e-12)


class _WrongDense(nb.Dense):
    def forward(self, x, training=False, *, input_grad=True):
        y, backprop = super().forward(x, training, input_grad=input_grad)

        def wrong(dy):
            dx = backprop(dy)
            self.bias.grad[1] += 1e-3
            return dx

        return y, wrong


def test_the_check_finds_a_wrong_gradient():
    layer = _WrongDense(3, 2).to("reference", dtype="float64")
    with pytest.raises(GradientError, match=r"the gradient of bias at \(1,\)"):
        check_gradients(layer, distinct((4, 3)))


def test_the_check_needs_float64():
    with pytest.raises(ValueError, match="float64"):
        check_gradients(nb.Dense(3, 2), distinct((4, 3)))
