"""Measure a saved model's accuracy on held-out images."""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

from nbconv.cli import common


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options to its parser."""
    parser.add_argument("model", type=Path, metavar="MODEL", help="a file that nbconv train has written")
    common.add_data(parser)
    common.add_backend(parser)
    parser.add_argument(
        "--batch-size", type=common.positive, default=256, help="images at a time (%(default)s)"
    )


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Evaluate, and return what was measured."""
    import nbconv as nb

    model = nb.load(options.model, backend=options.backend)
    data_set = common.data_set(options)
    test = data_set.load(common.input_size(model, data_set)).test
    begin = time.perf_counter()
    measured = nb.Trainer(model, nb.CrossEntropyLoss()).evaluate(*test, batch_size=options.batch_size)
    seconds = time.perf_counter() - begin
    print(
        f"held-out accuracy {common.percent(measured['accuracy'])} of {len(test.x):,} images, "
        f"loss {measured['loss']:.4f}"
    )
    return {
        "command": "evaluate",
        "data": options.data,
        "backend": options.backend,
        "test_accuracy": measured["accuracy"],
        "test_loss": measured["loss"],
        "images": len(test.x),
        "seconds": seconds,
    }
