"""``nbconv train --find-lr``: the learning-rate finder."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from nbconv import plot
from nbconv.terminal import say
from nbconv.training.finder import find_learning_rate

if TYPE_CHECKING:
    from nbconv.trainer import Trainer

_START, _END, _STEPS = 1e-6, 10.0, 100


def find(trainer: Trainer, fed: dict[str, Any], options: argparse.Namespace) -> dict[str, Any]:
    """Try rising rates, tell what they suggest, and draw them if that is asked for.

    Args:
        trainer: of the model, with its optimiser.
        fed: what to train on, as ``Trainer.fit`` takes it.
        options: of the command.

    Raises:
        ValueError: if there is nothing to suggest.
    """
    if not options.quiet:
        say(f"trying {_STEPS} learning rates from {_START:g} to {_END:g}, a step each")
    found = find_learning_rate(trainer, **fed, start=_START, end=_END, steps=_STEPS, seed=options.seed)
    if options.plot:
        plot.learning_rates(found, options.plot)
        say(f"wrote {options.plot}")
    suggestion = found.suggestion
    say(f"suggested: --lr {suggestion:.2g}, a tenth of the rate at which the loss was smallest")
    return {"suggested_lr": suggestion, "rates": found.rates, "losses": found.losses}
