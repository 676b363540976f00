"""Cross-validation: a model trained k times, each time judged on another part of the data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from nbconv import backends
from nbconv.data.split import k_fold
from nbconv.errors import DataError
from nbconv.losses import CrossEntropyLoss
from nbconv.optim import Adam
from nbconv.trainer import Trainer
from nbconv.typing import Array

if TYPE_CHECKING:
    from nbconv.history import History
    from nbconv.layers import Layer
    from nbconv.losses import Loss
    from nbconv.optim import Optimizer
    from nbconv.parameter import Parameter
    from nbconv.sequential import Sequential


@dataclass
class CrossValidation:
    """What :func:`cross_validate` measured.

    Attributes:
        metric: "accuracy" for class labels, else "loss".
        scores: float64 (k,), the metric of each fold's model on the fold it has not seen.
        losses: float64 (k,), the same of the loss.
        histories: of each fold's training.
    """

    metric: str
    scores: Array
    losses: Array
    histories: list[History]

    @property
    def mean(self) -> float:
        """The mean of the scores."""
        return float(self.scores.mean())

    @property
    def std(self) -> float:
        """The spread of the scores: their sample standard deviation, over k - 1."""
        return float(self.scores.std(ddof=1))

    def __str__(self) -> str:
        return f"{self.metric} {self.mean:.4f} ± {self.std:.4f} over {len(self.scores)} folds"


def cross_validate(
    build_model: Callable[[], Sequential],
    x: Array,
    y: Array,
    k: int = 5,
    *,
    epochs: int = 10,
    batch_size: int = 32,
    loss: Loss | None = None,
    optimizer: Callable[[list[Parameter]], Optimizer] = Adam,
    preprocess: Callable[[Array], Layer] | None = None,
    seed: int | None = 0,
    verbose: bool = False,
    **fit: Any,
) -> CrossValidation:
    """Train ``k`` models, each on all folds but one, and judge it on that one.

    Args:
        build_model: gives a new model; with a seed in it all folds begin alike.
        x: inputs (N, ...).
        y: targets (N, ...); class labels are spread evenly over the folds.
        k: the number of folds.
        epochs: of each training.
        batch_size: of each training.
        loss: None for cross entropy.
        optimizer: called with a model's parameters, such as ``lambda p: nb.SGD(p, lr=0.03, momentum=0.9)``.
        preprocess: called with the inputs a fold trains on, gives a layer for the model's front, such as
            ``nb.preprocess.Standardize.fit``: nothing is measured on the fold that judges.
        seed: of the folds and of each training's order; None for random ones.
        verbose: show each training's progress.
        fit: further arguments of ``Trainer.fit``, such as ``augment``.

    Raises:
        DataError: when k is not 2 to N, x and y differ in length, or the models cannot be trained on them.

    Source: CS4670, k-fold cross-validation.
    """
    x, y = backends.to_numpy(x), backends.to_numpy(y)
    if not x.ndim or not y.ndim:
        raise DataError(f"cross_validate: expected inputs and targets (N, ...), got {x.shape} and {y.shape}")
    if len(x) != len(y):
        raise DataError(f"cross_validate: {len(x)} inputs but {len(y)} targets")
    measured: list[dict[str, float]] = []
    histories: list[History] = []
    for train, test in k_fold(y, k, seed=seed):
        model = build_model()
        if preprocess is not None:
            model.insert(0, preprocess(x[train]))
        trainer = Trainer(model, CrossEntropyLoss() if loss is None else loss, optimizer(model.parameters()))
        histories.append(
            trainer.fit(x[train], y[train], epochs, batch_size, seed=seed, verbose=verbose, **fit)
        )
        if histories[-1].interrupted:
            raise KeyboardInterrupt
        measured.append(trainer.evaluate(x[test], y[test]))
    metric = "accuracy" if "accuracy" in measured[0] else "loss"
    scores, losses = (np.array([fold[name] for fold in measured]) for name in (metric, "loss"))
    return CrossValidation(metric, scores, losses, histories)
