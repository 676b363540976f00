import numpy as np
import pytest

import nbconv as nb
from nbconv.data import k_fold
from nbconv.errors import DataError

RNG = np.random.default_rng(0)
Y = RNG.integers(0, 3, 90)
X = (np.eye(3)[Y] @ RNG.normal(size=(3, 6)) + 0.3 * RNG.normal(size=(90, 6))).astype(np.float32)


def build():
    return nb.Sequential(nb.Dense(6, 3), seed=1, backend="reference")


def sgd(parameters):
    return nb.SGD(parameters, lr=0.3)


def test_scores_are_those_of_training_on_the_other_folds():
    found = nb.cross_validate(build, X, Y, 4, epochs=3, batch_size=16, optimizer=sgd, seed=5)
    expected = []
    for train, test in k_fold(Y, 4, seed=5):
        model = build()
        trainer = nb.Trainer(model, nb.CrossEntropyLoss(), sgd(model.parameters()))
        trainer.fit(X[train], Y[train], 3, 16, seed=5, verbose=False)
        expected.append((model.predict(X[test]).argmax(axis=1) == Y[test]).mean())
    assert found.metric == "accuracy"
    np.testing.assert_allclose(found.scores, expected)
    assert found.mean == pytest.approx(np.mean(expected))
    assert found.std == pytest.approx(np.sqrt(np.var(expected) * 4 / 3))
    assert found.mean > 0.8
    assert [history.epochs for history in found.histories] == [3] * 4
    assert str(found) == f"accuracy {found.mean:.4f} ± {found.std:.4f} over 4 folds"


def test_labels_that_say_nothing_are_not_learned():
    """A model that saw its judges would do better than chance."""
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(200, 100)).astype(np.float32), rng.integers(0, 2, 200)
    build_wide = lambda: nb.Sequential(nb.Dense(100, 2), seed=0, backend="reference")  # noqa: E731
    found = nb.cross_validate(build_wide, x, y, 5, epochs=20, optimizer=sgd)
    assert found.histories[0]["accuracy"][-1] > 0.9
    assert abs(found.mean - 0.5) < 3 * np.sqrt(0.25 / 200)


def test_preprocessing_is_fitted_on_what_the_fold_trains_on():
    seen = []

    def preprocess(x):
        seen.append(x)
        return nb.preprocess.Standardize.fit(x)

    nb.cross_validate(build, X, Y, 3, epochs=1, preprocess=preprocess, seed=2)
    for x, (train, _) in zip(seen, k_fold(Y, 3, seed=2), strict=True):
        np.testing.assert_array_equal(x, X[train])


def test_other_targets_are_judged_by_their_loss():
    targets = (X @ RNG.normal(size=(6, 1))).astype(np.float32)
    build_line = lambda: nb.Sequential(nb.Dense(6, 1), seed=0, backend="reference")  # noqa: E731
    found = nb.cross_validate(
        build_line, X, targets, 3, epochs=20, loss=nb.MSELoss(), optimizer=lambda p: nb.SGD(p, lr=0.1)
    )
    assert found.metric == "loss"
    np.testing.assert_array_equal(found.scores, found.losses)
    assert found.mean < 0.1 * targets.var()


def test_the_seed_decides():
    first, again, other = (nb.cross_validate(build, X, Y, epochs=1, seed=seed).losses for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert len(first) == 5
    assert (first != other).any()


def test_further_arguments_reach_the_training():
    seeds = []
    nb.cross_validate(
        build, X, Y, 2, epochs=1, batch_size=45, augment=lambda x, y, seed: seeds.append(seed) or (x, y)
    )
    assert len(seeds) == 2


def test_refusals():
    with pytest.raises(DataError, match="k of 2 to 90"):
        nb.cross_validate(build, X, Y, 1)
    with pytest.raises(DataError, match="90 inputs but 80 targets"):
        nb.cross_validate(build, X, Y[:80])


def test_ctrl_c_ends_it_all():
    class Stop(nb.Callback):
        def on_batch_end(self, state):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        nb.cross_validate(build, X, Y, epochs=1, callbacks=[Stop()])
