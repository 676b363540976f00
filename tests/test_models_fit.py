"""Every small-image model learns 32 random images by heart: thin forms, the same layers."""

import numpy as np
import pytest

import nbconv as nb
from nbconv import models

# What makes each family thin, its learning rate, and the images' size where it may be smaller than 32.
FAMILIES = {
    "lenet5": ({}, 2e-3, 32),
    "vgg": ({"width": 16}, 3e-4, 32),
    "resnet": ({"width": 8}, 2e-3, 16),
    "plain": ({"width": 8}, 2e-3, 16),
    "densenet_cifar": ({"depth": 22}, 2e-3, 16),
    "densenet": ({"growth_rate": 4}, 2e-3, 16),
    "googlenet": ({}, 3e-4, 16),
    "airbench": ({"widths": (16, 16, 16)}, 2e-3, 32),
    "mobilenet": ({"width_multiplier": 0.25}, 2e-3, 16),
}
DEEP = ("googlenet", "resnet101", "resnet152", "densenet169", "densenet201")
STEPS = 300


def thin(name):
    return next(family for start, family in FAMILIES.items() if name.startswith(start))


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[pytest.mark.slow] * (name in DEEP)) for name in models.names(small=True)],
)
def test_random_images_are_learned(name):
    options, rate, size = thin(name)
    model = models.get(name, small=True)(num_classes=10, in_channels=1, seed=0, **options)
    x = np.random.default_rng(0).standard_normal((32, 1, size, size)).astype(np.float32)
    labels = np.arange(32) % 10
    trainer = nb.Trainer(model, nb.CrossEntropyLoss(), nb.Adam(model.parameters(), lr=rate))
    for _ in range(STEPS // 10):
        trainer.fit(x, labels, epochs=10, batch_size=32, verbose=False)
        if trainer.evaluate(x, labels)["accuracy"] == 1:
            return
    pytest.fail(f"{name} had not learned them after {STEPS} steps")
