"""The ``nbconv`` command: train, evaluate, predict, info."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence

import nbconv
from nbconv.cli import augment, bench, config, evaluate, info, predict, report, train, warmup
from nbconv.errors import NbconvError

__all__ = ["main"]

_COMMANDS = {
    "train": train,
    "evaluate": evaluate,
    "predict": predict,
    "augment": augment,
    "report": report,
    "bench": bench,
    "info": info,
    "warmup": warmup,
}
_INTERRUPTED = 130  # what shells give a process that Ctrl-C has ended


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line, and return the exit status: 0, 1 after a failure, 130 after Ctrl-C.

    Raises:
        SystemExit: with 2 for arguments that cannot be parsed, with 0 after ``--help`` and ``--version``.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        expanded, settled = _expanded(given)
    except (NbconvError, OSError, ValueError) as error:
        print(f"nbconv train: {_one_line(error)}", file=sys.stderr)
        return 1
    options = _parser().parse_args(expanded)
    options.arguments = settled
    try:
        result = _COMMANDS[options.command].run(options)
        if options.json:
            print(json.dumps(result))
        sys.stdout.flush()
    except KeyboardInterrupt:
        return _INTERRUPTED
    except BrokenPipeError:  # the reader of our output has left: leave as well, and flush nothing more
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (NbconvError, OSError, ValueError, MemoryError) as error:
        print(f"nbconv {options.command}: {_one_line(error)}", file=sys.stderr)
        return 1
    return _INTERRUPTED if result.get("interrupted") else 0


def _expanded(given: list[str]) -> tuple[list[str], list[str]]:
    """The arguments with those that files hold; and those behind ``train`` that a resumed run starts from."""
    if given[:1] != ["train"]:
        return given, []
    expanded, settled = config.expand(given[1:], train.add_arguments)
    return ["train", *expanded], settled


def _one_line(error: Exception) -> str:
    if isinstance(error, OSError) and error.filename is not None:
        return f"{os.fsdecode(error.filename)}: {error.strerror}"
    return "; ".join(line.strip() for line in str(error).splitlines()) or type(error).__name__


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="nbconv", description="Train and run convolutional networks.")
    parser.add_argument("--version", action="version", version=nbconv.__version__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, module in _COMMANDS.items():
        summary = (module.__doc__ or "").partition("\n")[0]
        command = commands.add_parser(name, help=summary, description=summary)
        module.add_arguments(command)
        command.add_argument("--json", action="store_true", help="make the last line one JSON object")
    return parser
