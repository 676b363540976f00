"""Auxiliary heads: gradients of all outputs, evaluation without them, training with the Trainer."""

import numpy as np
import pytest

import nbconv as nb
from nbconv.models import AuxiliaryHead, AuxiliaryLoss, DeeplySupervised


def head(channels, classes=3):
    return AuxiliaryHead(nb.Sequential(nb.AdaptiveAvgPool2d(1), nb.Flatten(), nb.Dense(channels, classes)))


def small(dtype="float64", backend="reference"):
    return DeeplySupervised(
        nb.Conv2d(2, 4, 3, padding=1),
        nb.Tanh(),
        head(4),
        nb.Conv2d(4, 5, 3),
        nb.Tanh(),
        head(5),
        nb.AdaptiveAvgPool2d(1),
        nb.Flatten(),
        nb.Dense(5, 3),
        seed=0,
        dtype=dtype,
        backend=backend,
    )


def batch(n=4):
    return np.random.default_rng(0).standard_normal((n, 2, 6, 5)), np.arange(n) % 3


def test_training_gives_every_heads_output_and_evaluation_the_models():
    model, (x, _) = small(), batch()
    outputs, _ = model.forward(x, training=True)
    assert [output.shape for output in outputs] == [(4, 3)] * 3
    plain = nb.Sequential(*(layer for layer in model if not isinstance(layer, AuxiliaryHead)))
    plain.to("reference", dtype="float64")
    np.testing.assert_array_equal(outputs[0], plain(x))
    np.testing.assert_array_equal(model(x), outputs[0])
    np.testing.assert_array_equal(model.forward(x)[0], outputs[0])
    assert model.output_shape(x.shape) == (4, 3)


def loss_of(model, x, labels):
    return AuxiliaryLoss(nb.CrossEntropyLoss())(model.forward(x, training=True)[0], labels)[0]


def test_gradients_are_finite_differences_of_the_whole_loss():
    model, (x, labels) = small(), batch()
    outputs, backprop = model.forward(x, training=True)
    loss, gradients = AuxiliaryLoss(nb.CrossEntropyLoss())(outputs, labels)
    losses = [nb.CrossEntropyLoss()(output, labels)[0] for output in outputs]
    assert loss == pytest.approx(losses[0] + 0.3 * losses[1] + 0.3 * losses[2])
    dx = backprop(gradients)
    step = 1e-6
    for place in ((0, 0, 0, 0), (1, 1, 3, 2), (3, 0, 5, 4)):
        above, below = x.copy(), x.copy()
        above[place] += step
        below[place] -= step
        slope = (loss_of(model, above, labels) - loss_of(model, below, labels)) / (2 * step)
        assert dx[place] == pytest.approx(slope, rel=1e-5, abs=1e-9)
    for _, parameter in model.named_parameters():
        value = parameter.data.copy()
        values = []
        for change in (step, -step):
            parameter.data = value + change * (np.arange(value.size) == value.size // 2).reshape(value.shape)
            values.append(loss_of(model, x, labels))
        parameter.data = value
        slope = (values[0] - values[1]) / (2 * step)
        assert parameter.grad.flat[value.size // 2] == pytest.approx(slope, rel=1e-5, abs=1e-9)
    with pytest.raises(RuntimeError, match="once"):
        backprop(gradients)


def test_no_gradient_of_the_input_and_of_what_is_frozen():
    model, (x, labels) = small(), batch()
    model[0].requires_grad_(False)
    model[3].requires_grad_(False)
    outputs, backprop = model.forward(x, training=True, input_grad=False)
    assert backprop(AuxiliaryLoss(nb.CrossEntropyLoss())(outputs, labels)[1]) is None
    got = {key for key, parameter in model.named_parameters() if parameter.grad is not None}
    frozen = {"0.weight", "0.bias", "3.weight", "3.bias"}
    assert got == {key for key, _ in model.named_parameters()} - frozen


def test_the_trainer_trains_it_and_measures_the_main_output(tmp_path):
    model = small("float32", "cpu")
    x, labels = batch(12)
    x = x.astype(np.float32)
    loss = AuxiliaryLoss(nb.CrossEntropyLoss(), weight=0.5)
    trainer = nb.Trainer(model, loss, nb.Adam(model.parameters(), lr=0.05))
    history = trainer.fit(x, labels, epochs=120, batch_size=12, verbose=False)
    assert history["accuracy"][-1] == trainer.evaluate(x, labels)["accuracy"] == 1
    assert history["loss"][-1] > trainer.evaluate(x, labels)["loss"]
    model.save(tmp_path / "model.safetensors")
    again = nb.load(tmp_path / "model.safetensors")
    assert isinstance(again, DeeplySupervised)
    np.testing.assert_array_equal(again(x), model(x))


def test_a_head_that_does_not_fit_is_named():
    model = DeeplySupervised(nb.Conv2d(2, 4, 3), head(5))
    with pytest.raises(nb.LayerError, match=r"Dense \(layer 1\.classifier\.2\)"):
        model.output_shape((1, 2, 6, 6))
    with pytest.raises(nb.LayerError, match=r"Dense \(layer 1\.classifier\.2\)"):
        model.forward(np.zeros((1, 2, 6, 6), np.float32), training=True)


def test_its_summary_counts_the_heads_parameters_but_no_work():
    model = small()
    summary = model.summary((2, 6, 5))
    rows = [row for row in summary.rows if row.layer == "AuxiliaryHead"]
    assert [(row.parameters, row.macs) for row in rows] == [(15, 0), (18, 0)]
    assert summary.parameters == sum(parameter.size for parameter in model.parameters())
