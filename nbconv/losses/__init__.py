"""Losses: functions of a model's outputs and the targets that give their value and gradient together."""

from nbconv.losses.base import Loss
from nbconv.losses.classification import BCEWithLogitsLoss, CrossEntropyLoss
from nbconv.losses.margin import HingeLoss, MultiClassHingeLoss, MultiMarginLoss
from nbconv.losses.regression import HuberLoss, L1Loss, MSELoss, SmoothL1Loss
from nbconv.losses.regularization import L2Regularization

__all__ = [
    "BCEWithLogitsLoss",
    "CrossEntropyLoss",
    "HingeLoss",
    "HuberLoss",
    "L1Loss",
    "L2Regularization",
    "Loss",
    "MSELoss",
    "MultiClassHingeLoss",
    "MultiMarginLoss",
    "SmoothL1Loss",
]
