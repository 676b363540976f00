"""LeNet-5, the network that read cheques."""

from __future__ import annotations

from collections.abc import Callable

from nbconv.layers import Conv2d, Dense, Flatten, Layer, MaxPool2d, ReLU
from nbconv.models.weights import Weights, load_weights
from nbconv.sequential import Sequential


def lenet5(
    num_classes: int = 10,
    in_channels: int = 1,
    *,
    activation: Callable[[], Layer] = ReLU,
    pooling: Callable[[int], Layer] = MaxPool2d,
    weights: Weights | None = None,
    backend: str = "cpu",
    seed: int | None = None,
) -> Sequential:
    """LeNet-5 for images of 32 x 32: 6@28x28, 6@14x14, 16@10x10, 16@5x5, 120, 84, num_classes.

    The form of today's lectures. Nearer to the original: ``activation=nb.Tanh, pooling=nb.AvgPool2d``.

    Args:
        num_classes: logits.
        in_channels: 1 for grey images, 3 for colour.
        activation: makes the layer behind each hidden layer.
        pooling: makes the layer that halves the size, given 2.
        weights: a safetensors file or a state dict with this model's keys.
        backend: where to compute.
        seed: makes the first weights repeatable.

    Raises:
        StateDictError: if the weights do not fit.

    Source: LeCun et al., "Gradient-based learning applied to document recognition", 1998; STOR566 lecture 8.
    """
    model = Sequential(
        Conv2d(in_channels, 6, 5),
        activation(),
        pooling(2),
        Conv2d(6, 16, 5),
        activation(),
        pooling(2),
        Flatten(),
        Dense(16 * 5 * 5, 120),
        activation(),
        Dense(120, 84),
        activation(),
        Dense(84, num_classes),
        backend=backend,
        seed=seed,
    )
    return load_weights(model, weights)
