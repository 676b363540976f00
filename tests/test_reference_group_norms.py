"""The reference's group, layer, local response and contrast normalisation against oracles."""

import numpy as np
import pytest
from oracles import finite_differences, onnx_op
from scipy.ndimage import correlate, correlate1d

from nbconv_kernels import reference as ops

GROUPS = [((3, 6, 4, 5), 1), ((3, 6, 4, 5), 2), ((2, 6, 1, 3), 6), ((1, 4, 3, 3), 2)]
LAYERS = [((4, 7), (7,)), ((2, 3, 5), (3, 5)), ((2, 3, 4, 5), (3, 4, 5)), ((2, 3, 4, 5), (5,)), ((6,), (6,))]


def randoms(*shapes, seed=0):
    rng = np.random.default_rng(seed)
    return [rng.standard_normal(shape) * 2 + 0.5 for shape in shapes]


@pytest.mark.parametrize(("shape", "groups"), GROUPS)
@pytest.mark.parametrize("affine", [False, True])
def test_group_norm_agrees_with_onnx_and_pytorch(shape, groups, affine):
    x, weight, bias, dy = randoms(shape, shape[1], shape[1], shape)
    parameters = (weight, bias) if affine else (None, None)
    y = ops.group_norm(x, groups, *parameters, eps=1e-3)
    if affine:
        (expected,) = onnx_op("GroupNormalization", x, weight, bias, num_groups=groups, epsilon=1e-3)
        np.testing.assert_allclose(y, expected, rtol=1e-6, atol=1e-6)
    torch = pytest.importorskip("torch")
    t, scale, shift = (torch.tensor(array, requires_grad=True) for array in (x, weight, bias))
    expected = torch.nn.functional.group_norm(t, groups, *((scale, shift) if affine else ()), eps=1e-3)
    expected.backward(torch.tensor(dy))
    np.testing.assert_allclose(y, expected.detach(), rtol=1e-10, atol=1e-12)
    dx, dweight, dbias = ops.group_norm_backward(dy, x, groups, parameters[0], 1e-3)
    np.testing.assert_allclose(dx, t.grad, rtol=1e-9, atol=1e-11)
    if affine:
        np.testing.assert_allclose(dweight, scale.grad, rtol=1e-10, atol=1e-12)
        np.testing.assert_allclose(dbias, shift.grad, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(("shape", "groups"), GROUPS)
def test_group_norm_gradients_are_finite_differences(shape, groups):
    x, weight, bias, dy = randoms(shape, shape[1], shape[1], shape)
    gradients = ops.group_norm_backward(dy, x, groups, weight, 0.1)
    for which, gradient in enumerate(gradients):
        expected = finite_differences(
            lambda x, weight, bias: ops.group_norm(x, groups, weight, bias, 0.1), [x, weight, bias], which, dy
        )
        np.testing.assert_allclose(gradient, expected, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize(("shape", "normalized"), LAYERS)
@pytest.mark.parametrize("affine", [False, True])
def test_layer_norm_agrees_with_onnx_and_pytorch(shape, normalized, affine):
    x, weight, bias, dy = randoms(shape, normalized, normalized, shape)
    parameters = (weight, bias) if affine else (None, None)
    y = ops.layer_norm(x, normalized, *parameters, eps=1e-3)
    if affine:
        axis = len(shape) - len(normalized)
        (expected,) = onnx_op("LayerNormalization", x, weight, bias, axis=axis, epsilon=1e-3)
        np.testing.assert_allclose(y, expected, rtol=1e-6, atol=1e-6)
    torch = pytest.importorskip("torch")
    t, scale, shift = (torch.tensor(array, requires_grad=True) for array in (x, weight, bias))
    expected = torch.nn.functional.layer_norm(t, normalized, *((scale, shift) if affine else ()), eps=1e-3)
    expected.backward(torch.tensor(dy))
    np.testing.assert_allclose(y, expected.detach(), rtol=1e-10, atol=1e-12)
    dx, dweight, dbias = ops.layer_norm_backward(dy, x, normalized, parameters[0], 1e-3)
    np.testing.assert_allclose(dx, t.grad, rtol=1e-9, atol=1e-11)
    if affine:
        np.testing.assert_allclose(dweight, scale.grad, rtol=1e-10, atol=1e-12)
        np.testing.assert_allclose(dbias, shift.grad, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(("shape", "normalized"), LAYERS)
def test_layer_norm_gradients_are_finite_differences(shape, normalized):
    x, weight, bias, dy = randoms(shape, normalized, normalized, shape)
    gradients = ops.layer_norm_backward(dy, x, normalized, weight, 0.1)
    for which, gradient in enumerate(gradients):
        expected = finite_differences(
            lambda x, w, b: ops.layer_norm(x, normalized, w, b, 0.1), [x, weight, bias], which, dy
        )
        np.testing.assert_allclose(gradient, expected, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("shape", [(2, 7, 3, 2), (1, 3, 2, 2), (1, 1, 1, 1)])
@pytest.mark.parametrize("size", [1, 2, 3, 5, 8])
def test_local_response_norm_agrees_with_scipy_and_pytorch(shape, size):
    x, dy = randoms(shape, shape)
    how = {"alpha": 0.3, "beta": 0.75, "k": 1.5}
    y = ops.local_response_norm(x, size, **how)
    energy = correlate1d(x * x, np.ones(size), axis=1, mode="constant")
    np.testing.assert_allclose(y, x / (1.5 + 0.3 / size * energy) ** 0.75, rtol=1e-10)
    torch = pytest.importorskip("torch")
    t = torch.tensor(x, requires_grad=True)
    expected = torch.nn.functional.local_response_norm(t, size, **how)
    expected.backward(torch.tensor(dy))
    np.testing.assert_allclose(y, expected.detach(), rtol=1e-10)
    dx = ops.local_response_norm_backward(dy, x, size, **how)
    np.testing.assert_allclose(dx, t.grad, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("size", [2, 5])
@pytest.mark.parametrize("beta", [0.5, 0.75, 2.0])
def test_local_response_norm_gradient_is_finite_differences(size, beta):
    x, dy = randoms((1, 6, 2, 3), (1, 6, 2, 3))
    expected = finite_differences(lambda x: ops.local_response_norm(x, size, 0.5, beta, 2.0), [x], 0, dy)
    dx = ops.local_response_norm_backward(dy, x, size, 0.5, beta, 2.0)
    np.testing.assert_allclose(dx, expected, rtol=1e-6, atol=1e-8)


GAUSS = np.exp(-np.add.outer(np.arange(-1, 2) ** 2, np.arange(-2, 3) ** 2) / 2)


def mean_around(x, window):
    """The mean over the channels and the window's weights inside the image, by SciPy."""
    inside = correlate(np.ones(x.shape[2:]), window, mode="constant")
    return np.stack([correlate(image.mean(axis=0), window, mode="constant") / inside for image in x])[:, None]


def test_contrast_norms_agree_with_scipy():
    (x,) = randoms((3, 2, 6, 7))
    v = ops.subtractive_norm(x, GAUSS)
    np.testing.assert_allclose(v, x - mean_around(x, GAUSS), rtol=1e-10, atol=1e-12)
    deviation = np.sqrt(mean_around(v**2, GAUSS))
    divisor = np.maximum(deviation, deviation.mean(axis=(2, 3), keepdims=True))
    assert 0 < np.mean(divisor == deviation) < 1
    np.testing.assert_allclose(ops.divisive_norm(v, GAUSS), v / divisor, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(
        ops.divisive_norm(v, GAUSS, 100.0), v / 100, rtol=1e-10, err_msg="eps is the least divisor"
    )


@pytest.mark.parametrize("eps", [1e-4, 1.9, 2.2, 100.0])
def test_contrast_norm_gradients_are_finite_differences(eps):
    x, dy = randoms((2, 3, 4, 5), (2, 3, 4, 5))
    expected = finite_differences(lambda x: ops.subtractive_norm(x, GAUSS), [x], 0, dy)
    np.testing.assert_allclose(ops.subtractive_norm_backward(dy, GAUSS), expected, rtol=1e-7, atol=1e-7)
    expected = finite_differences(lambda x: ops.divisive_norm(x, GAUSS, eps), [x], 0, dy)
    dx = ops.divisive_norm_backward(dy, x, GAUSS, eps)
    np.testing.assert_allclose(dx, expected, rtol=1e-6, atol=1e-7)


def test_contrast_norms_take_a_constant_image_to_zero():
    x = np.full((1, 2, 6, 5), 3.0)
    v = ops.subtractive_norm(x, GAUSS)
    np.testing.assert_allclose(v, 0, atol=1e-14)
    zero = np.zeros_like(x)
    np.testing.assert_array_equal(ops.divisive_norm(zero, GAUSS), zero)
    np.testing.assert_array_equal(ops.divisive_norm_backward(x, zero, GAUSS, 0.5), x / 0.5)


def test_statistics_of_float32_survive_a_large_mean():
    x = (np.random.default_rng(0).standard_normal((2, 4, 16, 16)) + 10_000).astype(np.float32)
    exact = ops.group_norm(x.astype(np.float64), 2)
    np.testing.assert_allclose(ops.group_norm(x, 2), exact, rtol=1e-5, atol=1e-6)
    exact = ops.layer_norm(x.astype(np.float64), (4, 16, 16))
    np.testing.assert_allclose(ops.layer_norm(x, (4, 16, 16)), exact, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("n", [0, 2])
def test_dtype_and_layout_of_the_results(dtype, n):
    x, vector = np.ones((n, 4, 3, 5), dtype), np.ones(4, dtype)
    images = [
        ops.group_norm(x, 2, vector, vector),
        ops.layer_norm(x, (4, 3, 5)),
        ops.local_response_norm(x, 3),
        ops.local_response_norm_backward(x, x, 3),
        ops.subtractive_norm(x, GAUSS),
        ops.subtractive_norm_backward(x, GAUSS),
        ops.divisive_norm(x, GAUSS),
        ops.divisive_norm_backward(x, x, GAUSS),
    ]
    dx, *vectors = ops.group_norm_backward(x, x, 2, vector)
    images.append(dx)
    assert [v.shape for v in vectors] == [(4,), (4,)]
    dx, *boxes = ops.layer_norm_backward(x, x, (4, 3, 5))
    images.append(dx)
    assert [box.shape for box in boxes] == [(4, 3, 5)] * 2
    for image in images:
        assert image.shape == x.shape
        assert image.transpose(0, 2, 3, 1).flags.c_contiguous
    assert all(box.flags.c_contiguous for box in boxes)
    assert {array.dtype for array in (*images, *vectors, *boxes)} == {np.dtype(dtype)}


def test_what_is_wrong():
    x, vector = np.ones((2, 4, 3, 5)), np.ones(4)
    with pytest.raises(ValueError, match=r"cannot part an input of shape \(2, 4, 3, 5\) into num_groups=3"):
        ops.group_norm(x, 3)
    with pytest.raises(ValueError, match=r"expected an input of shape \(N, C, H, W\), got shape \(2, 4\)"):
        ops.group_norm(x[:, :, 0, 0], 2)
    with pytest.raises(ValueError, match=r"expected weight of shape \(4,\), got shape \(3,\)"):
        ops.group_norm_backward(x, x, 2, vector[:3])
    with pytest.raises(ValueError, match=r"expected dy of shape \(2, 4, 3, 5\), got shape \(1, 4, 3, 5\)"):
        ops.group_norm_backward(x[:1], x, 2)
    with pytest.raises(ValueError, match=r"an input of shape \(\*, 3, 4\), got \(2, 4, 3, 5\)"):
        ops.layer_norm(x, (3, 4))
    with pytest.raises(ValueError, match=r"expected bias of shape \(5,\), got shape \(4,\)"):
        ops.layer_norm(x, (5,), None, vector)
    with pytest.raises(ValueError, match=r"expected dy of shape \(2, 4, 3, 5\), got shape \(1, 4, 3, 5\)"):
        ops.layer_norm_backward(x[:1], x, (5,))
    with pytest.raises(ValueError, match="size must be positive, got 0"):
        ops.local_response_norm(x, 0)
    with pytest.raises(ValueError, match=r"expected dy of shape \(2, 4, 3, 5\), got shape \(1, 4, 3, 5\)"):
        ops.local_response_norm_backward(x[:1], x, 3)
    with pytest.raises(ValueError, match=r"a window \(kh, kw\) of odd sizes, got shape \(3, 2\)"):
        ops.subtractive_norm(x, np.ones((3, 2)))
    with pytest.raises(ValueError, match="weights must be finite, not negative, and positive in the middle"):
        ops.divisive_norm(x, np.zeros((3, 3)))
    with pytest.raises(ValueError, match="eps must be positive, got 0"):
        ops.divisive_norm(x, np.ones((3, 3)), 0)
    with pytest.raises(TypeError, match="expected arrays of one dtype, got float64 and float32"):
        ops.group_norm(x, 2, vector.astype(np.float32))
