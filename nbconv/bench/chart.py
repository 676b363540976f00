"""A picture of the races; needs matplotlib (the ``plot`` extra)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from nbconv.bench.options import Row

FILE = "bench.png"
_COLOURS = {
    "pytorch": "#9aa0a6",
    "channels_last": "#5f6368",
    "compile": "#202124",
    "onnxruntime": "#4285f4",
    "openvino": "#a142f4",
    "ncnn": "#f29900",
}


def draw(stored: dict[str, Any], path: Path) -> None:
    """Draw each peer's time over nbconv's, a row for each race: right of 1, nbconv is faster.

    Raises:
        NbconvError: when matplotlib is not installed.
        ValueError: when there are no races in ``stored``.
    """
    from nbconv.plot import check_path, save

    check_path(path)
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    panels = {
        "a whole training step": [row for row in stored.get("training", []) if "ratio" in row],
        "inference": [row for row in stored.get("inference", []) if "ratio" in row],
    }
    panels = {title: rows for title, rows in panels.items() if rows}
    if not panels:
        raise ValueError("draw: there are no races to draw")
    counts = [len(rows) for rows in panels.values()]
    figure = Figure(figsize=(8, 1.6 + 0.36 * sum(counts)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(panels), 1, squeeze=False, sharex=True, height_ratios=counts)[:, 0]
    for ax, (title, rows) in zip(axes, panels.items(), strict=True):
        _panel(ax, title, rows)
    axes[-1].set_xlabel("time of a peer / time of nbconv")
    handles: dict[str, Any] = {}
    for ax in axes:
        for handle, label in zip(*ax.get_legend_handles_labels(), strict=True):
            handles.setdefault(label, handle)
    figure.legend(handles.values(), handles.keys(), loc="outside upper center", ncols=4, fontsize=8)
    save(figure, path)


def _panel(ax: Any, title: str, rows: list[Row]) -> None:
    places = range(len(rows))
    for place, row in zip(places, rows, strict=True):
        ax.plot([1, row["ratio"]], [place, place], color="#34a853" if row["ratio"] >= 1 else "#ea4335", lw=5)
    for peer, colour in _COLOURS.items():
        points = [
            (row["ms"][peer] / row["ms"]["nbconv"], place)
            for place, row in zip(places, rows, strict=True)
            if peer in row["ms"]
        ]
        if points:
            ax.scatter(*zip(*points, strict=True), color=colour, s=22, zorder=3, label=peer)
    wanted = [(row["target"], place) for place, row in zip(places, rows, strict=True) if row["target"]]
    if wanted:
        ax.scatter(
            *zip(*wanted, strict=True), marker="|", color="black", s=110, zorder=2, label="wanted of the best"
        )
    ax.axvline(1, color="black", lw=0.8)
    ax.set_xscale("log", base=2)
    ax.xaxis.set_major_formatter("{x:g}")
    ax.set_yticks(places, [f"{row['title']}, batch {row['batch']}" for row in rows], fontsize=8)
    ax.set_ylim(len(rows) - 0.4, -0.6)
    ax.grid(axis="x", alpha=0.3)
    ax.set_title(title, fontsize=10, loc="left")
