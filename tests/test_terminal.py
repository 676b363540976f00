"""What somebody else wrote commands no terminal, and nothing wrong with standard output ends a run."""

import io
import os
import pty
import subprocess
import sys

import numpy as np
import pytest

import nbconv as nb
from nbconv.cli import main
from nbconv.terminal import EnduringStream, visible

TRAIN = ["train", "--epochs", "2", "--batch-size", "16", "--backend", "reference"]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain, größe ☃ 猫", "plain, größe ☃ 猫"),
        ("1\u00a0438", "1\u00a0438"),
        ("\x1b]0;owned\x07cat", "\\x1b]0;owned\\x07cat"),
        ("\x9b31m", "\\x9b31m"),
        ("two\nlines\r\t", "two\\nlines\\r\\t"),
        ("\u202egnp.exe\u2028", "\\u202egnp.exe\\u2028"),
        ("\udcff", "\\udcff"),
        ("[red]x[/red]", "[red]x[/red]"),
    ],
)
def test_what_is_shown(text, shown):
    assert visible(text) == shown
    assert visible(shown) == shown


def fit(stream, monkeypatch):
    x, y = np.random.default_rng(0).random((12, 5), np.float32), np.arange(12) % 3
    model = nb.Sequential(nb.Dense(5, 3), seed=0, backend="reference")
    trainer = nb.Trainer(model, nb.CrossEntropyLoss(), nb.SGD(model.parameters(), lr=0.1))
    with monkeypatch.context() as patched:
        patched.setattr(sys, "stdout", stream)
        return trainer.fit(x, y, epochs=3)


def closed():
    stream = io.StringIO()
    stream.close()
    return stream


class Full(io.StringIO):
    def write(self, text):
        raise OSError(28, "No space left on device")


class Left(io.StringIO):
    def flush(self):
        raise BrokenPipeError(32, "Broken pipe")


@pytest.mark.parametrize("stream", [lambda: None, closed, Full, Left])
def test_no_stream_ends_a_run(monkeypatch, stream):
    assert fit(stream(), monkeypatch).epochs == 3


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_letters_that_an_encoding_lacks_are_escaped(encoding):
    raw = io.BytesIO()
    stream = EnduringStream(io.TextIOWrapper(raw, encoding))
    stream.write("☃ größe\n")
    stream.flush()
    expected = {"utf-8": "☃ größe\n".encode()}
    assert raw.getvalue() == expected.get(encoding, b"\\u2603 gr\\xf6\\xdfe\n")
    assert stream.failure is None


FEW = """
import sys
from nbconv import data
from nbconv.cli import datasets, main
from nbconv.data.digits import Examples, Split
def few(size, root):
    return Split(*(Examples(part.x[:16], part.y[:16]) for part in data.digits(size)))
datasets.DATA_SETS["digits"] = few
sys.exit(main())
"""


def command(tmp_path, shell, **environment):
    """A command in a shell, ``$N`` being nbconv; (status, standard output, standard error)."""
    (tmp_path / "few.py").write_text(FEW)
    words = f"{sys.executable} few.py"
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", shell.replace("$N", words)],
        cwd=tmp_path, capture_output=True, text=True, env={**os.environ, **environment},
    )  # fmt: skip
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize(
    ("shell", "status", "said"),
    [
        ("$N {train} | true", 1, ""),
        ("$N {train} >&-", 0, ""),
        ("$N {train} >&- 2>&-", 0, ""),
        ("$N {train} > /dev/full", 1, "nbconv: standard output: No space left on device\n"),
        ("$N {train} > /dev/full 2> /dev/full", 1, ""),
        ("PYTHONIOENCODING=ascii:strict $N {train} > told", 0, ""),
        ("COLUMNS=0 TERM=dumb $N {train} > told", 0, ""),
    ],
)  # fmt: skip
def test_no_run_of_the_command_is_lost(tmp_path, shell, status, said):
    train = " ".join([*TRAIN, "--output", "m.safetensors"])
    assert command(tmp_path, shell.replace("{train}", train)) == (status, "", said)
    assert (tmp_path / "m.safetensors").stat().st_size > 10_000


SHOW = """
import numpy as np, nbconv as nb
class Names(nb.Callback):
    order = -1
    def on_batch_end(self, state):
        state.logs["[/nope] [link=x]a[/link] \\x1b[2J"] = 1.0
    def on_epoch_trained(self, state):
        self.on_batch_end(state)
nb.ProgressBar._INTERVAL = 0
model = nb.Sequential(nb.Dense(5, 3), seed=0, backend="reference")
trainer = nb.Trainer(model, nb.CrossEntropyLoss(), nb.SGD(model.parameters(), lr=0.1))
x = np.ones((12, 5), np.float32)
trainer.fit(x, np.arange(12) % 3, epochs=2, batch_size=4, callbacks=[Names()])
"""


@pytest.mark.parametrize("environment", [{}, {"COLUMNS": "0"}, {"COLUMNS": "1"}, {"TERM": "dumb"}])
def test_names_are_neither_markup_nor_commands_in_a_terminal(environment):
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", SHOW], stdout=theirs, stderr=subprocess.PIPE, env={**os.environ, **environment}
    )
    os.close(theirs)
    shown = b""
    while True:
        try:
            some = os.read(ours, 1 << 16)
        except OSError:  # the other side is closed
            break
        if not some:
            break
        shown += some
    os.close(ours)
    _, error = process.communicate()
    assert (process.returncode, error) == (0, b"")
    assert b"\x1b[2J" not in shown
    if environment.get("COLUMNS") != "1":
        assert shown.count(b"epoch 2/2") >= 1
        assert b"[/nope] [link=x]a[/link] \\x1b[2J" in shown


EVIL = ["\x1b]0;owned\x07cat", "[red]dog\n"]


def test_names_of_classes_from_a_file_are_shown_as_they_are(tmp_path, capsys):
    image = pytest.importorskip("PIL.Image")
    image.fromarray(np.zeros((9, 9, 3), np.uint8)).save(tmp_path / "p.png")
    model = nb.Sequential(nb.Conv2d(3, 4, 3), nb.GlobalAvgPool2d(), nb.Dense(4, 2), seed=0)
    model.save(tmp_path / "m.safetensors", {"data": "folder", "size": 9, "channels": 3, "classes": EVIL})
    assert (
        main(["predict", str(tmp_path / "p.png"), "--model", str(tmp_path / "m.safetensors"), "--json"]) == 0
    )
    out = capsys.readouterr().out
    assert all(line.isprintable() for line in out.splitlines())
    assert "\\x1b]0;owned\\x07cat" in out
    assert "[red]dog\\n" in out


@pytest.mark.parametrize(
    "extra",
    [
        {"data": "mnist", "data_root": "chosen"},
        {"data": "fashion_mnist"},
        {"data": "cifar10", "data_root": "/"},
        {"data": "pictures"},
        {"data": ".."},
        {"data": "\x1b[2J"},
        {"data": "", "size": 32},
    ],
)
@pytest.mark.parametrize("name", ["evaluate", "report"])
def test_a_models_file_decides_on_no_folder(tmp_path, monkeypatch, capsys, name, extra):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("nbconv.cli.datasets.find", None)  # nothing is even looked for
    (tmp_path / "pictures" / "a").mkdir(parents=True)
    nb.models.lenet5(seed=0).save("m.safetensors", extra)
    before = sorted(tmp_path.rglob("*"))
    assert main([name, "m.safetensors"]) == 1
    error = capsys.readouterr().err
    assert "where data are is not taken from a file: say by --data" in error
    assert error.rstrip("\n").isprintable()
    assert sorted(tmp_path.rglob("*")) == before


def test_the_digits_need_no_option(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    nb.models.lenet5(seed=0).save(
        "m.safetensors", {"data": "digits", "data_root": "/nowhere", "size": 1 << 40}
    )
    assert main(["evaluate", "m.safetensors", "--backend", "reference"]) == 0
    assert "of 359 images" in capsys.readouterr().out
    assert [path.name for path in tmp_path.iterdir()] == ["m.safetensors"]
