"""Layers, one family a file."""

from nbconv.layers.activation import ELU, LeakyReLU, ReLU, ReLU6, Sigmoid, Softmax, Tanh
from nbconv.layers.base import Layer
from nbconv.layers.container import Concat, DenseBlock, Residual
from nbconv.layers.conv import Conv2d
from nbconv.layers.dense import Dense
from nbconv.layers.dropout import Dropout
from nbconv.layers.norm import BatchNorm2d
from nbconv.layers.pool import AdaptiveAvgPool2d, AvgPool2d, MaxPool2d
from nbconv.layers.shape import Flatten

__all__ = [
    "ELU",
    "AdaptiveAvgPool2d",
    "AvgPool2d",
    "BatchNorm2d",
    "Concat",
    "Conv2d",
    "Dense",
    "DenseBlock",
    "Dropout",
    "Flatten",
    "Layer",
    "LeakyReLU",
    "MaxPool2d",
    "ReLU",
    "ReLU6",
    "Residual",
    "Sigmoid",
    "Softmax",
    "Tanh",
]
