"""Write one self-contained HTML page about a training run."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from nbconv import plot
from nbconv.cli import common, feeding
from nbconv.cli.recorded import read, recorded
from nbconv.terminal import say


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options to its parser."""
    parser.add_argument(
        "source",
        type=Path,
        metavar="RUN",
        help="a folder that nbconv train --run has written, a checkpoint, or a saved model, of which no "
        "learning curves are known",
    )
    parser.add_argument(
        "--output",
        type=Path,
        metavar="FILE",
        help="the page (report.html in the folder, or beside the model)",
    )
    common.add_data(parser, None, "digits, if the run is of no other")
    common.add_backend(parser)
    parser.add_argument(
        "--images", type=common.positive, default=8, help="right and wrong ones to show, each (%(default)s)"
    )


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Write the page, and return where it is."""
    from nbconv import report

    source: Path = options.source
    output: Path = options.output or (
        source / "report.html" if source.is_dir() else source.with_suffix(".html")
    )
    plot.check_path("curves.png")
    loaded = report.load_run(source, options.backend)
    record = read(loaded.settings) if "data" in loaded.settings else recorded(source)
    data_set = common.data_set(options, record)
    part = data_set.load(common.input_size(loaded.model, data_set)).test
    test = feeding.some(part, options.workers)
    page = report.report(loaded, *test, names=data_set.labels, images=options.images)
    report.write_text(output, page)
    say(f"wrote {output}")
    return {"command": "report", "data": data_set.name, "report": str(output), "images": len(test.x)}
