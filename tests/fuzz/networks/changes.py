"""Attributes set after a layer was made: they count everywhere, as if it had been made so, or are refused."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

import nbconv as nb

from .elements import ELEMENTS, ROWS
from .images import WINDOWS
from .node import Node
from .passes import Found, examples, model_of, passes

if TYPE_CHECKING:
    from .case import Case

_TRIES = 20


def made_and_changed(case: Case, seed: int) -> tuple[str, Found, Found] | None:
    """What is changed, and all results of a network made so and of one in which it is changed later.

    None where there is nothing to change, or setting it is refused.
    """
    rng = np.random.default_rng([seed, 9])
    if not case.path:
        return None
    place = int(rng.integers(len(case.path)))
    node = case.path[place]
    draw = next((draw for draw in (WINDOWS | ELEMENTS | ROWS) if draw(rng).make is node.make), None)
    for _ in range(_TRIES if draw is not None else 0):
        assert draw is not None
        other = draw(rng)
        if other.make is not node.make or other.options.get("name") != node.options.get("name"):
            continue
        changed = replace(case, path=(*case.path[:place], _alike(node, other), *case.path[place + 1 :]))
        try:
            result = _results(case, changed, place)
        except ValueError:
            continue  # what is drawn does not fit here
        if result is not None:
            return result
    return None


def _alike(node: Node, other: Node) -> Node:
    """The other's options, but for those that decide on what is trained."""
    kept = {name: node.options[name] for name in ("out", "groups", "whole") if name in node.options}
    if "out" in node.options:
        kept["kernel_size"] = node.options.get("kernel_size")
        kept["bias"] = node.options["bias"]
    options = {**other.options, **kept}
    return Node(node.make, {name: value for name, value in options.items() if value is not None}, node.paths)


def _results(case: Case, changed: Case, place: int) -> tuple[str, Found, Found] | None:
    expected, actual = (model_of(one, "cpu", case.dtype) for one in (changed, case))
    shapes = [{key: value.shape for key, value in one.state_dict().items()} for one in (expected, actual)]
    if shapes[0] != shapes[1]:
        return None  # what weights there are is decided when a layer is made
    x = examples(case, case.dtype)
    wanted = passes(expected, x, changed)
    actual(x)  # plans are made before the change
    old, new = actual[place], expected[place]
    told = []
    for name, value in new.config().items():
        before = getattr(old, name)
        if isinstance(before, nb.Parameter) or before is None or before == value or name.startswith("num_"):
            continue
        try:
            setattr(old, name, value)
        except Exception:  # it says no: what is left is no network that somebody asked for
            return None
        told.append(f"{name} {before!r} -> {value!r}")
    if not told or repr(actual) != repr(expected):
        return None
    return f"layer {place} {', '.join(told)}", wanted, passes(actual, x, changed)
