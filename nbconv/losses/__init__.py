"""Losses: functions of a model's outputs and the targets that give their value and gradient together."""

from nbconv.losses.base import Loss
from nbconv.losses.classification import CrossEntropyLoss
from nbconv.losses.regression import MSELoss
from nbconv.losses.regularization import L2Regularization

__all__ = ["CrossEntropyLoss", "L2Regularization", "Loss", "MSELoss"]
