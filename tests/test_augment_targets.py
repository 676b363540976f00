"""Targets of pixels move with the pixels."""

import numpy as np
import pytest
from scipy import ndimage
from test_augment import ALL

import nbconv as nb
from nbconv import augment as aug
from nbconv.augment.targets import nearest_sample
from nbconv.errors import DataError

SEED = 7
RNG = np.random.default_rng(0)


def pictures(n=6, height=9, width=12):
    """Images whose pixels tell by their value where they are, and that as labels."""
    labels = np.tile(np.arange(height * width).reshape(height, width), (n, 1, 1)) + 1
    return labels[:, None].astype(np.float64), labels


WHOLE_PIXELS = {
    "flip": aug.RandomHorizontalFlip(),
    "vertical flip": aug.RandomVerticalFlip(),
    "crop": aug.RandomCrop((5, 8), padding=(2, 3)),
    "crop of odd sizes": aug.RandomCrop((6, 7)),
    "border": aug.RandomCrop(padding=4, padding_mode="border"),
    "reflection": aug.RandomCrop(padding=4, padding_mode="reflection"),
    "together": aug.Compose(
        [aug.RandomVerticalFlip(), aug.RandomCrop(7, padding=2), aug.RandomHorizontalFlip()]
    ),
    "one after the other": aug.Compose(
        [
            aug.RandomCrop(padding=2, padding_mode="border"),
            aug.GaussianNoise(0.0),
            aug.RandomCrop(7, padding=2),
        ]
    ),
}


@pytest.mark.parametrize("backend", ["reference", "cpu"])
@pytest.mark.parametrize("name", WHOLE_PIXELS)
@pytest.mark.parametrize("dtype", ["int64", "uint8", "float32", "bool"])
def test_a_mask_that_is_the_image_is_still_the_image(name, backend, dtype):
    transform = aug.Compose([WHOLE_PIXELS[name]], backend=backend, ignore_index=0)
    x, labels = pictures()
    if dtype == "bool":
        labels = labels % 5 == 0
        x = labels[:, None].astype(np.float64)
    masks = labels.astype(dtype)
    for y in (masks, masks[:, None], np.stack([masks, masks], axis=1)):
        kept = y.copy()
        moved, targets = transform(x, y, SEED)
        assert targets.dtype == dtype
        images = moved[:, 0] if y.ndim == 3 else np.broadcast_to(moved, targets.shape)
        np.testing.assert_array_equal(np.round(images), targets)
        np.testing.assert_array_equal(y, kept)
        assert (targets[0] != targets).any()  # each image by its own draws


@pytest.mark.parametrize(
    ("mode", "theirs"), [("zeros", "grid-constant"), ("border", "nearest"), ("reflection", "reflect")]
)
def test_the_nearest_pixel_is_taken(mode, theirs):
    matrices = RNG.normal(0, 1, (20, 2, 3)) * [1, 1, 5]
    y = RNG.integers(0, 99, (20, 9, 12))
    moved = nearest_sample(y, matrices, (7, 10), mode, -100)
    for labels, matrix, found in zip(y, matrices, moved, strict=True):
        # SciPy counts rows first, and from the first pixel.
        linear, shift = matrix[::-1, 1::-1], matrix[::-1, 2]
        offset = shift + np.array([4, 5.5]) - linear @ np.array([3, 4.5])
        settings = {"offset": offset, "output_shape": (7, 10), "order": 0, "mode": theirs, "cval": -100}
        np.testing.assert_array_equal(found, ndimage.affine_transform(labels, linear, **settings))


@pytest.mark.parametrize("name", ["rotation", "shift", "rescale", "affine", "crop"])
def test_masks_are_where_the_objects_are(name):
    """A disc, and what a threshold finds of it in the image that was moved, agree but along its edge."""
    rows, columns = np.mgrid[:40, :44]
    disc = np.hypot(rows - 15, columns - 25) < 9
    x, y = np.tile(disc.astype(np.float32), (8, 1, 1, 1)), np.tile(disc.astype(np.uint8), (8, 1, 1))
    transform = aug.RandomCrop(36, padding=4) if name == "crop" else ALL[name]
    moved, labels = aug.Compose([transform], ignore_index=255)(x, y, SEED)
    known = labels != 255
    wrong = (labels == 1) != (moved[:, 0] > 0.5)
    assert (wrong & known).sum() <= 0.03 * known.sum()


def test_labels_from_beyond_the_edge():
    x, labels = pictures()
    shift = aug.RandomCrop(padding=3)
    with pytest.raises(DataError, match=r"pixels from beyond an image's edge .*ignore_index=-100"):
        shift(x, labels, SEED)
    moved, found = aug.Compose([shift], ignore_index=-100)(x, labels.astype(np.uint8), SEED)
    assert found.dtype == np.int64  # which has room for it
    np.testing.assert_array_equal(found, np.where(moved[:, 0] == 0, -100, moved[:, 0]))
    for masks in (labels[:, None], labels.astype(np.float32)):
        _, found = shift(x, masks, SEED)
        np.testing.assert_array_equal(found.reshape(moved.shape), moved)
    # Nothing from there, nothing to know.
    np.testing.assert_array_equal(*(part.reshape(-1) for part in aug.RandomCrop(5)(x, labels, SEED)))


@pytest.mark.parametrize("shape", [(6,), (6, 4), (6, 1, 1), (6, 5, 1, 1)])
def test_targets_of_whole_images_stay(shape):
    y = RNG.integers(0, 9, shape)
    _, found = ALL["affine"](pictures()[0], y, SEED)
    np.testing.assert_array_equal(found, y)


@pytest.mark.parametrize("shape", [(6, 12, 9), (6, 3, 2), (6, 2, 5, 6), (6, 1, 9, 12, 1)])
def test_targets_that_lie_nobody_knows_where_are_turned_down(shape):
    x, _ = pictures()
    with pytest.raises(DataError, match="cannot be moved with images of 9 x 12 pixels"):
        aug.RandomHorizontalFlip()(x, np.zeros(shape, int), SEED)
    aug.GaussianNoise()(x, np.zeros(shape, int), SEED)


@pytest.mark.parametrize("name", ["noise", "colours", "cutout", "erasing"])
def test_where_no_pixel_moves_no_target_does(name):
    x, labels = pictures()
    np.testing.assert_array_equal(ALL[name](x, labels, SEED)[1], labels)


@pytest.mark.parametrize("n", [0, 1])
def test_few_images(n):
    x, labels = pictures(n)
    moved, found = aug.Compose([ALL["rotation"], ALL["crop"]], ignore_index=-1)(x, labels, SEED)
    assert found.shape == (n, *moved.shape[2:])


def test_the_identity_is_learned_and_the_loss_says_what_to_ignore():
    masks = (RNG.random((8, 10, 10)) > 0.5).astype(np.uint8)
    images = masks[:, None].astype(np.float32)
    for loss, targets in (
        (nb.CrossEntropyLoss(), masks),
        (nb.CrossEntropyLoss(ignore_index=255), masks),
        (
            nb.L2Regularization(nb.CrossEntropyLoss(ignore_index=7), nb.Conv2d(1, 2, 1).parameters(), 0.0),
            masks,
        ),
    ):
        for augment in (
            aug.RandomCrop(padding=3),
            aug.Compose([aug.RandomVerticalFlip(), aug.RandomCrop(6, padding=2), aug.RandomHorizontalFlip()]),
        ):
            model = nb.Sequential(nb.Conv2d(1, 2, 1), backend="reference", seed=0)
            trainer = nb.Trainer(model, loss, nb.SGD(model.parameters(), lr=1.0))
            history = trainer.fit(images, targets, 25, 3, augment=augment, seed=0, verbose=False)
            assert history["accuracy"][-1] == 1.0
    loader = nb.data.DataLoader(
        (images, masks), 4, transform=aug.Compose([aug.RandomShift(2)], ignore_index=9)
    )
    for x, y in loader:
        assert 9 in y
        assert x.shape[2:] == y.shape[1:]


def test_an_augmentation_of_ones_own_is_called_as_it_is():
    class Negative(aug.Transform):
        def __call__(self, x, y, seed):
            calls.append(seed)
            return -x, y

    calls = []
    model = nb.Sequential(nb.Conv2d(1, 2, 1), backend="reference", seed=0)
    trainer = nb.Trainer(model, nb.CrossEntropyLoss(), nb.SGD(model.parameters(), lr=1.0))
    x, labels = pictures()
    trainer.fit(x.astype(np.float32), labels % 2, augment=Negative(), verbose=False)
    assert len(calls) == 1
