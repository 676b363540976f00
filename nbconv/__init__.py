"""A convolutional-network engine whose every kernel is readable Python, compiled by Numba."""

from nbconv import backends, data, initializers, inspect, models, plot
from nbconv.callbacks import Callback, LearningRate, ProgressBar, TrainingState
from nbconv.errors import (
    BackendUnavailable,
    CheckpointError,
    DataError,
    DTypeError,
    LayerError,
    NbconvError,
    NonFiniteError,
    StateDictError,
)
from nbconv.history import History
from nbconv.inspect import check_finite
from nbconv.layers import (
    ELU,
    AdaptiveAvgPool2d,
    AvgPool2d,
    BatchNorm2d,
    Concat,
    Conv2d,
    Dense,
    DenseBlock,
    Dropout,
    Flatten,
    Layer,
    LeakyReLU,
    MaxPool2d,
    ReLU,
    ReLU6,
    Residual,
    Sigmoid,
    Softmax,
    Tanh,
)
from nbconv.losses import CrossEntropyLoss, Loss, MSELoss
from nbconv.optim import SGD, Adam, AdamW, Optimizer
from nbconv.parameter import Parameter
from nbconv.sequential import Sequential
from nbconv.serialization import load
from nbconv.threads import get_num_threads, set_num_threads
from nbconv.trainer import Trainer
from nbconv_kernels.precision import get_precision, set_precision

__version__ = "0.1.0"

__all__ = [
    "ELU",
    "SGD",
    "Adam",
    "AdamW",
    "AdaptiveAvgPool2d",
    "AvgPool2d",
    "BackendUnavailable",
    "BatchNorm2d",
    "Callback",
    "CheckpointError",
    "Concat",
    "Conv2d",
    "CrossEntropyLoss",
    "DTypeError",
    "DataError",
    "Dense",
    "DenseBlock",
    "Dropout",
    "Flatten",
    "History",
    "Layer",
    "LayerError",
    "LeakyReLU",
    "LearningRate",
    "Loss",
    "MSELoss",
    "MaxPool2d",
    "NbconvError",
    "NonFiniteError",
    "Optimizer",
    "Parameter",
    "ProgressBar",
    "ReLU",
    "ReLU6",
    "Residual",
    "Sequential",
    "Sigmoid",
    "Softmax",
    "StateDictError",
    "Tanh",
    "Trainer",
    "TrainingState",
    "__version__",
    "backends",
    "check_finite",
    "data",
    "get_num_threads",
    "get_precision",
    "initializers",
    "inspect",
    "load",
    "models",
    "plot",
    "set_num_threads",
    "set_precision",
]
