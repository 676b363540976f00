"""The reference dropout: known answers of its generator, the statistics and the layout of its mask."""

import numpy as np
import pytest

from nbconv_kernels import reference as ops
from nbconv_kernels.reference.dropout import philox4x32, random_words

ONES = (0xFFFFFFFF,) * 4
# Random123's kat_vectors for philox4x32 with 10 rounds: counter, key, result.
KNOWN = [
    ((0,) * 4, (0,) * 2, (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    (ONES, ONES[:2], (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
]


@pytest.mark.parametrize(("counter", "key", "expected"), KNOWN)
def test_known_answers(counter, key, expected):
    assert tuple(int(word) for word in philox4x32(counter, key)) == expected


def test_words_follow_the_counter():
    seed, offset = 0x299F31D0A4093822, 0x0370734413198A2E
    words = random_words(10, seed, offset)
    assert words.dtype == np.uint32
    for i, word in enumerate(words):
        block = philox4x32((i // 4, 0, 0x13198A2E, 0x03707344), (0xA4093822, 0x299F31D0))
        assert word == block[i % 4]


def test_what_is_kept_is_scaled():
    x = np.arange(1.0, 41).reshape(5, 8)
    y = ops.dropout(x, 0.3, seed=7, offset=2)
    keep = (random_words(40, 7, 2) >> 8) / 2**24 >= 0.3
    np.testing.assert_allclose(y.ravel(), np.where(keep, x.ravel() / 0.7, 0), rtol=1e-15)
    assert 0 < keep.sum() < 40


def test_the_mask_follows_the_channels_last_memory():
    x = np.arange(1, 121, dtype=np.float32).reshape(2, 3, 4, 5)
    y = ops.dropout(x, 0.5, 1, 2)
    channels_last = np.ascontiguousarray(x.transpose(0, 2, 3, 1))
    flat = ops.dropout(channels_last.ravel(), 0.5, 1, 2)
    np.testing.assert_array_equal(y.transpose(0, 2, 3, 1).ravel(), flat)
    channels_last = channels_last.transpose(0, 3, 1, 2)
    np.testing.assert_array_equal(ops.dropout(channels_last, 0.5, 1, 2), y)
    plane = ops.dropout(np.asfortranarray(x[0, 0]), 0.5, 1, 2)
    np.testing.assert_array_equal(plane.ravel(), ops.dropout(x[0, 0].ravel(), 0.5, 1, 2))


def test_seed_and_offset_choose_the_mask():
    x = np.ones(1000)
    masks = [
        ops.dropout(x, 0.5, seed, offset) for seed, offset in [(0, 0), (1, 0), (0, 1), (2**32, 0), (0, 2**32)]
    ]
    for i, mask in enumerate(masks):
        for other in masks[:i]:
            assert 0.4 < np.mean(mask == other) < 0.6
    np.testing.assert_array_equal(masks[0], ops.dropout(x, 0.5, 0, 0))


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_a_share_of_p_is_dropped(p):
    y = ops.dropout(np.ones(100_000, np.float32), p, 3, 0)
    assert abs(np.mean(y == 0) - p) < 5 * np.sqrt(p * (1 - p) / y.size)
    assert abs(y.mean() - 1) < 0.05


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_comparison_with_p_is_exact(dtype):
    x = np.ones(40, dtype)
    drawn = (random_words(40, 3, 0) >> 8) / 2**24
    for i, p in enumerate(drawn):
        assert ops.dropout(x, p, 3, 0)[i] > 0
        # In float32 this is the same number as p.
        assert ops.dropout(x, np.nextafter(p, 1), 3, 0)[i] == 0


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (0, 3, 4, 5), (4, 5), (0, 5), (1,), ()])
def test_extremes_and_layout(dtype, shape):
    x = np.full(shape, 3, dtype)
    kept, dropped, half = (ops.dropout(x, p, 0, 0) for p in (0, 1, 0.5))
    np.testing.assert_array_equal(kept, x)
    assert not np.shares_memory(kept, x)
    np.testing.assert_array_equal(dropped, np.zeros(shape))
    assert half.dtype == dtype
    assert half.shape == shape
    memory = half.transpose(0, 2, 3, 1) if len(shape) == 4 else half
    assert memory.flags.c_contiguous


def test_nan_and_infinity_are_multiplied_as_in_pytorch():
    torch = pytest.importorskip("torch")
    x = np.array([np.nan, np.inf, -np.inf, 1.0], np.float32)
    expected = torch.nn.functional.dropout(torch.tensor(x), 1.0)
    np.testing.assert_array_equal(ops.dropout(x, 1.0, 0, 0), expected)


def test_what_is_wrong():
    x = np.ones(3)
    for p in (-0.1, 1.1, np.nan):
        with pytest.raises(ValueError, match=f"p must be between 0 and 1, got {p}"):
            ops.dropout(x, p, 0, 0)
    with pytest.raises(ValueError, match="seed must be an unsigned 64-bit number, got -1"):
        ops.dropout(x, 0.5, -1, 0)
    with pytest.raises(
        ValueError, match="offset must be an unsigned 64-bit number, got 18446744073709551616"
    ):
        ops.dropout(x, 0.5, 0, 2**64)
    with pytest.raises(TypeError, match="expected float32 or float64, got uint8"):
        ops.dropout(np.ones(3, np.uint8), 0.5, 0, 0)
