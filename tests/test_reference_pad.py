"""The reference padding against NumPy, PyTorch and finite differences."""

import numpy as np
import pytest
from oracles import distinct, finite_differences

from nbconv_kernels import reference as ops
from nbconv_kernels.sampling import PAD_MODES

NUMPY = {"replicate": "edge", "circular": "wrap"}
PADDINGS = [0, 2, (1, 3), ((3, 0), (1, 2))]
modes = pytest.mark.parametrize("mode", PAD_MODES)
paddings = pytest.mark.parametrize("padding", PADDINGS)


def sides(padding):
    vertical, horizontal = padding if isinstance(padding, tuple) else (padding, padding)
    return tuple(side if isinstance(side, tuple) else (side, side) for side in (vertical, horizontal))


@modes
@paddings
def test_forward_agrees_with_numpy(mode, padding):
    x = distinct((2, 3, 4, 5))
    expected = np.pad(x, ((0, 0), (0, 0), *sides(padding)), NUMPY.get(mode, mode))
    np.testing.assert_array_equal(ops.pad2d(x, padding, mode), expected)


@modes
@paddings
def test_gradient_is_finite_differences(mode, padding):
    x = distinct((1, 2, 4, 5))
    y = ops.pad2d(x, padding, mode)
    dy = np.random.default_rng(0).standard_normal(y.shape)
    expected = finite_differences(lambda x: ops.pad2d(x, padding, mode), [x], 0, dy)
    np.testing.assert_allclose(ops.pad2d_backward(dy, x.shape, padding, mode), expected, rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize("mode", ["constant", "reflect", "replicate", "circular"])
@paddings
def test_forward_and_gradient_agree_with_pytorch(mode, padding):
    torch = pytest.importorskip("torch")
    x = distinct((2, 3, 4, 5))
    (top, bottom), (left, right) = sides(padding)
    t = torch.tensor(x, requires_grad=True)
    value = 1.5 if mode == "constant" else None
    expected = torch.nn.functional.pad(t, (left, right, top, bottom), mode, value)
    y = ops.pad2d(x, padding, mode, 1.5)
    np.testing.assert_array_equal(y, expected.detach())
    dy = np.random.default_rng(0).standard_normal(y.shape)
    expected.backward(torch.tensor(dy))
    np.testing.assert_allclose(ops.pad2d_backward(dy, x.shape, padding, mode), t.grad, rtol=1e-12)


@modes
def test_as_much_padding_as_the_mode_can_fill(mode):
    x = distinct((1, 1, 3, 4))
    most = (2, 3) if mode == "reflect" else (3, 4)
    expected = np.pad(x, ((0, 0), (0, 0), *sides(most)), NUMPY.get(mode, mode))
    np.testing.assert_array_equal(ops.pad2d(x, most, mode), expected)
    if mode in ("constant", "replicate"):
        assert ops.pad2d(x, 9, mode).shape == (1, 1, 21, 22)
    else:
        with pytest.raises(ValueError, match=f'"{mode}" fills at most {most[0]} elements beside 3'):
            ops.pad2d(x, (most[0] + 1, 0), mode)
        with pytest.raises(ValueError, match=rf"fills at most {most[1]} .* an input of shape \(1, 1, 3, 4\)"):
            ops.pad2d(x, (0, most[1] + 1), mode)


@modes
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("n", [0, 2])
def test_dtype_and_layout_of_the_results(mode, dtype, n):
    x = np.ones((n, 3, 4, 5), dtype)
    y = ops.pad2d(x, 1, mode, 2.0)
    dx = ops.pad2d_backward(y, x.shape, 1, mode)
    assert y.shape == (n, 3, 6, 7)
    assert dx.shape == x.shape
    for array in (y, dx):
        assert array.dtype == dtype
        assert array.transpose(0, 2, 3, 1).flags.c_contiguous


def test_what_is_wrong():
    x = np.ones((1, 2, 3, 4))
    with pytest.raises(ValueError, match=r"mode must be one of 'constant', .*, got 'zeros'"):
        ops.pad2d(x, 1, "zeros")
    with pytest.raises(ValueError, match="padding must not be negative"):
        ops.pad2d(x, -1)
    with pytest.raises(ValueError, match="padding must be integers, got 'same'"):
        ops.pad2d(x, "same")
    with pytest.raises(ValueError, match=r"an input of shape \(N, C, H, W\), got shape \(2, 3, 4\)"):
        ops.pad2d(x[0], 1)
    with pytest.raises(ValueError, match=r"expected dy of shape \(1, 2, 5, 6\), got shape \(1, 2, 3, 4\)"):
        ops.pad2d_backward(x, x.shape, 1)
    with pytest.raises(TypeError, match="expected float32 or float64, got int64"):
        ops.pad2d(np.ones((1, 2, 3, 4), np.int64), 1)
