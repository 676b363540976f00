"""Standard against depthwise separable convolutions: what they cost, and what they learn of the digits.

A standard convolution looks around and mixes channels at once. MobileNets first look around within each
channel, then mix the channels at each place: for 3 x 3 and n output channels, at 1/n + 1/9 of the work.
"""

import argparse

import nbconv as nb
from nbconv.models.mobilenet import separable

CHANNELS = (32, 64, 128)


def standard(in_channels: int, out_channels: int, stride: int) -> nb.Sequential:
    """What :func:`separable` stands for: a 3 x 3 convolution, batch normalisation and ReLU."""
    return nb.Sequential(
        nb.Conv2d(in_channels, out_channels, 3, stride=stride, padding=1, bias=False),
        nb.BatchNorm2d(out_channels),
        nb.ReLU(),
    )


def network(block, backend: str) -> nb.Sequential:
    """A classifier of 16 x 16 images, of three such blocks."""
    first, second, third = CHANNELS
    return nb.Sequential(
        nb.Conv2d(1, first, 3, padding=1),
        nb.ReLU(),
        block(first, second, 2),
        block(second, third, 2),
        block(third, third, 1),
        nb.GlobalAvgPool2d(),
        nb.Dense(third, 10),
        backend=backend,
        seed=0,
    )


def the_lectures_numbers() -> None:
    """CS109B: 12 x 12 x 3 to 8 x 8 x 256 with 5 x 5 kernels."""
    one = nb.Sequential(nb.Conv2d(3, 256, 5))
    two = nb.Sequential(nb.Conv2d(3, 3, 5, groups=3), nb.Conv2d(3, 256, 1))
    sizes = [model.summary((3, 12, 12)).parameters for model in (one, two)]
    print(f"12 x 12 x 3 to 8 x 8 x 256: {sizes[0]:,} parameters in one step, {sizes[1]:,} in two")
    assert sizes == [19_456, 1_102]


def main(arguments: list[str] | None = None) -> None:
    """Train both networks and compare them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--quick", action="store_true", help="three epochs, with less to check")
    parser.add_argument("--backend", default="cpu")
    options = parser.parse_args(arguments)
    epochs = 3 if options.quick else options.epochs

    the_lectures_numbers()
    train, test = nb.data.digits(16)
    reached, macs = {}, {}
    for name, block in (("standard", standard), ("separable", separable)):
        model = network(block, options.backend)
        summary = model.summary((1, 16, 16))
        trainer = nb.Trainer(
            model, nb.CrossEntropyLoss(), nb.Adam(model.parameters(), lr=3e-3), [nb.LearningRate()]
        )
        history = trainer.fit(*train, epochs=epochs, batch_size=64, verbose=False)
        reached[name] = trainer.evaluate(*test)["accuracy"]
        macs[name] = summary.macs
        print(
            f"{name:9}: {summary.parameters:7,} parameters, {summary.macs:9,} multiply-adds an image, "
            f"{sum(history['seconds']):5.1f} s of training, held-out accuracy {reached[name]:.4f}"
        )
    share = macs["separable"] / macs["standard"]
    print(f"separable convolutions take {share:.0%} of the multiply-adds")
    assert share < 0.25
    assert min(reached.values()) > (0.6 if options.quick else 0.95), reached


if __name__ == "__main__":
    main()
