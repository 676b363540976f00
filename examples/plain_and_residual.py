"""A plain network of 34 layers and its residual twin on the digits: the plot that made ResNets famous.

Deeper plain networks should be no worse than shallow ones, for their further layers could learn to do
nothing. Yet they train worse. With a shortcut past each pair of layers, doing nothing is easy, and depth
does much less harm, though these small images never need 34 layers (He et al., "Deep residual learning for
image recognition", 2015).
"""

import argparse

import nbconv as nb

NETWORKS = {
    "plain 18": nb.models.plain18,
    "plain 34": nb.models.plain34,
    "residual 18": nb.models.resnet18,
    "residual 34": nb.models.resnet34,
}


def draw(histories: dict[str, nb.History], path: str) -> None:
    """Write a picture of the training losses."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.6), layout="constrained")
    for axes, kind in zip(figure.subplots(1, 2, sharey=True), ("plain", "residual"), strict=True):
        for name, history in histories.items():
            if name.startswith(kind):
                axes.semilogy(range(1, history.epochs + 1), history["loss"], label=name)
        axes.set_xlabel("epoch")
        axes.set_ylabel("training loss")
        axes.grid(alpha=0.3)
        axes.legend()
    figure.savefig(path, dpi=150)
    print(f"wrote {path}")


def main(arguments: list[str] | None = None) -> None:
    """Train the four networks and compare them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--width", type=int, default=16, help="channels of the first stage (%(default)s)")
    parser.add_argument("--plot", metavar="FILE", help="draw the curves here (.png, .svg, .pdf)")
    parser.add_argument("--quick", action="store_true", help="an epoch of thin networks on some images")
    parser.add_argument("--backend", default="cpu")
    options = parser.parse_args(arguments)
    epochs, width = (1, 4) if options.quick else (options.epochs, options.width)

    (x, y), test = nb.data.digits(16)
    if options.quick:
        x, y = x[:256], y[:256]
    histories = {}
    for name, build in NETWORKS.items():
        model = build(10, 1, small=True, width=width, backend=options.backend, seed=0)
        optimizer = nb.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=1e-4)
        trainer = nb.Trainer(model, nb.CrossEntropyLoss(), optimizer)
        histories[name] = trainer.fit(x, y, epochs=epochs, batch_size=64, validation_data=test, verbose=False)
        last = histories[name].last()
        parameters = sum(parameter.size for parameter in model.parameters())
        print(
            f"{name:11}: {parameters:9,} parameters, training loss {last['loss']:.4f}, "
            f"held-out accuracy {last['val_accuracy']:.4f} after {sum(histories[name]['seconds']):.0f} s"
        )
    if options.plot:
        draw(histories, options.plot)
    if not options.quick:
        loss = {name: history["loss"][-1] for name, history in histories.items()}
        assert loss["residual 34"] < loss["plain 34"], loss


if __name__ == "__main__":
    main()
