"""Outputs and gradients of layers that PyTorch has too, in float64, with the same parameters."""

import numpy as np
import pytest
from oracles import distinct

import nbconv as nb

torch = pytest.importorskip("torch")

BACKENDS = ["reference", "cpu"]
IMAGE = (2, 4, 7, 6)

# PyTorch's module is built with the same arguments, by the same name unless one is given.
CASES = {
    "reflect": (lambda n: n.Conv2d(4, 6, 3, padding=(2, 1), padding_mode="reflect"), IMAGE),
    "replicate": (lambda n: n.Conv2d(4, 6, 3, padding=(9, 1), padding_mode="replicate"), IMAGE),
    "circular": (lambda n: n.Conv2d(4, 6, 3, 2, padding=2, groups=2, padding_mode="circular"), IMAGE),
    "reflect, same": (lambda n: n.Conv2d(4, 6, (3, 5), padding="same", padding_mode="reflect"), IMAGE),
    "transpose": (lambda n: n.ConvTranspose2d(4, 3, 3), IMAGE),
    "transpose, stride": (lambda n: n.ConvTranspose2d(4, 3, 4, 2, 1), IMAGE),
    "transpose, everything": (
        lambda n: n.ConvTranspose2d(4, 6, (3, 2), (2, 3), (1, 2), (1, 2), 2, False, (2, 1)),
        IMAGE,
    ),
    "upsample": (lambda n: n.Upsample(scale_factor=2), IMAGE),
    "upsample, size": (lambda n: n.Upsample((5, 13)), IMAGE),
    "upsample, fraction": (lambda n: n.Upsample(scale_factor=(1.7, 0.6)), IMAGE),
    "upsample, bilinear": (lambda n: n.Upsample(scale_factor=(2.5, 1.3), mode="bilinear"), IMAGE),
    "upsample, corners": (lambda n: n.Upsample((9, 3), mode="bilinear", align_corners=True), IMAGE),
    "group norm": (lambda n: n.GroupNorm(2, 4), IMAGE),
    "group norm, eps": (lambda n: n.GroupNorm(4, 4, 0.1), IMAGE),
    "group norm, one": (lambda n: n.GroupNorm(1, 4, affine=False), IMAGE),
    "layer norm": (lambda n: n.LayerNorm((4, 7, 6)), IMAGE),
    "layer norm, last": (lambda n: n.LayerNorm(6, bias=False), IMAGE),
    "layer norm, flat": (lambda n: n.LayerNorm([5], 0.1), (3, 5)),
    "response norm": (lambda n: n.LocalResponseNorm(3, 0.5), IMAGE),
    "response norm, even": (lambda n: n.LocalResponseNorm(2, 0.5, 1.5, 2.0), IMAGE),
    "response norm, beyond": (lambda n: n.LocalResponseNorm(9, 0.5), IMAGE),
    "prelu": (lambda n: n.PReLU(), IMAGE),
    "prelu, channels": (lambda n: n.PReLU(4, 0.4), IMAGE),
    "prelu, flat": (lambda n: n.PReLU(4), (3, 4)),
    "relu6": (lambda n: n.ReLU6(), IMAGE),
    "selu": (lambda n: n.SELU(), IMAGE),
    "gelu": (lambda n: n.GELU(), IMAGE),
    "gelu, tanh": (lambda n: n.GELU("tanh"), IMAGE),
    "silu": (lambda n: n.SiLU(), IMAGE),
    "hardswish": (lambda n: n.Hardswish(), IMAGE),
    "softplus": (lambda n: n.Softplus(2.0, 3.0), IMAGE),
    "log softmax": (lambda n: n.LogSoftmax(dim=1), IMAGE),
}


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("case", CASES)
def test_layers_are_pytorchs(case, training, backend):
    make, shape = CASES[case]
    ours = make(nb).to(backend, dtype="float64")
    theirs = make(torch.nn).double().train(training)
    rng = np.random.default_rng(0)
    for parameter in theirs.parameters():
        parameter.data = torch.tensor(rng.uniform(0.2, 1.0, tuple(parameter.shape)))
    assert ours.load_state_dict(theirs.state_dict()) == ([], [])
    x = distinct(shape)
    tensor = torch.tensor(x, requires_grad=True)
    y, backprop = ours.forward(x, training)
    expected = theirs(tensor)
    np.testing.assert_allclose(y, expected.detach(), rtol=1e-10, atol=1e-12)
    dy = rng.standard_normal(y.shape)
    dx = backprop(dy)
    expected.backward(torch.tensor(dy))
    np.testing.assert_allclose(dx, tensor.grad, rtol=1e-10, atol=1e-12)
    for (name, parameter), other in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        np.testing.assert_allclose(parameter.grad, other.grad, rtol=1e-10, atol=1e-12, err_msg=name)


@pytest.mark.parametrize("name", ["ConvTranspose2d", "Conv2d"])
def test_first_weights_are_spread_as_pytorchs(name):
    ours, theirs = getattr(nb, name)(32, 48, 3, groups=2), getattr(torch.nn, name)(32, 48, 3, groups=2)
    for key, value in theirs.state_dict().items():
        drawn = ours.state_dict()[key]
        assert drawn.shape == tuple(value.shape)
        assert np.abs(drawn).max() == pytest.approx(float(value.abs().max()), rel=0.2)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(("kernel", "stride", "padding"), [(2, None, 0), (3, 2, 1), ((3, 2), (2, 1), (1, 0))])
def test_unpooling_is_pytorchs(kernel, stride, padding, backend):
    x = distinct((2, 3, 9, 8))
    pool = nb.MaxPool2d(kernel, stride, padding).to(backend, dtype="float64")
    y, indices, _ = pool.forward_with_indices(x)
    values, places = torch.nn.MaxPool2d(kernel, stride, padding, return_indices=True)(torch.tensor(x))
    np.testing.assert_array_equal(indices, places)
    unpool = nb.MaxUnpool2d(kernel, stride, padding).to(backend, dtype="float64")
    theirs = torch.nn.MaxUnpool2d(kernel, stride, padding)
    expected = theirs(values, places, output_size=x.shape)
    np.testing.assert_array_equal(unpool(y, indices, x.shape), expected)
    assert unpool.output_shape(y.shape) == tuple(theirs(values, places * 0).shape)


@pytest.mark.parametrize("backend", BACKENDS)
def test_maxout_is_the_larger_of_two_lines(backend):
    """T1: max(w1 x + b1, w2 x + b2)."""
    dense = torch.nn.Linear(5, 6).double()
    model = nb.Sequential(nb.Dense(5, 6), nb.Maxout(2), backend=backend, dtype="float64")
    model[0].load_state_dict(dense.state_dict())
    x = distinct((4, 5))
    pairs = dense(torch.tensor(x)).reshape(4, 3, 2)
    np.testing.assert_allclose(model(x), pairs.amax(dim=2).detach(), rtol=1e-12)
