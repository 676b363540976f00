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


TABLES: dict[str, Callable[[Sequence[Row]], str]] = {"inference": networks, "training": networks}
