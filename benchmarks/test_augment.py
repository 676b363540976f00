"""Augmentation of 128 images of 32 x 32, beside PyTorch and the training step that it goes with."""

import numpy as np
import pytest

import nbconv as nb
from nbconv import augment as aug

TRANSFORMS = {
    "crop and flip": aug.Compose([aug.RandomCrop(padding=4), aug.RandomHorizontalFlip()]),
    "affine": aug.RandomAffine(10, (0.1, 0.1), (0.9, 1.1), 10),
    "crop, flip and affine": aug.Compose(
        [aug.RandomCrop(padding=4), aug.RandomHorizontalFlip(), aug.RandomAffine(10, shear=10)]
    ),
    "noise": aug.GaussianNoise(0.1),
    "colours": aug.ColorJitter(0.2, 0.2, 0.2),
    "cutout": aug.Cutout(8),
    "mixup": aug.Mixup(1.0, 10),
}


def _batch(channels):
    rng = np.random.default_rng(0)
    x = rng.random((128, 32, 32, channels), dtype=np.float32)
    return x.transpose(0, 3, 1, 2), rng.integers(0, 10, 128)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", TRANSFORMS)
def test_transforms(race, name, channels):
    x, y = _batch(channels)
    race("augmentation", f"{name}, {channels} channels", lambda: TRANSFORMS[name](x, y, 1))


@pytest.mark.parametrize("channels", [1, 3])
def test_affine_sampling(race, torch, channels):
    """The sampling itself beside ``affine_grid`` and ``grid_sample``, which compute the same."""
    x, _ = _batch(channels)
    angle = np.linspace(-0.2, 0.2, 128)
    maps = np.array([[np.cos(angle), -np.sin(angle), angle], [np.sin(angle), np.cos(angle), -angle]])
    maps = maps.transpose(2, 0, 1)
    ops = nb.backends.get("cpu")
    peers = {}
    if torch is not None:
        f = torch.nn.functional
        images = torch.from_numpy(x)
        theta = torch.from_numpy((maps * [1, 1, 1 / 16]).astype(np.float32))

        def sample():
            grid = f.affine_grid(theta, images.shape, align_corners=False)
            return f.grid_sample(images, grid, align_corners=False)

        np.testing.assert_allclose(ops.affine_sample(x, maps), sample().numpy(), atol=1e-4)
        peers["torch"] = sample
    race("affine sampling", f"{channels} channels", lambda: ops.affine_sample(x, maps), **peers)


def test_beside_the_training_step(race):
    """The ratio is the step's time over augmentation's."""
    x, y = _batch(1)
    model = nb.models.lenet5(seed=0)
    loss = nb.CrossEntropyLoss()
    optimizer = nb.SGD(model.parameters(), lr=0.01, momentum=0.9)

    def step():
        optimizer.zero_grad()
        outputs, backprop = model.forward(x, training=True, input_grad=False)
        backprop(loss(outputs, y)[1])
        optimizer.step()

    affine = TRANSFORMS["crop, flip and affine"]
    race("augmentation beside LeNet-5's step", "affine, batch 128", lambda: affine(x, y, 1), step=step)
