"""Files that appear whole or not at all, what killed processes leave, and what is no file."""

import errno
import fcntl
import os
import signal
import stat
import subprocess
import sys
import threading

import numpy as np
import pytest
from safetensors.numpy import load as safetensors_load

import nbconv as nb
from nbconv.files import _beginning, check_writable, whole_file

KILLED = """
import os, signal, sys
import nbconv as nb
os.replace = lambda *paths, **folders: os.kill(os.getpid(), signal.SIGKILL)
nb.Sequential(nb.Dense(3, 2)).save(sys.argv[1])
"""


def test_what_a_killed_process_left_is_removed_by_the_next_one(tmp_path):
    path = tmp_path / "a+b.safetensors"
    model = nb.Sequential(nb.Dense(3, 2))
    model.save(path)
    before = path.read_bytes()
    for _ in range(2):
        done = subprocess.run([sys.executable, "-c", KILLED, str(path)], check=False)
        assert done.returncode == -signal.SIGKILL
    assert path.read_bytes() == before
    assert len(os.listdir(tmp_path)) == 2  # the second has removed what the first left
    beginning = _beginning(path.name)
    kept = [beginning + "notes.tmp", _beginning("other") + "0123abcd.tmp", beginning + "0123abcd"]
    for name in kept:
        (tmp_path / name).touch()
    model.save(path)
    assert sorted(os.listdir(tmp_path)) == sorted([*kept, path.name])


@pytest.mark.parametrize("kind", ["link", "dangling link", "folder", "pipe", "folder exchanged at the lock"])
def test_removing_leftovers_stays_in_its_folder(tmp_path, monkeypatch, kind):
    shared, precious = tmp_path / "shared", tmp_path / "precious"
    shared.mkdir()
    precious.mkdir()
    (precious / "thesis").write_text("years of work")
    left = shared / (_beginning("m") + "deadbeef.tmp")
    if kind == "link":
        left.symlink_to(precious / "thesis")
    elif kind == "dangling link":
        left.symlink_to(precious / "absent")
    elif kind == "pipe":
        os.mkfifo(left)
    else:
        left.mkdir()
        (left / "inner").touch()
    flock = fcntl.flock

    def exchanged(descriptor, how):
        flock(descriptor, how)
        if left.is_dir() and not left.is_symlink():
            left.rename(shared / "aside")
            left.symlink_to(precious)

    if kind.endswith("lock"):
        monkeypatch.setattr(fcntl, "flock", exchanged)
    with whole_file(shared / "m") as stream:
        stream.write(b"new")
    assert (shared / "m").read_bytes() == b"new"
    assert [file.name for file in precious.iterdir()] == ["thesis"]
    assert left.is_symlink() or left.exists()


def test_what_is_being_written_is_left_alone(tmp_path):
    path = tmp_path / "file"
    with whole_file(path) as slow:
        slow.write(b"slow")
        with whole_file(path) as fast:
            fast.write(b"fast")
        assert path.read_text() == "fast"
    assert path.read_text() == "slow"
    assert os.listdir(tmp_path) == ["file"]


def test_many_writers_of_one_file(tmp_path):
    path, errors = tmp_path / "file", []

    def write(number):
        try:
            for _ in range(20):
                with whole_file(path) as stream:
                    stream.write(b"%d" % number * 1000)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert path.read_text() in {str(number) * 1000 for number in range(4)}
    assert os.listdir(tmp_path) == ["file"]


def test_a_block_that_fails_leaves_nothing_and_changes_nothing(tmp_path):
    path = tmp_path / "file"
    path.write_text("before")
    with pytest.raises(TypeError), whole_file(path) as stream:
        stream.writelines([b"after", 3])
    assert path.read_text() == "before"
    assert os.listdir(tmp_path) == ["file"]


def test_a_disk_without_room_is_an_error_that_names_the_file(tmp_path, full_disk):
    path = tmp_path / "m.safetensors"
    nb.Sequential(nb.Dense(3, 2)).save(path)
    before = path.read_bytes()
    with full_disk(), pytest.raises(OSError, match=rf"\[Errno {errno.EFBIG}\].*m.safetensors'$"):
        nb.Sequential(nb.Dense(400, 20)).save(path)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == [path.name]


def test_errors_name_what_was_asked_for(tmp_path, monkeypatch):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    cases = {
        "nowhere/file": FileNotFoundError,
        "folder": IsADirectoryError,
        "file/file": NotADirectoryError,
        "n" * 256: OSError,
    }
    for name, kind in cases.items():
        for attempt in (lambda path: whole_file(path).__enter__(), check_writable):
            with pytest.raises(kind) as caught:
                attempt(tmp_path / name)
            assert caught.value.filename == str(tmp_path / name)

    def refused(old, new, **_):
        raise OSError(errno.EIO, "Input/output error", old, None, new)

    monkeypatch.setattr(os, "replace", refused)
    with pytest.raises(OSError, match=r"Input/output error: '[^']*/file'$"), whole_file(tmp_path / "file"):
        pass
    assert sorted(os.listdir(tmp_path)) == ["file", "folder"]


def test_an_error_of_another_file_keeps_its_name(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"'font'$"), whole_file(tmp_path / "file"):
        raise FileNotFoundError(errno.ENOENT, "No such file or directory", "font")


def test_rights_of_a_new_file_are_those_of_any(tmp_path):
    before = os.umask(0o027)
    try:
        with whole_file(tmp_path / "file"):
            pass
        assert (tmp_path / "file").stat().st_mode & 0o777 == 0o640
    finally:
        os.umask(before)


@pytest.mark.parametrize("rights", [0o600, 0o640, 0o664, 0o400, 0o755])
def test_rights_of_a_file_that_was_there_stay(tmp_path, rights):
    path = tmp_path / "file"
    path.touch()
    path.chmod(rights)
    with whole_file(path) as stream:
        (temporary,) = set(os.listdir(tmp_path)) - {"file"}
        assert (tmp_path / temporary).stat().st_mode & 0o077 == 0  # nor do others read what is half written
        stream.write(b"new")
    assert path.stat().st_mode & 0o777 == rights
    assert path.read_bytes() == b"new"


def test_a_file_of_another_user_stays_his(tmp_path):
    if os.geteuid() != 0:
        pytest.skip("only root can write to it and give it back")
    path = tmp_path / "file"
    path.touch()
    os.chown(path, 12345, 54321)
    with whole_file(path) as stream:
        stream.write(b"new")
    assert (path.stat().st_uid, path.stat().st_gid) == (12345, 54321)


def test_where_the_group_cannot_be_kept_it_has_no_rights(tmp_path, monkeypatch):
    path = tmp_path / "file"
    path.touch()
    path.chmod(0o664)

    def refused(*_):
        raise PermissionError

    monkeypatch.setattr(os, "fchown", refused)
    with whole_file(path):
        pass
    assert path.stat().st_mode & 0o777 == 0o604


@pytest.mark.parametrize("name", ["n" * 255, "\N{COW}" * 63 + "xyz", "a b\n\\'\"*?.safetensors", "-", ".x"])
def test_any_name_that_a_file_can_have(tmp_path, name):
    model = nb.Sequential(nb.Dense(3, 2), seed=0)
    for _ in range(2):
        model.save(tmp_path / name)
    assert os.listdir(tmp_path) == [name]
    np.testing.assert_array_equal(nb.load(tmp_path / name).layers[0].weight.data, model.layers[0].weight.data)


def test_links_are_followed(tmp_path):
    (tmp_path / "inner").mkdir()
    link = tmp_path / "link"
    link.symlink_to("inner/file")
    for content in (b"first", b"second"):  # the link dangles at first
        with whole_file(link) as stream:
            stream.write(content)
        assert (tmp_path / "inner" / "file").read_bytes() == content
    assert link.is_symlink()
    assert os.listdir(tmp_path / "inner") == ["file"]
    link.unlink()
    link.symlink_to("link")
    with pytest.raises(OSError, match=r"link'$"), whole_file(link):
        pass


def test_a_pipe_is_written_to(tmp_path):
    model, path = nb.Sequential(nb.Dense(3, 2), seed=0), tmp_path / "pipe"
    os.mkfifo(path)
    check_writable(path)
    received = []
    reader = threading.Thread(target=lambda: received.append(path.read_bytes()))
    reader.start()
    model.save(path)
    reader.join()
    assert stat.S_ISFIFO(path.stat().st_mode)
    np.testing.assert_array_equal(
        safetensors_load(received[0])["0.weight"], model.state_dict()["0.weight"], strict=True
    )


def device(folder, name, minor):
    """One of the memory devices: a copy of it for root, who could replace the real one."""
    if os.geteuid() != 0:
        return f"/dev/{name}"
    path = folder / name
    try:
        os.mknod(path, 0o666 | stat.S_IFCHR, os.makedev(1, minor))
        path.open("wb").close()
    except OSError:
        pytest.skip("no devices can be made here")
    return str(path)


def test_devices_are_written_to(tmp_path):
    null, full = device(tmp_path, "null", 3), device(tmp_path, "full", 7)
    link = tmp_path / "curves.png"
    link.symlink_to(null)
    model = nb.Sequential(nb.Dense(3, 2))
    for path in (null, link):
        check_writable(path)
        model.save(path)
    nb.plot.learning_curves(nb.History({"loss": [1.0]}), link)
    with pytest.raises(OSError, match=r"No space left on device: '.*full'$"):
        model.save(full)
    assert all(stat.S_ISCHR(os.stat(path).st_mode) for path in (null, full))
    assert link.is_symlink()


def test_a_picture_that_has_no_room_leaves_the_old_one(tmp_path, full_disk):
    pytest.importorskip("matplotlib")
    path, history = tmp_path / "curves.png", nb.History({"loss": [2.0, 1.0]})
    nb.plot.learning_curves(history, path)
    before = path.read_bytes()
    assert before.startswith(b"\x89PNG")
    with full_disk(), pytest.raises(OSError, match=r"curves.png'$"):
        nb.plot.learning_curves(history, path)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["curves.png"]


def test_what_is_kept_with_a_model_is_read_alone(tmp_path):
    model = nb.Sequential(nb.Dense(3, 2))
    path = tmp_path / "m.safetensors"
    for extra in (None, {"classes": ["cat", "Kuh \N{COW}"]}, [1, None]):
        model.save(path, extra=extra)
        assert nb.serialization.read_extra(path) == extra
        assert nb.load(path).state_dict().keys() == model.state_dict().keys()
    with pytest.raises(TypeError):
        model.save(path, extra={1, 2})
    assert nb.serialization.read_extra(path) == [1, None]
    path.write_bytes(b"nonsense")
    with pytest.raises(nb.CheckpointError, match="damaged"):
        nb.serialization.read_extra(path)
