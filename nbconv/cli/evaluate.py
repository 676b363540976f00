"""Measure a saved model's accuracy on held-out images."""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

from nbconv.cli import common, feeding
from nbconv.cli.recorded import model_file, recorded
from nbconv.terminal import say


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options to its parser."""
    parser.add_argument(
        "model", type=Path, metavar="MODEL", help="a file that nbconv train has written, or a RUN"
    )
    common.add_data(parser, None, "digits, if the model is of no other")
    common.add_backend(parser)
    parser.add_argument(
        "--batch-size", type=common.positive, default=256, help="images at a time (%(default)s)"
    )


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Evaluate, and return what was measured."""
    import nbconv as nb

    path = model_file(options.model)
    model = nb.load(path, backend=options.backend)
    data_set = common.data_set(options, recorded(path))
    test = feeding.held(data_set.load(common.input_size(model, data_set)).test, options.workers)
    images = feeding.count(test)
    begin = time.perf_counter()
    trainer = nb.Trainer(model, nb.CrossEntropyLoss())
    measured = trainer.evaluate(
        *feeding.batches(test, options.batch_size, options.workers), options.batch_size
    )
    seconds = time.perf_counter() - begin
    say(
        f"held-out accuracy {common.percent(measured['accuracy'])} of {images:,} images, "
        f"loss {measured['loss']:.4f}"
    )
    return {
        "command": "evaluate",
        "data": data_set.name,
        "backend": options.backend,
        "test_accuracy": measured["accuracy"],
        "test_loss": measured["loss"],
        "images": images,
        "seconds": seconds,
    }
