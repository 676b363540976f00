"""Augmentation as an option: the name of a recipe, or transforms of ``nb.augment`` as Python writes them."""

from __future__ import annotations

import argparse
import ast
from collections.abc import Callable
from typing import Any

from nbconv import augment
from nbconv.augment import Compose, Geometric, Mixup, Transform
from nbconv.augment.recipes import RECIPES

KNOWN: dict[str, Callable[..., Transform]] = {
    name: value
    for name, value in vars(augment).items()
    if isinstance(value, type)
    and issubclass(value, Transform)
    and value not in (Transform, Geometric, Compose)
}

_LONGEST = 2000  # letters


def checked(text: str) -> str:
    """``text``, if it tells transforms, for argparse."""
    try:
        parsed(text, 2)
    except (ValueError, TypeError) as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return text


def parsed(text: str, classes: int) -> Transform | None:
    """The transforms that an option names, such as "RandomCrop(padding=4), RandomHorizontalFlip".

    Args:
        text: that, or the name of a recipe.
        classes: how many; ``Mixup`` needs to know.

    Raises:
        ValueError: for what is no such list, or an argument out of range.
        TypeError: for an argument that a transform does not have.
    """
    if text in RECIPES:
        make = RECIPES[text]
        return make() if make else None
    if len(text) > _LONGEST:
        raise ValueError(f"expected at most {_LONGEST:,} letters, got {len(text):,}")
    # Parsed, not evaluated: names of transforms and literals mean something, and nothing else does.
    try:
        call = ast.parse(f"_({text})", mode="eval").body
        if not isinstance(call, ast.Call) or call.keywords or not call.args:
            raise _unknown(text)
        made = [_transform(item, classes) for item in call.args]
    except (SyntaxError, RecursionError, MemoryError):  # the last two by brackets in brackets
        raise _unknown(text) from None
    return Compose(made) if len(made) > 1 else made[0]


def _transform(item: ast.expr, classes: int) -> Transform:
    function = item.func if isinstance(item, ast.Call) else item
    if not isinstance(function, ast.Name) or function.id not in KNOWN:
        raise _unknown(ast.unparse(item))
    positional: list[Any] = []
    named: dict[str, Any] = {}
    if isinstance(item, ast.Call):
        try:
            positional = [ast.literal_eval(argument) for argument in item.args]
            named = {str(keyword.arg): ast.literal_eval(keyword.value) for keyword in item.keywords}
        except ValueError:
            raise ValueError(f"arguments must be numbers, texts or tuples in {ast.unparse(item)}") from None
    make = KNOWN[function.id]
    if make is Mixup and len(positional) < 2:
        named.setdefault("num_classes", classes)
    try:
        return make(*positional, **named)
    except (TypeError, OverflowError) as error:
        raise TypeError(f"{ast.unparse(item)}: {error}") from None


def _unknown(text: str) -> ValueError:
    return ValueError(
        f"expected {', '.join(RECIPES)} or transforms such as 'RandomCrop(padding=4), Cutout(8)', "
        f"got {text!r}; there are {', '.join(sorted(KNOWN))}"
    )
