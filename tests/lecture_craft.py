"""Rows T, continued: AlexNet's recipe, augmentation, saliency and transfer learning."""

from itertools import pairwise

import numpy as np
import pytest
from lecture_rows import row

import nbconv as nb
from nbconv import augment
from nbconv.schedules import ReduceLROnPlateau


@row("T6")
def alexnets_recipe(backend):
    model = nb.models.alexnet(10)
    drops = [i for i, layer in enumerate(model) if isinstance(layer, nb.Dropout)]
    dense = [i for i, layer in enumerate(model) if isinstance(layer, nb.Dense)]
    assert [model[i].p for i in drops] == [0.5, 0.5]
    assert min(drops) > max(i for i, layer in enumerate(model) if isinstance(layer, nb.Conv2d))
    assert max(drops) < max(dense)

    # A model that cannot become better: the validation accuracy stops improving at once.
    x, y = np.zeros((256, 1, 8, 8), np.float32), np.arange(256) % 2
    small = nb.Sequential(nb.Flatten(), nb.Dropout(0.5), nb.Dense(64, 2), backend=backend, seed=0)
    optimizer = nb.SGD(small.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4)
    rule = ReduceLROnPlateau(optimizer, "max", 0.1, patience=1)
    light = augment.Compose([augment.RandomCrop(8, padding=1), augment.RandomHorizontalFlip()])
    history = nb.Trainer(small, nb.CrossEntropyLoss(), optimizer, [rule]).fit(
        x, y, epochs=6, batch_size=128, validation_data=(x, y), augment=light, verbose=False
    )
    assert len(set(history["val_accuracy"])) == 1
    np.testing.assert_allclose(history["lr"][:3], [0.01] * 3)  # the first best, and two that are no better
    rates = sorted(set(np.round(history["lr"], 12)), reverse=True)
    np.testing.assert_allclose(rates[:2], [0.01, 0.001])

    # Momentum with L2 decay: v = gamma v + eta (gradient + lambda w), w -= v.
    (weight,) = (p for p in nb.Sequential(nb.Dense(2, 1, bias=False), backend=backend, seed=0).parameters())
    w, v = weight.data.copy(), 0.0
    optimizer = nb.SGD([weight], lr=0.01, momentum=0.9, weight_decay=5e-4)
    for _ in range(3):
        weight.grad = np.ones_like(weight.data)
        optimizer.step()
        v = 0.9 * v + 0.01 * (1 + 5e-4 * w)
        w = w - v
    np.testing.assert_allclose(weight.data, w, rtol=1e-5)


@row("T7")
def live_augmentation(backend):
    x = np.random.default_rng(7).random((8, 1, 16, 16)).astype(np.float32)
    y = np.arange(8)
    transforms = (
        augment.RandomRotation(180),
        augment.RandomShift(2),
        augment.RandomRescale((0.8, 1.2)),
        augment.RandomHorizontalFlip(),
        augment.GaussianNoise(0.1),
        augment.RandomCrop(14),
    )
    for transform in transforms:
        first, second = (transform(x, y, seed)[0] for seed in (1, 2))
        assert first.shape == second.shape
        assert (first != second).any()  # formed anew, ...
        np.testing.assert_array_equal(transform(x, y, 1)[0], first)  # ... yet repeatable

    flipped = transforms[3](x, y, 0)[0]
    turned = [np.allclose(a, b[..., ::-1], atol=1e-6) for a, b in zip(flipped, x, strict=True)]
    same = [np.allclose(a, b, atol=1e-6) for a, b in zip(flipped, x, strict=True)]
    assert all(a != b for a, b in zip(turned, same, strict=True))
    noise = augment.GaussianNoise(0.1)(np.zeros((4, 3, 32, 32), np.float32), y[:4], 0)[0]
    assert noise.std() == pytest.approx(0.1, rel=0.05)

    # 224 of 256, as AlexNet's: a window of the image itself.
    large = np.arange(256 * 256, dtype=np.float32).reshape(1, 1, 256, 256)
    crop = augment.RandomCrop(224)(large, y[:1], 3)[0]
    assert crop.shape == (1, 1, 224, 224)
    top, left = divmod(int(crop[0, 0, 0, 0]), 256)
    np.testing.assert_array_equal(crop[0, 0], large[0, 0, top : top + 224, left : left + 224])

    # Each batch is formed when it is needed: the same image is another one in each epoch.
    seen = []

    def watch(images, labels, seed):
        images, labels = transforms[4](images, labels, seed)
        seen.append(images.copy())
        return images, labels

    model = nb.Sequential(nb.Flatten(), nb.Dense(256, 8), backend=backend, seed=0)
    trainer = nb.Trainer(model, nb.CrossEntropyLoss(), nb.SGD(model.parameters(), lr=0.01))
    trainer.fit(x, y, epochs=2, batch_size=8, shuffle=False, augment=watch, verbose=False)
    assert len(seen) == 2
    assert (seen[0] != seen[1]).any()


@row("T11")
def saliency(backend):
    x = np.random.default_rng(11).random((2, 3, 8, 8)).astype(np.float32)
    model = nb.Sequential(
        *(nb.Conv2d(3, 4, 3), nb.ReLU(), nb.MaxPool2d(2), nb.Flatten(), nb.Dense(36, 5)),
        backend=backend,
        seed=0,
    )
    logits, backprop = model.forward(x)
    one_hot = np.zeros_like(logits)
    one_hot[:, 3] = 1
    gradient = np.abs(backprop(one_hot))
    np.testing.assert_allclose(nb.inspect.saliency(model, x, 3), gradient.max(axis=1), rtol=1e-5, atol=1e-8)
    mean = nb.inspect.saliency(model, x, 3, reduce="mean")
    np.testing.assert_allclose(mean, gradient.mean(axis=1), rtol=1e-5, atol=1e-8)


@row("T12")
def transfer_learning(backend):
    x = np.random.default_rng(12).random((16, 1, 8, 8)).astype(np.float32)
    y = np.arange(16) % 4
    model = nb.Sequential(
        *(nb.Conv2d(1, 4, 3), nb.ReLU(), nb.MaxPool2d(2), nb.Conv2d(4, 4, 2), nb.ReLU(), nb.Flatten()),
        *(nb.Dense(16, 8), nb.ReLU(), nb.Dense(8, 10)),
        backend=backend,
        seed=0,
    )
    # Freeze the convolutional base, train a new head ...
    model.freeze(slice(0, 6)).replace_head(4)
    before = model.state_dict()
    optimizer = nb.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-3)
    history = nb.Trainer(model, nb.CrossEntropyLoss(), optimizer).fit(x, y, epochs=5, verbose=False)
    assert history["loss"][-1] < history["loss"][0]
    after = model.state_dict()
    assert {key for key in before if (before[key] == after[key]).all()} == {
        "0.weight",
        "0.bias",
        "3.weight",
        "3.bias",
    }

    # ... then fine-tune all, earlier groups at 3 to 10 times smaller rates.
    model.unfreeze()
    groups = nb.layer_groups(model, lrs=[1e-4, 1e-3, 1e-2 / 3])
    rates = [group["lr"] for group in groups]
    assert all(3 <= later / earlier <= 10.001 for earlier, later in pairwise(rates))
    optimizer = nb.SGD(groups, lr=1.0)
    y_out, backprop = model.forward(x, training=True, input_grad=False)
    backprop(nb.CrossEntropyLoss(backend=backend)(y_out, y)[1])
    steps = {name: (p.data.copy(), p.grad) for name, p in model.named_parameters()}
    optimizer.step()
    for name, parameter in model.named_parameters():
        rate = rates[{"0": 0, "3": 0, "6": 1, "8": 2}[name.partition(".")[0]]]
        old, gradient = steps[name]
        np.testing.assert_allclose(parameter.data, old - rate * gradient, rtol=1e-5, atol=1e-8)
