"""``Trainer.fit(augment=...)``: which batches are augmented, and with which seeds."""

import numpy as np
import pytest
from test_trainer import blobs, small_model, trainer_of

import nbconv as nb
from nbconv.augment import batch_seed


class Recorder:
    """An augmentation that changes nothing and remembers how it was called."""

    def __init__(self):
        self.calls = []

    def __call__(self, x, y, seed):
        self.calls.append((x.copy(), y.copy(), seed))
        return x, y


def test_every_training_batch_is_augmented_with_a_seed_of_its_own():
    x, y = blobs(50)
    recorder = Recorder()
    trainer = trainer_of(small_model())
    trainer.fit(x, y, 2, 16, validation_data=blobs(20), seed=9, augment=recorder, verbose=False)
    assert [seed for _, _, seed in recorder.calls] == [
        batch_seed(9, e, b) for e in range(2) for b in range(4)
    ]
    assert len({seed for _, _, seed in recorder.calls}) == 8
    assert [len(batch) for batch, _, _ in recorder.calls] == [16, 16, 16, 2] * 2
    images = np.concatenate([batch for batch, _, _ in recorder.calls[:4]])
    assert sorted(images.sum(axis=(1, 2, 3))) == pytest.approx(sorted(x.sum(axis=(1, 2, 3))))


def test_the_model_learns_what_the_augmentation_returns():
    x, y = blobs(60)

    def swap(x, y, seed):
        return -x, np.array([1, 2, 0])[y]

    trainer = trainer_of(small_model())
    trainer.fit(x, y, 12, 16, augment=swap, verbose=False)
    assert trainer.evaluate(-x, (y + 1) % 3)["accuracy"] > 0.95
    assert trainer.evaluate(x, y)["accuracy"] < 0.6


def test_class_probabilities_in_place_of_labels():
    x, y = blobs(60)
    trainer = trainer_of(small_model())
    soft = np.eye(3, dtype=np.float32)
    history = trainer.fit(x, y, 8, 16, augment=lambda x, y, _: (x, soft[y]), verbose=False)
    assert "accuracy" not in history
    assert trainer.evaluate(x, y)["accuracy"] > 0.95


def test_augmentation_may_crop_images_to_what_the_model_takes():
    """224 of 256, and all of it in evaluation."""
    x, y = blobs(60)
    large = np.pad(x, ((0, 0), (0, 0), (2, 2), (2, 2)))
    crop = nb.augment.RandomCrop(x.shape[2:])
    trainer = trainer_of(small_model())
    history = trainer.fit(large, y, 2, 16, augment=crop, validation_data=(x, y), verbose=False)
    assert history.epochs == 2
    with pytest.raises(nb.LayerError, match="expected"):
        trainer.fit(large, y, 2, 16, verbose=False)
    with pytest.raises(nb.LayerError, match="expected"):
        trainer.fit(large, y, 2, 16, augment=nb.augment.RandomHorizontalFlip(), verbose=False)


def test_seeds_of_batches_are_unsigned_64_bit_numbers():
    seeds = {batch_seed(s, e, b) for s in (0, 1, 2**64) for e in range(3) for b in range(3)}
    assert len(seeds) == 27
    assert all(0 <= seed < 2**64 for seed in seeds)
