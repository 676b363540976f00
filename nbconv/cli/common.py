"""What several commands need: their shared options, and how a model and the data find each other."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from nbconv import data
from nbconv.errors import DataError, LayerError

if TYPE_CHECKING:
    from nbconv.sequential import Sequential

DATA_SETS = {"digits": data.digits}
CLASSES = {"digits": 10}
_SIZES = (32, 28, 8)  # of the digits, the usual inputs of small networks first


def add_data(parser: argparse.ArgumentParser) -> None:
    """Add ``--data``."""
    parser.add_argument(
        "--data", choices=list(DATA_SETS), default="digits", help="the data set (%(default)s)"
    )


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


def input_size(model: Sequential, data_set: str) -> int:
    """The height and width at which a model takes the images of a data set and tells their classes.

    Raises:
        DataError: when there is none; the message says what the model made of the largest.
    """
    reason = ""
    for size in _SIZES:
        try:
            shape = model.output_shape((1, 1, size, size))
        except LayerError as error:
            reason = reason or str(error)
            continue
        if shape == (1, CLASSES[data_set]):
            return size
        reason = (
            reason or f"it gives an output of shape {shape} at {size} x {size}, not (1, {CLASSES[data_set]})"
        )
    raise DataError(f"the model does not fit the data set {data_set!r}: {reason}")


def percent(share: float) -> str:
    """A share as people read it: "98.33 %"."""
    return f"{100 * share:.2f} %"
