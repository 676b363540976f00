"""What every function that builds a model takes by name."""

from __future__ import annotations

from typing import TypedDict

from nbconv.models.weights import Weights


class Options(TypedDict, total=False):
    """Arguments of all models: first weights, where to compute, and a seed for weights that are drawn."""

    weights: Weights | None
    backend: str
    seed: int | None
