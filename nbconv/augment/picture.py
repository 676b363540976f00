"""A picture of what transforms do; needs matplotlib (the ``plot`` extra)."""

from __future__ import annotations

import os
from collections.abc import Mapping

import numpy as np

from nbconv import plot
from nbconv.augment.transform import Transform
from nbconv.errors import DataError
from nbconv.typing import Array

_INCHES = 0.8  # side of a small picture
_MARGIN = 1.8  # for the names
_COMPANY = 7  # images beside each of those shown, for transforms that mix


def draw(
    transforms: Mapping[str, Transform],
    x: Array,
    path: str | os.PathLike[str],
    *,
    draws: int = 8,
    seed: int = 0,
) -> None:
    """Write a picture with a row for each transform: an image as it is, and what some draws make of it.

    Each row shows the next image. Grey ones are drawn as ink on paper. ``Mixup`` mixes with others of x.

    Args:
        transforms: by the names to show; they must keep the images' size.
        x: images (N, C, H, W) with 1 or 3 channels, values in [0, 1].
        path: where to write; the suffix decides the format.
        draws: how many to show.
        seed: of the draws.

    Raises:
        NbconvError: when matplotlib is not installed.
        DataError: when there are no images, or they are neither grey nor RGB.
        ValueError: when there is nothing to draw, or the suffix is no picture format.
    """
    plot.check_path(path)
    if x.ndim != 4 or not len(x) or x.shape[1] not in (1, 3):
        raise DataError(f"draw: expected images (N, 1 or 3, H, W), at least one, got shape {x.shape}")
    if not transforms or draws < 1:
        raise ValueError(f"draw: nothing to draw: {len(transforms)} transforms, {draws} draws of each")
    tiles = np.stack(
        [
            _draws(transform, np.roll(x, -number, axis=0), draws, seed)
            for number, transform in enumerate(transforms.values())
        ]
    )
    rows, columns = tiles.shape[:2]
    figure = plot.new_figure(_MARGIN + _INCHES * columns, _INCHES * (rows + 0.5))
    axes = figure.subplots()
    mosaic, step = _mosaic(tiles)
    axes.imshow(mosaic, vmin=0, vmax=1, cmap="gray")
    axes.set_yticks((np.arange(rows) + 0.5) * step[0] - 1, list(transforms))
    axes.set_xticks((np.arange(2) + 0.5) * step[1] - 1, ["as it is", "draws"])
    axes.xaxis.tick_top()
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    plot.save(figure, path)


def _draws(transform: Transform, x: Array, draws: int, seed: int) -> Array:
    """The first image, and what some draws make of it: (draws + 1, C, H, W)."""
    company = np.resize(x[1:], (_COMPANY * draws, *x.shape[1:])) if len(x) > 1 else x[:0]
    batch = np.concatenate([np.repeat(x[:1], draws, axis=0), company])
    changed, _ = transform(batch, np.eye(len(batch), dtype=batch.dtype), seed)
    return np.concatenate([x[:1], changed[:draws]])


def _mosaic(tiles: Array) -> tuple[Array, tuple[int, int]]:
    """Tiles (rows, columns, C, H, W) as one picture, lines between them, and the step from tile to tile."""
    rows, columns, channels, height, width = tiles.shape
    shown = tiles.clip(0, 1)
    if channels == 1:
        shown = 1 - shown
    framed = np.full((rows, columns, channels, height + 2, width + 2), 0.6, np.float32)
    framed[..., 1:-1, 1:-1] = shown
    step = height + 2, width + 2
    whole = framed.transpose(0, 3, 1, 4, 2).reshape(rows * step[0], columns * step[1], channels)
    return (whole[..., 0] if channels == 1 else whole), step
