import contextlib
import functools
import gzip
import hashlib
import http.server
import pickle
import struct
import sys
import tarfile
import threading
import types

import numpy as np
import pytest
from data_files import (
    cifar_files,
    cifar_folder,
    cifar_pickle,
    idx,
    python2_dict,
    python2_integer,
    write_cifar,
    write_mnist,
)

from nbconv.data import DataLoader, cifar10, cifar100, fashion_mnist, mnist, read_idx, stored
from nbconv.data.pickled import read_dict
from nbconv.errors import DataError

BYTES = np.random.default_rng(0).integers(0, 256, (4, 3072), np.uint8)


# IDX


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
    ],
)
def test_damaged_idx_files(tmp_path, content, message):
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        read_idx(tmp_path / "file")
    assert str(tmp_path / "file") in str(caught.value)


# MNIST


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


# CIFAR


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("binary", [True, False])
@pytest.mark.parametrize("classes", [10, 100])
def test_cifar_is_what_its_files_hold(tmp_path, classes, binary, packed):
    batches = write_cifar(tmp_path, classes, binary=binary, packed=packed)
    load = cifar10 if classes == 10 else cifar100
    train, test = load(tmp_path, dtype=np.uint8, download=False)
    for part, written in ((train, batches[:-1]), (test, batches[-1:])):
        pixels = np.concatenate([data for data, _, _ in written])
        labels = np.concatenate([fine for _, fine, _ in written])
        np.testing.assert_array_equal(part.x, pixels.reshape(-1, 3, 32, 32), strict=True)
        np.testing.assert_array_equal(part.y, labels.astype(np.int64), strict=True)
        assert part.x.transpose(0, 2, 3, 1).flags.c_contiguous
    if classes == 100:
        coarse = cifar100(tmp_path, coarse=True, download=False).train.y
        np.testing.assert_array_equal(coarse, np.concatenate([coarse for _, _, coarse in batches[:-1]]))


def test_cifar_may_lie_in_the_root_itself(tmp_path):
    write_cifar(tmp_path, packed=False)
    x = cifar10(tmp_path / cifar_folder(10, binary=False), download=False).train.x
    np.testing.assert_array_equal(x, cifar10(tmp_path, download=False).train.x)


def test_a_pixel_stands_where_the_description_says(tmp_path):
    """Red plane first, each in rows."""
    batches = write_cifar(tmp_path)
    x = cifar10(tmp_path, dtype=np.float64).test.x
    data = batches[-1][0]
    assert x[2, 0, 0, 5] == data[2, 5] / 255
    assert x[2, 1, 3, 7] == data[2, 1024 + 3 * 32 + 7] / 255
    assert x[2, 2, 31, 31] == data[2, 3071] / 255


def test_bytes_and_floats_give_the_same_batches(tmp_path):
    write_cifar(tmp_path)
    small, large = (cifar10(tmp_path, dtype=dtype).train for dtype in (np.uint8, np.float32))
    for (x, _), (other, _) in zip(DataLoader(small, 8), DataLoader(large, 8), strict=True):
        np.testing.assert_array_equal(x, other, strict=True)


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4])
def test_pickles_of_python_3_are_read_as_well(tmp_path, protocol):
    write_cifar(tmp_path, packed=False)
    batch = {"data": BYTES, "labels": [1, 2, 3, 4]}
    path = tmp_path / "cifar-10-batches-py" / "test_batch"
    path.write_bytes(pickle.dumps(batch, protocol=protocol))
    x, y = cifar10(tmp_path, dtype=np.uint8).test
    np.testing.assert_array_equal(x.reshape(4, -1), BYTES)
    assert y.tolist() == [1, 2, 3, 4]


def test_arrays_in_pickles():
    stored = {"fortran": np.asfortranarray(BYTES), b"labels": np.array([3, -1]), "other": (1.5, None, "x")}
    read = read_dict(pickle.dumps(stored, protocol=2), "here")
    np.testing.assert_array_equal(read["fortran"], BYTES)
    np.testing.assert_array_equal(read["labels"], [3, -1])
    assert read["other"] == (1.5, None, "x")


class Hostile:
    """Would make a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


@pytest.mark.parametrize("where", ["alone", "in the dictionary", "as labels"])
@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_no_code_of_a_pickle_runs(tmp_path, where, protocol):
    hostile = Hostile(tmp_path / "made")
    content = {
        "alone": hostile,
        "in the dictionary": {"data": BYTES, "labels": [1, 2, 3, 4], "x": hostile},
        "as labels": {"data": BYTES, "labels": hostile},
    }[where]
    write_cifar(tmp_path, packed=False)
    path = tmp_path / "cifar-10-batches-py" / "data_batch_3"
    path.write_bytes(pickle.dumps(content, protocol=protocol))
    with pytest.raises(DataError, match=r"data_batch_3.*it asks for .*open"):
        cifar10(tmp_path)
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize(
    "program",
    [
        b"cos\nsystem\n(U\x04trueR.",
        b"\x80\x02c__builtin__\neval\nU\x011\x85R.",
        b"\x80\x04\x8c\x08builtins\x8c\x04eval\x93.",
        b"\x80\x02cnumpy\nload\n.",
        b"(U\x04truei__main__\nx\n.",
        b"\x80\x02\x82\x01.",  # from the registry of extensions
        b"Pname\n.",  # a persistent object
        python2_dict({b"data": b"cnumpy\ndtype\n(tRK\x01b"}),
        python2_dict({b"data": b"cnumpy.core.multiarray\n_reconstruct\n(tR(K\x01tb"}),
        python2_dict({b"data": b"cnumpy\nndarray\n)R"}),
        b"\x80\x02}(](K\x01eK\x02u.",  # a key that cannot be one
    ],
)
def test_programs_that_pickles_can_be(program):
    with pytest.raises(DataError, match="here: a pickle that is damaged or not wanted here"):
        read_dict(program, "here")


def test_tuples_in_tuples_do_not_overflow_the_stack():
    """Hashing one as a key would: it calls itself without looking."""
    program = b"\x80\x02}(" + b")" + b"\x85" * 500_000 + b"N" + b"u."
    with pytest.raises(DataError, match="more tuples than an array needs"):
        read_dict(program, "here")


def test_lists_in_lists_are_no_labels(tmp_path):
    nested = b"](" * 100_000 + b"K\x01" + b"e" * 100_000
    with pytest.raises(DataError, match="integer labels"):
        stored.as_labels(read_dict(python2_dict({b"labels": nested}), "here")["labels"], 1, 10, "here")


def test_a_pickle_cannot_change_how_later_ones_are_read():
    pollute = b"cnumpy\ndtype\n(N}U\x08__code__NsU\x0c__defaults__(K\x01tstb"
    with pytest.raises(DataError):
        read_dict(python2_dict({b"x": pollute}), "here")
    assert read_dict(cifar_pickle(BYTES, labels=[1, 2, 3, 4]), "here")["data"].shape == (4, 3072)


def test_every_cut_of_a_pickle_is_an_error_of_ours():
    whole = cifar_pickle(BYTES[:1, :40], labels=[3])
    assert read_dict(whole, "here")["labels"] == [3]
    for length in range(len(whole)):
        with pytest.raises(DataError, match="here: "):
            read_dict(whole[:length], "here")


def test_every_flipped_byte_of_a_pickle_is_read_or_an_error_of_ours():
    whole = cifar_pickle(BYTES[:1, :40], labels=[3])
    rng = np.random.default_rng(0)
    for place in range(len(whole)):
        changed = bytearray(whole)
        changed[place] ^= int(rng.integers(1, 256))
        with contextlib.suppress(DataError):
            read_dict(bytes(changed), "here")


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        ({"data": BYTES}, "expected 4 integer labels"),
        ({"data": BYTES, "labels": [1, 2, 3]}, "expected 4 integer labels"),
        ({"data": BYTES, "labels": [1, 2, 3, 10]}, "label 10 is none of the 10 classes"),
        ({"data": BYTES, "labels": [1, 2, 3, -1]}, "label -1 is none"),
        ({"data": BYTES, "labels": [[1], 2, 3, 4]}, "expected 4 integer labels"),
        ({"data": BYTES, "labels": [2**70, 2, 3, 4]}, "expected 4 integer labels"),
        ({"data": BYTES[:, 1:], "labels": [1, 2, 3, 4]}, r"expected data, uint8 \(N, 3072\)"),
        ({"data": b"bytes", "labels": [1, 2, 3, 4]}, "expected data"),
        ({"labels": [1]}, "expected data, uint8 .*in the dictionary of .*labels"),
        ([1, 2], "expected a dictionary, got list"),
    ],
)
def test_pickles_of_something_else(tmp_path, batch, message):
    write_cifar(tmp_path, packed=False)
    (tmp_path / "cifar-10-batches-py" / "test_batch").write_bytes(pickle.dumps(batch, protocol=2))
    with pytest.raises(DataError, match=message) as caught:
        cifar10(tmp_path)
    assert "test_batch" in str(caught.value)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda whole: whole[: len(whole) // 2], "a damaged archive"),
        (lambda whole: whole[:-4], "a damaged archive"),
        (lambda whole: whole[:-8] + bytes(8), "a damaged archive"),
        (lambda whole: b"", "a damaged archive"),
        (lambda whole: b"not an archive", "a damaged archive"),
        (lambda whole: gzip.compress(b"not an archive" * 99), "a damaged archive"),
    ],
)
def test_damaged_archives(tmp_path, damage, message):
    write_cifar(tmp_path)
    archive = tmp_path / "cifar-10-python.tar.gz"
    archive.write_bytes(damage(archive.read_bytes()))
    with pytest.raises(DataError, match=message):
        cifar10(tmp_path)


def test_archives_are_not_unpacked_and_links_in_them_not_followed(tmp_path):
    (tmp_path / "secret").write_bytes(cifar_files()[0]["test_batch"])
    with tarfile.open(tmp_path / "cifar-10-python.tar.gz", "w:gz") as tar:
        for name in [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]:
            link = tarfile.TarInfo(f"cifar-10-batches-py/{name}")
            link.type, link.linkname = tarfile.SYMTYPE, str(tmp_path / "secret")
            tar.addfile(link)
    with pytest.raises(DataError, match="holds no cifar-10-batches-py/data_batch_1"):
        cifar10(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cifar-10-python.tar.gz", "secret"]


def test_binary_files_of_a_wrong_length(tmp_path):
    write_cifar(tmp_path, binary=True, packed=False)
    path = tmp_path / "cifar-10-batches-bin" / "test_batch.bin"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DataError, match="18,437 bytes are no whole number of rows of 3,073"):
        cifar10(tmp_path)


def test_a_folder_in_which_a_file_is_missing(tmp_path):
    write_cifar(tmp_path, packed=False)
    (tmp_path / "cifar-10-batches-py" / "data_batch_4").unlink()
    with pytest.raises(DataError, match="cifar-10-batches-py holds no data_batch_4"):
        cifar10(tmp_path)


# Fetching


@pytest.fixture
def net(monkeypatch):
    """In place of pooch: what is asked for, and a function to set that answers."""
    asked = []
    fake = types.ModuleType("pooch")
    fake.get_logger = lambda: types.SimpleNamespace(setLevel=lambda level: None)
    fake.retrieve = lambda url, known_hash, fname, path: (
        asked.append((url, known_hash)) or fake.answer(path, fname)
    )
    monkeypatch.setitem(sys.modules, "pooch", fake)
    fake.asked = asked
    return fake


def test_absent_files_are_fetched_with_their_checksums(tmp_path, net):
    def answer(path, name):
        if not path.exists():
            write_mnist(path)
        return path / name

    net.answer = answer
    (tmp_path / "elsewhere").mkdir()
    (train, _) = mnist(tmp_path)
    assert len(train.x) == 20
    (url, md5) = net.asked[0]
    assert url.startswith("https://")
    assert url.endswith("/train-images-idx3-ubyte.gz")
    assert md5 == "md5:f68b3c2dcbeaaa9fbdd348bbdeb94873"
    assert (tmp_path / "mnist" / "train-images-idx3-ubyte.gz").exists()
    mnist(tmp_path, download=False)


def test_what_cannot_be_fetched_is_asked_for(tmp_path, net):
    def answer(path, name):
        raise ConnectionError("no route to host\nand a long story")

    net.answer = answer
    for load, name in ((mnist, "train-images"), (cifar10, "cifar-10-python"), (cifar100, "cifar-100-python")):
        with pytest.raises(DataError, match=rf"cannot fetch .*{name}.* \(no route to host\); put .* into"):
            load(tmp_path)


def test_nothing_is_fetched_against_ones_wish(tmp_path, net):
    for load in (mnist, fashion_mnist, cifar10, cifar100):
        with pytest.raises(DataError, match=r"there is no .*\.gz in .*: allow the download, or put"):
            load(tmp_path / "none", download=False)
    assert not net.asked
    assert not (tmp_path / "none").exists()


def test_without_pooch_it_is_said_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pooch", None)
    with pytest.raises(DataError, match=r'needs pooch: pip install "nbconv\[data\]", or put cifar-10-python'):
        cifar10(tmp_path)
    write_mnist(tmp_path)
    mnist(tmp_path)


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *arguments):
        pass


def test_pooch_fetches_a_file_only_with_the_right_checksum(tmp_path):
    pytest.importorskip("pooch")
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "file.bin").write_bytes(b"content")
    handler = functools.partial(QuietHandler, directory=tmp_path / "site")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            url = f"http://127.0.0.1:{server.server_port}/file.bin"
            right = stored.Download(url, hashlib.md5(b"content").hexdigest())
            wrong = stored.Download(url, hashlib.md5(b"other").hexdigest())
            absent = stored.Download(url + "x", right.md5)
            for download in (wrong, absent):
                with pytest.raises(DataError, match="cannot fetch"):
                    stored.fetch(download, tmp_path / "data", wish=True)
            assert not list((tmp_path / "data").glob("*"))
            path = stored.fetch(right, tmp_path / "data", wish=True)
            assert path.read_bytes() == b"content"
        finally:
            server.shutdown()
            thread.join()


def test_python2_integers_are_what_the_reader_reads():
    read = read_dict(python2_dict({b"a": python2_integer(7), b"b": python2_integer(70_000)}), "here")
    assert read == {"a": 7, "b": 70_000}
