"""A model that predicts in some threads while others read, save, copy and load it."""

import copy
import pickle
import threading

import numpy as np

import nbconv as nb
from nbconv.inference.program import Programs
from nbconv.inference.weights import PreparedWeights


def network():
    """Large enough for programs, and for Winograd if its points are kept."""
    return nb.Sequential(
        nb.Conv2d(3, 64, 3, padding=1),
        nb.ReLU(),
        nb.Conv2d(64, 128, 3, padding=1),
        nb.BatchNorm2d(128),
        nb.ReLU(),
        nb.Residual(nb.Conv2d(128, 128, 3, padding=1)),
        nb.GlobalAvgPool2d(),
        nb.Dense(128, 10),
        seed=0,
    )


def images(n=1):
    return np.random.default_rng(0).standard_normal((n, 3, 14, 14)).astype(np.float32)


def test_the_bits_do_not_depend_on_who_holds_the_weights():
    model, x = network(), images()
    alone = model.predict(x)
    held = [parameter.data for parameter in model.parameters()]
    np.testing.assert_array_equal(model.predict(x), alone)
    del held
    np.testing.assert_array_equal(model.predict(x), alone)


def test_weights_may_be_taken_at_any_moment(monkeypatch):
    """As if another thread began to read them each time that a plan has just looked at them."""
    model, x = network(), images()
    get, held = PreparedWeights.get, []

    def get_and_take(self):
        weights = get(self)
        held.extend(parameter.data for parameter in model.parameters())
        return weights

    monkeypatch.setattr(PreparedWeights, "get", get_and_take)
    found = model.predict(x)
    monkeypatch.undo()
    np.testing.assert_array_equal(found, network().predict(x))


def test_a_program_is_for_the_precision_it_was_made_with(monkeypatch):
    """As if another thread changed it, and back, while a program is made."""
    model, x, make = network(), images(4), Programs._make

    def made_meanwhile(self, *arguments):
        nb.set_precision("highest")
        return make(self, *arguments)

    monkeypatch.setattr(Programs, "_make", made_meanwhile)
    try:
        model.predict(x)
    finally:
        nb.set_precision("high")
    monkeypatch.undo()
    np.testing.assert_array_equal(model.predict(x), network().predict(x))


def test_attributes_may_be_added_while_a_layer_is_gone_through():
    """The first pass adds what it remembers of a shape; others may be listing parameters just then."""
    layer, x = nb.Conv2d(3, 4, 3), images()
    names = layer.named_parameters()
    assert next(names)[0] == "weight"
    layer.infer(x)
    assert [name for name, _ in names] == ["bias"]


def test_predictions_beside_all_that_does_not_change_the_model(tmp_path):
    model, x = network(), images()
    want, state = model.predict(x), model.state_dict()
    wrong, stop = [], threading.Event()

    def repeated(act):
        def loop():
            while not stop.is_set():
                try:
                    act()
                except Exception as error:
                    wrong.append(error)
                    stop.set()

        return threading.Thread(target=loop)

    def predict():
        if not np.array_equal(model.predict(x), want):
            raise AssertionError("other bits")

    actions = [
        *[predict] * 3,
        model.state_dict,
        lambda: model.save(tmp_path / "model.safetensors"),
        lambda: model.load_state_dict(state),
        lambda: model.to("cpu"),
        lambda: copy.deepcopy(model).predict(x),
        lambda: pickle.loads(pickle.dumps(model)).predict(x),
        lambda: setattr(model, "seed", 0),
    ]
    threads = [repeated(act) for act in actions]
    for thread in threads:
        thread.start()
    stop.wait(3)
    stop.set()
    for thread in threads:
        thread.join(60)
    assert not wrong
