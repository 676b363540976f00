"""How a model computes in evaluation mode: layers fused, weights folded and kept ready.

``Sequential.infer`` runs a :class:`Plan`, which it compiles when it is first called and when layers have
changed since. ``nb.inspect.plan`` shows it.
"""

from nbconv.inference.compiler import compile_model
from nbconv.inference.plan import Plan

__all__ = ["Plan", "compile_model"]
