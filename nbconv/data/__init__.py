"""Data sets, splits, batches and images."""

from nbconv.data.dataset import Dataset, Subset
from nbconv.data.digits import Examples, Split, digits
from nbconv.data.folder import ImageFolder
from nbconv.data.image import read_digit
from nbconv.data.loader import DataLoader
from nbconv.data.resize import resize_bilinear
from nbconv.data.split import k_fold, stratified_split, train_test_split

__all__ = [
    "DataLoader",
    "Dataset",
    "Examples",
    "ImageFolder",
    "Split",
    "Subset",
    "digits",
    "k_fold",
    "read_digit",
    "resize_bilinear",
    "stratified_split",
    "train_test_split",
]
