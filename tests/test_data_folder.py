import os

import numpy as np
import pytest

from nbconv.data import DataLoader, ImageFolder
from nbconv.errors import DataError

Image = pytest.importorskip("PIL.Image")


def save(path, pixels, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(pixels, np.uint8)).save(path, **options)


def picture(seed, height=6, width=8, channels=3):
    shape = (height, width, channels) if channels > 1 else (height, width)
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


@pytest.fixture
def folder(tmp_path):
    save(tmp_path / "dog" / "b.png", picture(1))
    save(tmp_path / "dog" / "a.PNG", picture(2))
    save(tmp_path / "cat" / "more" / "c.bmp", picture(3))
    save(tmp_path / "cat" / "z.png", picture(4))
    save(tmp_path / "cat" / ".hidden.png", picture(5))
    save(tmp_path / ".cache" / "x.png", picture(6))
    (tmp_path / "cat" / "notes.txt").write_text("no picture")
    (tmp_path / "list.txt").write_text("no folder")
    return tmp_path


def test_a_folder_for_each_class(folder):
    data = ImageFolder(folder)
    assert data.classes == ["cat", "dog"]
    assert [str(path.relative_to(folder)) for path in data.paths] == [
        "cat/more/c.bmp",
        "cat/z.png",
        "dog/a.PNG",
        "dog/b.png",
    ]
    assert data.targets.tolist() == [0, 0, 1, 1]
    assert data.targets.dtype == np.int64
    assert len(data) == 4
    for index, seed in enumerate([3, 4, 2, 1]):
        x, y = data[index]
        np.testing.assert_array_equal(x, picture(seed).transpose(2, 0, 1), strict=True)
        assert y == data.targets[index]


def test_pictures_are_decoded_when_they_are_asked_for(folder):
    data = ImageFolder(folder)
    save(folder / "cat" / "z.png", picture(9))
    np.testing.assert_array_equal(data[1][0], picture(9).transpose(2, 0, 1))


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_of_pictures(folder, workers):
    ((x, y),) = DataLoader(ImageFolder(folder), 4, num_workers=workers)
    assert x.dtype == np.float32
    np.testing.assert_array_equal(y, [0, 0, 1, 1], strict=True)
    np.testing.assert_array_equal(x[3], (picture(1) / np.float32(255)).transpose(2, 0, 1))
    assert x.transpose(0, 2, 3, 1).flags.c_contiguous


def test_pictures_of_different_sizes_need_one_size(folder):
    save(folder / "cat" / "z.png", picture(0, 9, 9))
    with pytest.raises(DataError, match=r"examples 0 and 1 have the shapes \(3, 6, 8\) and \(3, 9, 9\)"):
        list(DataLoader(ImageFolder(folder), 4))
    ((x, _),) = DataLoader(ImageFolder(folder, size=(5, 4)), 4)
    assert x.shape == (4, 3, 5, 4)


def test_the_middle_is_cut_out(folder):
    save(folder / "cat" / "z.png", picture(0, 9, 12))
    x, _ = ImageFolder(folder, (6, 6), resize=9)[1]
    np.testing.assert_array_equal(x, picture(0, 9, 12)[1:7, 3:9].transpose(2, 0, 1))
    wide, _ = ImageFolder(folder, 9)[1]  # covers 9 x 9 as it is
    np.testing.assert_array_equal(wide, picture(0, 9, 12)[:, 1:10].transpose(2, 0, 1))


@pytest.mark.parametrize(("shape", "size", "resize"), [((64, 96), 16, None), ((96, 64), (16, 8), 32)])
def test_shrinking_keeps_areas(tmp_path, shape, size, resize):
    """A ramp stays a ramp, and its middle in the middle."""
    ramp = np.linspace(0, 254, shape[0])[:, None] + np.zeros(shape[1])
    save(tmp_path / "ramp" / "r.png", ramp.round())
    x, _ = ImageFolder(tmp_path, size, resize=resize, channels=1)[0]
    height, width = (size, size) if isinstance(size, int) else size
    assert x.shape == (1, height, width)
    rows = x[0].mean(axis=1)
    factor = min(shape) / (resize or max(height, width))
    step = 254 / shape[0] * factor
    np.testing.assert_allclose(rows, 127 + step * (np.arange(height) - (height - 1) / 2), atol=2.5)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16"])
def test_every_kind_of_picture_gets_the_channels_asked_for(tmp_path, mode, channels):
    grey = np.full((4, 6), 255, np.uint8)
    grey[:, :3] = 0
    image = Image.fromarray(grey)
    if mode == "I;16":
        image = Image.fromarray(grey.astype(np.uint16) * 257)
    elif mode != "L":
        image = image.convert(mode)
    (tmp_path / "all").mkdir()
    image.save(tmp_path / "all" / f"picture.{'tif' if mode == 'CMYK' else 'png'}")
    x, _ = ImageFolder(tmp_path, channels=channels)[0]
    assert (x.shape, x.dtype) == ((channels, 4, 6), np.uint8)
    np.testing.assert_array_equal(x, np.broadcast_to(grey, x.shape))


def test_pictures_are_turned_upright(tmp_path):
    (tmp_path / "all").mkdir()
    image = Image.fromarray(picture(0))
    exif = image.getexif()
    exif[274] = 6  # the orientation: turn a quarter clockwise
    image.save(tmp_path / "all" / "phone.png", exif=exif)
    x, _ = ImageFolder(tmp_path)[0]
    np.testing.assert_array_equal(x.transpose(1, 2, 0), np.rot90(picture(0), -1))


def test_pipes_are_no_pictures_and_links_to_nothing_are_missed(folder):
    os.mkfifo(folder / "cat" / "pipe.png")
    (folder / "cat" / "to_pipe.png").symlink_to(folder / "cat" / "pipe.png")
    (folder / "cat" / "to_folder.png").symlink_to(folder / "dog")
    (folder / "cat" / "to_nothing.png").symlink_to(folder / "nothing.png")
    (folder / "cat" / "to_file.png").symlink_to(folder / "dog" / "b.png")
    data = ImageFolder(folder)
    names = [path.name for path in data.paths]
    assert names == ["c.bmp", "to_file.png", "to_nothing.png", "z.png", "a.PNG", "b.png"]
    np.testing.assert_array_equal(data[1][0], data[5][0])
    with pytest.raises(FileNotFoundError):
        data[2]


def test_a_damaged_picture_is_named(folder):
    whole = (folder / "dog" / "b.png").read_bytes()
    (folder / "dog" / "b.png").write_bytes(whole[: len(whole) // 2])
    (folder / "dog" / "a.PNG").write_text("text")
    data = ImageFolder(folder)
    with pytest.raises(DataError, match=r"b\.png: a damaged image"):
        data[3]
    with pytest.raises(DataError, match=r"a\.PNG: not an image"):
        list(DataLoader(data, 1, num_workers=2))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: None, "has no folders"),
        (lambda path: (path / "cat").mkdir(), "no pictures in"),
        (lambda path: path.rmdir(), "there is no folder"),
    ],
)
def test_folders_without_pictures(tmp_path, make, message):
    root = tmp_path / "root"
    root.mkdir()
    make(root)
    with pytest.raises(DataError, match=message):
        ImageFolder(root)


@pytest.mark.parametrize(
    "arguments", [{"channels": 2}, {"size": 0}, {"size": 8, "resize": 7}, {"resize": 8}, {"size": (3, 0)}]
)
def test_impossible_arguments(folder, arguments):
    with pytest.raises(ValueError, match="ImageFolder: "):
        ImageFolder(folder, **arguments)
