"""Rows T9 and T10: what is done to data before training, and how it is divided."""

import numpy as np
import pytest
from lecture_rows import row

import nbconv as nb


@row("T9")
def preprocessing(backend):
    (x, _), (held_out, _) = nb.data.digits()
    colours = np.concatenate([x, x**2, np.sqrt(x)], axis=1)
    for images in (x, colours):
        size = images[0].size
        mean = nb.preprocess.MeanImage.fit(images).to(backend)(images)
        np.testing.assert_allclose(mean, images - images.mean(axis=0, dtype=np.float64), atol=1e-6)
        channel = nb.preprocess.ChannelMean.fit(images).to(backend)(images)
        np.testing.assert_allclose(
            channel, images - images.mean((0, 2, 3), np.float64, keepdims=True), atol=1e-6
        )
        standard = nb.preprocess.Standardize.fit(images).to(backend)(images).astype(np.float64)
        np.testing.assert_allclose(standard.mean(axis=(0, 2, 3)), 0, atol=1e-5)
        np.testing.assert_allclose(standard.std(axis=(0, 2, 3)), 1, atol=1e-5)

        # Decorrelated: the covariance is diagonal. Whitened: it is the identity.
        count = 20
        decorrelated = nb.preprocess.PCA.fit(images, count).to(backend)(images)
        covariance = np.cov(decorrelated, rowvar=False, bias=True)
        np.testing.assert_allclose(covariance, np.diag(np.diag(covariance)), atol=1e-5)
        assert (np.diff(np.diag(covariance)) < 0).all()
        white = nb.preprocess.PCAWhitening.fit(images, count, eps=0).to(backend)(images)
        np.testing.assert_allclose(np.cov(white, rowvar=False, bias=True), np.eye(count), atol=1e-4)
        zca = nb.preprocess.ZCA.fit(images, count, eps=0).to(backend)(images)
        assert zca.shape == images.shape
        # Rotated back from the 20 components, it is the identity on their span: a projection of rank 20.
        covariance = np.cov(zca.reshape(len(zca), size), rowvar=False, bias=True)
        np.testing.assert_allclose(covariance @ covariance, covariance, atol=1e-4)
        assert np.trace(covariance) == pytest.approx(count, abs=1e-3)

    # Fitted on training data only, the held-out part is treated alike: not by its own mean.
    layer = nb.preprocess.MeanImage.fit(x).to(backend)
    np.testing.assert_allclose(layer(held_out), held_out - x.mean(axis=0, dtype=np.float64), atol=1e-6)


@row("T10")
def splits_and_folds(backend):
    (x, y), _ = nb.data.digits()
    rest, test = nb.data.train_test_split(x, y, 0.2, seed=0)
    train, validation = nb.data.train_test_split(*rest, 0.25, seed=0)
    sizes = [len(part.x) for part in (train, validation, test)]
    np.testing.assert_allclose(np.array(sizes) / len(x), [0.6, 0.2, 0.2], atol=1e-3)
    rows = np.concatenate([part.x for part in (train, validation, test)]).reshape(len(x), -1)
    np.testing.assert_array_equal(np.unique(rows, axis=0), np.unique(x.reshape(len(x), -1), axis=0))

    folds = list(nb.data.k_fold(y, 5, seed=0))
    np.testing.assert_array_equal(
        np.sort(np.concatenate([held_out for _, held_out in folds])), np.arange(len(x))
    )
    build = lambda: nb.Sequential(nb.Flatten(), nb.Dense(64, 10), seed=0, backend=backend)  # noqa: E731
    found = nb.cross_validate(build, x, y, k=5, epochs=3, optimizer=lambda p: nb.SGD(p, lr=0.3), seed=0)
    assert found.mean == pytest.approx(found.scores.sum() / 5)
    assert found.mean > 0.9
    assert 0 < found.std < 0.05
