"""Occlusion, filters, activations, receptive boxes and mistakes, as arrays."""

import numpy as np
import pytest

import nbconv as nb

rng = np.random.default_rng(4)
X = rng.standard_normal((3, 2, 6, 7))
WEIGHT = rng.standard_normal((4, 2, 6, 7))


def linear():
    model = nb.Sequential(nb.Flatten(), nb.Dense(84, 4), backend="reference", dtype="float64", seed=0)
    model[1].weight.data = WEIGHT.reshape(4, -1)
    return model


def test_occlusion_of_a_linear_model():
    # Hiding a window takes the sum of weight * (pixel - value) over it from the logit.
    shares = WEIGHT[[2, 0, 3]] * (X - 0.25)
    expected = np.array(
        [[[s[:, i : i + 2, j : j + 3].sum() for j in range(0, 5, 2)] for i in range(5)] for s in shares]
    )
    for batch_size in (256, 4):
        found = nb.inspect.occlusion(
            linear(), X, [2, 0, 3], window=(2, 3), stride=(1, 2), value=0.25, batch_size=batch_size
        )
        np.testing.assert_allclose(found, expected, rtol=1e-9)


def test_occlusion_of_the_whole_image_and_of_probabilities():
    model = linear()
    whole = nb.inspect.occlusion(model, X, 1, window=(6, 7))
    np.testing.assert_allclose(whole[:, 0, 0], (model(X) - model(0 * X))[:, 1])
    shares = [np.exp(y) / np.exp(y).sum(axis=1, keepdims=True) for y in (model(X), model(0 * X))]
    lost = nb.inspect.occlusion(model, X, window=(6, 7), probability=True)
    predicted = model(X).argmax(axis=1)
    np.testing.assert_allclose(lost[:, 0, 0], (shares[0] - shares[1])[np.arange(3), predicted])
    before = X.copy()
    nb.inspect.occlusion(model, X, window=3)
    np.testing.assert_array_equal(X, before)
    assert nb.inspect.occlusion(model, X[:0], window=3).shape == (0, 4, 5)
    with pytest.raises(nb.DataError, match="window of 7 x 7 does not fit into images of"):
        nb.inspect.occlusion(model, X, window=7)


def network():
    return nb.Sequential(
        *(nb.Conv2d(2, 4, 3, padding=1), nb.ReLU(), nb.Residual(nb.Conv2d(4, 4, 1))),
        *(nb.MaxPool2d(2), nb.Flatten(), nb.Dense(36, 3)),
        backend="reference",
        seed=0,
    )


def test_filters_are_a_copy_of_the_first_convolution_s_or_of_the_chosen():
    model = network()
    found = nb.inspect.filters(model)
    np.testing.assert_array_equal(found, model[0].weight.data)
    found[:] = 0
    assert model[0].weight.data.any()
    for chosen in ("2.body", model[2].body):
        np.testing.assert_array_equal(nb.inspect.filters(model, chosen), model[2].body.weight.data)
    with pytest.raises(nb.LayerError, match=r"layer 1 is no convolution, but ReLU\(\)"):
        nb.inspect.filters(model, 1)
    with pytest.raises(nb.LayerError, match="no convolution"):
        nb.inspect.filters(model[4:])


def test_activations_are_what_a_run_layer_by_layer_gives():
    model, x = network(), X.astype(np.float32)
    found = nb.inspect.activations(model, x)
    assert list(found) == ["0", "1", "2.body", "2", "3", "4", "5"]
    y = x
    for position, layer in enumerate(model):
        if position == 2:
            np.testing.assert_allclose(found["2.body"], layer.body(y), rtol=1e-5, atol=1e-6)
        y = layer(y)
        np.testing.assert_allclose(found[str(position)], y, rtol=1e-5, atol=1e-6)
    assert list(nb.inspect.activations(model, x, [-1, "2.body"])) == ["5", "2.body"]
    with pytest.raises(nb.LayerError, match="expected 2 input channels"):
        nb.inspect.activations(model, x[:, :1])


def test_a_layer_that_nothing_passes_is_named():
    head = nb.models.AuxiliaryHead(nb.Sequential(nb.Flatten(), nb.Dense(84, 2)))
    model = nb.models.DeeplySupervised(nb.ReLU(), head, nb.Flatten(), nb.Dense(84, 2), backend="reference")
    assert list(nb.inspect.activations(model, X)) == ["0", "1", "2", "3"]
    with pytest.raises(nb.LayerError, match=r"nothing passes layer 1\.classifier\.1 in evaluation"):
        nb.inspect.activations(model, X, ["1.classifier.1"])


def test_grid_of_images():
    images = np.arange(12.0).reshape(3, 2, 2)
    grid = nb.inspect.image_grid(images, 2, scale="none")
    expected = [[0, 1, 1, 4, 5], [2, 3, 1, 6, 7], [1] * 5, [8, 9, 1, 1, 1], [10, 11, 1, 1, 1]]
    np.testing.assert_array_equal(grid, expected)
    np.testing.assert_allclose(nb.inspect.image_grid(images, 3, gap=0)[0], [0, 1 / 3] * 3)
    np.testing.assert_allclose(
        nb.inspect.image_grid(images, 3, gap=0, scale="all")[1], np.array([2, 3, 6, 7, 10, 11]) / 11
    )
    flat = nb.inspect.image_grid(np.full((1, 2, 2), 7.0))
    np.testing.assert_array_equal(flat, np.zeros((2, 2)))
    colour = rng.random((5, 3, 4, 6))
    grid = nb.inspect.image_grid(colour, 3, scale="none")
    assert grid.shape == (9, 20, 3)
    np.testing.assert_array_equal(grid[5:, 7:13], colour[4].transpose(1, 2, 0))
    assert nb.inspect.image_grid(rng.random((6, 16, 5, 5))).shape == (6 * 6 - 1, 16 * 6 - 1)
    for bad in (images[0], images[:0]):
        with pytest.raises(nb.DataError, match="expected images of shape"):
            nb.inspect.image_grid(bad)
    with pytest.raises(ValueError, match="scale must be one of each, all, none"):
        nb.inspect.image_grid(images, scale="some")
    with pytest.raises(ValueError, match="columns must be positive"):
        nb.inspect.image_grid(images, -1)


def positive(*layers):
    """With nothing but positive weights, each output has a gradient exactly where it sees the input."""
    model = nb.Sequential(*layers, backend="reference", seed=0)
    for parameter in model.parameters():
        parameter.data = np.abs(parameter.data) + 0.1
    return model


@pytest.mark.parametrize(
    ("layers", "outputs"),
    [
        ([nb.Conv2d(1, 2, 3), nb.ReLU(), nb.Conv2d(2, 1, 3)], [(0, 0), (4, 6)]),
        ([nb.Conv2d(1, 1, 5, stride=2, padding=2), nb.AvgPool2d(2), nb.Conv2d(1, 1, 2)], [(0, 0), (1, 1)]),
        ([nb.Conv2d(1, 1, 3, dilation=2), nb.Upsample(scale_factor=2)], [(0, 0), (7, 3)]),
        (
            [nb.Residual(nb.Sequential(nb.Conv2d(1, 1, 3, padding=1), nb.Conv2d(1, 1, 3, padding=1)))],
            [(0, 5), (11, 13)],
        ),
    ],
)
def test_a_receptive_box_is_where_the_gradient_is(layers, outputs):
    model = positive(*layers)
    x = rng.random((1, 1, 12, 14)).astype(np.float32)
    y, _ = model.forward(x)
    for place in outputs:
        y, backprop = model.forward(x)
        dy = np.zeros_like(y)
        dy[0, 0][place] = 1
        seen = np.argwhere(backprop(dy)[0, 0])
        rows, columns = nb.inspect.receptive_box(model, len(layers) - 1, place, (12, 14))
        first, last = seen.min(axis=0), seen.max(axis=0)
        if not any(layer.dilation != (1, 1) for layer in model if isinstance(layer, nb.Conv2d)):
            assert len(seen) == (rows.stop - rows.start) * (columns.stop - columns.start)
        assert (rows.start, columns.start, rows.stop - 1, columns.stop - 1) == (*first, *last)


def test_receptive_box_of_a_dense_layer_and_of_a_nested_one():
    assert nb.inspect.receptive_box(network(), 5, (0, 0), (6, 7)) == (slice(0, 6), slice(0, 7))
    nested = nb.Sequential(nb.Conv2d(1, 1, 3), nb.Sequential(nb.Conv2d(1, 1, 3), nb.ReLU()))
    assert nb.inspect.receptive_box(nested, 1, (1, 2), (9, 9)) == (slice(1, 6), slice(2, 7))
    with pytest.raises(nb.LayerError, match="no layer 2"):
        nb.inspect.receptive_box(nested, 2, (0, 0), (9, 9))


def test_confusion_matrix_by_hand():
    found = nb.inspect.confusion_matrix([0, 0, 2, 2, 2], [0, 2, 2, 2, 0])
    np.testing.assert_array_equal(found, [[1, 0, 1], [0, 0, 0], [1, 0, 2]])
    assert found.dtype == np.int64
    assert nb.inspect.confusion_matrix([1], [1], 4).shape == (4, 4)
    assert nb.inspect.confusion_matrix([], [], 2).tolist() == [[0, 0], [0, 0]]
    assert nb.inspect.confusion_matrix([], []).shape == (0, 0)


def test_confusion_matrix_against_scikit_learn():
    metrics = pytest.importorskip("sklearn.metrics")
    labels, predictions = rng.integers(0, 7, (2, 500))
    expected = metrics.confusion_matrix(labels, predictions, labels=range(8))
    np.testing.assert_array_equal(
        nb.inspect.confusion_matrix(labels, predictions.astype(np.uint8), 8), expected
    )


@pytest.mark.parametrize(
    ("labels", "predictions", "count", "message"),
    [
        ([0, 1], [0], None, "2 labels but 1 predictions"),
        ([0, 3], [0, 1], 3, "class 3 is none of 3"),
        ([0, -1], [0, 1], None, "labels of at least 0, got -1"),
        ([0.5], [0], None, "integer labels"),
        ([0], [[0]], None, "integer predictions of shape"),
    ],
)
def test_confusion_matrix_refuses(labels, predictions, count, message):
    with pytest.raises(nb.DataError, match=message):
        nb.inspect.confusion_matrix(labels, predictions, count)


@pytest.mark.parametrize("end", [[], [nb.Softmax()]])
def test_worst_mistakes_first(end):
    # Logits are the inputs themselves; the losses are known.
    model = nb.Sequential(nb.Flatten(), *end, backend="reference", dtype="float64")
    x = np.log([[8, 1, 1], [5, 4, 1], [1, 8, 1], [1, 1, 998], [4, 4, 2.0]])
    y = np.array([0, 1, 0, 1, 2])
    found = nb.inspect.worst_mistakes(model, x, y, batch_size=2)
    assert found.indices.tolist() == [3, 2, 4, 1]
    assert found.labels.tolist() == [1, 0, 2, 1]
    assert found.predictions.tolist() == [2, 1, 0, 0]
    np.testing.assert_allclose(found.losses, -np.log([0.001, 0.1, 0.2, 0.4]))
    np.testing.assert_allclose(found.logits, x[found.indices])
    assert len(found) == 4
    assert nb.inspect.worst_mistakes(model, x, y, 2).indices.tolist() == [3, 2]
    assert len(nb.inspect.worst_mistakes(model, x[:1], y[:1])) == 0
    with pytest.raises(nb.DataError, match="5 examples but 1 labels"):
        nb.inspect.worst_mistakes(model, x, y[:1])
    with pytest.raises(nb.DataError, match="classes from 0 to 2"):
        nb.inspect.worst_mistakes(model, x, y + 1)
