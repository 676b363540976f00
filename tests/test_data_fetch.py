"""Fetching the files of published data sets."""

import functools
import hashlib
import http.server
import sys
import threading
import types

import pytest
from data_files import write_mnist

from nbconv.data import cifar10, cifar100, fashion_mnist, mnist, stored
from nbconv.errors import DataError


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
