"""Optimisers: names, arguments, defaults and arithmetic are PyTorch's."""

from nbconv.optim.adagrad import Adagrad
from nbconv.optim.adam import Adam, AdamW
from nbconv.optim.base import Optimizer
from nbconv.optim.clip import clip_grad_norm_, clip_grad_value_
from nbconv.optim.lion import Lion
from nbconv.optim.rmsprop import RMSprop
from nbconv.optim.sgd import SGD

__all__ = [
    "SGD",
    "Adagrad",
    "Adam",
    "AdamW",
    "Lion",
    "Optimizer",
    "RMSprop",
    "clip_grad_norm_",
    "clip_grad_value_",
]
