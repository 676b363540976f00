"""Philox4x32-10, the counter-based generator behind dropout and noise.

    key     = (seed low, seed high)                                     32-bit words
    counter = (number low, number high, offset low, offset high)

Each counter gives four words, to one thread. Limit: forty 32-bit multiplications and about as many exclusive
ors for four words.

Source: Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as 1, 2, 3", 2011.
"""

from __future__ import annotations

from typing import Any

from nbconv_kernels.cuda.build import device_function
from nbconv_kernels.cuda.target import uint32, uint64

_MULTIPLIER_0, _MULTIPLIER_1 = 0xD2511F53, 0xCD9E8D57
_KEY_STEP_0, _KEY_STEP_1 = 0x9E3779B9, 0xBB67AE85
_ROUNDS = 10


@device_function
def philox(number, offset, seed) -> Any:
    """Four words from the counter (number, offset), of which the number is below 2^32."""
    word0, word1 = uint32(number), uint32(0)
    word2, word3 = uint32(offset), uint32(offset >> uint64(32))
    key0, key1 = uint32(seed), uint32(seed >> uint64(32))
    for _ in range(_ROUNDS):
        product0 = uint64(uint64(word0) * uint64(_MULTIPLIER_0))
        product1 = uint64(uint64(word2) * uint64(_MULTIPLIER_1))
        word0 = uint32(uint32(uint32(product1 >> uint64(32)) ^ word1) ^ key0)
        word2 = uint32(uint32(uint32(product0 >> uint64(32)) ^ word3) ^ key1)
        word1, word3 = uint32(product1), uint32(product0)
        key0, key1 = uint32(key0 + uint32(_KEY_STEP_0)), uint32(key1 + uint32(_KEY_STEP_1))
    return word0, word1, word2, word3
