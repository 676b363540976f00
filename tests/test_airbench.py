import numpy as np
import pytest

import nbconv as nb


def images(n=60, channels=3):
    """Smooth pictures: neighbouring pixels and channels are alike, and nothing is centred."""
    rng = np.random.default_rng(0)
    coarse = rng.normal(0.5, 0.2, (n, 1, 8, 8)).repeat(4, axis=2).repeat(4, axis=3)
    return (coarse + rng.normal(0, 0.1, (n, channels, 32, 32))).astype(np.float32)


@pytest.mark.parametrize("channels", [1, 3])
def test_whitened_patches_have_unit_covariance(channels):
    x = images(channels=channels)
    model = nb.models.airbench(in_channels=channels, widths=(8, 8, 8), seed=0)
    conv = nb.models.whiten(model, x, eps=0.0)
    numbers = 4 * channels
    outputs = conv(x).transpose(0, 2, 3, 1).reshape(-1, 2 * numbers)
    covariance = np.cov(outputs[:, :numbers], rowvar=False, bias=True)
    np.testing.assert_allclose(covariance, np.eye(numbers), atol=1e-3)
    np.testing.assert_allclose(outputs.mean(axis=0), 0, atol=1e-3)
    np.testing.assert_allclose(outputs[:, numbers:], -outputs[:, :numbers], atol=1e-4)
    assert not conv.weight.requires_grad
    assert conv.bias.requires_grad


def test_the_filters_come_with_falling_variance():
    x = images()
    conv = nb.models.whiten(nb.models.airbench(widths=(8, 8, 8), seed=0), x)
    lengths = np.linalg.norm(conv.weight.data.reshape(24, 12)[:12], axis=1)
    assert (np.diff(lengths) > 0).all()  # the less variance, the longer the filter
    assert lengths[-1] <= 1 / np.sqrt(5e-4)


def test_it_learns_and_leaves_the_first_weights_alone():
    x, y = images(40), np.arange(40) % 2
    x[y == 1, 0] += 0.5
    model = nb.models.airbench(num_classes=2, widths=(8, 8, 8), seed=0)
    conv = nb.models.whiten(model, x)
    before = conv.weight.data.copy()
    trainer = nb.Trainer(
        model, nb.CrossEntropyLoss(label_smoothing=0.2), nb.SGD(model.parameters(), 0.05, 0.9)
    )
    trainer.fit(x, y, epochs=8, batch_size=10, verbose=False)
    assert trainer.evaluate(x, y)["accuracy"] >= 0.95
    np.testing.assert_array_equal(conv.weight.data, before)


@pytest.mark.parametrize(
    ("layers", "x", "message"),
    [
        ([nb.Flatten()], images(2), "must be a plain convolution with bias"),
        ([nb.Conv2d(3, 24, 2, bias=False)], images(2), "must be a plain convolution with bias"),
        ([nb.Conv2d(3, 20, 2)], images(2), "patches of 12 numbers need 12 or 24 filters, got 20"),
        ([nb.Conv2d(3, 12, 2)], images(2, 1), "expected images of 3 channels"),
        ([nb.Conv2d(3, 12, 2)], images(0), "expected images of 3 channels"),
    ],
)
def test_what_cannot_be_whitened(layers, x, message):
    with pytest.raises(ValueError, match=message):
        nb.models.whiten(nb.Sequential(*layers), x)
