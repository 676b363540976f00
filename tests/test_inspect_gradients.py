"""Saliency, SmoothGrad, Grad-CAM and the deconvolution view, beside closed forms and finite differences."""

import math

import numpy as np
import pytest

import nbconv as nb

rng = np.random.default_rng(11)
X = rng.standard_normal((3, 3, 8, 8))


def network(*end, backend="reference", dtype="float64"):
    """Layers in layers, batch normalisation with a history, and three classes."""
    model = nb.Sequential(
        *(nb.Conv2d(3, 5, 3, padding=1), nb.BatchNorm2d(5), nb.ReLU(), nb.MaxPool2d(2)),
        nb.Residual(nb.Sequential(nb.Conv2d(5, 5, 3, padding=1), nb.ReLU(), nb.Conv2d(5, 5, 1))),
        nb.Concat(nb.Conv2d(5, 2, 1), nb.Sequential(nb.Conv2d(5, 3, 3, padding=1), nb.ReLU())),
        *(nb.Flatten(), nb.Dense(80, 4), nb.ReLU(), nb.Dropout(), nb.Dense(4, 3), *end),
        backend=backend,
        dtype=dtype,
        seed=1,
    )
    history = np.random.default_rng(2)
    model[1].running_mean = history.standard_normal(5).astype(dtype)
    model[1].running_var = history.uniform(0.5, 2, 5).astype(dtype)
    return model


def logit_differences(model, x, classes, step=1e-6):
    """Central differences, each image of its own class' logit."""
    gradient = np.empty_like(x)
    here = np.arange(len(x))
    for place in np.ndindex(x.shape[1:]):
        values = []
        for way in (step, -step):
            moved = x.copy()
            moved[:, *place] += way  # in all images at once: they do not see each other
            values.append(model(moved)[here, classes])
        gradient[:, *place] = (values[0] - values[1]) / (2 * step)
    return gradient


def linear(weight):
    """Logits weight @ x of images (C, H, W)."""
    classes, *shape = weight.shape
    model = nb.Sequential(nb.Flatten(), nb.Dense(math.prod(shape), classes, bias=False), backend="reference")
    model[1].weight.data = weight.reshape(classes, -1)
    return model.to(dtype="float64")


def test_saliency_is_the_gradient_of_the_logit():
    model = network()
    classes = [2, 0, 1]
    expected = logit_differences(model, X, classes)
    np.testing.assert_allclose(nb.inspect.saliency(model, X, classes, reduce=None), expected, atol=1e-8)
    of_max = nb.inspect.saliency(model, X, classes)
    np.testing.assert_allclose(of_max, np.abs(expected).max(axis=1), atol=1e-8)
    of_mean = nb.inspect.saliency(model, X, classes, reduce="mean", batch_size=2)
    np.testing.assert_allclose(of_mean, np.abs(expected).mean(axis=1), atol=1e-8)
    one = nb.inspect.saliency(model, X[2:], 1, reduce=None)
    np.testing.assert_allclose(one, expected[2:], atol=1e-8)


def test_saliency_is_of_the_predicted_class_by_default():
    model = network()
    predicted = model(X).argmax(axis=1)
    np.testing.assert_array_equal(
        nb.inspect.saliency(model, X), nb.inspect.saliency(model, X, predicted, batch_size=1)
    )


@pytest.mark.parametrize("end", [nb.Softmax, nb.LogSoftmax])
def test_a_softmax_at_the_end_is_left_out(end):
    np.testing.assert_array_equal(
        nb.inspect.saliency(network(end()), X, 1), nb.inspect.saliency(network(), X, 1)
    )


@pytest.mark.parametrize("backend", ["reference", "cpu"])
def test_looking_changes_nothing(backend):
    model = network(backend=backend, dtype="float32")
    x = X.astype(np.float32)
    expected = model(x)  # whatever the model may have prepared for inference, twins must not use
    for parameter in model.parameters():
        parameter.grad = np.ones_like(parameter.data)
    before = model.state_dict()
    saliency = nb.inspect.saliency(model, x, 0)
    nb.inspect.smooth_grad(model, x, 0, samples=2)
    nb.inspect.grad_cam(model, x, 0)
    nb.inspect.deconvolution(model, x, 4)
    nb.inspect.activations(model, x)
    assert saliency.dtype == np.float32
    for key, value in model.state_dict().items():
        np.testing.assert_array_equal(value, before[key])
    for parameter in model.parameters():
        assert (parameter.grad == 1).all()
        assert parameter.requires_grad
    np.testing.assert_array_equal(model(x), expected)


def test_smooth_grad_of_a_linear_model_is_its_saliency():
    model = linear(rng.standard_normal((3, 3, 4, 4)))
    x = X[..., :4, :4]
    np.testing.assert_allclose(nb.inspect.smooth_grad(model, x), nb.inspect.saliency(model, x), rtol=1e-12)


def test_smooth_grad_smooths_a_kink():
    # ReLU(x0 - 0.5) has slope 0 or 1; under noise of standard deviation s its mean slope is
    # P(x0 + s Z > 0.5). The other pixel makes the image's spread 1.
    model = nb.Sequential(
        nb.Conv2d(1, 1, (1, 2)), nb.ReLU(), nb.Flatten(), nb.Dense(1, 1), backend="reference", dtype="float64"
    )
    model[0].weight.data, model[0].bias.data = [[[[1, 0]]]], [-0.5]
    model[3].weight.data, model[3].bias.data = [[1]], [0]
    x = np.repeat(np.array([0.4, 1.4]).reshape(1, 1, 1, 2), 200, axis=0)
    assert nb.inspect.saliency(model, x, 0)[0, 0, 0] == 0
    noise, samples = 0.2, 20
    expected = 0.5 * (1 + math.erf((0.4 - 0.5) / (noise * math.sqrt(2))))
    found = nb.inspect.smooth_grad(model, x, 0, noise=noise, samples=samples)
    assert found[..., 0].mean() == pytest.approx(expected, abs=4 * math.sqrt(0.25 / (200 * samples)))
    assert not found[..., 1].any()
    np.testing.assert_array_equal(nb.inspect.smooth_grad(model, x, 0, noise=noise, samples=samples), found)
    without = nb.inspect.smooth_grad(network(), X, noise=0, samples=2)
    np.testing.assert_allclose(without, nb.inspect.saliency(network(), X), rtol=1e-12)


def test_grad_cam_of_a_pooled_classifier_is_the_class_activation_map():
    # Logits are w . mean(A): the gradient of map k is w_k / (H W) everywhere.
    model = nb.Sequential(
        *(nb.Conv2d(3, 6, 3, padding=1), nb.ReLU(), nb.GlobalAvgPool2d(), nb.Dense(6, 4)),
        backend="reference",
        dtype="float64",
        seed=0,
    )
    maps = np.asarray(model[:2](X))
    expected = np.maximum(np.einsum("k,nkhw->nhw", model[3].weight.data[2], maps), 0) / 64
    np.testing.assert_allclose(nb.inspect.grad_cam(model, X, 2), expected, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(nb.inspect.grad_cam(model, X, 2, layer=model[1], batch_size=2), expected)


def test_grad_cam_of_any_layer_by_finite_differences():
    model = network()
    inner, rest = model[:4], model[4:]
    maps = np.asarray(inner(X))
    weights = logit_differences(rest, maps, [1, 1, 1]).mean(axis=(2, 3), keepdims=True)
    expected = np.maximum((weights * maps).sum(axis=1), 0)
    found = nb.inspect.grad_cam(model, X, 1, layer=3, resize=False)
    assert found.shape == (3, 4, 4)
    np.testing.assert_allclose(found, expected, atol=1e-7)
    assert nb.inspect.grad_cam(model, X, 1, layer="3").shape == (3, 8, 8)
    inside = nb.inspect.grad_cam(model, X, 1, layer="5.1.1", resize=False)
    assert inside.shape == (3, 4, 4)
    default = nb.inspect.grad_cam(model, X, 1, resize=False)
    np.testing.assert_array_equal(default, nb.inspect.grad_cam(model, X, 1, layer=5, resize=False))


def test_deconvolution_by_hand():
    # A filter that sums (1, 2) over a row, ReLU, and a pool of two: row (0, 3, 1, -1) gives (6, 5, 0) before
    # the pool cuts it to (6,). The switch leads back to place 0, whose filter spreads 6 over (6, 12).
    model = nb.Sequential(
        nb.Conv2d(1, 1, (1, 2), bias=False), nb.ReLU(), nb.MaxPool2d((1, 2)), backend="reference"
    )
    model[0].weight.data = [[[[1, 2]]]]
    x = np.array([0, 3, 1, -1], np.float32).reshape(1, 1, 1, 4)
    np.testing.assert_array_equal(nb.inspect.deconvolution(model, x, 2).ravel(), [6, 12, 0, 0])
    np.testing.assert_array_equal(nb.inspect.deconvolution(model, x, 0).ravel(), [6, 12, 0, 0])
    whole = nb.inspect.deconvolution(model, x, "1", 0, whole_map=True)  # (6, 5, 0)
    np.testing.assert_array_equal(whole.ravel(), [6, 12 + 5, 10, 0])


def test_deconvolution_lets_only_what_is_positive_pass_back():
    # Two maps behind a ReLU: the filter (1, -1) over them leads back 3 and -3, of which the ReLU stops -3,
    # although the map that it belongs to was active; a gradient would let it pass.
    model = nb.Sequential(
        nb.Conv2d(1, 2, 1, bias=False), nb.ReLU(), nb.Conv2d(2, 1, 1, bias=False), backend="reference"
    )
    model[0].weight.data = np.array([2.0, 1.0]).reshape(2, 1, 1, 1)
    model[2].weight.data = np.array([1.0, -1.0]).reshape(1, 2, 1, 1)
    x = np.full((1, 1, 1, 1), 3, np.float32)
    assert model(x).item() == 3
    assert nb.inspect.deconvolution(model, x, 2).item() == 3 * 2
    assert nb.inspect.deconvolution(model, x, "1", 1).item() == 3


def test_deconvolution_of_chosen_and_of_strongest_channels():
    model = network()
    maps = nb.inspect.activations(model, X, [4])["4"]
    strongest = maps.max(axis=(2, 3)).argmax(axis=1)
    np.testing.assert_array_equal(
        nb.inspect.deconvolution(model, X, 4), nb.inspect.deconvolution(model, X, 4, strongest)
    )
    one = nb.inspect.deconvolution(model, X, 4, 3)
    np.testing.assert_allclose(one[1:2], nb.inspect.deconvolution(model, X[1:2], 4, [3]), rtol=1e-12)
    assert one.shape == X.shape


def test_local_normalisation_is_passed_by():
    layers = nb.Conv2d(3, 4, 3), nb.ReLU(), nb.LocalResponseNorm(3, k=1.0), nb.ContrastNorm(3)
    model = nb.Sequential(*layers, nb.Conv2d(4, 2, 1), backend="reference", dtype="float64", seed=0)
    y = nb.inspect.activations(model, X, [4])["4"]
    start = np.zeros_like(y)
    peak = y[0, 1].argmax()
    start[0, 1].flat[peak] = y[0, 1].flat[peak]
    back = np.maximum(np.einsum("nohw,oc->nchw", start, model[4].weight.data[:, :, 0, 0]), 0)
    _, through = model[0].forward(model.prepare(X), False)
    expected = through(model.prepare(back))
    np.testing.assert_allclose(nb.inspect.deconvolution(model, X, 4, 1)[0], expected[0], rtol=1e-10)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m: nb.inspect.saliency(m, X[0]), r"shape \(N, C, H, W\), got \(3, 8, 8\)"),
        (lambda m: nb.inspect.saliency(m, X, 3), "classes from 0 to 2"),
        (lambda m: nb.inspect.saliency(m, X, -1), "classes from 0 to 2"),
        (lambda m: nb.inspect.saliency(m, X, [0, 1]), "one for each of 3 examples"),
        (lambda m: nb.inspect.saliency(m, X, 0.5), "one for each of 3 examples, got float64"),
        (lambda m: nb.inspect.saliency(m, X, reduce="sum"), '"max", "mean" or None'),
        (lambda m: nb.inspect.saliency(m, X, batch_size=0), "batch_size must be positive"),
        (lambda m: nb.inspect.saliency(m, X.astype(int)), "best divided by 255"),
        (lambda m: nb.inspect.saliency(m[:3], X), r"logits of shape \(N, classes\)"),
        (lambda m: nb.inspect.smooth_grad(m, X, noise=-1), "noise >= 0"),
        (lambda m: nb.inspect.smooth_grad(m, X, samples=0), "samples >= 1"),
        (
            lambda m: nb.inspect.grad_cam(m, X, layer="4.nose"),
            r"no layer '4.nose'; .*, 4.body.0",
        ),
        (lambda m: nb.inspect.grad_cam(m, X, layer=99), "no layer 99, only 11"),
        (lambda m: nb.inspect.grad_cam(m, X, layer=nb.ReLU()), "no layer of the model"),
        (lambda m: nb.inspect.grad_cam(m, X, layer=7), "layer 7 gives no feature maps"),
        (lambda m: nb.inspect.grad_cam(m[6:], X.reshape(3, -1)), r"shape \(N, C, H, W\)"),
        (lambda m: nb.inspect.deconvolution(m, X, 7), "gives no feature maps"),
        (lambda m: nb.inspect.deconvolution(m, X, 4, 5), "classes from 0 to 4"),
    ],
)
def test_bad_input_is_told(call, message):
    with pytest.raises((nb.DataError, nb.LayerError, nb.DTypeError, ValueError), match=message):
        call(network())


def test_no_images_give_no_maps():
    none = X[:0]
    assert nb.inspect.saliency(network(), none).shape == (0, 8, 8)
    assert nb.inspect.smooth_grad(network(), none).shape == (0, 8, 8)
    assert nb.inspect.grad_cam(network(), none).shape == (0, 8, 8)
    assert nb.inspect.deconvolution(network(), none, 4).shape == none.shape
