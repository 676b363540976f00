"""Each section's rows as a table for people."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from nbconv.bench.options import Row
from nbconv.bench.report import table


def networks(rows: Sequence[Row]) -> str:
    """Milliseconds of everyone, and the best peer's time over nbconv's beside the ratio that is wanted."""
    contestants = list(dict.fromkeys(name for row in rows for name in row["ms"]))
    lines = []
    for row in rows:
        times = [f"{row['ms'][name]:.3g}" if name in row["ms"] else "-" for name in contestants]
        ratio = f"{row['ratio']:.2f}" if "ratio" in row else "-"
        wanted = "" if row["target"] is None else f"{row['target']:.2f}"
        missed = row["target"] is not None and "ratio" in row and row["ratio"] < row["target"]
        title = f"{row['title']}, batch {row['batch']}"
        lines.append([title, *times, row.get("best_peer", "-"), ratio, wanted, "missed" if missed else ""])
    text = table(["medians in ms", *contestants, "best peer", "ratio", "wanted", ""], lines)
    return "\n".join([text, *_absent(rows)])


def _absent(rows: Sequence[Row]) -> list[str]:
    """Who did not start, and why, each reason once."""
    places: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        for peer, reason in row["absent"].items():
            places.setdefault((peer, reason), []).append(row["name"])
    return [
        f"without {peer} ({'everywhere' if len(names) == len(rows) else ', '.join(names)}): {reason}"
        for (peer, reason), names in places.items()
    ]


def gemm(rows: Sequence[Row]) -> str:
    """GFLOP/s of everyone and nbconv's share of the peak."""
    contestants = list(dict.fromkeys(name for row in rows for name in row["gflops"]))
    lines = [
        [
            f"{row['size']} x {row['size']} x {row['size']}",
            *(f"{row['gflops'][name]:.0f}" if name in row["gflops"] else "-" for name in contestants),
            f"{100 * row['share_of_peak']:.0f} %",
            "" if row["target"] is None else f"{100 * row['target']:.0f} %",
        ]
        for row in rows
    ]
    return table(["GFLOP/s", *contestants, "of the peak", "wanted"], lines)


def memory(rows: Sequence[Row]) -> str:
    """MiB of everyone, and the lesser of PyTorch's over nbconv's."""
    contestants = list(dict.fromkeys(name for row in rows for name in row["mib"]))
    lines = [
        [
            f"{row['title']}, batch {row['batch']}",
            *(f"{row['mib'][name]:.0f}" if name in row["mib"] else "-" for name in contestants),
            f"{row['ratio']:.2f}" if "ratio" in row else "-",
        ]
        for row in rows
    ]
    return table(["MiB above the built model", *contestants, "ratio"], lines)


def scaling(rows: Sequence[Row]) -> str:
    """Effective GFLOP/s by size; a star marks a fall by more than a quarter from the size before."""
    groups: dict[tuple[str, str, str], list[Row]] = {}
    for row in rows:
        groups.setdefault((row["title"], row["what"], row["along"]), []).append(row)
    lines = []
    for (title, what, along), group in groups.items():
        fixed = f"{group[0]['pixels']} px" if along == "batch" else f"batch {group[0]['batch']}"
        cells = [f"{row[along]}: {row['gflops']:.0f}" + "*" * row["falls"] for row in group]
        lines.append([f"{title}, {what}, {fixed}, by {along}", *cells, *[""] * (4 - len(cells))])
    return table(["effective GFLOP/s", "", "", "", ""], lines)


def accuracy(rows: Sequence[Row]) -> str:
    """The relative L2 errors of everyone: forward, input gradient, weight gradient."""
    contestants = list(dict.fromkeys(name for row in rows for name in row["errors"]))
    lines = [
        [row["name"], *("/".join(f"{e:.0e}" for e in row["errors"][name].values()) for name in contestants)]
        for row in rows
    ]
    worst = [
        max(error for row in rows for error in row["errors"][name].values()) if rows else 0.0
        for name in contestants
    ]
    lines.append(["the largest", *(f"{error:.1e}" for error in worst)])
    return table(["C x H x W - filters - stride", *contestants], lines)


def roofline(rows: Sequence[Row]) -> str:
    """What limits each kernel, and what share of it the kernel reaches."""
    lines = [
        [
            row["name"],
            f"{row['ms']:.3f}",
            f"{row['gflops']:.0f}" if row["gflops"] else "",
            f"{row['gbytes']:.1f}",
            row["limit"],
            f"{100 * row['reached']:.0f} %",
        ]
        for row in rows
    ]
    return table(["kernel", "ms", "GFLOP/s", "GB/s", "limit", "reached"], lines)


def curves(rows: Sequence[Row]) -> str:
    """Of every epoch the mean loss and the test accuracy, with Winograd's transforms and without."""
    lines = [
        [
            row["name"],
            str(epoch + 1),
            *(f"{row['loss'][level][epoch]:.4f}" for level in row["loss"]),
            *(f"{100 * row['accuracy'][level][epoch]:.2f} %" for level in row["accuracy"]),
        ]
        for row in rows
        for epoch in range(len(next(iter(row["loss"].values()))))
    ]
    levels = list(rows[0]["loss"])
    heads = [*(f"loss, {level}" for level in levels), *(f"accuracy, {level}" for level in levels)]
    apart = [f"{row['name']}: first losses within {row['first_steps_apart']:.1e}" for row in rows]
    return "\n".join([table(["model", "epoch", *heads], lines), *apart])


def avx2(rows: Sequence[Row]) -> str:
    """GFLOP/s with AVX2 only, and the best peer's time over nbconv's."""
    contestants = list(dict.fromkeys(name for row in rows for name in row["gflops"]))
    lines = [
        [
            row["name"],
            *(f"{row['gflops'][name]:.0f}" if name in row["gflops"] else "-" for name in contestants),
            f"{row['ratio']:.2f}",
            f"{row['target']:.2f}",
        ]
        for row in rows
    ]
    return table(["GFLOP/s with AVX2", *contestants, "ratio", "wanted"], lines)


TABLES: dict[str, Callable[[Sequence[Row]], str]] = {
    "inference": networks,
    "training": networks,
    "memory": memory,
    "scaling": scaling,
    "accuracy": accuracy,
    "curves": curves,
    "gemm": gemm,
    "roofline": roofline,
    "avx2": avx2,
}
