"""What several commands need: their shared options, and how a model and the data find each other."""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from nbconv.cli import datasets
from nbconv.cli.datasets import DataSet
from nbconv.cli.recorded import Recorded
from nbconv.errors import DataError, LayerError

if TYPE_CHECKING:
    from nbconv.sequential import Sequential

_MOST = (1 << 31) - 1  # images, epochs, threads: whoever asks for more has mistyped
_LARGEST_SEED = (1 << 63) - 1


def add_data(parser: argparse.ArgumentParser, default: str | None = "digits", whose: str = "") -> None:
    """Add ``--data`` and what goes with it; ``whose`` says what stands for a default of None."""
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
        metavar="DIR",
        help="where the files of mnist, cifar10 and their like are, or are downloaded to (data)",
    )
    parser.add_argument(
        "--size", type=positive, help="height and width of the images (what the model takes, 32 if it can)"
    )
    parser.add_argument(
        "--resize",
        type=positive,
        metavar="PIXELS",
        help="bring the shorter side of a folder's pictures to so many first, to train on random crops",
    )
    parser.add_argument(
        "--workers", type=positive, default=2, help="threads that decode pictures (%(default)s)"
    )


def data_set(options: argparse.Namespace, record: Recorded | None = None) -> DataSet:
    """The data set that the options of :func:`add_data` ask for; sizes that they leave open, a record tells.

    A record is somebody's file: where to read, and whether to download, is said by the options alone.

    Raises:
        DataError: when there is no such data, or a record is of data that are not asked for.
    """
    record = record or Recorded()
    if options.data is None and record.data not in (None, "digits"):
        told = f"--data {shlex.quote(record.data or '')}"
        if record.data in datasets.DATA_SETS and record.data_root not in (None, "data"):
            told += f" --data-root {shlex.quote(record.data_root or '')}"
        raise DataError(
            f"the model is of the data set {record.data!r}; where data are is not taken from a file: say by "
            f"--data which to take: {told}"
        )
    name = options.data or "digits"
    if name != record.data:
        record = Recorded(size=record.size)
    root = options.data_root or "data"
    return datasets.find(name, root, options.size or record.size, options.resize or record.resize)


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
    if value > _MOST:
        raise argparse.ArgumentTypeError(f"expected at most {_MOST}, got {value}")
    return value


def natural(text: str) -> int:
    """A whole number of at least 0, for argparse."""
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"expected at least 0, got {value}")
    if value > _LARGEST_SEED:
        raise argparse.ArgumentTypeError(f"expected at most {_LARGEST_SEED}, got {value}")
    return value


def input_size(model: Sequential, data_set: DataSet) -> int:
    """The height and width at which a model takes the images of a data set and tells their classes.

    Raises:
        DataError: when there is none; the message says what the model made of the largest.
    """
    size, classes = _accepted(model, data_set)
    if classes != data_set.classes:
        shapes = f"an output of shape {(1, classes)} at {size} x {size}, not {(1, data_set.classes)}"
        raise DataError(f"the model does not fit the data set {data_set.name!r}: it gives {shapes}")
    return size


def logits(model: Sequential, data_set: DataSet) -> int:
    """The number of classes that a model tells of the images of a data set.

    Raises:
        DataError: when it does not take them, or gives no logits.
    """
    return _accepted(model, data_set)[1]


def _accepted(model: Sequential, data_set: DataSet) -> tuple[int, int]:
    """The size at which a model takes the images, and its number of classes: the data set's if it can."""
    reason, found = "", []
    for size in data_set.sizes:
        try:
            shape = model.output_shape((1, data_set.channels, size, size))
        except LayerError as error:
            reason = reason or str(error)
            continue
        if len(shape) == 2:
            found.append((size, shape[1]))
        reason = (
            reason or f"it gives an output of shape {shape} at {size} x {size}, not {(1, data_set.classes)}"
        )
    if not found:
        raise DataError(f"the model does not fit the data set {data_set.name!r}: {reason}")
    return next((pair for pair in found if pair[1] == data_set.classes), found[0])


def percent(share: float) -> str:
    """A share as people read it: "98.33 %"."""
    return f"{100 * share:.2f} %"
