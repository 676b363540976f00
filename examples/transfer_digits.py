"""Transfer learning: a network that knows the digits 0 to 4 learns 5 to 9 from a few images of each.

A digit may stand anywhere in the picture. What the network has learned of strokes, wherever they are, is as
true of digits it has not seen. Its base is frozen, what that makes of the few images is computed once, and a
new head learns from it; then all is tuned, earlier layers at smaller learning rates. Beside it, the same
network learns the same images from scratch.

Source: CS109B lecture 11.
"""

import argparse

import numpy as np

import nbconv as nb

Examples = nb.data.Examples
SIZE, DIGIT = 16, 8  # of a picture and of the digit in it


def network(seed: int, backend: str) -> nb.Sequential:
    """A small LeNet for five classes of 16 x 16 images."""
    return nb.Sequential(
        *(nb.Conv2d(1, 16, 3, padding=1), nb.ReLU(), nb.MaxPool2d(2)),
        *(nb.Conv2d(16, 32, 3, padding=1), nb.ReLU(), nb.MaxPool2d(2), nb.Flatten()),
        *(nb.Dense(512, 64), nb.ReLU(), nb.Dense(64, 5)),
        backend=backend,
        seed=seed,
    )


def five_digits(examples: Examples, first: int) -> Examples:
    """The images of five digits from ``first`` on, labelled 0 to 4."""
    chosen = (examples.y >= first) & (examples.y < first + 5)
    return Examples(examples.x[chosen], examples.y[chosen] - first)


def anywhere(examples: Examples, times: int, seed: int) -> Examples:
    """Every digit at so many random places of an empty picture."""
    places = np.random.default_rng(seed).integers(0, SIZE - DIGIT + 1, (times * len(examples.x), 2))
    x = np.zeros((len(places), 1, SIZE, SIZE), np.float32)
    for image, digit, (row, column) in zip(x, np.tile(examples.x, (times, 1, 1, 1)), places, strict=True):
        image[:, row : row + DIGIT, column : column + DIGIT] = digit
    return Examples(x, np.tile(examples.y, times))


def a_few(examples: Examples, count: int, seed: int) -> Examples:
    """So many images of each class, drawn at random."""
    rng = np.random.default_rng(seed)
    chosen = [rng.choice(np.flatnonzero(examples.y == label), count, replace=False) for label in range(5)]
    return Examples(examples.x[np.concatenate(chosen)], examples.y[np.concatenate(chosen)])


def train(model: nb.Sequential, x, y, epochs: int, optimizer: nb.Optimizer) -> None:
    """Train in steps that become smaller."""
    trainer = nb.Trainer(model, nb.CrossEntropyLoss(), optimizer, [nb.LearningRate()])
    trainer.fit(x, y, epochs=epochs, batch_size=32, seed=0, verbose=False)


def transfer(model: nb.Sequential, images: Examples, epochs: int, test: Examples) -> tuple[float, float]:
    """Accuracies with a frozen base and a new head, and after all of it was tuned."""
    model.freeze(slice(0, -1)).replace_head(5)
    _, head = model.split()
    features = nb.transfer.features(model, images.x)
    train(head, features, images.y, epochs, nb.Adam(head.parameters(), lr=1e-2))
    frozen = accuracy(model, test)
    model.unfreeze()
    groups = nb.layer_groups(model, lrs=[1e-4, 3e-4, 1e-3])
    train(model, *images, epochs, nb.Adam(groups))
    return frozen, accuracy(model, test)


def accuracy(model: nb.Sequential, test: Examples) -> float:
    """The share of the held-out images that the model tells right."""
    return float((model.predict(test.x).argmax(axis=1) == test.y).mean())


def compare(counts: list[int], seeds: int, epochs: int, backend: str) -> np.ndarray:
    """Accuracies (counts, seeds, 3): from scratch, with a frozen base, and tuned."""
    everything, held_out = nb.data.digits()
    known, new = anywhere(five_digits(everything, 0), 4, seed=0), five_digits(everything, 5)
    test = anywhere(five_digits(held_out, 5), 2, seed=1)
    reached = np.empty((len(counts), seeds, 3))
    for seed in range(seeds):
        trained = network(seed, backend)
        train(trained, *known, 8, nb.Adam(trained.parameters(), lr=2e-3))
        for i, count in enumerate(counts):
            images = anywhere(a_few(new, count, seed), 1, seed=2 + seed)
            scratch = network(seed, backend)
            # As many steps as both parts of the transfer together.
            train(scratch, *images, 2 * epochs, nb.Adam(scratch.parameters(), lr=2e-3))
            copy = network(seed, backend)
            copy.load_state_dict(trained.state_dict())
            reached[i, seed] = accuracy(scratch, test), *transfer(copy, images, epochs, test)
    return reached


def show(counts: list[int], reached: np.ndarray, path: str | None) -> None:
    """Print a table and draw a plot of means and spreads over the seeds."""
    names = "from scratch", "frozen base, new head", "and tuned"
    print("images a class  " + "  ".join(f"{name:>21}" for name in names))
    for count, row in zip(counts, reached, strict=True):
        cells = [f"{100 * v.mean():.1f} +- {100 * v.std():.1f} %" for v in row.T]
        print(f"{count:14}  " + "  ".join(f"{cell:>21}" for cell in cells))
    if path is None:
        return
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    for name, values in zip(names, np.moveaxis(reached, 2, 0), strict=True):
        axes.errorbar(counts, values.mean(axis=1), values.std(axis=1), capsize=3, marker="o", label=name)
    axes.set(xlabel="images of each new digit", ylabel="held-out accuracy", xscale="log")
    axes.set_xticks(counts, [str(count) for count in counts], minor=False)
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=150)
    print(f"wrote {path}")


def main(arguments: list[str] | None = None) -> None:
    """Compare, and check that there is something to gain."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=40, help="of the head, and of tuning (%(default)s)")
    parser.add_argument("--quick", action="store_true", help="two seeds and one number of images")
    parser.add_argument("--plot", metavar="FILE", help="draw the comparison here (.png, .svg, .pdf)")
    parser.add_argument("--backend", default="cpu")
    options = parser.parse_args(arguments)
    counts, seeds = ([10], 2) if options.quick else ([3, 10, 30], options.seeds)

    reached = compare(counts, seeds, options.epochs, options.backend)
    show(counts, reached, options.plot)
    gains = reached[..., 2].mean(axis=1) - reached[..., 0].mean(axis=1)
    print("gain:", ", ".join(f"{100 * gain:+.1f}" for gain in gains), "points")
    assert gains[counts.index(10)] > (0.05 if options.quick else 0.1), gains


if __name__ == "__main__":
    main()
