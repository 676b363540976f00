"""What a training run measured, epoch by epoch."""

from __future__ import annotations

from dataclasses import dataclass, field

NAMES = ("loss", "accuracy", "val_loss", "val_accuracy", "lr", "seconds", "images_per_second")
"""What is measured of an epoch."""


@dataclass
class History:
    """The numbers of each completed epoch, in lists of equal length.

    ``history["val_accuracy"][-1]`` is the last epoch's. The names are "loss" and "accuracy" (of the epoch's
    batches as if they were one, while the weights were changing), "val_loss" and "val_accuracy" (after the
    epoch, where there are validation data), "lr" (of the first parameter group), "seconds" (of training,
    without validation) and "images_per_second". There is no accuracy where targets are not class labels.
    """

    history: dict[str, list[float]] = field(default_factory=dict)
    interrupted: bool = False  # the run was stopped from the keyboard

    @property
    def epochs(self) -> int:
        """The number of completed epochs."""
        return max((len(values) for values in self.history.values()), default=0)

    def append(self, logs: dict[str, float]) -> None:
        """Add one epoch's numbers."""
        for name, value in logs.items():
            self.history.setdefault(name, []).append(value)

    def last(self) -> dict[str, float]:
        """The numbers of the last epoch; empty before the first has ended."""
        return {name: values[-1] for name, values in self.history.items() if values}

    def __getitem__(self, name: str) -> list[float]:
        return self.history[name]

    def __contains__(self, name: object) -> bool:
        return name in self.history
