"""LeNet-5 on the embedded digits with a training loop of one's own: forward, loss, backward, step.

``forward`` returns the output and a function that takes the gradient back: that is the whole layer protocol.
"""

import argparse

import numpy as np

import nbconv as nb


def train(epochs: int, backend: str) -> float:
    """Train for some epochs and return the accuracy on the held-out images."""
    (x, y), (x_test, y_test) = nb.data.digits(32)
    model = nb.models.lenet5(backend=backend, seed=0)
    loss = nb.CrossEntropyLoss(backend=backend)
    optimizer = nb.SGD(model.parameters(), lr=0.03, momentum=0.9)
    rng = np.random.default_rng(0)

    accuracy = 0.0
    for epoch in range(epochs):
        # Smaller and smaller steps: with large ones to the end, the last few images are won and lost again.
        optimizer.param_groups[0]["lr"] = 0.03 * (1 - epoch / epochs)
        for batch in np.array_split(rng.permutation(len(x)), len(x) // 64):
            optimizer.zero_grad()
            logits, backprop = model.forward(x[batch], training=True, input_grad=False)
            value, gradient = loss(logits, y[batch])
            backprop(gradient)
            optimizer.step()
        accuracy = float((model.predict(x_test).argmax(axis=1) == y_test).mean())
        print(f"epoch {epoch + 1}: last batch's loss {value:.4f}, held-out accuracy {accuracy:.4f}")
    return accuracy


def main(arguments: list[str] | None = None) -> None:
    """Train, and check what was learned."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--quick", action="store_true", help="two epochs, with less to check")
    parser.add_argument("--backend", default="cpu")
    options = parser.parse_args(arguments)
    epochs, enough = (2, 0.2) if options.quick else (options.epochs, 0.96)
    reached = train(epochs, options.backend)
    assert reached >= enough, f"held-out accuracy {reached:.4f} after {epochs} epochs"


if __name__ == "__main__":
    main()
