import hashlib
from importlib import resources

import numpy as np
import pytest

from nbconv.data import digits, read_digit, resize_bilinear, stratified_split
from nbconv.errors import DataError


def test_digits_have_the_published_shapes_and_counts():
    (x_train, y_train), (x_test, y_test) = digits()
    assert x_train.shape == (1438, 1, 8, 8)
    assert x_test.shape == (359, 1, 8, 8)
    assert x_train.dtype == x_test.dtype == np.float32
    assert y_train.dtype == y_test.dtype == np.int64
    assert x_train.min() == 0
    assert x_train.max() == 1
    counts = np.bincount(y_train) + np.bincount(y_test)
    assert counts.tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    assert np.bincount(y_test).tolist() == [36, 36, 35, 37, 36, 36, 36, 36, 35, 36]


def test_digits_are_the_same_bytes_everywhere():
    split = digits()
    pixels = np.concatenate([split.train.x, split.test.x]) * 16
    both = np.concatenate([pixels.reshape(1797, -1).astype(np.uint8).ravel(), split.train.y, split.test.y])
    digest = hashlib.sha256(both.astype(np.uint8).tobytes()).hexdigest()
    assert digest == "db2f33a54fe252c2195c2e4d50a5553e02b72744a05f719ee2a5f8b477be87c7"


def test_digits_are_those_of_scikit_learn():
    datasets = pytest.importorskip("sklearn.datasets")
    stored = datasets.load_digits()
    split = digits()
    ours = {(*(16 * image).astype(int).ravel(), label) for image, label in zip(*split.train, strict=True)}
    ours |= {(*(16 * image).astype(int).ravel(), label) for image, label in zip(*split.test, strict=True)}
    theirs = {(*row.astype(int), label) for row, label in zip(stored.data, stored.target, strict=True)}
    assert ours == theirs


@pytest.mark.parametrize("size", [28, 32])
def test_digits_resized(size):
    small, large = digits(), digits(size)
    assert large.train.x.shape == (1438, 1, size, size)
    assert large.train.x.dtype == np.float32
    np.testing.assert_array_equal(large.test.y, small.test.y)
    np.testing.assert_array_equal(large.test.x, resize_bilinear(small.test.x, size))


def test_the_notice_travels_with_the_data():
    notice = resources.files("nbconv.data").joinpath("digits.LICENSE.txt").read_text()
    for part in (
        "CC BY 4.0",
        "Alpaydin",
        "Kaynak",
        "UCI Machine Learning Repository",
        "10.24432/C50P49",
        "Changes",
    ):
        assert part in notice


def test_resize_by_hand():
    x = np.array([[[[0.0, 4.0]]]])
    # Centres of the four new pixels lie at -0.25, 0.25, 0.75 and 1.25 of the old ones; the ends are clamped.
    np.testing.assert_array_equal(resize_bilinear(x, (1, 4)), [[[[0, 1, 3, 4]]]])
    np.testing.assert_array_equal(resize_bilinear(x, (3, 2)), np.repeat(x, 3, axis=2))
    assert resize_bilinear(x, (1, 2)) is x


@pytest.mark.parametrize("size", [(5, 9), (16, 3), (1, 1), (8, 8), (7, 20)])
def test_resize_against_pytorch(size):
    torch = pytest.importorskip("torch")
    x = np.random.default_rng(0).normal(size=(2, 3, 8, 8))
    expected = torch.nn.functional.interpolate(
        torch.tensor(x), size=size, mode="bilinear", align_corners=False
    )
    np.testing.assert_allclose(resize_bilinear(x, size), expected.numpy(), atol=1e-12)


@pytest.mark.parametrize(("shape", "size"), [((8,), 4), ((1, 0, 8), 4), ((8, 8), 0), ((8, 8), (4, -1))])
def test_resize_refuses(shape, size):
    with pytest.raises(ValueError, match="resize_bilinear: expected"):
        resize_bilinear(np.zeros(shape), size)


def test_stratified_split_keeps_every_class_share():
    labels = np.repeat([3, 7, -2], [50, 30, 20])
    kept, held_out = stratified_split(labels, 0.1, seed=0)
    assert np.bincount(labels[held_out] + 2).tolist() == [2, 0, 0, 0, 0, 5, 0, 0, 0, 3]
    np.testing.assert_array_equal(np.sort(np.concatenate([kept, held_out])), np.arange(100))
    assert (np.diff(held_out) > 0).all()


def test_stratified_split_takes_the_rounded_number_in_all():
    for fraction in (0.01, 0.15, 0.29, 0.5, 0.9):
        labels = np.random.default_rng(1).integers(0, 7, 101)
        assert len(stratified_split(labels, fraction, seed=0)[1]) == round(fraction * 101)


def test_stratified_split_follows_the_seed():
    labels = np.repeat(np.arange(4), 25)
    first, again, other = (stratified_split(labels, 0.2, seed)[1] for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


@pytest.mark.parametrize(
    ("labels", "fraction"),
    [
        (np.zeros(10, np.int64), 0.0),
        (np.zeros(10, np.int64), 1.0),
        (np.zeros(10, np.int64), float("nan")),
        (np.zeros(10, np.int64), 0.01),
        (np.zeros(0, np.int64), 0.5),
        (np.zeros(10), 0.5),
        (np.zeros((10, 2), np.int64), 0.5),
    ],
)
def test_stratified_split_refuses(labels, fraction):
    with pytest.raises(DataError, match="stratified_split"):
        stratified_split(labels, fraction)


@pytest.fixture
def digit():
    """A held-out digit that fills its 8 x 8 square, and its picture as 8-bit ink."""
    x = digits().test.x[7]
    return x, np.repeat(np.repeat((x[0] * 255).round().astype(np.uint8), 20, axis=0), 20, axis=1)


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "P", "1", "I;16"])
@pytest.mark.parametrize("paper", ["white", "black"])
def test_read_digit_gives_what_was_scanned(tmp_path, digit, mode, paper):
    image = pytest.importorskip("PIL.Image")
    x, ink = digit
    picture = image.fromarray(255 - ink if paper == "white" else ink)
    if mode == "I;16":
        picture = image.fromarray(np.asarray(picture).astype(np.uint16) * 257)
    elif mode != "L":
        picture = picture.convert(mode)
    picture.save(tmp_path / "digit.png")
    read = read_digit(tmp_path / "digit.png", 32)
    assert read.shape == (1, 1, 32, 32)
    assert read.dtype == np.float32
    tolerance = 0.35 if mode == "1" else 0.01
    np.testing.assert_allclose(read[0], resize_bilinear(x, 32), atol=tolerance)


def test_read_digit_pads_and_inverts_as_told(tmp_path):
    image = pytest.importorskip("PIL.Image")
    tall = np.zeros((40, 20), np.uint8)
    tall[:, 5:15] = 255
    image.fromarray(tall).save(tmp_path / "tall.png")
    read = read_digit(tmp_path / "tall.png", 8)[0, 0]
    np.testing.assert_allclose(read[3], [0, 0, 0, 1, 1, 0, 0, 0], atol=1e-6)
    read = read_digit(tmp_path / "tall.png", 8, invert=True)[0, 0]
    np.testing.assert_allclose(read[3], [0, 0, 1, 0, 0, 1, 0, 0], atol=1e-6)


def test_read_digit_cuts_margins_off(tmp_path, digit):
    image = pytest.importorskip("PIL.Image")
    _, ink = digit
    tight = ink[:, ink.max(axis=0) > 80]
    paper = np.pad(tight, ((30, 90), (100, 5)))
    image.fromarray(tight).save(tmp_path / "tight.png")
    image.fromarray(255 - paper // 2).save(tmp_path / "paper.png")  # and in pale ink
    tight, paper = (read_digit(tmp_path / name, 32) for name in ("tight.png", "paper.png"))
    np.testing.assert_allclose(paper, tight, atol=0.01)


def test_read_digit_of_a_blank_page_is_blank(tmp_path):
    image = pytest.importorskip("PIL.Image")
    image.new("L", (30, 20), "white").save(tmp_path / "blank.png")
    assert not read_digit(tmp_path / "blank.png", 32).any()


def test_read_digit_takes_transparent_for_white(tmp_path):
    image = pytest.importorskip("PIL.Image")
    picture = np.zeros((16, 16, 4), np.uint8)
    picture[:, 4:8, 3] = 255
    image.fromarray(picture).save(tmp_path / "clear.png")
    read = read_digit(tmp_path / "clear.png", 8)[0, 0]
    np.testing.assert_allclose(read[0], [0, 0, 1, 1, 0, 0, 0, 0], atol=1e-6)


def test_read_digit_refuses_what_is_no_picture(tmp_path):
    image = pytest.importorskip("PIL.Image")
    (tmp_path / "text.png").write_text("not a picture")
    with pytest.raises(DataError, match="not an image"):
        read_digit(tmp_path / "text.png", 32)
    image.fromarray(np.zeros((64, 64), np.uint8)).save(tmp_path / "whole.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "whole.png").read_bytes()[:60])
    with pytest.raises(DataError, match="damaged"):
        read_digit(tmp_path / "cut.png", 32)
    with pytest.raises(FileNotFoundError):
        read_digit(tmp_path / "absent.png", 32)
