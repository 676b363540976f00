"""Data sets, splits and images: plain NumPy arrays, ready for a model."""

from nbconv.data.digits import Examples, Split, digits
from nbconv.data.image import read_digit
from nbconv.data.resize import resize_bilinear
from nbconv.data.split import stratified_split

__all__ = ["Examples", "Split", "digits", "read_digit", "resize_bilinear", "stratified_split"]
