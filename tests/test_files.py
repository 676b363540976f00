"""Files that appear whole or not at all, and what killed processes leave."""

import os
import signal
import subprocess
import sys
import threading

import pytest

import nbconv as nb
from nbconv.files import whole_file

KILLED = """
import os, signal, sys, numpy as np
import safetensors.numpy
import nbconv as nb
save = safetensors.numpy.save_file
def killed(tensors, path, metadata):
    save(tensors, path, metadata)
    open(path.parent / ".tmpAbCdEf", "w").close()  # as safetensors names a file while it writes
    os.kill(os.getpid(), signal.SIGKILL)
safetensors.numpy.save_file = killed
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
    kept = [".a+b.safetensors.notes.tmp", ".other.safetensors.0123abcd.tmp", ".a+b.safetensors.0123abcd"]
    for name in kept:
        (tmp_path / name).mkdir()
    (tmp_path / ".a+b.safetensors.0123abcd.tmp").write_text("a file, not one of our folders")
    model.save(path)
    expected = [*kept, ".a+b.safetensors.0123abcd.tmp", path.name]
    assert sorted(os.listdir(tmp_path)) == sorted(expected)


def test_what_is_being_written_is_left_alone(tmp_path):
    path = tmp_path / "file"
    with whole_file(path) as slow:
        slow.write_text("slow")
        with whole_file(path) as fast:
            fast.write_text("fast")
        assert path.read_text() == "fast"
    assert path.read_text() == "slow"
    assert os.listdir(tmp_path) == ["file"]


def test_many_writers_of_one_file(tmp_path):
    path, errors = tmp_path / "file", []

    def write(number):
        try:
            for _ in range(20):
                with whole_file(path) as temporary:
                    temporary.write_text(str(number) * 1000)
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
    with pytest.raises(TypeError), whole_file(path) as temporary, temporary.open("w") as file:
        file.writelines(["after", 3])
    assert path.read_text() == "before"
    assert os.listdir(tmp_path) == ["file"]
    with pytest.raises(OSError, match=r"nowhere/file'$"), whole_file(tmp_path / "nowhere" / "file"):
        pass


def test_rights_are_those_of_any_new_file(tmp_path):
    before = os.umask(0o027)
    try:
        with whole_file(tmp_path / "file") as temporary:
            temporary.unlink()
            os.close(os.open(temporary, os.O_CREAT | os.O_WRONLY, 0o600))
        assert (tmp_path / "file").stat().st_mode & 0o777 == 0o640
    finally:
        os.umask(before)


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
