"""Ways to look into a model."""

from nbconv.inspect.finite import check_finite
from nbconv.inspect.gradients import GradientError, check_gradients
from nbconv.inspect.summary import Row, Summary, summarize

__all__ = ["GradientError", "Row", "Summary", "check_finite", "check_gradients", "summarize"]
