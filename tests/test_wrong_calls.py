"""Every backend turns down what does not fit, with the exception that the reference raises."""

import re

import numpy as np
import pytest

from nbconv import backends

BACKENDS = [name for name, state in backends.available().items() if state is True]

IMAGE, ROWS, VECTOR = np.ones((2, 4, 3, 5)), np.ones((3, 4)), np.ones(4)
WEIGHT = np.ones((4, 2, 3, 3))
SINGLE = np.float32
LABELS = np.array([0, 3, 1])
INDICES = np.zeros(IMAGE.shape, np.int32)
WINDOW = np.ones((3, 3))
MAPS = np.ones((2, 2, 3))

# The op, its arguments, and the exception.
CALLS = [
    ("conv_transpose2d", (IMAGE[:, :3], WEIGHT), ValueError),
    ("conv_transpose2d", (IMAGE, WEIGHT, np.ones(3)), ValueError),
    ("conv_transpose2d", (IMAGE, WEIGHT, None, 1, 4), ValueError),
    ("conv_transpose2d", (IMAGE, WEIGHT, None, 2, 0, 2), ValueError),
    ("conv_transpose2d", (IMAGE, WEIGHT, None, 1, 0, 0, 3), ValueError),
    ("conv_transpose2d", (IMAGE, WEIGHT.astype(SINGLE)), TypeError),
    ("conv_transpose2d_backward_input", (IMAGE, WEIGHT, IMAGE.shape), ValueError),
    ("conv_transpose2d_backward_weight", (IMAGE, IMAGE, WEIGHT.shape), ValueError),
    ("pad2d", (IMAGE, 3, "reflect"), ValueError),
    ("pad2d", (IMAGE, 4, "circular"), ValueError),
    ("pad2d", (IMAGE, 1, "zeros"), ValueError),
    ("pad2d", (ROWS, 1), ValueError),
    ("pad2d", (IMAGE.astype(int), 1), TypeError),
    ("pad2d_backward", (IMAGE, IMAGE.shape, 1), ValueError),
    ("upsample2d", (IMAGE, 0), ValueError),
    ("upsample2d", (IMAGE, 4, "cubic"), ValueError),
    ("upsample2d", (IMAGE, 4, "nearest", True), ValueError),
    ("upsample2d", (IMAGE, 4, "nearest", False, -1.0), ValueError),
    ("upsample2d", (ROWS, 4), ValueError),
    ("upsample2d_backward", (IMAGE, (2, 3, 3, 5)), ValueError),
    ("max_unpool2d", (IMAGE, INDICES + 15, IMAGE.shape), ValueError),
    ("max_unpool2d", (IMAGE, INDICES - 1, IMAGE.shape), ValueError),
    ("max_unpool2d", (IMAGE, INDICES[:1], IMAGE.shape), ValueError),
    ("max_unpool2d", (IMAGE, INDICES, (2, 3, 4, 4)), ValueError),
    ("max_unpool2d", (IMAGE, IMAGE, IMAGE.shape), TypeError),
    ("max_unpool2d", (IMAGE, (INDICES - 1).astype(np.uint64), IMAGE.shape), ValueError),
    ("max_unpool2d_backward", (IMAGE, INDICES + 15), ValueError),
    ("max_unpool2d_backward", (IMAGE, INDICES.astype(np.int64) - 2**40), ValueError),
    ("max_unpool2d_backward", (IMAGE, INDICES[:1]), ValueError),
    ("maxout", (IMAGE, 3), ValueError),
    ("maxout", (IMAGE[0], 2), ValueError),
    ("maxout", (IMAGE, 0), ValueError),
    ("maxout_backward", (IMAGE, INDICES + 2, 2), ValueError),
    ("maxout_backward", (IMAGE, INDICES - 1, 2), ValueError),
    ("maxout_backward", (IMAGE, INDICES[:1], 2), ValueError),
    ("maxout_backward", (IMAGE, INDICES.astype(np.int64), 2), TypeError),
    ("concat", ([IMAGE, IMAGE[:1]],), ValueError),
    ("concat", ([IMAGE, ROWS],), ValueError),
    ("concat", ([VECTOR],), ValueError),
    ("concat", ([],), TypeError),
    ("concat", ([ROWS, ROWS.astype(SINGLE)],), TypeError),
    ("concat", ([IMAGE], IMAGE.shape[1] - 1), ValueError),
    ("split", (IMAGE, [2, 3]), ValueError),
    ("split", (IMAGE, [5, -1]), ValueError),
    ("split", (IMAGE, []), ValueError),
    ("take_channels", (IMAGE, 3, 2), ValueError),
    ("take_channels", (IMAGE, -1, 2), ValueError),
    ("accumulate_channels", (IMAGE.copy(), IMAGE[:, :3], 0), ValueError),
    ("accumulate_channels", (IMAGE.copy(), IMAGE[:1], 0), ValueError),
    ("accumulate_channels", (np.broadcast_to(1.0, IMAGE.shape), IMAGE, 0), ValueError),
    ("put_channels", (IMAGE.copy(), IMAGE, 1), ValueError),
    ("put_channels", (IMAGE.copy(), IMAGE[:1], 0), ValueError),
    ("put_channels", (np.broadcast_to(1.0, IMAGE.shape), IMAGE, 0), ValueError),
    ("dropout2d", (ROWS, 0.5, 0, 0), ValueError),
    ("dropout2d", (IMAGE, 1.5, 0, 0), ValueError),
    ("dropout2d", (IMAGE, 0.5, -1, 0), ValueError),
    ("group_norm", (IMAGE, 3), ValueError),
    ("group_norm", (IMAGE, 0), ValueError),
    ("group_norm", (ROWS, 2), ValueError),
    ("group_norm", (IMAGE, 2, VECTOR[:3]), ValueError),
    ("group_norm", (IMAGE, 2, VECTOR, VECTOR.astype(SINGLE)), TypeError),
    ("group_norm_backward", (IMAGE[:1], IMAGE, 2), ValueError),
    ("layer_norm", (IMAGE, (3, 4)), ValueError),
    ("layer_norm", (IMAGE, ()), ValueError),
    ("layer_norm", (IMAGE, (5,), VECTOR), ValueError),
    ("layer_norm", (IMAGE, (2, 2, 4, 3, 5)), ValueError),
    ("layer_norm_backward", (IMAGE[:1], IMAGE, (5,)), ValueError),
    ("local_response_norm", (IMAGE, 0), ValueError),
    ("local_response_norm", (ROWS, 3), ValueError),
    ("local_response_norm_backward", (IMAGE[:1], IMAGE, 3), ValueError),
    ("subtractive_norm", (IMAGE, WINDOW[:2]), ValueError),
    ("subtractive_norm", (IMAGE, -WINDOW), ValueError),
    ("subtractive_norm", (ROWS, WINDOW), ValueError),
    ("subtractive_norm_backward", (ROWS, WINDOW), ValueError),
    ("divisive_norm", (IMAGE, WINDOW, 0.0), ValueError),
    ("divisive_norm_backward", (IMAGE[:1], IMAGE, WINDOW), ValueError),
    ("prelu", (ROWS, np.ones(3)), ValueError),
    ("prelu", (VECTOR, VECTOR), ValueError),
    ("prelu", (ROWS, VECTOR.astype(SINGLE)), TypeError),
    ("prelu_backward", (ROWS[:2], ROWS, VECTOR), ValueError),
    ("gelu", (ROWS, "erf"), ValueError),
    ("gelu_backward", (ROWS[:2], ROWS), ValueError),
    ("log_softmax", (ROWS, 2), ValueError),
    ("log_softmax_backward", (ROWS[:2], ROWS), ValueError),
    ("silu", (ROWS.astype(int),), TypeError),
    ("l1_loss", (ROWS, VECTOR), ValueError),
    ("l1_loss", (ROWS, ROWS, "max"), ValueError),
    ("smooth_l1_loss", (ROWS, ROWS, "mean", -1.0), ValueError),
    ("huber_loss", (ROWS, ROWS, "mean", 0.0), ValueError),
    ("huber_loss", (ROWS, ROWS.astype(SINGLE)), TypeError),
    ("binary_cross_entropy_with_logits", (ROWS, VECTOR), ValueError),
    ("binary_cross_entropy_with_logits", (ROWS, ROWS, np.ones(3)), ValueError),
    ("binary_cross_entropy_with_logits", (ROWS, ROWS, np.ones((2, 3, 4))), ValueError),
    ("hinge_loss", (ROWS, np.zeros((3, 4))), ValueError),
    ("hinge_loss", (ROWS, np.full((3, 4), np.nan)), ValueError),
    ("hinge_loss", (ROWS, VECTOR), ValueError),
    ("multi_margin_loss", (ROWS, LABELS + 1), ValueError),
    ("multi_margin_loss", (ROWS, LABELS - 1), ValueError),
    ("multi_margin_loss", (ROWS, LABELS[:2]), ValueError),
    ("multi_margin_loss", (ROWS, LABELS, 3), ValueError),
    ("multi_margin_loss", (ROWS, LABELS, 1, 1.0, VECTOR[:3]), ValueError),
    ("multi_margin_loss", (ROWS, LABELS.astype(float)), TypeError),
    ("multiclass_hinge_loss", (ROWS[:, :1], LABELS * 0), ValueError),
    ("multiclass_hinge_loss", (ROWS, LABELS + 1), ValueError),
    ("multiclass_hinge_loss", (IMAGE, LABELS), ValueError),
    ("affine_sample", (IMAGE, MAPS[:1]), ValueError),
    ("affine_sample", (IMAGE, MAPS[:, 0]), ValueError),
    ("affine_sample", (IMAGE, MAPS * np.nan), ValueError),
    ("affine_sample", (IMAGE, MAPS.astype(int)), TypeError),
    ("affine_sample", (IMAGE, MAPS, 0), ValueError),
    ("affine_sample", (IMAGE, MAPS, (4, 5, 6)), ValueError),
    ("affine_sample", (IMAGE, MAPS, None, "constant"), ValueError),
    ("affine_sample", (ROWS, MAPS), ValueError),
    ("affine_sample", (IMAGE.astype(int), MAPS), TypeError),
    ("gaussian_noise", (IMAGE, VECTOR, 0, 0), ValueError),
    ("gaussian_noise", (IMAGE, VECTOR[:2] * np.inf, 0, 0), ValueError),
    ("gaussian_noise", (IMAGE, 0.1, 0, 0), TypeError),
    ("gaussian_noise", (IMAGE, VECTOR[:2], -1, 0), ValueError),
    ("gaussian_noise", (IMAGE, VECTOR[:2], 0, 2**64), ValueError),
    ("color_jitter", (IMAGE, *VECTOR[:3]), ValueError),
    ("color_jitter", (IMAGE[:, :3], VECTOR[:2], VECTOR[:2], VECTOR), ValueError),
    ("color_jitter", (IMAGE[:, :3], VECTOR[:2], VECTOR[:2], VECTOR[:2], 1.0, 0.0), ValueError),
    ("color_jitter", (IMAGE[:, :3], VECTOR[:2], VECTOR[:2], None), TypeError),
    ("erase_boxes", (IMAGE, np.array([[0, 0, 1, 1], [0, 0, 4, 1]])), ValueError),
    ("erase_boxes", (IMAGE, np.array([[0, 0, 1, 1], [-1, 0, 1, 1]])), ValueError),
    ("erase_boxes", (IMAGE, np.array([[2, 0, 1, 1], [0, 0, 1, 1]])), ValueError),
    ("erase_boxes", (IMAGE, np.array([[0, 0, 1, 1]])), ValueError),
    ("erase_boxes", (IMAGE, np.zeros((2, 4))), TypeError),
    ("mix_images", (IMAGE, np.array([0, 2]), VECTOR[:2]), ValueError),
    ("mix_images", (IMAGE, np.array([-1, 0]), VECTOR[:2]), ValueError),
    ("mix_images", (IMAGE, np.array([0]), VECTOR[:2]), ValueError),
    ("mix_images", (IMAGE, VECTOR[:2], VECTOR[:2]), TypeError),
    ("mix_images", (IMAGE, np.array([0, 1]), VECTOR), ValueError),
]


def in_the_other_dtype(value):
    """float64 as float32 and the other way round, for a backend that computes in float32 alone."""
    if isinstance(value, list | tuple):
        return type(value)(map(in_the_other_dtype, value))
    if isinstance(value, np.ndarray) and value.dtype.kind == "f":
        other = value.astype(SINGLE if value.dtype == np.float64 else np.float64)
        other.flags.writeable = value.flags.writeable
        return other
    return value


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(("op", "args", "exception"), CALLS)
def test_what_does_not_fit_is_turned_down(backend, op, args, exception):
    ops = backends.get(backend)
    if backend.startswith("cuda"):
        args = in_the_other_dtype(args)
    kept = [np.array(arg) for arg in args if isinstance(arg, np.ndarray)]
    with pytest.raises(exception) as raised:
        getattr(ops, op)(*args)
    assert re.search(r"\w+ .*\w", str(raised.value)), "it says nothing"
    for before, after in zip(kept, (arg for arg in args if isinstance(arg, np.ndarray)), strict=True):
        np.testing.assert_array_equal(before, after)
