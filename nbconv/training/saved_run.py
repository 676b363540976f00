"""What must be true of a run that comes from a file, before anything is made of it.

Whoever wrote the file chose every name and number in it. Names of measurements become columns of logs and
rows of reports, so they are words; counts are whole numbers; an optimiser's settings are of the kinds it has.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from typing import Any

from nbconv.training.means import SUMS

_NAME = re.compile(r"[^\W\d][\w./@-]*(?: [\w./@-]+)*")
_LONGEST = 100  # letters of a name
_LARGEST = 1 << 63

Check = Callable[[Any], bool]


def check(run: Any) -> None:
    """Look at the run of a snapshot.

    Raises:
        ValueError: saying what is wrong.
    """
    if not isinstance(run, dict):
        raise ValueError("it is no table of names and values")
    for name, (is_right, needed) in _ENTRIES.items():
        if name not in run:
            raise ValueError(f"it has no {name!r}")
        if not is_right(run[name]):
            raise ValueError(f"{name!r} must be {needed}")
    check_history(run["history"])
    if any(len(values) > run["epoch"] for values in run["history"].values()):
        raise ValueError("the history has more epochs than the run")


def check_history(history: Any) -> None:
    """See that a history is lists of numbers by name.

    Raises:
        ValueError: if it is not.
    """
    if not isinstance(history, dict) or not all(
        isinstance(values, list) and all(map(_is_number, values)) for values in history.values()
    ):
        raise ValueError("a history must be lists of numbers by name")
    check_names(history)


def check_names(measured: Mapping[Any, Any]) -> None:
    """See that measurements have names that cannot be taken for anything else.

    Raises:
        ValueError: for one that has not.
    """
    for name in measured:
        if not isinstance(name, str) or len(name) > _LONGEST or not _NAME.fullmatch(name):
            raise ValueError(f"{name!r} is no name of a measurement: words of letters, digits and _ . / @ -")


def check_settings(group: Mapping[str, Any], own: Mapping[str, Any]) -> None:
    """See that an optimiser's settings are of the kinds that its own are.

    Raises:
        ValueError: for one that is not.
    """
    for name, value in group.items():
        if name == "params" or (name not in own and name != "initial_lr"):
            continue
        if not _is_like(value, own.get(name, 0.0)):
            raise ValueError(f"{value!r} is no {name} of an optimizer")


def _is_like(value: Any, own: Any) -> bool:
    if isinstance(own, bool):
        return isinstance(value, bool)
    if isinstance(own, list | tuple):
        return isinstance(value, list | tuple) and len(value) == len(own) and all(map(_is_number, value))
    return _is_number(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < _LARGEST


def _are_draws(value: Any) -> bool:
    return isinstance(value, list) and all(
        isinstance(pair, list)
        and len(pair) == 2
        and all(isinstance(number, int) and not isinstance(number, bool) for number in pair)
        and 0 <= pair[0] < 1 << 64
        and _is_count(pair[1])
        for pair in value
    )


def _is_optimizer(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and isinstance(value.get("class"), str)
        and isinstance(value.get("state"), dict)
        and all(isinstance(entry, dict) for entry in value["state"].values())
        and isinstance(value.get("param_groups"), list)
        and all(
            isinstance(group, dict) and isinstance(group.get("params"), list)
            for group in value["param_groups"]
        )
    )


def _are_callbacks(value: Any) -> bool:
    return isinstance(value, list) and all(
        isinstance(entry, list)
        and len(entry) == 2
        and isinstance(entry[0], str)
        and isinstance(entry[1], dict)
        for entry in value
    )


def _are_sums(value: Any) -> bool:
    return isinstance(value, dict) and value.keys() <= SUMS and all(map(_is_number, value.values()))


def _is_table(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(name, str) for name in value)


_ENTRIES: dict[str, tuple[Check, str]] = {
    **dict.fromkeys(("epoch", "done", "seen", "step"), (_is_count, "a whole number of at least 0")),
    "seed": (lambda value: isinstance(value, int) and not isinstance(value, bool) and value >= 0, "a seed"),
    "seconds": (lambda value: _is_number(value) and 0 <= value < math.inf, "a time in seconds"),
    "finished": (lambda value: isinstance(value, bool), "true or false"),
    "settings": (_is_table, "a table of names and values"),
    "means": (_are_sums, "sums of what batches measure, by name"),
    "history": (lambda value: isinstance(value, dict), "lists of numbers by name"),
    "dropouts": (_are_draws, "pairs of a seed and a count"),
    "optimizer": (_is_optimizer, "the state of an optimizer"),
    "callbacks": (_are_callbacks, "names of callbacks and their states"),
}
