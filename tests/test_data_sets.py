"""IDX files, MNIST and Fashion-MNIST."""

import gzip
import struct

import numpy as np
import pytest
from data_files import (
    idx,
    write_mnist,
)

from nbconv.data import fashion_mnist, mnist, read_idx
from nbconv.errors import DataError


@pytest.mark.parametrize(
    ("code", "dtype"), [(8, "u1"), (9, "i1"), (11, ">i2"), (12, ">i4"), (13, ">f4"), (14, ">f8")]
)
@pytest.mark.parametrize("shape", [(5,), (2, 3), (2, 0, 4), (2, 3, 2, 2)])
def test_idx_files_of_every_type(tmp_path, code, dtype, shape):
    array = np.random.default_rng(code).integers(-100 if code != 8 else 0, 100, shape).astype(dtype)
    head = bytes([0, 0, code, len(shape)]) + struct.pack(f">{len(shape)}I", *shape)
    (tmp_path / "plain").write_bytes(head + array.tobytes())
    (tmp_path / "zipped").write_bytes(gzip.compress(head + array.tobytes()))
    for name in ("plain", "zipped"):
        read = read_idx(tmp_path / name)
        np.testing.assert_array_equal(read, array)
        assert read.dtype == array.dtype.newbyteorder("=")
        assert read.dtype.isnative


WHOLE = idx(np.arange(60).reshape(3, 4, 5))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not an IDX file"),
        (b"\0\0\x08", "not an IDX file"),
        (b"GIF89a", "not an IDX file"),
        (b"\0\0\x07\x01\0\0\0\0", "not an IDX file"),
        (WHOLE[:10], "cut short in the header"),
        (WHOLE[:-1], r"60 bytes are due to an array of shape \(3, 4, 5\), but there are only 59"),
        (WHOLE + b"x", "but there are more"),
        (b"\0\0\x08\x03" + b"\xff" * 12 + b"few", "but there are only 3"),
        (gzip.compress(WHOLE)[:-9], "a damaged gzip file"),
        (gzip.compress(WHOLE)[:-8] + b"\0" * 8, "a damaged gzip file"),
        (b"\x1f\x8b" + b"\0" * 30, "a damaged gzip file"),
        (b"\0\0\x08\xc8" + b"\0\0\0\1" * 200 + b"x", "dimension"),
        (b"\0\0\x08\x04" + b"\0" * 4 + b"\xff" * 12, "array is too big"),
    ],
)
def test_damaged_idx_files(tmp_path, content, message):
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        read_idx(tmp_path / "file")
    assert str(tmp_path / "file") in str(caught.value)


def test_a_zipped_file_unpacks_to_no_more_than_the_limit(tmp_path):
    (tmp_path / "file").write_bytes(gzip.compress(WHOLE))
    np.testing.assert_array_equal(read_idx(tmp_path / "file", limit=60), np.arange(60).reshape(3, 4, 5))
    with pytest.raises(DataError, match=r"an array of shape \(3, 4, 5\) has 60 bytes, the limit is 59"):
        read_idx(tmp_path / "file", limit=59)


def test_mnist_has_no_more_images_than_were_published(tmp_path):
    write_mnist(tmp_path)
    images = b"\0\0\x08\x03" + struct.pack(">3I", 60_001, 28, 28)
    (tmp_path / "train-images-idx3-ubyte.gz").write_bytes(gzip.compress(images))
    with pytest.raises(DataError, match="47,040,784 bytes, the limit is 47,040,000"):
        mnist(tmp_path, download=False)


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize(
    ("load", "folder"),
    [
        (mnist, "."),
        (mnist, "mnist"),
        (mnist, "MNIST/raw"),
        (fashion_mnist, "."),
        (fashion_mnist, "fashion-mnist"),
        (fashion_mnist, "FashionMNIST/raw"),
    ],
)
def test_mnist_is_what_its_files_hold(tmp_path, load, folder, zipped):
    written = write_mnist(tmp_path / folder, zipped=zipped)
    split = load(tmp_path, download=False)
    for (images, labels), (x, y) in zip(written, split, strict=True):
        np.testing.assert_array_equal(x, images[:, None].astype(np.float32) / np.float32(255), strict=True)
        np.testing.assert_array_equal(y, labels.astype(np.int64), strict=True)


def test_mnist_in_the_size_of_lenet5(tmp_path):
    ((images, _), _) = write_mnist(tmp_path)
    x = mnist(tmp_path, padding=2).train.x
    assert x.shape == (20, 1, 32, 32)
    np.testing.assert_array_equal(x[:, 0, 2:30, 2:30], images / np.float32(255))
    assert x.sum() == pytest.approx((images / 255).sum(), rel=1e-5)


def test_both_data_sets_have_files_of_the_same_names_but_are_not_mixed_up(tmp_path):
    write_mnist(tmp_path, zipped=False)
    labels = np.resize([5, 0, 4, 1, 9, 2, 1, 3, 1, 4], 20)  # as those of MNIST begin
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(idx(labels))
    assert len(mnist(tmp_path).train.x) == 20
    with pytest.raises(DataError, match="train-labels-idx1-ubyte is MNIST's"):
        fashion_mnist(tmp_path)
    labels = np.resize([9, 0, 0, 3, 0, 2, 7, 2, 5, 5], 20)  # as those of Fashion-MNIST begin
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(idx(labels))
    assert len(fashion_mnist(tmp_path).train.x) == 20
    with pytest.raises(DataError, match="train-labels-idx1-ubyte is Fashion-MNIST's"):
        mnist(tmp_path)


@pytest.mark.parametrize(
    ("name", "array", "message"),
    [
        ("train-images-idx3-ubyte", np.zeros((20, 27, 28)), r"expected uint8 images \(N, 28, 28\)"),
        ("train-images-idx3-ubyte", np.zeros((19, 28, 28)), "expected 19 integer labels"),
        ("t10k-labels-idx1-ubyte", np.full(10, 10), "label 10 is none of the 10 classes"),
        ("t10k-labels-idx1-ubyte", np.zeros((10, 1)), "expected 10 integer labels"),
    ],
)
def test_files_that_do_not_fit_together(tmp_path, name, array, message):
    write_mnist(tmp_path, zipped=False)
    (tmp_path / name).write_bytes(idx(array))
    with pytest.raises(DataError, match=message):
        mnist(tmp_path)


def test_a_folder_of_a_files_name_is_no_file(tmp_path):
    """Some archives unpack to one, with the file inside."""
    write_mnist(tmp_path)
    (tmp_path / "train-images-idx3-ubyte").mkdir()
    assert len(mnist(tmp_path, download=False).train.x) == 20


def test_impossible_arguments(tmp_path):
    write_mnist(tmp_path)
    with pytest.raises(ValueError, match="padding of at least 0"):
        mnist(tmp_path, padding=-1)
    with pytest.raises(ValueError, match="uint8, float32 or float64, not int64"):
        mnist(tmp_path, dtype=np.int64)
