"""The picture of what transforms do, and the command that draws it."""

import json

import numpy as np
import pytest

import nbconv as nb
from nbconv import augment as aug
from nbconv.augment import picture
from nbconv.cli import main
from nbconv.cli.augment import gallery

Image = pytest.importorskip("PIL.Image")
pytest.importorskip("matplotlib")


def test_the_command_draws_every_transform(tmp_path, capsys):
    path = tmp_path / "augmentation.png"
    assert main(["augment", "--data", "digits", "--output", str(path), "--draws", "5", "--json"]) == 0
    drawn = json.loads(capsys.readouterr().out.splitlines()[-1])["transforms"]
    kinds = {name for name in aug.__all__ if isinstance(getattr(aug, name), type)}
    kinds -= {"Draws", "Geometric", "Transform"}
    assert all(any(f"{name}(" in shown for shown in drawn.values()) for name in kinds)
    with Image.open(path) as image:
        assert image.height > image.width > 600
        assert len(image.getcolors(1 << 20)) > 50


def test_tiles_lie_where_they_belong():
    x = np.random.default_rng(0).uniform(0, 1, (3, 3, 4, 5)).astype(np.float32)
    tiles = np.stack([np.stack([x[0], x[1]]), np.stack([x[2], x[0]])])
    mosaic, step = picture._mosaic(tiles)
    assert step == (6, 7)
    assert mosaic.shape == (12, 14, 3)
    for row in (0, 1):
        for column in (0, 1):
            inside = mosaic[6 * row + 1 : 6 * row + 5, 7 * column + 1 : 7 * column + 6]
            np.testing.assert_array_equal(inside, tiles[row, column].transpose(1, 2, 0))
    ink = picture._mosaic(tiles[:, :, :1])[0]
    np.testing.assert_allclose(ink[1:5, 1:6], 1 - x[0, 0])


def test_what_cannot_be_drawn(tmp_path, capsys):
    x = np.ones((2, 1, 4, 4), np.float32)
    flip = {"flip": aug.RandomHorizontalFlip()}
    for images in (x[:0], x[0], np.ones((1, 2, 4, 4))):
        with pytest.raises(nb.DataError, match="expected images"):
            picture.draw(flip, images, tmp_path / "a.png")
    with pytest.raises(ValueError, match="nothing to draw"):
        picture.draw({}, x, tmp_path / "a.png")
    assert main(["augment", "--output", str(tmp_path / "a.text")]) == 1
    assert main(["augment", "--output", str(tmp_path / "none" / "a.png")]) == 1
    errors = capsys.readouterr().err.splitlines()
    assert "suffix" in errors[0]
    assert "No such file" in errors[1]
    assert not list(tmp_path.iterdir())


def test_the_gallery_keeps_sizes():
    x, y = np.zeros((4, 1, 9, 9), np.float32), np.eye(4)
    for transform in gallery().values():
        assert transform(x, y, 0)[0].shape == x.shape
