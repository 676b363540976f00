"""Philox4x32-10, the counter-based generator behind dropout and noise.

    key     = (seed low, seed high)                                     32-bit words
    counter = (number low, number high, offset low, offset high)

Each counter gives four words. Limit: twenty 32-bit multiplications and about as many exclusive ors for four
words; 64 counters go through each round together, in vectors.

Source: Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as 1, 2, 3", 2011.
"""

from __future__ import annotations

import numpy as np

from nbconv_kernels.cpu.jit import kernel

BLOCKS = 64
"""Counters that go through the rounds together."""

_WORD = np.uint64(0xFFFFFFFF)
_SHIFT = np.uint64(32)
_MULTIPLIER_0, _MULTIPLIER_1 = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
_KEY_STEP_0, _KEY_STEP_1 = np.uint64(0x9E3779B9), np.uint64(0xBB67AE85)
_ROUNDS = 10


@kernel
def philox(first, offset, seed, state, words):
    """Fill ``words`` from the counters (first, offset), (first + 1, offset), ...

    ``state`` is scratch, uint32 (4, BLOCKS), and ``words`` has 4 * BLOCKS places.
    """
    blocks = words.size // 4
    word0, word1, word2, word3 = state[0], state[1], state[2], state[3]
    for i in range(blocks):
        word0[i], word1[i] = first + i, (first + i) >> 32
        word2[i], word3[i] = offset, offset >> _SHIFT
    key0, key1 = seed & _WORD, seed >> _SHIFT
    for _ in range(_ROUNDS):
        for i in range(blocks):
            product0, product1 = np.uint64(word0[i]) * _MULTIPLIER_0, np.uint64(word2[i]) * _MULTIPLIER_1
            word0[i], word2[i] = (
                (product1 >> _SHIFT) ^ word1[i] ^ key0,
                (product0 >> _SHIFT) ^ word3[i] ^ key1,
            )
            word1[i], word3[i] = product1, product0
        key0, key1 = (key0 + _KEY_STEP_0) & _WORD, (key1 + _KEY_STEP_1) & _WORD
    for i in range(blocks):
        words[4 * i], words[4 * i + 1], words[4 * i + 2], words[4 * i + 3] = (
            word0[i],
            word1[i],
            word2[i],
            word3[i],
        )
