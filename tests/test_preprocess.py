import copy

import numpy as np
import pytest

import nbconv as nb
from nbconv.data import DataLoader
from nbconv.errors import DataError, LayerError
from nbconv.inspect import check_gradients
from nbconv.preprocess import (
    PCA,
    ZCA,
    CenterCrop,
    ChannelMean,
    MeanImage,
    PCAWhitening,
    Resize,
    Standardize,
)

BACKENDS = ["reference", "cpu"]


def images(n=300, shape=(3, 4, 5), seed=0, dtype=np.float64):
    """Correlated images whose elements have means and deviations of their own."""
    rng = np.random.default_rng(seed)
    size = int(np.prod(shape))
    mixing = rng.normal(size=(size, size)) / np.sqrt(size) + np.diag(rng.uniform(0.5, 2, size))
    x = rng.normal(size=(n, size)) @ mixing + rng.uniform(-3, 3, size)
    return x.reshape(n, *shape).astype(dtype)


X = images()
F = X.reshape(300, -1)

FITS = {
    "mean image": lambda x: MeanImage.fit(x),
    "channel mean": lambda x: ChannelMean.fit(x),
    "standardize": lambda x: Standardize.fit(x),
    "standardize pixels": lambda x: Standardize.fit(x, per="pixel"),
    "pca": lambda x: PCA.fit(x),
    "pca, some": lambda x: PCA.fit(x, 7),
    "whitening": lambda x: PCAWhitening.fit(x),
    "whitening, some": lambda x: PCAWhitening.fit(x, 7),
    "zca": lambda x: ZCA.fit(x),
    "zca, some": lambda x: ZCA.fit(x, 20),
    "resize": lambda x: Resize((3, 7)),
    "resize, shorter side": lambda x: Resize(3),
    "crop": lambda x: CenterCrop((3, 2)),
}


def float64(layer, backend="reference"):
    return layer.to(backend, dtype=np.float64)


def flat(x):
    return np.asarray(x).reshape(len(x), -1)


def covariance(y):
    return np.cov(flat(y), rowvar=False, bias=True)


def test_mean_image():
    layer = MeanImage.fit(X)
    np.testing.assert_allclose(layer.mean, X.mean(axis=0), rtol=1e-6)
    y = layer(X.astype(np.float32))
    np.testing.assert_allclose(y, X - X.mean(axis=0), atol=2e-6)


def test_channel_mean():
    layer = ChannelMean.fit(X)
    np.testing.assert_allclose(layer.mean, X.mean(axis=(0, 2, 3)), rtol=1e-6)
    np.testing.assert_allclose(
        layer(X.astype(np.float32)), X - X.mean(axis=(0, 2, 3), keepdims=True), atol=2e-6
    )


def test_standardize_gives_mean_0_and_deviation_1():
    y = Standardize.fit(X)(X.astype(np.float32))
    np.testing.assert_allclose(y.mean(axis=(0, 2, 3)), 0, atol=1e-5)
    np.testing.assert_allclose(y.std(axis=(0, 2, 3)), 1, atol=1e-5)
    y = Standardize.fit(X, per="pixel")(X.astype(np.float32))
    np.testing.assert_allclose(y.mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(y.std(axis=0), 1, atol=1e-5)


def test_standardize_of_features_is_scikit_learns():
    preprocessing = pytest.importorskip("sklearn.preprocessing")
    expected = preprocessing.StandardScaler().fit(F).transform(F)
    np.testing.assert_allclose(Standardize.fit(F)(F.astype(np.float32)), expected, atol=2e-6)


def test_standardize_leaves_constants_alone():
    x = X.copy()
    x[:, 1] = 0.1
    x[:, 2, 0, 0] = 1 / 3
    layer = Standardize.fit(x, per="pixel")
    assert (layer.std[1] == 1).all()
    assert layer.std[2, 0, 0] == 1
    np.testing.assert_allclose(layer(x.astype(np.float32))[:, 1], 0, atol=1e-7)
    assert Standardize.fit(x).std[1] == 1


def test_pca_gives_a_diagonal_covariance_of_falling_variances():
    layer = float64(PCA.fit(X))
    y = layer(X)
    assert y.shape == (300, 60)
    found = covariance(y)
    np.testing.assert_allclose(found, np.diag(np.diag(found)), atol=2e-6)
    np.testing.assert_allclose(np.diag(found), layer.variances, rtol=1e-5)
    assert (np.diff(layer.variances) <= 0).all()
    assert layer.variances.sum() == pytest.approx(np.trace(covariance(X)), rel=1e-6)
    np.testing.assert_allclose(layer.weight @ layer.weight.T, np.eye(60), atol=1e-6)


@pytest.mark.parametrize("x", [X, F, X.astype(np.float32)], ids=["images", "features", "float32"])
def test_whitening_gives_the_identity_as_covariance(x):
    for kind in (PCAWhitening, ZCA):
        layer = float64(kind.fit(x, eps=0))
        np.testing.assert_allclose(covariance(layer(x)), np.eye(60), atol=2e-5)
        np.testing.assert_allclose(flat(layer(x)).mean(axis=0), 0, atol=1e-5)


def test_whitening_in_the_working_precision():
    x = X.astype(np.float32)
    for backend in BACKENDS:
        for kind in (PCAWhitening, ZCA):
            found = covariance(kind.fit(x, eps=0).to(backend)(x))
            np.testing.assert_allclose(found, np.eye(60), atol=2e-4)


def test_zca_keeps_the_picture():
    """Of all whitened data ZCA's is the nearest to what it was given: nearer than PCA's, turned anyhow."""
    layer = float64(ZCA.fit(X, eps=0))
    y = layer(X)
    assert y.shape == X.shape
    np.testing.assert_allclose(layer.weight, layer.weight.T, atol=1e-6)
    centred = X - X.mean(axis=0)
    other = float64(PCAWhitening.fit(X, eps=0))(X)
    rng = np.random.default_rng(0)
    for _ in range(5):
        turn, _ = np.linalg.qr(rng.normal(size=(60, 60)))
        assert ((y - centred) ** 2).sum() < ((other @ turn - flat(centred)) ** 2).sum()
    # The inverse square root of the covariance, the definition.
    values, vectors = np.linalg.eigh(covariance(X))
    np.testing.assert_allclose(layer.weight, vectors / np.sqrt(values) @ vectors.T, atol=1e-5)


@pytest.mark.parametrize("whiten", [False, True])
def test_components_are_scikit_learns(whiten):
    decomposition = pytest.importorskip("sklearn.decomposition")
    theirs = decomposition.PCA(9, whiten=whiten, svd_solver="full").fit(F)
    expected = theirs.transform(F) * (np.sqrt(300 / 299) if whiten else 1)  # variances over N, not N - 1
    ours = float64(PCAWhitening.fit(X, 9, eps=0) if whiten else PCA.fit(X, 9))(X)
    signs = np.sign((expected * ours).sum(axis=0))
    np.testing.assert_allclose(ours, expected * signs, atol=1e-4)


def test_directions_without_variance_are_left_out():
    rank = np.random.default_rng(0).normal(size=(50, 4)) @ np.random.default_rng(1).normal(size=(4, 10))
    assert PCA.fit(rank).n_components == 4
    assert PCAWhitening.fit(rank, eps=0).n_components == 4
    layer = float64(ZCA.fit(rank, eps=0))
    y = layer(rank)
    assert np.isfinite(y).all()
    assert np.linalg.matrix_rank(covariance(y), tol=1e-3) == 4
    all_of_them = float64(PCAWhitening.fit(rank, 10, eps=1e-5))(rank)
    assert np.abs(all_of_them[:, 4:]).max() < 1e-3  # not blown up


def test_eps_damps_directions_of_little_variance():
    layer = float64(PCAWhitening.fit(F, eps=0.5))
    variances = layer.variances
    np.testing.assert_allclose(np.diag(covariance(layer(F))), variances / (variances + 0.5), rtol=1e-4)


def test_only_what_is_fitted_on_is_measured():
    held_out = images(50, seed=9) + 5
    layer = Standardize.fit(X)
    before = layer.mean.copy(), layer.std.copy()
    y, _ = layer.forward(held_out.astype(np.float32), training=True)
    np.testing.assert_array_equal(layer.mean, before[0])
    np.testing.assert_array_equal(layer.std, before[1])
    assert y.mean() > 1


@pytest.mark.parametrize("name", [name for name in FITS if name not in ("resize", "crop")])
def test_fitting_batch_by_batch_is_fitting_at_once(name):
    x = X + 100  # far from 0, where careless sums lose their digits
    whole = FITS[name](x)
    parts = FITS[name](DataLoader((x, np.zeros(300)), 7, shuffle=True))
    for key, value in whole.state_dict().items():
        # Components are found up to what float64 leaves of their covariance.
        np.testing.assert_allclose(parts.state_dict()[key], value, rtol=1e-4, atol=2e-5)


def test_many_rows_are_taken_in_portions():
    x = np.random.default_rng(0).normal(3, 2, (5000, 6))
    layer = Standardize.fit(x)
    np.testing.assert_allclose(layer.mean, x.mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(layer.std, x.std(axis=0), rtol=1e-6)
    np.testing.assert_allclose(PCA.fit(x).variances, np.linalg.eigvalsh(covariance(x))[::-1], rtol=1e-5)


# As layers of a model


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", FITS)
def test_gradients(name, backend):
    x = images(2, seed=5)
    check_gradients(FITS[name](X).to(backend, dtype=np.float64), x)


@pytest.mark.parametrize("name", FITS)
@pytest.mark.parametrize("layout", ["channels first", "channels last", "reversed"])
def test_backends_agree_whatever_the_layout(name, layout):
    layer = FITS[name](X)
    x = images(6, seed=3, dtype=np.float32)
    if layout == "channels last":
        x = np.ascontiguousarray(x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    elif layout == "reversed":
        x = x[::-1, :, ::-1]
    expected = float64(copy.deepcopy(layer))(x.astype(np.float64))
    for backend in BACKENDS:
        y = layer.to(backend)(x)
        assert y.dtype == np.float32
        assert y.shape == layer.output_shape(x.shape)
        np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", FITS)
def test_an_empty_batch(name):
    for backend in BACKENDS:
        layer = FITS[name](X).to(backend)
        y, backprop = layer.forward(np.zeros((0, 3, 4, 5), np.float32), training=True)
        assert y.shape == layer.output_shape((0, 3, 4, 5))
        assert backprop(y).shape == (0, 3, 4, 5)


@pytest.mark.parametrize("name", FITS)
def test_saved_with_the_model(name, tmp_path):
    layer = FITS[name](X)
    shape = layer.output_shape((1, *X.shape[1:]))
    model = nb.Sequential(layer, nb.Flatten(), nb.Dense(int(np.prod(shape)), 3), seed=0)
    model.save(tmp_path / "model.safetensors")
    loaded = nb.load(tmp_path / "model.safetensors")
    assert repr(loaded) == repr(model)
    x = X[:8].astype(np.float32)
    np.testing.assert_array_equal(loaded(x), model(x))
    assert np.isfinite(loaded(x)).all()
    for key, value in model.state_dict().items():
        np.testing.assert_array_equal(loaded.state_dict()[key], value, strict=True)


def test_saved_whatever_the_order_in_memory(tmp_path):
    model = nb.Sequential(PCA.fit(X, 7))
    model.load_state_dict({key: np.asfortranarray(value) for key, value in model.state_dict().items()})
    expected = model.state_dict()
    model.save(tmp_path / "model.safetensors")
    for key, value in nb.load(tmp_path / "model.safetensors").state_dict().items():
        np.testing.assert_array_equal(value, expected[key])


def test_nothing_of_it_is_trained():
    model = nb.Sequential(
        Standardize.fit(X, per="pixel"), ZCA.fit(images(seed=1)), nb.Flatten(), nb.Dense(60, 2), seed=0
    )
    assert [name for name, _ in model.named_parameters()] == ["3.weight", "3.bias"]
    before = model.state_dict()
    trainer = nb.Trainer(model, nb.CrossEntropyLoss(), nb.SGD(model.parameters(), 0.1, weight_decay=0.1))
    trainer.fit(X.astype(np.float32), np.arange(300) % 2, verbose=False)
    for key, value in model.state_dict().items():
        assert (key[0] == "3") == bool((value != before[key]).any()), key


def test_in_front_of_a_trained_model():
    """The other layers draw what they would draw without it."""
    plain = nb.Sequential(nb.Conv2d(3, 2, 3), nb.Flatten(), nb.Dense(12, 2), seed=4)
    model = nb.Sequential(ChannelMean.fit(X), nb.Conv2d(3, 2, 3), nb.Flatten(), nb.Dense(12, 2), seed=4)
    np.testing.assert_array_equal(model.state_dict()["1.weight"], plain.state_dict()["0.weight"])
    x = X.astype(np.float32)
    np.testing.assert_allclose(model(x), plain(ChannelMean.fit(X)(x)), atol=1e-6)
    plain.insert(0, ChannelMean.fit(X))
    np.testing.assert_array_equal(plain(x), model(x))


def test_images_of_another_size_have_the_same_channels():
    layer = Standardize.fit(X)
    assert layer.output_shape((2, 3, 9, 9)) == (2, 3, 9, 9)
    np.testing.assert_allclose(layer(X[:, :, :2].astype(np.float32)), layer(X.astype(np.float32))[:, :, :2])


def test_the_summary_counts():
    model = nb.Sequential(Standardize.fit(X), PCA.fit(X, 7), nb.Dense(7, 2))
    summary = model.summary((3, 4, 5))
    assert summary.parameters == 16
    assert model[1].macs((1, 3, 4, 5)) == 60 * 7


def test_what_is_not_fitted_gives_nan():
    for layer in (MeanImage((3, 4, 5)), ChannelMean(3), Standardize(3), PCA((3, 4, 5), 2), ZCA((3, 4, 5), 2)):
        assert np.isnan(layer(X[:2].astype(np.float32))).all()


# Size


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    ("shape", "size", "top", "left"),
    [((9, 8), (5, 4), 2, 2), ((9, 8), (4, 3), 2, 2), ((5, 5), 5, 0, 0), ((6, 4), (1, 3), 2, 0)],
)
def test_the_middle(backend, shape, size, top, left):
    x = np.random.default_rng(0).normal(size=(2, 3, *shape)).astype(np.float32)
    y = CenterCrop(size).to(backend)(x)
    height, width = (size, size) if isinstance(size, int) else size
    np.testing.assert_array_equal(y, x[:, :, top : top + height, left : left + width])


@pytest.mark.parametrize(
    ("shape", "size", "expected"),
    [
        ((8, 12), 4, (4, 6)),
        ((12, 8), 4, (6, 4)),
        ((7, 10), 3, (3, 4)),
        ((5, 5), 9, (9, 9)),
        ((8, 12), (3, 3), (3, 3)),
    ],
)
def test_resizing(shape, size, expected):
    x = np.random.default_rng(0).normal(size=(2, 3, *shape))
    y = float64(Resize(size))(x)
    assert y.shape == (2, 3, *expected)
    np.testing.assert_allclose(y, nb.data.resize_bilinear(x, expected), atol=1e-12)


# Refusals


@pytest.mark.parametrize("kind", [MeanImage, ChannelMean, Standardize, PCA, PCAWhitening, ZCA])
@pytest.mark.parametrize(
    ("data", "message"),
    [
        (X[:0], "there are no examples"),
        ([], "there are no examples"),
        ((X * 9).astype(np.uint8), r"expected inputs of floating point, got uint8; divide .* by 255"),
        (np.zeros(5), r"expected inputs of shape \(N, C, H, W\) or \(N, F\), got \(5,\)"),
        ([(X, 0), (X[:, :2], 0)], r"expected inputs of shape \(N, 3, 4, 5\), got \(300, 2, 4, 5\)"),
        (np.where(np.arange(300)[:, None] == 7, np.nan, F), "NaN or infinity"),
        (np.where(np.arange(300)[:, None] == 7, np.inf, F), "NaN or infinity"),
    ],
)
def test_data_that_cannot_be_fitted_on(kind, data, message):
    with pytest.raises(
        DataError, match=rf"{kind.__name__}\.fit: .*{message}|{kind.__name__}\.fit: {message}"
    ):
        kind.fit(data)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Standardize.fit(X, per="image"), "per must be 'channel' or 'pixel'"),
        (lambda: PCA.fit(X, 61), "n_components of 1 to 60, got 61"),
        (lambda: PCA.fit(X, 0), "n_components of 1 to 60, got 0"),
        (lambda: ZCA.fit(X, eps=-1), "eps must not be negative"),
        (lambda: PCA((3, 4), 2), r"shape must be \(F,\) or \(C, H, W\)"),
        (lambda: PCA(3, 4), "3 elements have no 4 components"),
        (lambda: Standardize((1, 2)), r"shape must be \(C,\) or \(C, H, W\)"),
        (lambda: Standardize(0), "positive integer"),
        (lambda: CenterCrop(0), "positive"),
        (lambda: Resize((3, 0)), "positive"),
        (lambda: Resize(0), "positive"),
    ],
)
def test_impossible_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    ("layer", "shape", "message"),
    [
        (MeanImage.fit(X), (2, 3, 5, 4), r"expected an input of shape \(N, 3, 4, 5\)"),
        (Standardize.fit(X), (2, 4, 4, 5), r"expected an input of shape \(N, 3, \.\.\.\)"),
        (Standardize.fit(X), (2, 3, 4), r"expected an input of shape \(N, 3, \.\.\.\)"),
        (PCA.fit(X, 2), (2, 60), r"expected an input of shape \(N, 3, 4, 5\), got \(2, 60\)"),
        (ZCA.fit(X), (2, 3, 4, 4), r"expected an input of shape \(N, 3, 4, 5\)"),
        (CenterCrop(4), (2, 3, 3, 9), r"cannot cut 4 x 4 out of an input of shape \(2, 3, 3, 9\)"),
        (CenterCrop(4), (2, 3), "expected images"),
        (Resize(4), (2, 3, 0, 4), "expected images"),
    ],
)
def test_inputs_that_do_not_fit(layer, shape, message):
    model = nb.Sequential(layer)
    for use in (model.output_shape, lambda shape: model(np.zeros(shape, np.float32))):
        with pytest.raises(LayerError, match=rf"{type(layer).__name__} \(layer 0\): {message}"):
            use(shape)
