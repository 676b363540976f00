"""Where kernels are kept: whose directories are removed, whose files are read, and what is no error."""

import os
import random

import pytest

from nbconv_kernels import disk_cache

DIGESTS = [f"{number:020x}" for number in range(8)]
ROOT = os.geteuid() == 0
needs_root = pytest.mark.skipif(not ROOT, reason="needs root to make files of another user")


@pytest.fixture
def base(tmp_path, monkeypatch):
    """The directory that is set for caches; it is not there yet."""
    path = tmp_path / "base"
    monkeypatch.setenv("NBCONV_CACHE_DIR", str(path))
    return path


def filled(digest, kind=""):
    place = disk_cache.prepared(digest, kind)
    place.write("kernel.nbc", b"machine code")
    assert place.read("kernel.nbc") == b"machine code"
    return place


def age(path, days):
    os.utime(path, (1e9 - 86400 * days,) * 2)


def test_only_directories_of_our_own_are_removed(base):
    base.mkdir()
    others = {"my-important-project", "holiday-photos-2025x", "0123456789abcdef0123", "cuda-" + DIGESTS[7]}
    for days, name in enumerate(others):
        (base / name).mkdir()
        (base / name / "precious.nbc").write_text("years of work")
        age(base / name, 1000 + days)
    (base / ("f" * 20)).symlink_to(base / "my-important-project")
    for days, digest in enumerate(reversed(DIGESTS)):
        filled(digest)
        age(base / digest, days)
    filled("a" * 20, "cuda-")
    assert all((base / name / "precious.nbc").read_text() == "years of work" for name in others)
    assert (base / ("f" * 20)).is_symlink()
    ours = {path.name for path in base.iterdir()} - others - {"f" * 20, "cuda-" + "a" * 20}
    assert len(ours) == 4
    assert DIGESTS[0] in ours


def test_what_we_did_not_put_there_keeps_a_directory(base):
    for days, digest in enumerate(DIGESTS[:4]):
        filled(digest)
        age(base / digest, 10 + days)
    (base / DIGESTS[3] / "notes.txt").write_text("precious")
    (base / DIGESTS[3] / "folder.nbc").mkdir()
    age(base / DIGESTS[3], 99)
    filled(DIGESTS[4])
    assert {path.name for path in (base / DIGESTS[3]).iterdir()} >= {"notes.txt", "folder.nbc"}


@needs_root
def test_directories_of_other_users_are_left_alone(base):
    for days, digest in enumerate(DIGESTS[:6]):
        filled(digest)
        age(base / digest, 99 + days)
        os.chown(base / digest, 65534, 65534)
    filled(DIGESTS[7])
    assert {path.name for path in base.iterdir()} == {*DIGESTS[:6], DIGESTS[7]}


def test_new_directories_are_for_their_owner_alone(base):
    before = os.umask(0)
    try:
        place = filled(DIGESTS[0])
    finally:
        os.umask(before)
    assert base.stat().st_mode & 0o777 == 0o700
    assert place.path.stat().st_mode & 0o777 == 0o700
    assert {file.stat().st_mode & 0o777 for file in place.path.iterdir()} == {0o600}
    assert place.state() == "in use"


@pytest.mark.parametrize("where", ["base", "digest"])
@pytest.mark.parametrize("mode", [0o777, 0o775, 0o707, 0o2775])
def test_a_directory_that_others_may_write_is_not_used_and_that_is_said(base, caplog, where, mode):
    path = filled(DIGESTS[0]).path if where == "digest" else filled(DIGESTS[0]).path.parent
    path.chmod(mode)
    place = disk_cache.prepared(DIGESTS[0])
    disk_cache.prepared(DIGESTS[0], "cuda-" if where == "base" else "")
    reason = f"others may write to {path} (mode {mode:04o})"
    assert (place.path, place.reason) == (None, reason)
    assert place.state() == f"nothing is kept: {reason}"
    assert caplog.messages == [f"nbconv: compiled kernels are not kept on disk: {reason}"]
    assert place.read("kernel.nbc") is None
    place.write("other.nbc", b"")
    assert not list(base.rglob("other.nbc"))


def test_a_common_directory_in_which_nobody_can_move_our_own_is_used(base):
    """As /tmp is."""
    base.mkdir()
    base.chmod(0o1777)
    assert filled(DIGESTS[0]).path == base / DIGESTS[0]


@needs_root
@pytest.mark.parametrize("where", ["base", "digest"])
def test_a_directory_of_another_user_is_not_used(base, caplog, where):
    path = filled(DIGESTS[0]).path if where == "digest" else filled(DIGESTS[0]).path.parent
    os.chown(path, 65534, 65534)
    assert disk_cache.prepared(DIGESTS[0]).reason == f"{path} belongs to another user"
    assert len(caplog.messages) == 1


def test_files_that_another_could_have_written_are_not_read(base):
    place = filled(DIGESTS[0])
    place.path.joinpath("kernel.nbc").chmod(0o622)
    assert place.read("kernel.nbc") is None
    place.write("kernel.nbc", b"new")
    assert place.read("kernel.nbc") == b"new"
    if ROOT:
        os.chown(place.path / "kernel.nbc", 65534, 65534)
        assert place.read("kernel.nbc") is None


def test_links_are_not_followed(base, tmp_path):
    place = filled(DIGESTS[0])
    place.path.joinpath("kernel.nbc").rename(tmp_path / "elsewhere")
    place.path.joinpath("kernel.nbc").symlink_to(tmp_path / "elsewhere")
    assert place.read("kernel.nbc") is None
    place.path.rename(tmp_path / "moved")
    place.path.symlink_to(tmp_path / "moved")
    assert disk_cache.prepared(DIGESTS[0]).path is None
    assert place.read("CACHEDIR.TAG") is None


def test_a_directory_that_becomes_another_ones_while_we_run_is_not_read(base):
    place = filled(DIGESTS[0])
    place.path.chmod(0o777)
    assert place.read("kernel.nbc") is None
    assert place.state().startswith("nothing is kept: others may write to")


def test_any_damage_is_noticed(base):
    place = filled(DIGESTS[0])
    file = place.path / "kernel.nbc"
    whole = file.read_bytes()
    for bit in range(8 * len(whole)):
        damaged = bytearray(whole)
        damaged[bit // 8] ^= 1 << bit % 8
        file.write_bytes(damaged)
        assert place.read("kernel.nbc") is None
    for content in (b"", whole[:20], whole[:-1], whole + b"\0", random.Random(0).randbytes(100)):
        file.write_bytes(content)
        assert place.read("kernel.nbc") is None
    file.write_bytes(whole)
    assert place.read("kernel.nbc") == b"machine code"


def test_no_file_stands_for_another(base):
    place, other = filled(DIGESTS[0]), filled(DIGESTS[1])
    content = place.path.joinpath("kernel.nbc").read_bytes()
    place.path.joinpath("second.nbc").write_bytes(content)
    other.path.joinpath("kernel.nbc").write_bytes(content)
    assert place.read("second.nbc") is None
    assert other.read("kernel.nbc") is None


def test_a_full_disk_is_no_error_and_leaves_nothing(base, full_disk):
    place = filled(DIGESTS[0])
    with full_disk():
        place.write("large.nbc", bytes(5000))
        place.write("kernel.nbc", bytes(5000))
    assert place.read("large.nbc") is None
    assert place.read("kernel.nbc") == b"machine code"
    assert sorted(os.listdir(place.path)) == ["CACHEDIR.TAG", "kernel.nbc"]


def test_a_directory_removed_while_we_run_is_no_error(base):
    place = filled(DIGESTS[0])
    for file in place.path.iterdir():
        file.unlink()
    place.path.rmdir()
    place.write("kernel.nbc", b"")
    assert place.read("kernel.nbc") is None


def in_a_file(path):
    path.write_text("in the way")


def dangling(path):
    path.symlink_to("absent")


def a_file_under(path):
    path.mkdir()
    path.joinpath(DIGESTS[0]).touch()


@pytest.mark.parametrize("made", [in_a_file, dangling, a_file_under])
def test_places_that_are_none(base, caplog, made):
    made(base)
    place = disk_cache.prepared(DIGESTS[0])
    assert place.path is None
    assert str(base) in place.reason or DIGESTS[0] in place.reason
    assert place.state() == f"nothing is kept: {place.reason}"
    assert not caplog.messages


def test_a_link_to_a_directory_is_one(base, tmp_path):
    (tmp_path / "elsewhere").mkdir(0o700)
    base.symlink_to(tmp_path / "elsewhere")
    assert filled(DIGESTS[0]).path == base / DIGESTS[0]


def test_a_relative_place_stays_where_it_was(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NBCONV_CACHE_DIR", "base")
    place = filled(DIGESTS[0])
    monkeypatch.chdir("/")
    assert place.read("kernel.nbc") == b"machine code"
    assert place.path == tmp_path / "base" / DIGESTS[0]


def test_without_a_home_nothing_is_kept(monkeypatch):
    for name in ("NBCONV_CACHE_DIR", "XDG_CACHE_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("pwd.getpwuid", lambda uid: {}[uid])
    assert disk_cache.prepared(DIGESTS[0]).path is None


def test_without_sources_nothing_is_kept(base, monkeypatch):
    monkeypatch.setattr(disk_cache.resources, "files", lambda package: base)  # there is no such folder
    sources = disk_cache.Sources("cpu")
    assert sources.digest([]) is None
    assert not sources.hold("nbconv_kernels.cpu.jit")
    assert disk_cache.prepared(None).reason == "the sources of the kernels cannot be read"
    assert not base.exists()


def test_modules_of_the_digest():
    sources = disk_cache.Sources("cuda", without="emulator")
    for name in ("cuda.pool.maximum", "cuda.pool", "cuda", "disk_cache"):
        assert sources.hold(f"nbconv_kernels.{name}")
    for name in ("nbconv_kernels.cpu.jit", "nbconv_kernels.cuda.emulator.memory", "cuda.pool", "__main__"):
        assert not sources.hold(name)
    assert sources.digest(["1"]) != sources.digest(["2"])


def test_a_module_edited_since_is_none_of_the_digest(tmp_path, monkeypatch):
    (tmp_path / "cpu").mkdir()
    for name in ("jit.py", "cpu/early.py", "cpu/late.py"):
        (tmp_path / name).write_text("before")
    monkeypatch.setattr(disk_cache.resources, "files", lambda package: tmp_path)
    sources = disk_cache.Sources("cpu")
    assert sources.hold("nbconv_kernels.cpu.early")
    for name in ("cpu/early.py", "cpu/late.py"):
        (tmp_path / name).write_text("edited")
    assert sources.hold("nbconv_kernels.cpu.early")  # it was imported before
    assert not sources.hold("nbconv_kernels.cpu.late")
    (tmp_path / "jit.py").unlink()
    assert not sources.hold("nbconv_kernels.jit")
