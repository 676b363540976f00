"""Seeds of single batches."""

from __future__ import annotations

import numpy as np


def batch_seed(seed: int, epoch: int, batch: int) -> int:
    """The seed of one batch's augmentation, an unsigned 64-bit number: what ``Trainer.fit`` hands on.

    Args:
        seed: of the run, at least 0.
        epoch: counted from 0.
        batch: counted from 0 in each epoch.
    """
    return int(np.random.SeedSequence([seed, epoch, batch]).generate_state(1, np.uint64)[0])
