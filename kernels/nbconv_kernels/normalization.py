"""What every backend's normalisation checks alike."""

from __future__ import annotations


def check_activation(op: str, activation: str | None) -> bool:
    """Whether a ReLU follows the normalisation.

    Raises:
        ValueError: for another activation.
    """
    if activation not in (None, "relu"):
        raise ValueError(f'{op}: activation must be None or "relu", got {activation!r}')
    return activation is not None
