"""Pictures of what the rest of this folder computes; they need matplotlib (the ``plot`` extra).

Each gives a ``matplotlib.figure.Figure``, which notebooks show, and writes it to ``path`` if that is given,
whose suffix decides the format. All raise NbconvError when matplotlib is not installed.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from nbconv import plot
from nbconv.errors import DataError
from nbconv.history import History
from nbconv.inspect import twin
from nbconv.inspect.deconvolution import deconvolution
from nbconv.inspect.features import activations, filters, image_grid
from nbconv.inspect.mistakes import Mistakes
from nbconv.inspect.receptive_box import receptive_box
from nbconv.layers.base import Layer
from nbconv.typing import Array, Pair

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Path_ = str | os.PathLike[str] | None
_MOST = 64  # maps or filters drawn of a layer
_TILE = 1.3  # inches
_LARGEST = 18.0  # inches: the side of a confusion matrix
_MOST_TICKS = 40  # on a side of it


def plot_learning_curves(history: History, path: Path_ = None) -> Figure:
    """Loss and accuracy after each epoch."""
    return _finish(plot.draw_learning_curves(history), path)


def plot_confusion_matrix(matrix: Array, path: Path_ = None, *, names: Sequence[str] | None = None) -> Figure:
    """A :func:`confusion_matrix` with its counts; colours are shares of the row, red for mistakes."""
    matrix = np.asarray(matrix)
    count = len(matrix)
    labels = [str(i) for i in range(count)] if names is None else list(names)
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    right = np.eye(count, dtype=bool)
    side = min(max(3.5, 0.42 * count + 1.2), _LARGEST)
    figure = plot.new_figure(side, side)
    axes = figure.subplots()
    axes.imshow(np.where(right, shares, np.nan), cmap="Blues", vmin=0, vmax=1)
    # Mistakes are few: their colours begin to tell at a few per cent.
    axes.imshow(np.where(right, np.nan, np.sqrt(shares)), cmap="Reds", vmin=0, vmax=1)
    for (row, column), number in np.ndenumerate(matrix):
        if number and count <= 30:
            dark = shares[row, column] > (0.6 if row == column else 0.3)
            axes.text(
                column, row, str(number), ha="center", va="center", size=8, color="white" if dark else "black"
            )
    told = range(0, count, max(1, -(-count // _MOST_TICKS)))
    axes.set_xticks(told, [labels[i] for i in told], rotation=0 if names is None else 90)
    axes.set_yticks(told, [labels[i] for i in told])
    axes.set_xlabel("taken for")
    axes.set_ylabel("is")
    return _finish(figure, path)


def plot_saliency(
    x: npt.ArrayLike, maps: npt.ArrayLike, path: Path_ = None, *, titles: Sequence[str] | None = None
) -> Figure:
    """Images and, below each, its :func:`saliency` or :func:`smooth_grad`, (N, H, W)."""
    images, maps = twin.examples(x), np.asarray(maps)
    figure, panels = _tiles(2, len(images), titles)
    for column, image in enumerate(images):
        _show(panels[0][column], image)
        panels[1][column].imshow(maps[column], cmap="magma")
    return _finish(figure, path)


def plot_grad_cam(
    x: npt.ArrayLike, maps: npt.ArrayLike, path: Path_ = None, *, titles: Sequence[str] | None = None
) -> Figure:
    """Images under their :func:`grad_cam` maps, (N, H, W) of any size."""
    images = twin.examples(x)
    figure, panels = _tiles(1, len(images), titles)
    for axes, image, heat in zip(panels[0], images, np.asarray(maps), strict=True):
        _show(axes, image)
        axes.imshow(heat, cmap="jet", alpha=0.5, interpolation="bilinear", extent=_extent(image))
    return _finish(figure, path)


def plot_occlusion(
    x: npt.ArrayLike, maps: npt.ArrayLike, path: Path_ = None, *, titles: Sequence[str] | None = None
) -> Figure:
    """Images and, below each, its :func:`occlusion` map: red where hiding costs the class."""
    images = twin.examples(x)
    figure, panels = _tiles(2, len(images), titles)
    for column, (image, lost) in enumerate(zip(images, np.asarray(maps), strict=True)):
        _show(panels[0][column], image)
        most = float(np.abs(lost).max()) or 1.0
        panels[1][column].imshow(lost, cmap="RdBu_r", vmin=-most, vmax=most)
    return _finish(figure, path)


def plot_filters(model: Layer, path: Path_ = None, *, layer: twin.LayerName | None = None) -> Figure:
    """The :func:`filters` of a convolution: in colour where they see three channels, else a row for each."""
    grid = image_grid(filters(model, layer)[:_MOST], scale="each")
    return _finish(_picture(grid), path)


def plot_activations(
    model: Layer, x: npt.ArrayLike, layer: twin.LayerName, path: Path_ = None, *, image: int = 0
) -> Figure:
    """The feature maps of a layer for one image of ``x``, all on the same scale."""
    position = twin.find(model, layer)
    maps = activations(model, twin.examples(x)[image : image + 1], [position])[position]
    if maps.ndim != 4:
        raise model.error(f"layer {position} gives no feature maps, but {maps.shape}")
    return _finish(_picture(image_grid(maps[0, :_MOST], scale="all")), path)


def plot_deconvolution(
    model: Layer,
    x: npt.ArrayLike,
    layer: twin.LayerName,
    path: Path_ = None,
    *,
    channel: npt.ArrayLike | None = None,
) -> Figure:
    """Images and, below each, the :func:`deconvolution` view of a layer's strongest feature map."""
    images = twin.examples(x)
    found = deconvolution(model, images, layer, channel)
    figure, panels = _tiles(2, len(images), None)
    for column, image in enumerate(images):
        _show(panels[0][column], image)
        _show(panels[1][column], found[column])
    return _finish(figure, path)


def plot_receptive_field(
    model: Layer, image: npt.ArrayLike, layer: twin.LayerName, output: Pair, path: Path_ = None
) -> Figure:
    """An image (C, H, W) with a frame around what one output of a layer sees; see :func:`receptive_box`."""
    shown = np.asarray(image)
    if shown.ndim != 3:
        raise DataError(f"expected an image of shape (C, H, W), got {shown.shape}")
    rows, columns = receptive_box(model, layer, output, (shown.shape[1], shown.shape[2]))
    figure, panels = _tiles(1, 1, None, tile=3.5)
    _show(panels[0][0], shown)
    from matplotlib.patches import Rectangle

    corner = columns.start - 0.5, rows.start - 0.5
    width, height = columns.stop - columns.start, rows.stop - rows.start
    panels[0][0].add_patch(Rectangle(corner, width, height, fill=False, edgecolor="red", linewidth=2))
    panels[0][0].set_title(f"{height} x {width}", size=9)
    return _finish(figure, path)


def plot_mistakes(
    x: npt.ArrayLike, mistakes: Mistakes, path: Path_ = None, *, names: Sequence[str] | None = None
) -> Figure:
    """The images of :func:`worst_mistakes`, with what they are, what they are taken for, and the loss."""
    images = twin.examples(x)[mistakes.indices]
    if not len(images):
        raise DataError("plot_mistakes: there are no mistakes")
    columns = min(8, len(images))
    figure, panels = _tiles(-(-len(images) // columns), columns, None, title_height=0.45)
    for axes, image, label, prediction, loss in zip(
        panels.flat, images, mistakes.labels, mistakes.predictions, mistakes.losses, strict=False
    ):
        _show(axes, image)
        is_, taken = (str(i) if names is None else names[i] for i in (label, prediction))
        axes.set_title(f"{is_}, taken for {taken}\nloss {loss:.2f}", size=7)
    return _finish(figure, path)


def _tiles(
    rows: int, columns: int, titles: Sequence[str] | None, *, tile: float = _TILE, title_height: float = 0.25
) -> tuple[Figure, Any]:
    """A figure of so many panels without axes."""
    if not columns:
        raise DataError("there are no images to draw")
    figure = plot.new_figure(tile * columns, (tile + title_height) * rows)
    panels = figure.subplots(rows, columns, squeeze=False)
    for axes in panels.flat:
        axes.set_axis_off()
    for axes, title in zip(panels[0], titles or (), strict=False):
        axes.set_title(title, size=8)
    return figure, panels


def _picture(grid: Array) -> Figure:
    """One array as a figure, its pixels large enough to be seen."""
    height, width = grid.shape[:2]
    scale = 6 / max(height, width)
    figure = plot.new_figure(max(1.5, width * scale), max(1.5, height * scale))
    axes = figure.subplots()
    axes.set_axis_off()
    axes.imshow(grid, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    return figure


def _show(axes: Any, image: Array) -> None:
    """An image (C, H, W) of any range; of other than one or three channels, their mean."""
    if image.shape[0] not in (1, 3):
        image = image.mean(axis=0, keepdims=True)
    axes.imshow(image_grid(image[np.newaxis], scale="each"), cmap="gray", vmin=0, vmax=1)


def _extent(image: Array) -> tuple[float, float, float, float]:
    """Where matplotlib has to stretch a map to for it to lie on the image."""
    return -0.5, image.shape[2] - 0.5, image.shape[1] - 0.5, -0.5


def _finish(figure: Figure, path: Path_) -> Figure:
    if path is not None:
        plot.check_path(path)
        plot.save(figure, path)
    return figure
