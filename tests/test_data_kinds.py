"""What people give as data: right, or an error of ours that says what is needed."""

import numpy as np
import pytest

import nbconv as nb
from nbconv import data

RNG = np.random.default_rng(0)
X = RNG.random((12, 1, 2, 2)).astype(np.float32)
Y = np.arange(12) % 3


def trainer():
    model = nb.Sequential(nb.Flatten(), nb.Dense(4, 3), seed=0)
    return nb.Trainer(model, nb.CrossEntropyLoss(), nb.SGD(model.parameters(), 0.1))


def read_only(array):
    return np.broadcast_to(array, array.shape)


RIGHT = {
    "lists": X.tolist(),
    "a list of arrays": list(X),
    "float64": X.astype(np.float64),
    "big-endian": X.astype(">f4"),
    "read-only": read_only(X),
    "Fortran": np.asfortranarray(X),
    "views": np.concatenate([X, X])[::2][:6].repeat(2, axis=0),
}
WRONG = {
    "a generator": (x for x in X),
    "nothing": None,
    "a number": 3,
    "text": "abc",
    "a dictionary": {"x": X},
    "ragged lists": [[1.0, 2.0], [3.0]],
    "objects": np.array([{}] * 12, object),
    "texts": np.array(["a"] * 12),
    "complex numbers": X.astype(np.complex64),
    "dates": np.zeros(12, "M8[s]"),
    "too few": X[:5],
    "none": X[:0],
    "a function": len,
}


@pytest.mark.parametrize("kind", RIGHT)
def test_what_makes_an_array_is_as_good_as_one(kind):
    x = RIGHT[kind]
    array = np.asarray(x, np.float32)
    wanted = trainer()
    history = wanted.fit(array, Y, epochs=2, verbose=False, seed=0)
    got = trainer()
    assert got.fit(x, Y.tolist(), epochs=2, verbose=False, seed=0)["loss"] == history["loss"]
    assert got.evaluate(x, Y) == wanted.evaluate(array, Y)
    # Lists make float64, which is rounded where the model begins.
    np.testing.assert_array_equal(got.model.predict(x), wanted.model.predict(array))
    ((loaded, _),) = data.DataLoader((x, Y), 12)
    np.testing.assert_array_equal(loaded, array)
    mean = nb.preprocess.Standardize.fit(x).mean
    np.testing.assert_allclose(mean, array.mean(axis=(0, 2, 3)), rtol=1e-5)
    np.testing.assert_array_equal(data.train_test_split(x, Y, seed=0).test.x.shape, (3, 1, 2, 2))


@pytest.mark.parametrize("kind", WRONG)
@pytest.mark.parametrize(
    "use",
    [
        lambda x: trainer().fit(x, Y, verbose=False),
        lambda x: trainer().fit(x, verbose=False),
        lambda x: trainer().fit(x, Y, verbose=False, check_finite=True),
        lambda x: trainer().fit(X, Y, verbose=False, validation_data=(x, Y)),
        lambda x: trainer().evaluate(x, Y),
        lambda x: trainer().fit(data.DataLoader((x, Y), 4), verbose=False),
        lambda x: trainer().fit(data.DataLoader(x, 4), verbose=False),
        lambda x: nb.cross_validate(lambda: trainer().model, x, Y, 3, epochs=1),
    ],
)
def test_what_is_no_data_is_refused(use, kind):
    with pytest.raises(nb.errors.NbconvError) as caught:
        use(WRONG[kind])
    assert str(caught.value)


@pytest.mark.parametrize("kind", [kind for kind in WRONG if kind not in ("too few", "none")])
def test_what_is_no_input_is_refused(kind):
    model = trainer().model
    for use in (model, model.predict, nb.preprocess.Standardize.fit, nb.preprocess.PCA.fit):
        with pytest.raises(nb.errors.NbconvError):
            use(WRONG[kind])


@pytest.mark.parametrize("targets", [list("abc") * 4, [None] * 12, np.zeros(12, "M8[s]"), Y + 0j])
def test_targets_that_are_no_numbers(targets):
    for use in (trainer().fit, trainer().evaluate):
        with pytest.raises(nb.DataError, match=r"expected numbers as targets.*np\.unique"):
            use(X, targets)


def test_labels_may_be_a_list():
    kept, held = data.stratified_split(Y.tolist(), 0.25, seed=0)
    np.testing.assert_array_equal(held, data.stratified_split(Y, 0.25, seed=0)[1])
    assert len(kept) == 9
    for labels in (3, {}, "abc", [[1], [2, 3]], ["a", "b"]):
        with pytest.raises(nb.DataError):
            data.stratified_split(labels, 0.5)
    for x in (3, {}, "abc", (label for label in Y)):
        with pytest.raises(nb.DataError):
            data.train_test_split(x, x)


@pytest.mark.parametrize(
    ("examples", "message"),
    [
        ([(1, 2, 3)] * 4, r"expected \(x, y\) as example 0, got tuple"),
        ([X[0]] * 4, r"expected \(x, y\) as example 0, got ndarray"),
        ([None] * 4, r"expected \(x, y\) as example 0, got NoneType"),
        ([(X[0], [1]), (X[0], [1, 2])] * 2, r"the targets in a batch have the shapes \[\(1,\), \(2,\)\]"),
        ([([[1.0], [1.0, 2.0]], 1)] * 4, "expected an array, got a list that makes none"),
    ],
)
def test_examples_that_make_no_batch(examples, message):
    with pytest.raises(nb.DataError, match=message):
        list(data.DataLoader(data.Subset(examples, range(4)), 2))


@pytest.mark.parametrize("indices", ["abc", 1, [[1]], [0.5], [None], [[1], [2, 3]]])
def test_indices_that_choose_nothing(indices):
    with pytest.raises(nb.DataError):
        data.Subset([(x, 0) for x in X], indices)


def test_a_file_stays_on_the_disk(tmp_path):
    np.save(tmp_path / "x.npy", X)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    assert (
        trainer().fit(mapped, Y, seed=0, verbose=False)["loss"]
        == (trainer().fit(X, Y, seed=0, verbose=False)["loss"])
    )
    loader = data.DataLoader((mapped, Y), 12)
    assert isinstance(loader._batches._x, np.memmap)


@pytest.mark.parametrize("batches", [[X], [(X, Y, 1)], [None], "abc"])
def test_what_preprocessing_cannot_measure(batches):
    with pytest.raises(nb.DataError):
        nb.preprocess.Standardize.fit(iter(batches))
