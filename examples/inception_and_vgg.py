"""Inception against VGG at equal multiply-adds: what the work buys, and what is learned of the digits.

VGG looks at everything through 3 x 3 windows. An Inception module looks through 1 x 1, 3 x 3 and 5 x 5 at
once, and can afford to because 1 x 1 convolutions first reduce the channels.
"""

import argparse
from functools import partial

import nbconv as nb
from nbconv.models.blocks import conv_relu
from nbconv.models.inception import inception, naive_inception

unit = partial(conv_relu, batch_norm=True)  # convolution, batch normalisation, ReLU


def vgg(backend: str) -> nb.Sequential:
    """Five 3 x 3 convolutions, for images of 16 x 16."""
    return nb.Sequential(
        *unit(1, 16, 3),
        nb.MaxPool2d(2),
        *unit(16, 32, 3),
        *unit(32, 32, 3),
        nb.MaxPool2d(2),
        *unit(32, 64, 3),
        *unit(64, 64, 3),
        *(nb.GlobalAvgPool2d(), nb.Dense(64, 10)),
        backend=backend,
        seed=0,
    )


def googlenet(backend: str) -> nb.Sequential:
    """The same first convolution, then four Inception modules."""
    return nb.Sequential(
        *unit(1, 16, 3),
        nb.MaxPool2d(2),
        inception(16, (16, 12, 24, 4, 8, 8), unit),
        inception(56, (16, 16, 32, 4, 16, 8), unit),
        nb.MaxPool2d(2),
        inception(72, (32, 32, 48, 8, 16, 16), unit),
        inception(112, (48, 32, 64, 8, 24, 24), unit),
        *(nb.GlobalAvgPool2d(), nb.Dense(160, 10)),
        backend=backend,
        seed=0,
    )


def what_reductions_save() -> None:
    """A module over 28 x 28 x 256 without and with its 1 x 1 convolutions."""
    naive = naive_inception(256, 128, 192, 96).macs((1, 256, 28, 28))
    reduced = inception(256, (128, 64, 192, 64, 96, 64)).macs((1, 256, 28, 28))
    print(f"a module over 28 x 28 x 256: {naive / 1e6:.0f} M multiply-adds, reduced {reduced / 1e6:.0f} M")
    assert reduced < naive / 3


def main(arguments: list[str] | None = None) -> None:
    """Train both networks and compare them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--quick", action="store_true", help="two epochs, with less to check")
    parser.add_argument("--backend", default="cpu")
    options = parser.parse_args(arguments)

    what_reductions_save()
    train, test = nb.data.digits(16)
    macs, reached = [], []
    for build in (vgg, googlenet):
        model = build(options.backend)
        summary = model.summary((1, 16, 16))
        optimizer = nb.Adam(model.parameters(), lr=3e-3)
        trainer = nb.Trainer(model, nb.CrossEntropyLoss(), optimizer, [nb.LearningRate()])
        history = trainer.fit(
            *train, epochs=2 if options.quick else options.epochs, batch_size=64, verbose=False
        )
        macs.append(summary.macs)
        reached.append(trainer.evaluate(*test)["accuracy"])
        print(
            f"{build.__name__:9}: {summary.macs:,} multiply-adds and {summary.parameters:,} parameters, "
            f"{sum(history['seconds']):.1f} s of training, held-out accuracy {reached[-1]:.4f}"
        )
    assert abs(macs[1] / macs[0] - 1) < 0.02, macs
    assert min(reached) > (0.6 if options.quick else 0.97), reached


if __name__ == "__main__":
    main()
