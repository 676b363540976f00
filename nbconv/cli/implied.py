"""The recipes that go with a network and its images unless something else is asked for."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

_RECIPES = {("lenet5", "digits"): "digits"}
_OF_THE_OPTIMISER = ("optimizer", "lr", "momentum", "weight-decay")


def recipe(arguments: Sequence[str]) -> str | None:
    """The name of the recipe that goes with the arguments of ``nbconv train``, if there is one."""
    given = _given(arguments)
    if "weights" in given:
        return None
    return _RECIPES.get((given.get("model", "lenet5"), given.get("data", "digits")))


def fitting(values: dict[str, Any], arguments: Sequence[str]) -> dict[str, Any]:
    """A recipe's values without those of its optimiser, if the arguments name another."""
    if _given(arguments).get("optimizer", values["optimizer"]) == values["optimizer"]:
        return values
    return {key: value for key, value in values.items() if key not in _OF_THE_OPTIMISER}


def _given(arguments: Sequence[str]) -> dict[str, str]:
    parser = argparse.ArgumentParser(
        add_help=False, allow_abbrev=False, exit_on_error=False, argument_default=argparse.SUPPRESS
    )
    for name in ("--model", "--data", "--optimizer", "--weights"):
        parser.add_argument(name)
    try:
        return vars(parser.parse_known_args(list(arguments))[0])
    except argparse.ArgumentError:  # an option without its value, of which the command's own parser tells
        return {}
