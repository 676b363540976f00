import itertools

import numpy as np
import pytest

import nbconv as nb
from nbconv.errors import DataError, LayerError, NonFiniteError

BACKENDS = ["reference", "cpu"]


def blobs(n=60, classes=3, seed=0):
    """Images of 4 x 4 whose brightest quarter tells the class, with noise: easy to learn, and not at once."""
    rng = np.random.default_rng(seed)
    y = np.arange(n) % classes
    x = rng.normal(0, 0.5, (n, 2, 4, 4)).astype(np.float32)
    for i, label in enumerate(y):
        row, column = divmod(int(label), 2)
        x[i, :, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2] += 1
    return x, y


def small_model(backend="reference", seed=0, classes=3):
    return nb.Sequential(
        nb.Conv2d(2, 4, 3, padding=1),
        nb.ReLU(),
        nb.MaxPool2d(2),
        nb.Flatten(),
        nb.Dense(16, classes),
        backend=backend,
        seed=seed,
    )


def trainer_of(model, lr=0.1, **arguments):
    optimizer = nb.SGD(model.parameters(), lr=lr, momentum=0.9)
    return nb.Trainer(model, nb.CrossEntropyLoss(), optimizer, **arguments)


@pytest.mark.parametrize("backend", BACKENDS)
def test_training_learns(backend):
    x, y = blobs(120)
    trainer = trainer_of(small_model(backend))
    before = trainer.evaluate(x, y)
    history = trainer.fit(x, y, epochs=8, batch_size=16, verbose=False)
    after = trainer.evaluate(x, y)
    assert after["accuracy"] >= 0.95 > before["accuracy"]
    assert after["loss"] < before["loss"] / 2
    assert history.epochs == 8
    assert history["loss"][-1] < history["loss"][0]


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_same_seed_gives_the_same_bits(backend):
    def run(seed):
        model = small_model(backend, seed)
        history = trainer_of(model).fit(*blobs(), epochs=2, batch_size=16, verbose=False)
        return history["loss"], model.state_dict()

    (first_loss, first), (again_loss, again), (other_loss, _) = run(3), run(3), run(4)
    assert first_loss == again_loss != other_loss
    for key, value in first.items():
        np.testing.assert_array_equal(value, again[key], strict=True)


def test_fit_is_the_loop_one_would_write():
    x, y = blobs(40)
    ours, theirs = small_model(), small_model()
    trainer_of(ours).fit(x, y, epochs=2, batch_size=16, seed=5, verbose=False)

    optimizer, loss = (
        nb.SGD(theirs.parameters(), lr=0.1, momentum=0.9),
        nb.CrossEntropyLoss(backend="reference"),
    )
    for epoch in range(2):
        order = np.random.default_rng([5, epoch]).permutation(40)
        for batch in (order[:16], order[16:32], order[32:]):
            optimizer.zero_grad()
            logits, backprop = theirs.forward(x[batch], training=True)
            backprop(loss(logits, y[batch])[1])
            optimizer.step()
    for key, value in theirs.state_dict().items():
        np.testing.assert_array_equal(ours.state_dict()[key], value)


@pytest.mark.parametrize("layout", ["channels first", "channels last", "every second"])
def test_every_layout_of_the_images_trains_alike(layout):
    x, y = blobs(40)
    given = {
        "channels first": x,
        "channels last": np.ascontiguousarray(x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2),
        "every second": np.repeat(x, 2, axis=0)[::2],
    }[layout]
    plain, other = small_model(), small_model()
    trainer_of(plain).fit(x, y, epochs=1, batch_size=16, verbose=False)
    trainer_of(other).fit(given, y, epochs=1, batch_size=16, verbose=False)
    for key, value in plain.state_dict().items():
        np.testing.assert_array_equal(other.state_dict()[key], value)


def test_without_shuffling_examples_come_in_their_order():
    class Recorder(nb.ReLU):
        def forward(self, x, training=False, *, input_grad=True):
            seen.append(x[:, 0].copy())
            return super().forward(x, training, input_grad=input_grad)

    x = np.arange(10, dtype=np.float32)[:, np.newaxis]
    model = nb.Sequential(Recorder(), nb.Dense(1, 2), backend="reference", seed=0)
    for shuffle, in_order in ((False, True), (True, False)):
        seen: list[np.ndarray] = []
        trainer_of(model).fit(x, np.zeros(10, int), epochs=2, batch_size=4, shuffle=shuffle, verbose=False)
        assert [len(part) for part in seen] == [4, 4, 2] * 2
        epochs = np.concatenate(seen).reshape(2, 10)
        assert (epochs == x[:, 0]).all() == in_order
        np.testing.assert_array_equal(np.sort(epochs), [x[:, 0]] * 2)


def test_history_holds_what_was_measured():
    x, y = blobs(50)
    trainer = trainer_of(small_model())
    history = trainer.fit(x, y, epochs=3, batch_size=20, validation_data=blobs(20, seed=1), verbose=False)
    assert set(history.history) == {
        "loss",
        "accuracy",
        "val_loss",
        "val_accuracy",
        "lr",
        "seconds",
        "images_per_second",
    }
    assert all(len(values) == 3 for values in history.history.values())
    assert history["lr"] == [0.1] * 3
    measured = trainer.evaluate(*blobs(20, seed=1), batch_size=20)
    assert history["val_loss"][-1] == pytest.approx(measured["loss"])
    assert history.last()["val_accuracy"] == measured["accuracy"]
    assert not history.interrupted


def test_evaluate_weighs_batches_by_their_size():
    x, y = blobs(50)
    trainer = trainer_of(small_model())
    whole, parts = trainer.evaluate(x, y, batch_size=50), trainer.evaluate(x, y, batch_size=7)
    assert parts["loss"] == pytest.approx(whole["loss"], rel=1e-6)
    assert parts["accuracy"] == pytest.approx(whole["accuracy"])
    logits = trainer.model.predict(x)
    assert whole["accuracy"] == (logits.argmax(axis=1) == y).mean()
    assert whole["loss"] == pytest.approx(nb.CrossEntropyLoss(backend="reference")(logits, y)[0])


def test_evaluate_needs_no_optimizer_and_changes_nothing():
    model = small_model()
    state = model.state_dict()
    nb.Trainer(model, nb.CrossEntropyLoss()).evaluate(*blobs())
    for key, value in model.state_dict().items():
        np.testing.assert_array_equal(value, state[key])
    assert all(parameter.grad is None for parameter in model.parameters())


def test_validation_split_holds_out_the_same_share_of_every_class():
    x, y = blobs(60)
    seen = []

    class Watch(nb.Callback):
        def on_train_begin(self, state):
            seen.append((state.examples, state.batches))

    history = trainer_of(small_model()).fit(
        x, y, epochs=1, batch_size=16, validation_split=0.2, callbacks=[Watch()], verbose=False
    )
    assert seen == [(48, 3)]
    assert "val_accuracy" in history
    assert history["val_accuracy"][0] * 12 == pytest.approx(round(history["val_accuracy"][0] * 12))


def test_ignored_labels_count_neither_way():
    x, y = blobs(30)
    y[::3] = -100
    accuracy = trainer_of(small_model()).evaluate(x, y)["accuracy"]
    right = small_model().predict(x).argmax(axis=1) == y
    assert accuracy == right.sum() / 20


def test_regression_has_no_accuracy():
    x, _ = blobs(20)
    model = small_model()
    trainer = nb.Trainer(model, nb.MSELoss(), nb.Adam(model.parameters()))
    target = np.zeros((20, 3), np.float32)
    history = trainer.fit(x, target, epochs=2, validation_split=0.25, verbose=False)
    assert set(trainer.evaluate(x, target)) == {"loss"}
    assert "accuracy" not in history
    assert "val_loss" in history


def bad_label(value, place):
    x, y = blobs()
    y[place] = value
    return x, y


def not_finite(value):
    x, y = blobs()
    x[4, 1, 2, 3] = value
    return x, y


X, Y = blobs()


@pytest.mark.parametrize(
    ("error", "message", "data", "arguments"),
    [
        (DataError, "the data set is empty", (X[:0], Y[:0]), {}),
        (DataError, "60 inputs but 59 targets", (X, Y[1:]), {}),
        (DataError, r"label 3 at position 17 is none of the model's 3 classes", bad_label(3, 17), {}),
        (DataError, "label -1 at position 0 ", bad_label(-1, 0), {}),
        (DataError, r"expected inputs of shape \(N, ...\)", (X[:, 0, 0, 0], Y), {}),
        (DataError, r"got \(60, 2, 4, 4\) and \(\)", (X, 3), {}),
        (NonFiniteError, r"nan at \(4, 1, 2, 3\)", not_finite(np.nan), {"check_finite": True}),
        (NonFiniteError, r"inf at \(4, 1, 2, 3\)", not_finite(np.inf), {"check_finite": True}),
        (ValueError, "batch_size of at least 1, got 0", (X, Y), {"batch_size": 0}),
        (ValueError, "epochs of at least 0, got -1", (X, Y), {"epochs": -1}),
        (
            ValueError,
            "validation_data or validation_split, not both",
            (X, Y),
            {"validation_data": (X, Y), "validation_split": 0.1},
        ),
        (DataError, "fraction between 0 and 1, got 1.5", (X, Y), {"validation_split": 1.5}),
        (DataError, "validation_data: 60 inputs but 1 targets", (X, Y), {"validation_data": (X, Y[:1])}),
        (LayerError, r"Conv2d \(layer 0\).*\(1, 1, 4, 4\)", (X[:, :1], Y), {}),
        (TypeError, "uint8", ((X * 10).astype(np.uint8), Y), {}),
    ],
)
def test_fit_refuses(error, message, data, arguments):
    model = small_model()
    before = model.state_dict()
    with pytest.raises(error, match=message):
        trainer_of(model).fit(*data, verbose=False, **arguments)
    for key, value in model.state_dict().items():
        np.testing.assert_array_equal(value, before[key])


def test_fit_without_an_optimizer_says_so():
    with pytest.raises(ValueError, match="needs an optimizer"):
        nb.Trainer(small_model(), nb.CrossEntropyLoss()).fit(X, Y)


@pytest.mark.parametrize(
    ("data", "arguments", "message"),
    [
        ((X[:0], Y[:0]), {}, "empty"),
        ((X, Y[:2]), {}, "60 inputs but 2 targets"),
        (bad_label(9, 1), {}, "label 9 at position 1"),
        ((X, Y), {"batch_size": -3}, "got -3"),
        (not_finite(-np.inf), {"check_finite": True}, "-inf"),
    ],
)
def test_evaluate_refuses(data, arguments, message):
    with pytest.raises(ValueError, match=message):
        trainer_of(small_model()).evaluate(*data, **arguments)


def test_no_epochs_train_nothing():
    history = trainer_of(small_model()).fit(X, Y, epochs=0, verbose=False)
    assert history.epochs == 0
    assert history.last() == {}


@pytest.mark.parametrize("moment", ["on_batch_end", "on_epoch_end"])
def test_ctrl_c_ends_the_run_and_keeps_the_history(moment):
    ended = []

    class Interrupt(nb.Callback):
        def on_train_end(self, state):
            ended.append(state.epoch)

    def interrupt(state):
        if state.epoch == 2:
            raise KeyboardInterrupt

    callback = Interrupt()
    setattr(callback, moment, interrupt)
    trainer = trainer_of(small_model())
    history = trainer.fit(X, Y, epochs=5, callbacks=[callback], verbose=False)
    assert history.interrupted
    assert history.epochs == (2 if moment == "on_batch_end" else 3)
    assert ended == [2]
    trainer.fit(X, Y, epochs=1, verbose=False)


def test_callbacks_are_called_in_order_with_a_state_that_fits():
    calls = []

    class Record(nb.Callback):
        def on_train_begin(self, state):
            calls.append("train")
            assert (state.epochs, state.batches, state.examples) == (2, 3, 60)
            assert state.model is model
            assert state.optimizer is trainer.optimizer

        def on_epoch_begin(self, state):
            calls.append(f"epoch {state.epoch}")
            assert state.history.epochs == state.epoch

        def on_batch_end(self, state):
            calls.append(f"batch {state.batch}")
            assert state.seen == min(60, 25 * (state.batch + 1))
            assert set(state.logs) == {"loss", "accuracy"}

        def on_epoch_end(self, state):
            calls.append("end")
            assert state.logs == state.history.last()
            assert state.history.epochs == state.epoch + 1

        def on_train_end(self, state):
            calls.append("over")

    model = small_model()
    trainer = trainer_of(model, callbacks=[Record()])
    trainer.fit(X, Y, epochs=2, batch_size=25, verbose=False)
    epoch = ["batch 0", "batch 1", "batch 2", "end"]
    assert calls == ["train", "epoch 0", *epoch, "epoch 1", *epoch, "over"]


@pytest.mark.parametrize(("moment", "epochs"), [("on_batch_end", 1), ("on_epoch_end", 2)])
def test_a_callback_can_stop_the_run(moment, epochs):
    def stop(state):
        state.stop = state.epoch == 1

    callback = nb.Callback()
    setattr(callback, moment, stop)
    history = trainer_of(small_model()).fit(X, Y, epochs=5, callbacks=[callback], verbose=False)
    assert history.epochs == epochs
    assert not history.interrupted


def test_callbacks_end_when_training_fails():
    ended = []

    class Watch(nb.Callback):
        def on_batch_end(self, state):
            raise RuntimeError("broken")

        def on_train_end(self, state):
            ended.append(True)

    with pytest.raises(RuntimeError, match="broken"):
        trainer_of(small_model()).fit(X, Y, callbacks=[Watch()], verbose=False)
    assert ended == [True]


def test_every_fit_shuffles_from_its_own_seed():
    class First(nb.Callback):
        def __init__(self):
            self.losses = []

        def on_batch_end(self, state):
            self.losses.append(state.logs["loss"])

    def losses(**arguments):
        first = First()
        trainer_of(small_model(), lr=0).fit(X, Y, batch_size=7, callbacks=[first], verbose=False, **arguments)
        return first.losses

    assert losses() == losses(seed=0)  # the model's
    assert losses(seed=1) != losses(seed=0)
    assert all(a != b for a, b in itertools.combinations([losses(seed=s)[0] for s in range(4)], 2))
