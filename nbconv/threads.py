"""How many threads the CPU backend uses."""

from __future__ import annotations


def set_num_threads(n: int) -> None:
    """Let the CPU kernels use ``n`` threads, from 1 to as many as ``NUMBA_NUM_THREADS`` says (all cores).

    Raises:
        ValueError: if ``n`` is not in that range.
    """
    from nbconv_kernels.cpu import jit

    jit.set_num_threads(n)


def get_num_threads() -> int:
    """The number of threads the CPU kernels use. Results are the same bits each time for one such number."""
    from nbconv_kernels.cpu import jit

    return jit.get_num_threads()
