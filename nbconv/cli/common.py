"""What several commands need: their shared options, and how a model and the data find each other."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from nbconv.cli import datasets
from nbconv.cli.datasets import DataSet
from nbconv.errors import DataError, LayerError

if TYPE_CHECKING:
    from nbconv.sequential import Sequential


def add_data(parser: argparse.ArgumentParser, default: str | None = "digits", whose: str = "") -> None:
    """Add ``--data``, ``--data-root`` and ``--size``; ``whose`` says what stands for a default of None."""
    parser.add_argument(
        "--data",
        type=datasets.known,
        default=default,
        metavar="NAME",
        help=f"the data set ({whose or default}): {', '.join(datasets.DATA_SETS)}, or a folder of pictures: "
        "in it a folder for each class, or train and test with such folders",
    )
    parser.add_argument(
        "--data-root",
        type=Path,
        default=Path("data") if default else None,
        metavar="DIR",
        help="where the files of mnist, cifar10 and their like are, or are downloaded to (data)",
    )
    parser.add_argument(
        "--size", type=positive, help="height and width of the images (what the model takes, 32 if it can)"
    )


def data_set(options: argparse.Namespace) -> DataSet:
    """The data set that the options of :func:`add_data` ask for."""
    return datasets.find(options.data, options.data_root, options.size)


def add_backend(parser: argparse.ArgumentParser) -> None:
    """Add ``--backend``."""
    parser.add_argument(
        "--backend", default="cpu", help="what computes: cpu, cuda or reference (%(default)s)"
    )


def positive(text: str) -> int:
    """A whole number of at least 1, for argparse."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"expected at least 1, got {value}")
    return value


def natural(text: str) -> int:
    """A whole number of at least 0, for argparse."""
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"expected at least 0, got {value}")
    return value


def input_size(model: Sequential, data_set: DataSet) -> int:
    """The height and width at which a model takes the images of a data set and tells their classes.

    Raises:
        DataError: when there is none; the message says what the model made of the largest.
    """
    reason, wanted = "", (1, data_set.classes)
    for size in data_set.sizes:
        try:
            shape = model.output_shape((1, data_set.channels, size, size))
        except LayerError as error:
            reason = reason or str(error)
            continue
        if shape == wanted:
            return size
        reason = reason or f"it gives an output of shape {shape} at {size} x {size}, not {wanted}"
    raise DataError(f"the model does not fit the data set {data_set.name!r}: {reason}")


def percent(share: float) -> str:
    """A share as people read it: "98.33 %"."""
    return f"{100 * share:.2f} %"
