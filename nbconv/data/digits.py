"""The embedded data set: 1,797 handwritten digits of 13 people.

Source: Alpaydin and Kaynak (1998), Optical Recognition of Handwritten Digits, UCI Machine Learning
Repository, DOI 10.24432/C50P49, CC BY 4.0; its notice is ``digits.LICENSE.txt``, beside this file.
"""

from __future__ import annotations

from importlib import resources
from typing import NamedTuple

import numpy as np

from nbconv.data.resize import resize_bilinear
from nbconv.typing import Array

_LARGEST = 16  # a pixel counts the inked ones of a 4 x 4 block


class Examples(NamedTuple):
    """Images x, float32 (N, 1, H, W) in [0, 1], and their labels y, int64 (N,)."""

    x: Array
    y: Array


class Split(NamedTuple):
    """Examples to train on and examples held out."""

    train: Examples
    test: Examples


def digits(size: int | None = None) -> Split:
    """Handwritten digits as (x_train, y_train), (x_test, y_test): always the same 1,438 and 359 images.

    Images are float32 (N, 1, size, size), ink 1 on paper 0; labels are int64, 0 to 9. Of each digit every
    fifth image is held out, beginning with the third, in the order of the file.

    Args:
        size: height and width after bilinear resizing, such as 28 or 32; None keeps the original 8.

    Raises:
        ValueError: when size is less than 1.
    """
    with resources.files("nbconv.data").joinpath("digits.npz").open("rb") as file, np.load(file) as stored:
        images = stored["images"].astype(np.float32)[:, np.newaxis] / np.float32(_LARGEST)
        labels = stored["labels"].astype(np.int64)
    held_out = np.zeros(len(labels), bool)
    for digit in range(10):
        held_out[np.flatnonzero(labels == digit)[2::5]] = True
    if size is not None:
        images = resize_bilinear(images, size)
    return Split(
        Examples(images[~held_out], labels[~held_out]),
        Examples(images[held_out], labels[held_out]),
    )
