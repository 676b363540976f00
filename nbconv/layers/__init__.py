"""Layers, one family a file."""

from nbconv.layers.activation import (
    ELU,
    GELU,
    SELU,
    Hardswish,
    LeakyReLU,
    LogSoftmax,
    Maxout,
    PReLU,
    ReLU,
    ReLU6,
    Sigmoid,
    SiLU,
    Softmax,
    Softplus,
    Tanh,
)
from nbconv.layers.base import Layer
from nbconv.layers.concat import Concat, DenseBlock
from nbconv.layers.conv import Conv2d
from nbconv.layers.conv_transpose import ConvTranspose2d
from nbconv.layers.dense import Dense
from nbconv.layers.dropout import Dropout, Dropout2d
from nbconv.layers.group_norm import GroupNorm, LayerNorm
from nbconv.layers.local_norm import ContrastNorm, DivisiveNorm, LocalResponseNorm, SubtractiveNorm
from nbconv.layers.norm import BatchNorm2d
from nbconv.layers.pool import AdaptiveAvgPool2d, AvgPool2d, GlobalAvgPool2d, MaxPool2d
from nbconv.layers.residual import Residual
from nbconv.layers.resize import Pad2d, Upsample
from nbconv.layers.shape import Flatten
from nbconv.layers.unpool import MaxUnpool2d

__all__ = [
    "ELU",
    "GELU",
    "SELU",
    "AdaptiveAvgPool2d",
    "AvgPool2d",
    "BatchNorm2d",
    "Concat",
    "ContrastNorm",
    "Conv2d",
    "ConvTranspose2d",
    "Dense",
    "DenseBlock",
    "DivisiveNorm",
    "Dropout",
    "Dropout2d",
    "Flatten",
    "GlobalAvgPool2d",
    "GroupNorm",
    "Hardswish",
    "Layer",
    "LayerNorm",
    "LeakyReLU",
    "LocalResponseNorm",
    "LogSoftmax",
    "MaxPool2d",
    "MaxUnpool2d",
    "Maxout",
    "PReLU",
    "Pad2d",
    "ReLU",
    "ReLU6",
    "Residual",
    "SiLU",
    "Sigmoid",
    "Softmax",
    "Softplus",
    "SubtractiveNorm",
    "Tanh",
    "Upsample",
]
