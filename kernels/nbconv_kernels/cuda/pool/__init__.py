"""Pooling and its gradients: maxima (``maximum``) and averages, plain and adaptive (``average``)."""

from __future__ import annotations

from nbconv_kernels.cuda.pool.average import (
    adaptive_avg_pool2d,
    adaptive_avg_pool2d_backward,
    avg_pool2d,
    avg_pool2d_backward,
)
from nbconv_kernels.cuda.pool.maximum import (
    max_pool2d,
    max_pool2d_backward,
)
from nbconv_kernels.cuda.pool.unpool import (
    max_unpool2d,
    max_unpool2d_backward,
)

__all__ = [
    "adaptive_avg_pool2d",
    "adaptive_avg_pool2d_backward",
    "avg_pool2d",
    "avg_pool2d_backward",
    "max_pool2d",
    "max_pool2d_backward",
    "max_unpool2d",
    "max_unpool2d_backward",
]
