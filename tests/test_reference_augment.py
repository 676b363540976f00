"""The reference operations of augmentation against SciPy, PyTorch and formulas."""

import numpy as np
import pytest
from scipy import ndimage, stats

from nbconv_kernels import reference

SCIPY_MODES = {"zeros": "grid-constant", "border": "nearest", "reflection": "reflect"}


def rng():
    return np.random.default_rng(7)


def scipy_sample(image, matrix, size, mode, fill):
    """One (H, W) image by SciPy, whose places are (row, column) from the upper left pixel."""
    swapped = matrix[::-1][:, [1, 0, 2]]
    middle_in, middle_out = ((np.array(s) - 1) / 2 for s in (image.shape, size))
    offset = swapped[:, 2] + middle_in - swapped[:, :2] @ middle_out
    return ndimage.affine_transform(
        image, swapped[:, :2], offset, size, order=1, mode=SCIPY_MODES[mode], cval=fill, prefilter=False
    )


@pytest.mark.parametrize("mode", SCIPY_MODES)
@pytest.mark.parametrize(
    ("shape", "size"), [((2, 3, 9, 8), None), ((3, 2, 5, 7), (8, 4)), ((1, 1, 1, 6), (3, 3))]
)
def test_affine_sampling_is_scipys(mode, shape, size):
    x, maps = rng().normal(size=shape), rng().normal(size=(shape[0], 2, 3))
    fill = 0.7 if mode == "zeros" else 0.0
    y = reference.affine_sample(x, maps, size, mode, fill)
    size = size or shape[2:]
    expected = [
        [scipy_sample(plane, m, size, mode, fill) for plane in image]
        for image, m in zip(x, maps, strict=True)
    ]
    np.testing.assert_allclose(y, expected, atol=1e-12)


@pytest.mark.parametrize("mode", SCIPY_MODES)
@pytest.mark.parametrize("size", [(6, 10), (9, 4)])
def test_affine_sampling_is_pytorchs(mode, size):
    torch = pytest.importorskip("torch")
    x, theta = rng().normal(size=(4, 3, 6, 10)), rng().normal(size=(4, 2, 3))
    grid = torch.nn.functional.affine_grid(torch.from_numpy(theta), (4, 3, *size), align_corners=False)
    expected = torch.nn.functional.grid_sample(
        torch.from_numpy(x), grid, "bilinear", mode, align_corners=False
    ).numpy()
    # Halves of the size as PyTorch counts, to pixels: multiply by the input's, divide by the output's.
    maps = theta.copy()
    maps *= np.array([10, 6])[:, None] / 2
    maps[:, :, :2] /= np.array(size[::-1]) / 2
    np.testing.assert_allclose(reference.affine_sample(x, maps, size, mode), expected, atol=1e-12)


def test_mirror_images_and_whole_steps_are_exact():
    x = rng().normal(size=(1, 2, 4, 7)).astype(np.float32)

    def sample(*matrix, size=None):
        return reference.affine_sample(x, np.array([matrix], np.float64), size)

    np.testing.assert_array_equal(sample([1, 0, 0], [0, 1, 0]), x)
    np.testing.assert_array_equal(sample([-1, 0, 0], [0, 1, 0]), x[..., ::-1])
    np.testing.assert_array_equal(sample([1, 0, 0], [0, -1, 0]), x[..., ::-1, :])
    np.testing.assert_array_equal(sample([0, 1, 0], [-1, 0, 0], size=(7, 4)), np.rot90(x, -1, (2, 3)))
    moved = np.zeros_like(x)
    moved[..., 1:, :-2] = x[..., :-1, 2:]
    np.testing.assert_array_equal(sample([1, 0, 2], [0, 1, -1]), moved)


def test_noise_is_normal_and_each_image_has_its_own_spread():
    x = rng().normal(size=(3, 2, 90, 100))
    std = np.array([0.0, 0.5, 2.0])
    noise = reference.gaussian_noise(x, std, 11, 3) - x
    assert not noise[0].any()
    for i in (1, 2):
        assert stats.kstest(noise[i].ravel() / std[i], "norm").pvalue > 0.01
    z = (noise[1:] / std[1:, None, None, None]).transpose(0, 2, 3, 1).reshape(2, -1)
    for lag in (1, 2, 3, 4):  # both of a pair, both of a counter, neighbouring counters
        assert abs(np.mean(z[:, lag:] * z[:, :-lag])) < 4 / np.sqrt(z.size)
        assert abs(np.mean(z[:, lag:] ** 2 * z[:, :-lag] ** 2) - 1) < 12 / np.sqrt(z.size)
    assert abs(np.mean(z[0] * z[1])) < 4 / np.sqrt(z[0].size)


def test_noise_follows_from_seed_and_offset():
    x, std = np.zeros((2, 1, 8, 8)), np.ones(2)
    first, again, other, later = (
        reference.gaussian_noise(x, std, seed, offset) for seed, offset in ((5, 1), (5, 1), (6, 1), (5, 2))
    )
    np.testing.assert_array_equal(first, again)
    for different in (other, later):
        assert abs(np.corrcoef(first.ravel(), different.ravel())[0, 1]) < 0.35
    # An image's noise does not depend on how many follow it.
    np.testing.assert_array_equal(reference.gaussian_noise(x[:1], std[:1], 5, 1), first[:1])


@pytest.mark.parametrize("channels", [1, 3])
def test_colours_change_one_after_the_other(channels):
    x = rng().uniform(0, 1, (5, channels, 6, 4))
    brightness, contrast, saturation = rng().uniform(0.3, 1.7, (3, 5))

    def grey(image):
        weights = [1.0] if channels == 1 else [0.299, 0.587, 0.114]
        return np.tensordot(weights, image, 1)[None]

    expected = []
    for image, b, k, s in zip(x, brightness, contrast, saturation, strict=True):
        image = b * image
        image = k * image + (1 - k) * grey(image).mean()
        image = s * image + (1 - s) * grey(image)
        expected.append(image.clip(0.2, 0.9))
    y = reference.color_jitter(x, brightness, contrast, saturation, 0.2, 0.9)
    np.testing.assert_allclose(y, expected, atol=1e-12)
    ones = np.ones(5)
    np.testing.assert_array_equal(reference.color_jitter(x, ones, ones, ones), x)


def test_boxes_are_erased():
    x = rng().normal(size=(3, 2, 5, 6))
    y = reference.erase_boxes(x, np.array([[1, 2, 4, 6], [0, 0, 5, 6], [3, 3, 3, 5]]), 9.0)
    expected = x.copy()
    expected[0, :, 1:4, 2:6] = 9
    expected[1] = 9
    np.testing.assert_array_equal(y, expected)


def test_images_are_mixed():
    x = rng().normal(size=(3, 2, 5, 6))
    y = reference.mix_images(x, np.array([2, 1, 0]), np.array([0.25, 0.5, 1.0]))
    np.testing.assert_allclose(y, [0.25 * x[0] + 0.75 * x[2], x[1], x[2]], atol=1e-15)
