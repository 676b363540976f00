"""Learning-rate schedules: names, arguments, defaults and arithmetic are PyTorch's.

Each is also a callback, which steps by itself after every epoch, or with ``per="step"`` after every step of
the optimiser: ``trainer.fit(x, y, callbacks=[nb.schedules.CosineAnnealingLR(optimizer, T_max=30)])``.
"""

from nbconv.schedules.base import Schedule
from nbconv.schedules.closed_form import (
    CosineAnnealingLR,
    ExponentialLR,
    LambdaLR,
    LinearLR,
    MultiStepLR,
    SequentialLR,
    StepLR,
)
from nbconv.schedules.one_cycle import OneCycleLR
from nbconv.schedules.plateau import ReduceLROnPlateau

__all__ = [
    "CosineAnnealingLR",
    "ExponentialLR",
    "LambdaLR",
    "LinearLR",
    "MultiStepLR",
    "OneCycleLR",
    "ReduceLROnPlateau",
    "Schedule",
    "SequentialLR",
    "StepLR",
]
