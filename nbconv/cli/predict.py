"""Tell which digit a picture shows."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from nbconv.cli import common, datasets
from nbconv.data import read_digit

_SHOWN = 3  # of the classes, the likeliest


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options to its parser."""
    parser.add_argument(
        "image", type=Path, metavar="IMAGE", help="a picture of one digit, in a format Pillow reads"
    )
    parser.add_argument(
        "--model", type=Path, default=Path("lenet.safetensors"), help="a file nbconv train has written"
    )
    common.add_backend(parser)
    parser.add_argument(
        "--invert",
        action=argparse.BooleanOptionalAction,
        help="swap dark and bright first, or not; without either, a picture with a bright border is inverted",
    )


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Predict, and return the class and the probabilities."""
    import nbconv as nb

    model = nb.load(options.model, backend=options.backend)
    image = read_digit(
        options.image, common.input_size(model, datasets.find("digits")), invert=options.invert
    )
    logits = model.predict(image)[0].astype(np.float64)
    shares = np.exp(logits - logits.max())
    shares /= shares.sum()
    likeliest = np.argsort(-shares, kind="stable")
    print(f"{options.image}: {likeliest[0]}")
    for index in likeliest[:_SHOWN]:
        print(f"  {index}  {common.percent(shares[index]):>8}")
    return {
        "command": "predict",
        "image": str(options.image),
        "prediction": int(likeliest[0]),
        "probabilities": shares.tolist(),
    }
