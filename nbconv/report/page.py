"""One page about a run: curves, mistakes, filters, what the network looks at, its layers and its times."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from nbconv import inspect
from nbconv.errors import DataError
from nbconv.history import History
from nbconv.layers.conv import Conv2d
from nbconv.report import html, timing
from nbconv.report.run import Run
from nbconv.threads import get_num_threads
from nbconv.typing import Array

_BATCH = 64
_DEEPEST = 4  # tables in tables of settings
_SLOW = ("seconds", "images_per_second", "lr")  # of a history, what is no measure of quality


def report(
    run: Run,
    x: Array,
    y: Array,
    *,
    names: Sequence[str] | None = None,
    images: int = 8,
) -> str:
    """A run as one HTML page that needs no other file and no network.

    Args:
        run: from :func:`nbconv.report.load_run`, or ``Run(model, history)``.
        x: held-out images, (N, C, H, W).
        y: their labels, integers (N,).
        names: of the classes.
        images: right and wrong ones to look at, each.

    Raises:
        DataError: for no images, or other shapes.
        NbconvError: when matplotlib is not installed.
    """
    x, y = np.asarray(x), np.asarray(y)
    if x.ndim != 4 or not len(x) or len(x) != len(y):
        raise DataError(
            f"report: expected images (N, C, H, W) and as many labels, got {x.shape} and {y.shape}"
        )
    logits = run.model.predict(x, _BATCH)
    wrong = inspect.worst_mistakes(run.model, x, y, None, batch_size=_BATCH)
    sections = []
    if run.history is not None and run.history.epochs:
        sections.append(("Learning curves", _curves(run.history)))
    sections.append(("Confusion matrix", _confusion(y, logits, names)))
    if any(isinstance(layer, Conv2d) for _, layer in run.model.named_layers()):
        filters = inspect.plot_filters(run.model)
        sections.append(
            ("Filters of the first convolution", html.picture(filters, "filters as small images"))
        )
    right = _right(y, logits.argmax(axis=1), images)
    if len(right):
        sections.append(
            ("What it looks at, where it is right", _looks(run, x[right], y[right], y[right], names))
        )
    if len(wrong):
        worst = wrong.indices[:images]
        looked = _looks(run, x[worst], wrong.labels[:images], wrong.predictions[:images], names)
        sections.append(("Where it is wrong, the worst first", looked))
    described = html.preformatted(str(run.model.summary(x.shape[1:])))
    plan = html.preformatted(str(inspect.plan(run.model, x.shape[1:], _BATCH)))
    sections.append(("The network", described + html.paragraph("How it is evaluated:") + plan))
    sections.append(("Times", _times(run, x)))
    if run.settings:
        rows = [(key.replace("_", " "), _shown(value)) for key, value in run.settings.items()]
        sections.append(("Settings and results", html.table(("", ""), rows)))
    accuracy = 1 - len(wrong) / len(x)
    introduction = html.paragraph(
        f"{100 * accuracy:.2f} % of {len(x):,} held-out images are told right, {len(wrong):,} are not.", "big"
    )
    return html.page(f"Run {run.name}", introduction, sections)


def _curves(history: History) -> str:
    rows = [
        (name.replace("_", " "), f"{values[-1]:.4f}", f"{min(values):.4f}", f"{max(values):.4f}")
        for name, values in history.history.items()
        if name not in _SLOW and values
    ]
    stopped = " (stopped from the keyboard)" if history.interrupted else ""
    return (
        html.paragraph(f"{history.epochs} epochs{stopped}.")
        + html.picture(inspect.plot_learning_curves(history), "loss and accuracy, epoch by epoch")
        + html.table(("", "last", "smallest", "largest"), rows)
    )


def _confusion(y: Array, logits: Array, names: Sequence[str] | None) -> str:
    matrix = inspect.confusion_matrix(y, logits.argmax(axis=1), logits.shape[1])
    figure = inspect.plot_confusion_matrix(matrix, names=names)
    return html.picture(figure, "how many images of each class, a row, are taken for each, a column")


def _right(y: Array, predictions: Array, count: int) -> Array:
    """Some examples that are told right, of as many classes as can be."""
    right = np.flatnonzero(y == predictions)
    _, first = np.unique(y[right], return_index=True)
    rest = np.setdiff1d(np.arange(len(right)), first)
    chosen: Array = right[np.concatenate([first, rest])[:count]]
    return chosen


def _looks(run: Run, x: Array, labels: Array, predictions: Array, names: Sequence[str] | None) -> str:
    """Saliency and SmoothGrad of the class that each image is taken for."""
    told = [str(i) if names is None else names[i] for i in range(max(labels.max(), predictions.max()) + 1)]
    titles = [
        told[label] if label == prediction else f"{told[label]}, taken for {told[prediction]}"
        for label, prediction in zip(labels, predictions, strict=True)
    ]
    plain = inspect.plot_saliency(x, inspect.saliency(run.model, x, predictions), titles=titles)
    smooth = inspect.plot_saliency(x, inspect.smooth_grad(run.model, x, predictions))
    return (
        html.paragraph("Pixels that the logit of the class changes most with: its gradient.")
        + html.picture(plain, "images and their saliency: " + "; ".join(titles))
        + html.paragraph("The same, the mean over noisy copies (SmoothGrad).")
        + html.picture(smooth, "images and their SmoothGrad")
    )


def _times(run: Run, x: Array) -> str:
    model, rows = run.model, []
    if run.history is not None and run.history.epochs and "seconds" in run.history:
        seconds = run.history["seconds"]
        rows.append(("training, all epochs", f"{sum(seconds):.2f} s"))
        rows.append(("training, an epoch (median)", f"{np.median(seconds):.3f} s"))
        if "images_per_second" in run.history:
            rate = float(np.median(run.history["images_per_second"]))
            rows.append(("training (median)", f"{rate:,.0f} images/s"))
    rate = timing.images_per_second(model, x, _BATCH)
    rows.append((f"prediction, batches of {_BATCH}, now", f"{rate:,.0f} images/s"))
    times = timing.layer_times(model, x[:_BATCH])
    total = sum(step.seconds for step in times) or 1.0
    layers = [
        (f"{step.position} {step.layer}", f"{1000 * step.seconds:.3f}", f"{100 * step.seconds / total:.0f} %")
        for step in times
    ]
    return (
        html.table(("", ""), rows)
        + html.paragraph(
            f"Layers one by one, evaluation of {len(x[:_BATCH])} images on backend {model.backend}, "
            f"{get_num_threads()} threads:"
        )
        + html.table(("layer", "milliseconds", "share"), layers)
    )


def _shown(value: Any, depth: int = 0) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    if depth >= _DEEPEST and isinstance(value, Mapping | list | tuple):
        return "..."
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_shown(item, depth + 1)}" for key, item in value.items())
    if isinstance(value, list | tuple):
        return f"[{', '.join(_shown(item, depth + 1) for item in value)}]"
    return str(value)
