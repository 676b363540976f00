"""CIFAR-10 and CIFAR-100, and the pickles in them."""

import contextlib
import gzip
import pickle
import tarfile
import tracemalloc

import numpy as np
import pytest
from data_files import (
    cifar_files,
    cifar_folder,
    cifar_pickle,
    python2_dict,
    python2_integer,
    write_cifar,
)

from nbconv.data import DataLoader, cifar, cifar10, cifar100, stored
from nbconv.data.pickled import read_dict
from nbconv.errors import DataError

BYTES = np.random.default_rng(0).integers(0, 256, (4, 3072), np.uint8)


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


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
def test_pickles_of_python_3_are_read_as_well(tmp_path, protocol):
    write_cifar(tmp_path, packed=False)
    batch = {"data": BYTES, "labels": [1, 2, 3, 4]}
    path = tmp_path / "cifar-10-batches-py" / "test_batch"
    path.write_bytes(pickle.dumps(batch, protocol=protocol))
    x, y = cifar10(tmp_path, dtype=np.uint8).test
    np.testing.assert_array_equal(x.reshape(4, -1), BYTES)
    assert y.tolist() == [1, 2, 3, 4]


@pytest.mark.parametrize("protocol", [2, 5])
def test_arrays_in_pickles(protocol):
    stored = {"fortran": np.asfortranarray(BYTES), b"labels": np.array([3, -1]), "other": (1.5, None, "x")}
    read = read_dict(pickle.dumps(stored, protocol=protocol), "here")
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


def test_tuples_are_no_keys():
    """To hash one in the other without end overflows the stack; the same one over and over takes years."""
    for program in (b")" + b"\x85" * 500_000, b")" + b"2\x86" * 60, b"K\x01" + b"q\x00h\x00\x86" * 60):
        with pytest.raises(DataError, match="here: a pickle that is damaged"):
            read_dict(b"\x80\x02}(" + program + b"N" + b"u.", "here")


@pytest.mark.parametrize("index", [0x03FFFFFF, 0x7FFFFFFF])
def test_a_number_in_a_pickle_takes_no_memory(index):
    """Python's own reader makes a table as long as the number of a remembered object: here 1 and 32 GiB."""
    assert _peak(lambda: read_dict(b"\x80\x02}r" + index.to_bytes(4, "little") + b".", "here")) < 1e6
    claims = b"\x80\x05}(\x8c\x01a\x96" + (index << 8).to_bytes(8, "little") + b"fewu."
    with pytest.raises(DataError):
        read_dict(claims, "here")


def test_bytes_are_made_of_a_text_once():
    """A hundred times the same text would be a hundred times the file."""
    head = b"\x80\x02c_codecs\nencode\nq\x00X" + (1 << 20).to_bytes(4, "little") + b"a" * (1 << 20) + b"q\x01"
    again = b"h\x00h\x01X\x06\x00\x00\x00latin1\x86R"
    with pytest.raises(DataError, match="more bytes than it has"):
        read_dict(head + again * 100 + b".", "here")


def test_labels_that_hold_themselves_are_not_walked():
    labels = [1, 2]
    for _ in range(40):
        labels = [labels, labels]
    found = read_dict(pickle.dumps({"labels": labels}), "here")["labels"]
    with pytest.raises(DataError, match="expected 2 integer labels, got other things"):
        stored.as_labels(found, 2, 10, "here")


def _peak(call):
    """Bytes that a call takes at most."""
    tracemalloc.start()
    try:
        call()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


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


def _member(size, kind=tarfile.REGTYPE):
    """The header of data_batch_1; a sparse one claims the size, and has 512 bytes."""
    info = tarfile.TarInfo("cifar-10-batches-py/data_batch_1")
    info.size = 512 if kind == tarfile.GNUTYPE_SPARSE else size
    head = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    head[156:157] = kind
    if kind == tarfile.GNUTYPE_SPARSE:
        head[386:410] = b"%011o\0%011o\0" % (0, 512)
        head[483:495] = b"\x80" + size.to_bytes(11, "big")
    head[148:156] = b" " * 8
    head[148:156] = b"%06o\0 " % sum(head)
    return bytes(head) + bytes(512)


@pytest.mark.parametrize(
    "archive",
    [
        _member(1 << 42),
        _member(1 << 42, tarfile.GNUTYPE_SPARSE),
        _member(300_000_000, tarfile.GNUTYPE_SPARSE) * 2,
        _member(0, tarfile.GNUTYPE_LONGNAME)[:512] * 2000,  # names of names of names
    ],
)
def test_archives_that_claim_more_than_they_hold(tmp_path, archive):
    (tmp_path / "cifar-10-python.tar.gz").write_bytes(gzip.compress(archive + bytes(1024)))
    with pytest.raises(DataError, match="a damaged archive"):
        cifar10(tmp_path)


def test_an_archive_unzips_to_no_more_than_the_data_set_has(tmp_path, monkeypatch):
    monkeypatch.setattr(cifar, "_MOST", 1 << 20)
    archive = tarfile.TarInfo("something else")
    archive.size = 4 << 20
    (tmp_path / "cifar-10-python.tar.gz").write_bytes(gzip.compress(archive.tobuf() + bytes(4 << 20)))
    with pytest.raises(DataError, match="unzips to more than 1,048,576 bytes"):
        cifar10(tmp_path)


def test_files_that_are_longer_than_the_data_set(tmp_path):
    write_cifar(tmp_path, packed=False)
    with (tmp_path / "cifar-10-batches-py" / "test_batch").open("r+b") as file:
        file.truncate(1 << 42)
    with pytest.raises(DataError, match="are more than CIFAR has"):
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


def test_python2_integers_are_what_the_reader_reads():
    read = read_dict(python2_dict({b"a": python2_integer(7), b"b": python2_integer(70_000)}), "here")
    assert read == {"a": 7, "b": 70_000}
