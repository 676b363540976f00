"""Callbacks: code that a ``Trainer`` calls while it trains; ``nbconv.schedules`` has more."""

from nbconv.callbacks.averaging import EMA
from nbconv.callbacks.base import Callback, TrainingState
from nbconv.callbacks.checkpoint import Checkpoint
from nbconv.callbacks.clip import ClipGradNorm, ClipGradValue
from nbconv.callbacks.early_stopping import EarlyStopping
from nbconv.callbacks.learning_rate import LearningRate, cosine
from nbconv.callbacks.loggers import CSVLogger, JSONLinesLogger
from nbconv.callbacks.progress import ProgressBar
from nbconv.callbacks.tensorboard import TensorBoardLogger

__all__ = [
    "EMA",
    "CSVLogger",
    "Callback",
    "Checkpoint",
    "ClipGradNorm",
    "ClipGradValue",
    "EarlyStopping",
    "JSONLinesLogger",
    "LearningRate",
    "ProgressBar",
    "TensorBoardLogger",
    "TrainingState",
    "cosine",
]
