"""What part of its input an output depends on, along one axis: the arithmetic of receptive fields."""

from __future__ import annotations

from collections.abc import Iterable

Span = tuple[int, int]
"""The first and the last of some rows, or of some columns. Either may lie outside the image."""


def window_span(span: Span, kernel: int, stride: int = 1, before: int = 0, dilation: int = 1) -> Span:
    """What outputs ``span`` of a sliding window see: from the first one's first tap to the last one's last.

    Args:
        span: of the output.
        kernel: taps.
        stride: steps between windows.
        before: padding in front of the input.
        dilation: distance between taps.
    """
    first, last = span
    return first * stride - before, last * stride - before + dilation * (kernel - 1)


def transposed_span(span: Span, kernel: int, stride: int = 1, before: int = 0, dilation: int = 1) -> Span:
    """The same for a transposed convolution, where each input reaches a window of outputs."""
    first, last = span
    return -(-(first + before - dilation * (kernel - 1)) // stride), (last + before) // stride


def hull(spans: Iterable[Span | None]) -> Span | None:
    """The smallest span that holds all; None, which is the whole input, holds any."""
    found = list(spans)
    firsts = [span[0] for span in found if span is not None]
    lasts = [span[1] for span in found if span is not None]
    return (min(firsts), max(lasts)) if len(firsts) == len(found) else None
