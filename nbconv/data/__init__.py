"""Data sets, splits, batches and images."""

from nbconv.data.cifar import CIFAR10_CLASSES, CIFAR100_CLASSES, cifar10, cifar100
from nbconv.data.dataset import Dataset, Subset
from nbconv.data.digits import Examples, Split, digits
from nbconv.data.folder import ImageFolder
from nbconv.data.idx import read_idx
from nbconv.data.image import read_digit
from nbconv.data.loader import DataLoader
from nbconv.data.mnist import FASHION_CLASSES, fashion_mnist, mnist
from nbconv.data.resize import resize_bilinear
from nbconv.data.split import k_fold, stratified_split, train_test_split

__all__ = [
    "CIFAR10_CLASSES",
    "CIFAR100_CLASSES",
    "FASHION_CLASSES",
    "DataLoader",
    "Dataset",
    "Examples",
    "ImageFolder",
    "Split",
    "Subset",
    "cifar10",
    "cifar100",
    "digits",
    "fashion_mnist",
    "k_fold",
    "mnist",
    "read_digit",
    "read_idx",
    "resize_bilinear",
    "stratified_split",
    "train_test_split",
]
