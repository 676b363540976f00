"""Race nbconv against other engines on this machine."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from nbconv.cli import common

_SECTIONS = ("inference", "training", "memory", "scaling", "accuracy", "curves", "gemm", "roofline", "avx2")
_GPU_SECTIONS = ("convolutions", "training", "inference", "bandwidth")
_PRECISIONS = ("highest", "high", "medium")
_PEERS = ("pytorch", "channels_last", "compile", "onnxruntime", "openvino", "ncnn")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options to its parser."""
    parser.add_argument(
        "--only", type=_names, metavar="A,B", help=f"sections to run (all): {', '.join(_SECTIONS)}"
    )
    parser.add_argument(
        "--gpu",
        action="store_true",
        help=f"race PyTorch on an NVIDIA GPU instead; sections: {', '.join(_GPU_SECTIONS)}",
    )
    parser.add_argument(
        "--precision",
        type=_names,
        metavar="A,B",
        help=f"on a GPU (all): {', '.join(_PRECISIONS)}",
    )
    parser.add_argument("--models", type=_names, metavar="A,B", help="networks to race (all)")
    parser.add_argument(
        "--peers", type=_names, metavar="A,B", help=f"whom to race (all): {', '.join(_PEERS)}"
    )
    parser.add_argument("--threads", type=common.positive, help="of everyone (as many as nbconv uses)")
    parser.add_argument(
        "--seconds", type=float, default=6.0, help="how long a race goes on, about (%(default)s)"
    )
    parser.add_argument(
        "--output", type=Path, metavar="FOLDER", help="keep results and a chart here, beside earlier ones"
    )


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Measure, print tables and return the results."""
    if options.gpu:
        return {"command": "bench", **_run_on_gpu(options)}
    import nbconv as nb
    from nbconv.bench import cases
    from nbconv.bench.options import Options
    from nbconv.bench.run import run as measure

    sections = _known(options.only, _SECTIONS, "section")
    request = Options(
        cases=cases.select(options.models),
        peers=_known(options.peers, _PEERS, "peer"),
        threads=options.threads or nb.get_num_threads(),
        seconds=options.seconds,
        say=lambda line: print(line, flush=True),
    )
    if options.output is not None:
        options.output.mkdir(parents=True, exist_ok=True)
    return {"command": "bench", **measure(sections, request, options.output)}


def _run_on_gpu(options: argparse.Namespace) -> dict[str, Any]:
    from nbconv.bench.gpu import run as gpu

    return gpu.run(
        _known(options.only, _GPU_SECTIONS, "section"),
        _known(options.precision, _PRECISIONS, "precision"),
        options.models,
        options.output,
        lambda line: print(line, flush=True),
    )


def _names(text: str) -> list[str]:
    return [name for name in text.split(",") if name]


def _known(wanted: list[str] | None, known: tuple[str, ...], what: str) -> list[str]:
    """The names that are wanted, all by default.

    Raises:
        ValueError: for an unknown one.
    """
    for name in wanted or ():
        if name not in known:
            raise ValueError(f"unknown {what} {name!r}; there are {', '.join(known)}")
    return list(known if wanted is None else wanted)
