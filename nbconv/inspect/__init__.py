"""Ways to look into a model."""

from nbconv.inspect.finite import check_finite
from nbconv.inspect.gradients import GradientError, check_gradients
from nbconv.inspect.receptive_field import ReceptiveField, ReceptiveFields, receptive_field
from nbconv.inspect.summary import Row, Summary, summarize

__all__ = [
    "GradientError",
    "ReceptiveField",
    "ReceptiveFields",
    "Row",
    "Summary",
    "check_finite",
    "check_gradients",
    "receptive_field",
    "summarize",
]
