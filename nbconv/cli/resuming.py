"""What ``nbconv train --resume FILE`` believes a checkpoint, which may be somebody else's.

A file tells how to train: numbers, and names that nbconv knows. It decides on no other file. Where the run
read its data and where it wrote to is said again on the command line; the run is saved to FILE, which was
named there. An option beside ``--resume`` takes effect from there on, or is refused.
"""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, cast

from nbconv.cli import datasets
from nbconv.cli.recorded import Recorded, read
from nbconv.errors import CheckpointError, NbconvError

Adder = Callable[[argparse.ArgumentParser], None]
Given = dict[str, str | bool]

# Where a run reads and writes: never out of a file.
_READ = ("data", "data_root")
_WRITTEN = ("checkpoint", "csv", "jsonl", "tensorboard", "output", "plot", "run")
# What a run is: with another one of these it would be another run.
_FIXED = (
    *("model", "weights", "preprocess", "whiten", "freeze_base", "seed", "size", "resize"),
    *("batch_size", "accumulate", "optimizer", "schedule"),
)
_SWITCHES = ("augment", "warmup", "ema", "early_stopping")  # on or off; how much may change
_NUMBERS = (
    *("backend", "epochs", "lr", "momentum", "nesterov", "weight_decay", "label_smoothing", "layer_lrs"),
    *(
        "clip_grad_norm",
        "clip_grad_value",
        "step_size",
        "milestones",
        "gamma",
        "patience",
        "checkpoint_every",
    ),
)
_TAKEN = (*_FIXED, *_SWITCHES, *_NUMBERS)
# Options that mean something in some runs only: of which schedule, or optimiser.
_OF_SCHEDULES = {
    "step_size": ("step",),
    "milestones": ("multistep",),
    "gamma": ("step", "multistep", "exponential", "plateau"),
    "patience": ("plateau",),
}
_OF_OPTIMIZERS = {"momentum": ("sgd", "rmsprop"), "nesterov": ("sgd",)}


class Saved(NamedTuple):
    """What a checkpoint tells of its run.

    Attributes:
        path: of the file, as it was given.
        options: those of ``nbconv train`` that it was started with, as texts.
        record: of its images.
        epochs: that are over.
        is_finished: whether it had stopped by itself.
    """

    path: str
    options: Given
    record: Recorded
    epochs: int
    is_finished: bool

    def taken(self) -> Given:
        """The options that are believed."""
        known = {name: value for name, value in self.options.items() if name in _TAKEN}
        if self.data == "digits":
            known["data"] = self.data  # they come with nbconv
        if "checkpoint" in self.options:
            known["checkpoint"] = self.path
        return known

    @property
    def data(self) -> str:
        """What the run was trained on, as the file says."""
        return str(self.options.get("data", "digits"))

    def left_out(self, given: Mapping[str, Any]) -> str | None:
        """A line about what the run wrote and now does not, unless it is given again."""
        names = [name for name in _WRITTEN if name in self.options and name not in given]
        if self.options.get("checkpoint") == self.path and "checkpoint" in names:
            names.remove("checkpoint")
        if not names:
            return None
        told = on_command_line({name: self.options[name] for name in names})
        return (
            f"a checkpoint decides on no other files: not taken from {self.path}: {told} "
            f"(give again what is to be written; the run is saved to {self.path})"
        )


def load(path: str, add_arguments: Adder) -> Saved:
    """Read a checkpoint.

    Raises:
        CheckpointError: if ``nbconv train`` has not written it.
        OSError: if it cannot be read.
    """
    from nbconv.training import snapshot

    found = snapshot.load(path)
    extra = found.extra
    if not isinstance(extra, dict) or not isinstance(extra.get("arguments"), list):
        raise CheckpointError(f"{path} is of a run that nbconv train has not started")
    try:
        options = texts([str(argument) for argument in extra["arguments"]], add_arguments)
        saved = Saved(path, options, read(extra), found.run["epoch"], found.run["finished"])
        _parsed(saved.taken(), add_arguments)
    except NbconvError as error:
        raise CheckpointError(f"{path}: {error}") from None
    return saved


def check(saved: Saved, given: Given, add_arguments: Adder) -> None:
    """See that each option beside ``--resume`` can take effect.

    Args:
        saved: what the checkpoint tells.
        given: by the command line, and the files named there.
        add_arguments: tells a parser the options there are.

    Raises:
        NbconvError: naming the first one that cannot.
    """
    if "data" not in given and saved.data != "digits":
        again = on_command_line({name: saved.options[name] for name in _READ if name in saved.options})
        raise NbconvError(
            f"{saved.path} is of a run on {saved.data!r}; where data are is not taken from a file, "
            f"so say it: {again}"
        )
    if (
        "data" in given
        and saved.data != given["data"]
        and {saved.data, given["data"]} & {*datasets.DATA_SETS}
    ):
        raise _refused(saved, "data", given, saved.data)
    before = _parsed(saved.taken(), add_arguments)
    after = _parsed({**saved.taken(), **given}, add_arguments)
    for name in (*_FIXED, *_SWITCHES, "layer_lrs"):
        old, new = getattr(before, name), getattr(after, name)
        if name in given and name == "size" and old is None:
            old = saved.record.size
        if name in given and _kind(name, old) != _kind(name, new):
            raise _refused(saved, name, given, old)
    for name in given:
        schedules, optimizers = _OF_SCHEDULES.get(name), _OF_OPTIMIZERS.get(name)
        if schedules and after.schedule not in schedules:
            raise _refused(saved, name, given, f"--schedule {after.schedule}")
        if optimizers and (after.optimizer not in optimizers or after.schedule == "one-cycle"):
            raise _refused(saved, name, given, f"--optimizer {after.optimizer} --schedule {after.schedule}")
    if "epochs" in given and after.epochs < saved.epochs:
        raise _refused(saved, "epochs", given, f"{saved.epochs} epochs behind it")
    if saved.is_finished and saved.epochs < after.epochs and {"epochs", "early_stopping"} & {*given}:
        name = "epochs" if "epochs" in given else "early_stopping"
        raise _refused(saved, name, given, f"stopped early, after {saved.epochs} epochs")


def texts(arguments: Sequence[str], add_arguments: Adder) -> Given:
    """The options in some arguments, by name: their values as texts, True for those without; others not."""
    options = _Texts()
    add_arguments(cast("argparse.ArgumentParser", options))
    try:
        return vars(options.parser.parse_known_args(list(arguments))[0])
    except argparse.ArgumentError as error:  # an option without its value
        raise NbconvError(str(error)) from None


def as_arguments(options: Mapping[str, str | bool]) -> list[str]:
    """Options as arguments, one each."""
    return [
        f"--{name.replace('_', '-')}" + ("" if isinstance(value, bool) else f"={value}")
        for name, value in options.items()
    ]


def on_command_line(options: Mapping[str, str | bool]) -> str:
    """Options as one writes them in a shell."""
    words: list[str] = []
    for name, value in options.items():
        words.append(f"--{name.replace('_', '-')}")
        if not isinstance(value, bool):
            words.append(shlex.quote(value))
    return " ".join(words)


def how_to_go_on(path: str, options: Given) -> str:
    """The command that goes on with a run, reads what it read, and writes what it wrote."""
    again = {name: options[name] for name in (*_READ, *_WRITTEN) if name in options and name != "checkpoint"}
    if again.get("data") == "digits":
        del again["data"]
    return f"nbconv train --resume {shlex.quote(path)} {on_command_line(again)}".rstrip()


class _Texts:
    """Stands for a parser that options are added to, and takes them as they are written."""

    def __init__(self) -> None:
        self.parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)

    def add_argument_group(self, title: str) -> _Texts:
        """Groups are for the help."""
        return self

    def add_argument(self, *names: str, action: str = "store", **about: Any) -> None:
        """Add an option without a type or a default."""
        self.parser.add_argument(*names, action=action, default=argparse.SUPPRESS)


def _parsed(options: Given, add_arguments: Adder) -> argparse.Namespace:
    """The values of options, with defaults for the rest.

    Raises:
        NbconvError: for a value that is none.
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    add_arguments(parser)
    try:
        return parser.parse_args(as_arguments(options))
    except argparse.ArgumentError as error:
        raise NbconvError(str(error)) from None


def _kind(name: str, value: Any) -> Any:
    """What of an option's value must stay."""
    if name == "augment":
        return value != "none"
    if name == "layer_lrs":
        return value and len(value)
    return bool(value) if name == "warmup" else value is None if name in _SWITCHES else value


def _refused(saved: Saved, name: str, given: Given, old: Any) -> NbconvError:
    option = on_command_line({name: given[name]})
    return NbconvError(
        f"{option} cannot take effect on the run in {saved.path}, which has {old}: leave it out, or begin a "
        f"new run with the model of this one: --weights {shlex.quote(saved.path)}"
    )
