"""Options of ``nbconv train`` that come from files: a TOML file, a recipe, a checkpoint.

They are put in front of those on the command line, which so have the last word. A network and a data set may
have a recipe of their own (``implied``). Of a checkpoint little is believed (``resuming``).
"""

from __future__ import annotations

import argparse
import tomllib
from collections.abc import Callable, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

from nbconv.cli import implied, resuming
from nbconv.errors import NbconvError

_FILES = ("--resume", "--recipe", "--config")
_LONGEST = 1 << 16  # bytes of a file
_MOST_DOTS = 1000  # a key of so many parts takes the parser a second, one of ten times as many a minute
Adder = Callable[[argparse.ArgumentParser], None]


class Expanded(NamedTuple):
    """The options of a run.

    Attributes:
        arguments: all of them, those of the files first.
        settled: the same without the names of such files: what a checkpoint keeps.
        left_out: a line about what was not taken from a checkpoint.
    """

    arguments: list[str]
    settled: list[str]
    left_out: str | None = None


def expand(arguments: Sequence[str], add_arguments: Adder) -> Expanded:
    """The options with those that files hold.

    Args:
        arguments: of ``nbconv train``, behind that word.
        add_arguments: tells a parser the options there are.

    Raises:
        NbconvError: for a file with an option that is not known, or a value that does not suit it.
        OSError: if a file cannot be read.
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    for name in _FILES:
        parser.add_argument(name)
    files, rest = parser.parse_known_args(list(arguments))
    found: list[str] = []
    if files.recipe:
        found += _checked(f"recipe {files.recipe}", _recipe(files.recipe), add_arguments)
    elif not (files.resume or files.config) and (own := implied.recipe(rest)):
        found += _checked(f"recipe {own}", implied.fitting(_recipe(own), rest), add_arguments)
    if files.config:
        with Path(files.config).open("rb") as file:
            text = file.read(_LONGEST + 1)
            found += _checked(files.config, _parsed(files.config, text), add_arguments)
    found += rest
    if not files.resume:
        return Expanded(found, found)
    saved = resuming.load(files.resume, add_arguments)
    given = resuming.texts(found, add_arguments)
    resuming.check(saved, given, add_arguments)
    found = [*resuming.as_arguments(saved.taken()), *found]
    return Expanded([*found, "--resume", files.resume], found, saved.left_out(given))


def recipes() -> list[str]:
    """The names of the recipes."""
    folder = resources.files("nbconv.cli").joinpath("recipes")
    return sorted(Path(file.name).stem for file in folder.iterdir() if file.name.endswith(".toml"))


def _recipe(name: str) -> dict[str, Any]:
    if name not in recipes():
        raise NbconvError(f"there is no recipe {name!r}; there are {', '.join(recipes())}")
    text = resources.files("nbconv.cli").joinpath("recipes", f"{name}.toml").read_bytes()
    return _parsed(name, text)


def _parsed(where: str, text: bytes) -> dict[str, Any]:
    if len(text) > _LONGEST or text.count(b".") > _MOST_DOTS:
        raise NbconvError(f"{where}: options have at most {_LONGEST:,} letters and {_MOST_DOTS:,} dots")
    try:
        return tomllib.loads(text.decode("utf-8-sig"))  # with or without the mark that Windows puts in front
    except (ValueError, RecursionError) as error:
        raise NbconvError(f"{where} is no TOML: {error}") from None


def _checked(where: str, values: dict[str, Any], add_arguments: Adder) -> list[str]:
    """The values as options on a command line, each looked at by a parser."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    add_arguments(parser)
    options: list[str] = []
    for key, value in values.items():
        here = _option(where, key, value)
        try:
            _, unknown = parser.parse_known_args(here)
        except argparse.ArgumentError as error:
            raise NbconvError(f"{where}: {error}") from None
        if unknown:
            raise NbconvError(f"{where}: there is no option {key!r} (nbconv train --help tells all)")
        options += here
    return options


def _option(where: str, key: str, value: Any) -> list[str]:
    name = "--" + key.replace("_", "-")
    if name in _FILES:
        raise NbconvError(f"{where}: {key!r} belongs on the command line")
    if isinstance(value, bool):
        return [name] if value else []
    if isinstance(value, list):
        value = ",".join(map(str, value))
    if not isinstance(value, str | int | float):
        raise NbconvError(f"{where}: {key!r} must be a number, a text or a list, got {value!r}")
    return [f"{name}={value}"]
