"""``nbconv warmup``."""

import json

import pytest

from nbconv.cli import main
from nbconv_kernels.cpu import cache


def test_it_leaves_kernels_in_the_cache(capsys):
    assert main(["warmup", "--model", "lenet5", "--json"]) == 0
    captured = capsys.readouterr()
    result = json.loads(captured.out.splitlines()[-1])
    assert result["models"] == ["lenet5"]
    assert result["kernels_compiled"] >= 0
    assert "kernels compiled and kept" in captured.out
    assert "3 of 3" in captured.err
    if cache.directory() is not None:
        assert any(cache.directory().glob("*.nbc"))
    assert main(["warmup", "--model", "lenet5", "--json"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["kernels_compiled"] == 0


def test_it_says_when_nothing_is_kept(capsys, monkeypatch):
    monkeypatch.setattr("nbconv_kernels.disk_cache.Place.state", lambda place: "nothing is kept: no room")
    assert main(["warmup", "--model", "lenet5"]) == 0
    assert "nothing is kept: no room: other processes will compile them again" in capsys.readouterr().out


def test_unknown_models(capsys):
    with pytest.raises(SystemExit):
        main(["warmup", "--model", "lenet6"])
    assert "lenet6" in capsys.readouterr().err
