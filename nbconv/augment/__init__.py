"""Augmentation: random changes to each training batch, computed while the model trains."""

from nbconv.augment.seeds import batch_seed

__all__ = ["batch_seed"]
