"""Write one self-contained HTML page about a training run."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from nbconv import plot
from nbconv.cli import common, datasets
from nbconv.errors import NbconvError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options to its parser."""
    parser.add_argument(
        "source",
        type=Path,
        metavar="RUN",
        help="a folder that nbconv train --run has written, or a saved model (.safetensors), of which no "
        "learning curves are known",
    )
    parser.add_argument(
        "--output",
        type=Path,
        metavar="FILE",
        help="the page (report.html in the folder, or beside the model)",
    )
    common.add_data(parser, None, "the run's; of a model, digits")
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
    settings = {"data": "digits", "data_root": "data", "size": None, **loaded.settings}
    data, root = options.data or str(settings["data"]), options.data_root or str(settings["data_root"])
    if data not in datasets.DATA_SETS and not Path(data).is_dir():
        raise NbconvError(f"the run is of the data set {data!r}; say by --data which to take instead")
    data_set = datasets.find(data, root, options.size or settings["size"])
    test = data_set.load(common.input_size(loaded.model, data_set)).test
    report.write_text(output, report.report(loaded, *test, images=options.images))
    print(f"wrote {output}")
    return {"command": "report", "data": data, "report": str(output), "images": len(test.x)}
