"""How exactly matrix products and convolutions in float32 are computed, as PyTorch names it."""

from __future__ import annotations

_LEVELS = ("highest", "high", "medium")
_level = "high"


def set_precision(level: str) -> None:
    """Choose between exactness and speed.

    "highest" takes float32 and the direct algorithms, "high" (the default) also faster algorithms that round
    a little more (Winograd's, for 3 x 3 convolutions), "medium" also shorter number formats. A level allows,
    it does not demand: the CPU computes in float32 at every level. On a GPU's tensor cores the operands of
    large products are rounded to TF32 (11 bits) for "high" and to bfloat16 (8 bits) for "medium"; sums,
    results and weights stay in float32.

    What "high" promises of Winograd's transforms, for outputs and both gradients: infinities and NaN reach
    only what sees them, an infinity is one where it is due, and sums that float32 holds do not overflow.
    Rounding errors are a few times those of "highest" (about 3e-5 of the outputs' spread) where pixels are
    about as large as their neighbours. A pixel some hundred times as bright as those around may leave up to a
    hundredth of their outputs' spread in outputs within five pixels that do not see it; where the range is
    wider than that, outputs are computed directly. Weights should be finite and below 1e20.

    Raises:
        ValueError: for another level.
    """
    global _level
    if level not in _LEVELS:
        raise ValueError(f"precision must be one of {', '.join(map(repr, _LEVELS))}, got {level!r}")
    _level = level


def get_precision() -> str:
    """The level in force."""
    return _level
