import numpy as np
import pytest

import nbconv as nb
from nbconv.errors import NonFiniteError

BACKENDS = ["reference", "cpu"]


def parameters(backend, *gradients):
    made = []
    for gradient in gradients:
        parameter = nb.Parameter(np.shape(gradient), nb.initializers.zeros())
        parameter.to(backend, np.dtype("float32"))
        parameter.grad = np.array(gradient, np.float32)
        made.append(parameter)
    return [*made, nb.Parameter((2,), nb.initializers.zeros())]  # which has no gradient


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_long_gradient_is_scaled_to_the_norm(backend):
    params = parameters(backend, [[3.0, 0.0]], [-4.0])
    assert nb.clip_grad_norm_(params, 1.0) == pytest.approx(5.0)
    np.testing.assert_allclose(params[0].grad, [[0.6, 0.0]], rtol=1e-6)
    np.testing.assert_allclose(params[1].grad, [-0.8], rtol=1e-6)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_short_gradient_stays(backend):
    params = parameters(backend, [3.0, -4.0])
    assert nb.clip_grad_norm_(iter(params), 5.1) == pytest.approx(5.0)
    np.testing.assert_array_equal(params[0].grad, [3.0, -4.0])


def test_values_are_clipped_one_by_one():
    params = parameters("cpu", [3.0, -4.0, 0.5])
    nb.clip_grad_value_(params, 1.5)
    np.testing.assert_array_equal(params[0].grad, [1.5, -1.5, 0.5])
    nb.clip_grad_value_(params[0], 0.5)
    np.testing.assert_array_equal(params[0].grad, [0.5, -0.5, 0.5])


@pytest.mark.parametrize("max_norm", [0.0, 0.3, 1e3])
def test_clipping_is_pytorchs(max_norm):
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    gradients = [rng.normal(size=shape).astype(np.float32) for shape in ((5, 4), (3,), (2, 3, 3, 3))]
    ours = parameters("cpu", *gradients)
    theirs = [torch.nn.Parameter(torch.zeros(g.shape)) for g in gradients]
    for tensor, gradient in zip(theirs, gradients, strict=True):
        tensor.grad = torch.tensor(gradient)
    norm = torch.nn.utils.clip_grad_norm_(theirs, max_norm)
    assert nb.clip_grad_norm_(ours, max_norm) == pytest.approx(float(norm), rel=1e-6)
    for tensor, parameter in zip(theirs, ours, strict=False):
        np.testing.assert_allclose(parameter.grad, tensor.grad, rtol=1e-6)


def test_a_nan_is_named_if_asked_for_and_spread_otherwise():
    params = parameters("cpu", [1.0, np.nan], [2.0])
    with pytest.raises(NonFiniteError, match="the norm of the gradients is nan"):
        nb.clip_grad_norm_(params, 1.0, error_if_nonfinite=True)
    np.testing.assert_array_equal(params[1].grad, [2.0])
    assert np.isnan(nb.clip_grad_norm_(params, 1.0))
    assert np.isnan(params[1].grad).all()


def test_nothing_to_clip():
    assert nb.clip_grad_norm_([], 1.0) == 0.0
    nb.clip_grad_value_(parameters("cpu"), 1.0)


@pytest.mark.parametrize("bound", [-1.0, float("nan")])
def test_bounds_are_not_negative(bound):
    with pytest.raises(ValueError, match="max_norm must not be negative"):
        nb.clip_grad_norm_([], bound)
    with pytest.raises(ValueError, match="clip_value must not be negative"):
        nb.clip_grad_value_([], bound)


@pytest.mark.parametrize("backend", BACKENDS)
def test_an_infinite_gradient_becomes_nan_in_silence(backend):
    """As in PyTorch: the factor is 0."""
    params = parameters(backend, [3.0, np.inf], [1.0])
    assert nb.clip_grad_norm_(params, 1.0) == np.inf
    np.testing.assert_array_equal(params[0].grad, [0.0, np.nan])
    np.testing.assert_array_equal(params[1].grad, [0.0])
