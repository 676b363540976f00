"""Random networks: what the CPU computes against float64 ``reference``, itself in other ways, and PyTorch."""

from .case import run

__all__ = ["run"]
