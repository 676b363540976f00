"""Networks of the lectures, one family a file."""

from nbconv.models.lenet import lenet5
from nbconv.models.mobilenet import mobilenet_v1
from nbconv.models.registry import get, image_size, names
from nbconv.models.vgg import vgg, vgg11, vgg13, vgg16, vgg19

__all__ = [
    "get",
    "image_size",
    "lenet5",
    "mobilenet_v1",
    "names",
    "vgg",
    "vgg11",
    "vgg13",
    "vgg16",
    "vgg19",
]
