"""Maximum pooling by 2 x 2 windows, which has code of its own, against PyTorch: the same bits."""

import numpy as np
import pytest

from nbconv_kernels import cpu

# shape, stride, padding, ceil_mode
CASES = [
    ((2, 3, 8, 9), 2, 0, False),
    ((2, 3, 9, 8), 2, 0, False),
    ((1, 17, 7, 9), 2, 0, True),
    ((3, 6, 6, 6), 1, 0, False),
    ((2, 5, 10, 11), 3, 0, False),
    ((2, 5, 7, 7), 2, 1, False),
    ((4, 33, 2, 2), 2, 0, False),
    ((2, 4, 5, 2), (1, 2), 0, False),
]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("shape", "stride", "padding", "ceil_mode"), CASES)
def test_pooling_and_its_gradient_are_pytorchs(shape, stride, padding, ceil_mode, dtype):
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    x = rng.integers(-2, 3, shape).astype(dtype)  # ties
    x[rng.random(shape) < 0.1] = np.nan
    theirs = torch.tensor(x, requires_grad=True)
    expected, places = torch.nn.functional.max_pool2d(
        *(theirs, 2, stride, padding), ceil_mode=ceil_mode, return_indices=True
    )
    y, indices = cpu.max_pool2d(x, 2, stride, padding, ceil_mode=ceil_mode)
    np.testing.assert_array_equal(y, expected.detach().numpy())
    np.testing.assert_array_equal(indices, places.numpy())
    dy = rng.integers(-9, 10, y.shape).astype(dtype)  # whose sums are exact
    expected.backward(torch.tensor(dy))
    np.testing.assert_array_equal(cpu.max_pool2d_backward(dy, indices, shape), theirs.grad.numpy())
