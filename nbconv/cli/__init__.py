"""The ``nbconv`` command: train, evaluate, predict, info."""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout

import nbconv
from nbconv.cli import augment, bench, config, evaluate, info, predict, report, train, warmup
from nbconv.errors import NbconvError
from nbconv.terminal import EnduringStream, enduring, say

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
    # Of a damaged picture Pillow logs what its exception says as well; without this, to standard error.
    logging.getLogger("PIL").addHandler(logging.NullHandler())
    out, err = enduring(sys.stdout), enduring(sys.stderr)
    with redirect_stdout(out), redirect_stderr(err):
        status = _run(list(sys.argv[1:] if arguments is None else arguments))
        out.flush()
        if isinstance(out.failure, OSError):  # what was to be told has not been told
            status = status or 1
            if not isinstance(out.failure, BrokenPipeError):  # else nobody is there to be told of it
                say(f"nbconv: standard output: {out.failure.strerror}", err)
        err.flush()
    for stream, real in ((out, sys.__stdout__), (err, sys.__stderr__)):
        if isinstance(stream.failure, OSError) and stream.wraps(real):
            _let_go(stream)
    return status


def _run(given: list[str]) -> int:
    command = given[0] if given and given[0] in _COMMANDS else "train"
    try:
        _check_values(given)
        expanded = _expanded(given)
        options = _parser().parse_args(expanded.arguments)
        command, options.arguments = options.command, expanded.settled
        if expanded.left_out:
            say(f"nbconv train: {expanded.left_out}", sys.stderr)
        result = _COMMANDS[command].run(options)
        if options.json:
            say(json.dumps(result))
    except KeyboardInterrupt:
        return _INTERRUPTED
    except (NbconvError, OSError, ValueError, MemoryError) as error:
        say(f"nbconv {command}: {_one_line(error)}", sys.stderr)
        return 1
    return _INTERRUPTED if result.get("interrupted") else 0


def _check_values(given: list[str]) -> None:
    """Refuse ``--option=--``, which argparse takes for an option without a value, and gives none."""
    for argument in given:
        if argument.startswith("--") and argument.endswith("=--"):
            raise NbconvError(f"{argument}: '--' is no value")


def _expanded(given: list[str]) -> config.Expanded:
    """The arguments with those that files hold."""
    if given[:1] != ["train"]:
        return config.Expanded(given, [])
    expanded = config.expand(given[1:], train.add_arguments)
    return expanded._replace(arguments=["train", *expanded.arguments])


def _one_line(error: Exception) -> str:
    if isinstance(error, OSError) and error.filename is not None:
        return f"{os.fsdecode(error.filename)}: {error.strerror}"
    return "; ".join(line.strip() for line in str(error).splitlines()) or type(error).__name__


def _let_go(stream: EnduringStream) -> None:
    """Let what is left in a stream that cannot be written go nowhere: Python would try again when it ends."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="nbconv", description="Train and run convolutional networks.", allow_abbrev=False
    )
    parser.add_argument("--version", action="version", version=nbconv.__version__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, module in _COMMANDS.items():
        summary = (module.__doc__ or "").partition("\n")[0]
        command = commands.add_parser(name, help=summary, description=summary, allow_abbrev=False)
        module.add_arguments(command)
        command.add_argument("--json", action="store_true", help="make the last line one JSON object")
    return parser
