"""Pictures of a training run; needs matplotlib (the ``plot`` extra)."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from nbconv.errors import NbconvError
from nbconv.files import whole_file
from nbconv.history import History

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from nbconv.training.finder import RateTest

DPI = 150
_MISSING = 'pictures need matplotlib: pip install "nbconv[plot]"'


def check_path(path: str | os.PathLike[str]) -> None:
    """Raise as :func:`learning_curves` would for this ``path``, before there is anything to draw."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
    except ImportError:
        raise NbconvError(_MISSING) from None
    suffixes = sorted(FigureCanvasAgg.get_supported_filetypes())
    if Path(path).suffix[1:].lower() not in suffixes:
        raise ValueError(f"cannot draw {path}: its suffix must be one of {', '.join(suffixes)}")


def save(figure: Figure, path: str | os.PathLike[str]) -> None:
    """Write a figure to a file that appears whole or not at all; the suffix of ``path`` decides the format.

    Raises:
        OSError: if it cannot be written.
        ValueError: if the suffix is no picture format.
    """
    with whole_file(path) as stream:
        figure.savefig(stream, format=Path(path).suffix[1:].lower(), dpi=DPI)


def learning_curves(history: History, path: str | os.PathLike[str]) -> None:
    """Write a picture of the loss and accuracy after each epoch; the suffix of ``path`` decides the format.

    Raises:
        NbconvError: when matplotlib is not installed.
        OSError: when it cannot be written.
        ValueError: when no epoch was completed, or the suffix is no picture format.
    """
    check_path(path)
    save(draw_learning_curves(history), path)


def draw_learning_curves(history: History) -> Figure:
    """The figure that :func:`learning_curves` writes.

    Raises:
        NbconvError: when matplotlib is not installed.
        ValueError: when no epoch was completed.
    """
    if not history.epochs:
        raise ValueError("learning_curves: the history holds no completed epoch")
    epochs = range(1, history.epochs + 1)
    panels = [name for name in ("loss", "accuracy") if name in history]
    figure = new_figure(5 * len(panels), 3.6)
    for name, axes in zip(panels, figure.subplots(1, len(panels), squeeze=False)[0], strict=True):
        for key, label in ((name, "training"), (f"val_{name}", "held out")):
            if key in history:
                axes.plot(epochs, history[key], label=label, marker="." if history.epochs < 60 else "")
        axes.set_xlabel("epoch")
        axes.set_ylabel(name)
        axes.grid(alpha=0.3)
        axes.legend()
    return figure


def learning_rates(found: RateTest, path: str | os.PathLike[str]) -> None:
    """Write a picture of the losses at rising learning rates, and of the rate that they suggest.

    Raises:
        NbconvError: when matplotlib is not installed.
        OSError: when it cannot be written.
        ValueError: when no rate was tried, or the suffix is no picture format.
    """
    check_path(path)
    save(draw_learning_rates(found), path)


def draw_learning_rates(found: RateTest) -> Figure:
    """The figure that :func:`learning_rates` writes.

    Raises:
        NbconvError: when matplotlib is not installed.
        ValueError: when no rate was tried.
    """
    if not found.rates:
        raise ValueError("learning_rates: no rate was tried")
    figure = new_figure(5, 3.6)
    axes = figure.subplots()
    axes.plot(found.rates, found.losses)
    with suppress(ValueError):  # there may be nothing to suggest
        axes.axvline(
            found.suggestion, color="black", linestyle=":", label=f"suggested: {found.suggestion:.2g}"
        )
        axes.legend()
    axes.set(xlabel="learning rate", ylabel="loss, smoothed", xscale="log")
    axes.grid(alpha=0.3)
    return figure


def new_figure(width: float, height: float) -> Figure:
    """An empty figure, in inches, without pyplot: no window system, no state shared between threads.

    Raises:
        NbconvError: when matplotlib is not installed.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise NbconvError(_MISSING) from None
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure
