"""Networks of the lectures, one family a file."""

from nbconv.models.airbench import airbench, whiten
from nbconv.models.alexnet import alexnet, zfnet
from nbconv.models.auxiliary import AuxiliaryHead, AuxiliaryLoss, DeeplySupervised
from nbconv.models.densenet import densenet121, densenet169, densenet201, densenet_cifar
from nbconv.models.inception import googlenet
from nbconv.models.lenet import lenet5
from nbconv.models.mobilenet import mobilenet_v1, mobilenet_v2
from nbconv.models.registry import SMALL_IMAGE, get, image_size, names
from nbconv.models.resnet import (
    plain18,
    plain34,
    resnet18,
    resnet34,
    resnet50,
    resnet101,
    resnet152,
)
from nbconv.models.vgg import vgg11, vgg13, vgg16, vgg19

__all__ = [
    "SMALL_IMAGE",
    "AuxiliaryHead",
    "AuxiliaryLoss",
    "DeeplySupervised",
    "airbench",
    "alexnet",
    "densenet121",
    "densenet169",
    "densenet201",
    "densenet_cifar",
    "get",
    "googlenet",
    "image_size",
    "lenet5",
    "mobilenet_v1",
    "mobilenet_v2",
    "names",
    "plain18",
    "plain34",
    "resnet18",
    "resnet34",
    "resnet50",
    "resnet101",
    "resnet152",
    "vgg11",
    "vgg13",
    "vgg16",
    "vgg19",
    "whiten",
    "zfnet",
]
