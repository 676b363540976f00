"""Objects whose constructor's arguments may be set again: layers, losses and augmentation transforms.

They keep every argument under its own name, and mostly something that follows from several of them besides.
So to set ``conv.stride`` does what a new ``Conv2d`` with that stride would do: its constructor checks the
value, brings it into its form and says what follows from it, and all that is taken over. What cannot be
changed in place, such as the size of a kernel whose weights exist, is refused.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import lru_cache
from typing import Any, Self

import numpy as np

_MADE = "_is_made"


class Adjustable:
    """Base of objects whose attributes count whenever they are set, or cannot be set.

    A subclass stores every argument of its constructor under the argument's name.
    """

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "__init__" in vars(cls):
            cls.__init__ = _noting_its_end(vars(cls)["__init__"])  # type: ignore[method-assign]

    def __setattr__(self, name: str, value: Any) -> None:
        if vars(self).get(_MADE):
            self._set_again(name, value)
        else:
            object.__setattr__(self, name, value)

    def config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {name: getattr(self, name) for name in arguments(type(self))}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """A new object from what :meth:`config` gave."""
        rest = [name for name, kind in arguments(cls).items() if kind is inspect.Parameter.VAR_POSITIONAL]
        positional = config.get(rest[0], ()) if rest else ()
        return cls(*positional, **{key: value for key, value in config.items() if key not in rest})

    def _set_again(self, name: str, value: Any) -> None:
        """Set an attribute of an object that is complete."""
        if name in arguments(type(self)):
            with suppress(AttributeError):  # whoever does not keep the arguments sees to the rest as well
                config = self.config()
                if name in config:
                    self._take_over(name, self.from_config(config), self.from_config({**config, name: value}))
                    return
        else:
            for base in type(self).__mro__[1:]:
                if "__init__" in vars(base) and name in arguments(base):
                    self._set_for_base(base, name, value)
                    return
        object.__setattr__(self, name, value)

    def _set_for_base(self, base: type, name: str, value: Any) -> None:
        """Set an argument that the constructor of a base class has, and this class's own has not."""
        config = {key: getattr(self, key) for key in arguments(base)}
        self._take_over(name, base(**config), base(**{**config, name: value}))

    def _take_over(self, name: str, before: Any, after: Any) -> None:
        """Become like ``after``, where it differs from ``before``, made with the settings until now."""
        for key, value in vars(after).items():
            if key == name or (self._follows(key, value) and not _equal(value, vars(before).get(key))):
                mine, former = vars(self).get(key), vars(before).get(key)
                # Seeds and counts have gone on since; they do not follow from settings.
                if key == name or not isinstance(mine, int | float | str) or _equal(mine, former):
                    object.__setattr__(self, key, value)

    def _follows(self, key: str, value: Any) -> bool:
        """Whether an attribute that construction gives may follow from its arguments."""
        return True


def arguments(cls: Any) -> Mapping[str, Any]:
    """The arguments of a class's constructor, with their kinds."""
    return _arguments(cls)


@lru_cache(maxsize=1024)
def _arguments(cls: Any) -> Mapping[str, Any]:
    return {name: parameter.kind for name, parameter in inspect.signature(cls).parameters.items()}


def _noting_its_end(init: Callable[..., None]) -> Callable[..., None]:
    """A constructor that marks an object as complete, unless it runs inside a subclass's constructor."""

    @functools.wraps(init)
    def construct(self: Any, *args: Any, **kwargs: Any) -> None:
        if type(self).__init__ is not construct:
            init(self, *args, **kwargs)
            return
        vars(self).pop(_MADE, None)
        init(self, *args, **kwargs)
        vars(self)[_MADE] = True

    return construct


def _equal(a: Any, b: Any) -> bool:
    if a is b:
        return True
    if isinstance(a, np.ndarray) or isinstance(b, np.ndarray):
        return bool(np.array_equal(a, b))
    try:
        return bool(a == b)
    except ValueError:  # of arrays inside
        return False
