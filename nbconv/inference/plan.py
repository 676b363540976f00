"""A model compiled for evaluation: steps in the order they run."""

from __future__ import annotations

import operator
from collections.abc import Sequence

from nbconv.inference.program import Programs
from nbconv.inference.small import SmallNetwork
from nbconv.inference.steps import Step, Values, drops
from nbconv.layers import Layer
from nbconv.layers.base import latest_revision
from nbconv.typing import Array


class Plan:
    """Steps, and what they were compiled from.

    A plan holds weights but no activations: those live in a list of each call, so several threads may run it.

    Args:
        steps: in order.
        places: how many arrays they number; the input is number 0.
        output: the place of the result.
        watched: the layers that the steps were made of, with their revisions.
        lists: the lists of layers that were walked, each with a copy.
    """

    def __init__(
        self,
        steps: Sequence[Step],
        places: int,
        output: int,
        watched: Sequence[tuple[Layer, int]],
        lists: Sequence[tuple[list[Layer], list[Layer]]],
    ) -> None:
        self.steps = list(steps)
        self._places = places
        self._output = output
        self._watched = list(watched)
        self._lists = list(lists)
        self._checked = -1  # the latest revision of all layers when these were looked at
        small = SmallNetwork(self.steps)
        self._small = small if small.is_possible else None
        programs = Programs(self.steps, output)
        self._programs = programs if programs.is_possible else None
        self._drops = drops(self.steps, output)

    @property
    def is_current(self) -> bool:
        """Whether no layer has been exchanged and no attribute of one been set since this was compiled."""
        latest = latest_revision()
        if latest != self._checked:
            if any(layer.revision != revision for layer, revision in self._watched):
                return False
            self._checked = latest
        return all(
            len(layers) == len(copy) and all(map(operator.is_, layers, copy)) for layers, copy in self._lists
        )

    def takes_planes(self, x: Array) -> bool:
        """Whether :meth:`run` needs no channels-last copy of ``x``."""
        return self._small is None and self._programs is not None and self._programs.takes_planes(x)

    def run(self, x: Array) -> Array:
        """The output for ``x``.

        Raises:
            LayerError: naming the layer whose input does not fit.
        """
        if self._small is not None:
            y = self._small.run(x)
            if y is not None:
                return y
        steps, dropped = self.steps, self._drops
        if self._programs is not None and (found := self._programs.find(x)) is not None:
            steps, dropped = found
        values: Values = [None] * self._places
        values[0] = x
        del x
        for step, unread in zip(steps, dropped, strict=True):
            step.run(values)
            for place in unread:
                values[place] = None
        result = values[self._output]
        assert result is not None
        return result
