"""The reference activations against the ONNX reference evaluator, PyTorch and finite differences."""

import numpy as np
import pytest
from oracles import distinct, finite_differences, onnx_op

from nbconv_kernels import reference as ops

# The op, its argument, ONNX's operator and attributes, and whether the gradient takes y rather than x.
CASES = {
    "relu": (ops.relu, (), "Relu", {}, ops.relu_backward, True),
    "leaky_relu": (ops.leaky_relu, (0.2,), "LeakyRelu", {"alpha": 0.2}, ops.leaky_relu_backward, False),
    "leaky_relu, default": (ops.leaky_relu, (), "LeakyRelu", {"alpha": 0.01}, ops.leaky_relu_backward, False),
    "elu": (ops.elu, (1.7,), "Elu", {"alpha": 1.7}, ops.elu_backward, False),
    "elu, default": (ops.elu, (), "Elu", {}, ops.elu_backward, False),
    "sigmoid": (ops.sigmoid, (), "Sigmoid", {}, ops.sigmoid_backward, True),
    "tanh": (ops.tanh, (), "Tanh", {}, ops.tanh_backward, True),
    "softmax": (ops.softmax, (), "Softmax", {"axis": 1}, ops.softmax_backward, True),
    "softmax, last axis": (ops.softmax, (-1,), "Softmax", {"axis": -1}, ops.softmax_backward, True),
    "log_softmax": (ops.log_softmax, (), "LogSoftmax", {"axis": 1}, ops.log_softmax_backward, True),
    "log_softmax, first axis": (
        ops.log_softmax,
        (0,),
        "LogSoftmax",
        {"axis": 0},
        ops.log_softmax_backward,
        True,
    ),
    "selu": (ops.selu, (), "Selu", {}, ops.selu_backward, False),
    "gelu": (ops.gelu, (), "Gelu", {}, ops.gelu_backward, False),
    "gelu, tanh": (ops.gelu, ("tanh",), "Gelu", {"approximate": "tanh"}, ops.gelu_backward, False),
    "silu": (ops.silu, (), None, {}, ops.silu_backward, False),
    "hardswish": (ops.hardswish, (), "HardSwish", {}, ops.hardswish_backward, False),
    "softplus": (ops.softplus, (), "Softplus", {}, ops.softplus_backward, False),
    "softplus, steep": (ops.softplus, (2.0, 1.5), None, {}, ops.softplus_backward, False),
}
cases = pytest.mark.parametrize("case", CASES)


@cases
@pytest.mark.parametrize("shape", [(4, 5), (2, 3, 4, 5), (2, 3, 4)])
def test_forward_agrees_with_onnx(case, shape):
    op, args, name, attributes, _, _ = CASES[case]
    if name is None:
        pytest.skip("ONNX has no such operator")
    x = distinct(shape)
    # Attributes are float32 in ONNX, and so are the constants of operators made up of others.
    atol = 1e-7 if name in ("Gelu", "HardSwish") else 1e-12
    np.testing.assert_allclose(op(x, *args), onnx_op(name, x, **attributes)[0], rtol=1e-7, atol=atol)


@cases
@pytest.mark.parametrize("shape", [(4, 5), (2, 3, 2, 4)])
def test_gradient_is_finite_differences(case, shape):
    op, args, _, _, backward, wants_y = CASES[case]
    x = distinct(shape)
    dy = np.random.default_rng(1).standard_normal(shape)
    expected = finite_differences(lambda x: op(x, *args), [x], 0, dy)
    dx = backward(dy, op(x, *args) if wants_y else x, *args)
    np.testing.assert_allclose(dx, expected, rtol=1e-6, atol=1e-8)


@cases
def test_special_values_agree_with_pytorch(case):
    torch = pytest.importorskip("torch")
    op, args, _, _, backward, wants_y = CASES[case]
    name = op.__name__
    special = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 1e4, -1e4, 1e-30, 1.0], np.float32)
    # In rows of one, so that a softmax sees every value beside ordinary ones.
    x = np.stack([special, np.ones_like(special)], axis=1)
    if name.endswith("softmax"):
        args = (1,)
    t = torch.tensor(x, requires_grad=True)
    how = {"approximate": args[0]} if name == "gelu" and args else {}
    expected = getattr(torch.nn.functional, name)(t, *(() if how else args), **how)
    expected.sum().backward()
    y = op(x, *args)
    expected = expected.detach().numpy().copy()
    if name == "gelu":
        expected[1, 0] = np.inf  # PyTorch's vectors multiply zero and infinity on the way
    np.testing.assert_allclose(y, expected, rtol=1e-6)
    dx = backward(np.ones_like(x), y if wants_y else x, *args)
    # Where x is NaN, PyTorch's gradients depend on its build.
    defined = ~np.isnan(x) if not name.endswith("softmax") else np.ones_like(x, bool)
    np.testing.assert_allclose(dx[defined], t.grad.numpy()[defined], rtol=1e-5, atol=1e-6)


def test_relu6_is_cut_at_both_ends():
    x = np.array([-7.0, -0.0, 0.5, 5.5, 6.0, 6.5, np.inf, np.nan])
    y = ops.relu6(x)
    np.testing.assert_array_equal(y, [0, 0, 0.5, 5.5, 6, 6, 6, np.nan])
    np.testing.assert_array_equal(ops.relu6_backward(np.arange(1.0, 9.0), y), [0, 0, 3, 4, 0, 0, 0, 8])


def test_nan_passes_the_relu_and_its_gradient():
    x = np.array([np.nan, -1.0, 2.0])
    np.testing.assert_array_equal(ops.relu(x), [np.nan, 0, 2])
    np.testing.assert_array_equal(ops.relu_backward(np.array([5.0, np.nan, 6.0]), ops.relu(x)), [5, 0, 6])


@cases
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (0, 3, 4, 5), (4, 5), (0, 5)])
def test_dtype_and_layout_of_the_results(case, dtype, shape):
    op, args, _, _, backward, _ = CASES[case]
    x = np.asfortranarray(np.ones(shape, dtype))
    for result in (op(x, *args), backward(x, x, *args)):
        assert result.dtype == dtype
        assert result.shape == shape
        memory = result.transpose(0, 2, 3, 1) if len(shape) == 4 else result
        assert memory.flags.c_contiguous


def test_arrays_without_axes_keep_their_shape():
    x = np.array(-2.0)
    assert ops.relu(x).shape == ops.sigmoid(x).shape == ops.elu_backward(x, x).shape == ()


@cases
def test_what_is_wrong(case):
    op, _, _, _, backward, _ = CASES[case]
    with pytest.raises(TypeError, match="expected float32 or float64, got int64"):
        op(np.ones((2, 3), np.int64))
    with pytest.raises(TypeError, match="expected arrays of one dtype, got float64 and float32"):
        backward(np.ones((2, 3)), np.ones((2, 3), np.float32))
    with pytest.raises(ValueError, match=r"expected dy of [xy]'s shape \(3, 2\), got shape \(2, 3\)"):
        backward(np.ones((2, 3)), np.ones((3, 2)))


def test_what_is_wrong_with_an_axis():
    with pytest.raises(ValueError, match=r"axis 2 is out of range for an array of shape \(2, 3\)"):
        ops.softmax(np.ones((2, 3)), 2)
    with pytest.raises(ValueError, match=r"axis -3 is out of range for an array of shape \(2, 3\)"):
        ops.softmax_backward(np.ones((2, 3)), np.ones((2, 3)), -3)


@pytest.mark.parametrize("shape", [(4, 3), (2, 3, 4, 5), (2, 3, 4), (6,)])
@pytest.mark.parametrize("shared", [False, True])
def test_prelu_agrees_with_pytorch_and_finite_differences(shape, shared):
    x, rng = distinct(shape), np.random.default_rng(1)
    dy = rng.standard_normal(shape)
    weight = rng.standard_normal(1 if shared or len(shape) == 1 else shape[1])
    dx, dweight = ops.prelu_backward(dy, x, weight)
    for which, gradient in enumerate((dx, dweight)):
        expected = finite_differences(ops.prelu, [x, weight], which, dy)
        np.testing.assert_allclose(gradient, expected, rtol=1e-6, atol=1e-8)
    torch = pytest.importorskip("torch")
    t, w = torch.tensor(x, requires_grad=True), torch.tensor(weight, requires_grad=True)
    expected = torch.nn.functional.prelu(t, w)
    expected.backward(torch.tensor(dy))
    np.testing.assert_allclose(ops.prelu(x, weight), expected.detach(), rtol=1e-12)
    np.testing.assert_allclose(dx, t.grad, rtol=1e-12)
    np.testing.assert_allclose(dweight, w.grad, rtol=1e-12)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("n", [0, 2])
def test_dtype_and_layout_of_prelu(dtype, n):
    x, weight = np.full((n, 3, 4, 5), -1, dtype), np.full(3, 0.5, dtype)
    dx, dweight = ops.prelu_backward(x, x, weight)
    for array in (ops.prelu(x, weight), dx):
        assert array.shape == x.shape
        assert array.transpose(0, 2, 3, 1).flags.c_contiguous
        assert array.dtype == dtype
    assert dweight.dtype == dtype
    np.testing.assert_array_equal(dweight, np.full(3, n * 20))


def test_what_is_wrong_with_arguments():
    x = np.ones((2, 3))
    with pytest.raises(ValueError, match=r"\(or one of shape \(1,\)\) of shape \(3,\), got shape \(2,\)"):
        ops.prelu(x, np.ones(2))
    with pytest.raises(TypeError, match="expected arrays of one dtype, got float64 and float32"):
        ops.prelu_backward(x, x, np.ones(3, np.float32))
    with pytest.raises(ValueError, match='approximate must be "none" or "tanh", got \'erf\''):
        ops.gelu(x, "erf")
