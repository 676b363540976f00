"""A trainer fed by a ``DataLoader``."""

import numpy as np
import pytest

import nbconv as nb
from nbconv.data import DataLoader

RNG = np.random.default_rng(0)
Y = RNG.integers(0, 3, 50)
X = (np.eye(3)[Y] @ RNG.normal(size=(3, 48)) + RNG.normal(size=(50, 48))).astype(np.float32)
X = X.reshape(50, 3, 4, 4)


def noisy(x, y, seed):
    return x + np.random.default_rng(seed).normal(size=x.shape).astype(np.float32), y


def fitted(*data, epochs=3, **arguments):
    model = nb.Sequential(nb.Flatten(), nb.Dense(48, 3), backend="reference", seed=0)
    trainer = nb.Trainer(model, nb.CrossEntropyLoss(), nb.SGD(model.parameters(), lr=0.05, momentum=0.9))
    history = trainer.fit(*data, epochs=epochs, verbose=False, **arguments)
    return model, history


@pytest.mark.parametrize("workers", [0, 2])
def test_a_loader_trains_as_its_arrays_do(workers):
    loader = DataLoader((X, Y), 8, shuffle=True, seed=5, transform=noisy, num_workers=workers)
    held_out = X[:20], Y[:20]
    model, history = fitted(loader, validation_data=DataLoader(held_out, 7))
    expected, other = fitted(X, Y, batch_size=8, seed=5, augment=noisy, validation_data=held_out)
    for key, value in expected.state_dict().items():
        np.testing.assert_array_equal(model.state_dict()[key], value)
    assert history["loss"] == other["loss"]
    assert history["val_accuracy"] == pytest.approx(other["val_accuracy"])


def test_a_loader_that_was_used_before_trains_alike():
    loader = DataLoader((X, Y), 8, shuffle=True)
    first, _ = fitted(loader)
    list(loader)
    again, _ = fitted(loader)
    for key, value in first.state_dict().items():
        np.testing.assert_array_equal(again.state_dict()[key], value)


def test_an_error_in_a_loader_comes_out_of_fit():
    def broken(x, y, seed):
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone"):
        fitted(DataLoader((X, Y), 8, transform=broken, num_workers=2))


class Pictures:
    """A data set, of which Trainer wants a loader."""

    def __len__(self):
        return 20

    def __getitem__(self, index):
        return X[index], int(Y[index])


@pytest.mark.parametrize(
    ("given", "arguments", "message"),
    [
        ((Pictures(),), {}, "fit: expected targets y beside x, which is a Pictures; a data set becomes"),
        ((Pictures(), Y), {}, "fit: expected arrays x and y, got Pictures and ndarray; .*DataLoader"),
        (((X, Y),), {}, "fit: expected targets y beside x, which is a tuple"),
        ((X,), {}, "fit: expected targets y beside x, which is a ndarray"),
        ((X, Y), {"validation_data": Pictures()}, "validation_data: expected .* got Pictures; .*DataLoader"),
        ((X, Y), {"validation_data": (X, Y, Y)}, "expected .x, y. or a loader, got tuple"),
    ],
)
def test_a_data_set_needs_a_loader(given, arguments, message):
    with pytest.raises(nb.DataError, match=message):
        fitted(*given, **arguments)


def test_arrays_of_bytes_are_told():
    with pytest.raises(nb.DTypeError, match="images of 0 to 255 are best divided by 255"):
        fitted((X * 0).astype(np.uint8), Y)


def test_bytes_train_as_shares_of_one():
    x = RNG.integers(0, 256, X.shape, np.uint8)
    model, _ = fitted(DataLoader((x, Y), 8, shuffle=True, seed=0))
    expected, _ = fitted(x / np.float32(255), Y, batch_size=8, seed=0)
    for key, value in expected.state_dict().items():
        np.testing.assert_array_equal(model.state_dict()[key], value)
