"""Pictures of unusual kinds, damaged ones, and those that would fill the memory."""

import contextlib
import io
import struct
import subprocess
import sys
import zlib

import numpy as np
import pytest

from nbconv import DataError
from nbconv.data import read_digit
from nbconv.data.picture import read_picture

Image = pytest.importorskip("PIL.Image")
GREY = np.arange(600).reshape(20, 30)


def png(bits, kind, rows, *chunks):
    """A PNG of rows of packed pixels, written as its description says."""
    channels = {0: 1, 2: 3}[kind]
    head = struct.pack(">IIBBBBB", 8 * len(rows[0]) // (bits * channels), len(rows), bits, kind, 0, 0, 0)
    pixels = zlib.compress(b"".join(b"\0" + row for row in rows))
    body = b""
    for name, content in ((b"IHDR", head), *chunks, (b"IDAT", pixels), (b"IEND", b"")):
        crc = zlib.crc32(name + content)
        body += struct.pack(">I", len(content)) + name + content + struct.pack(">I", crc)
    return b"\x89PNG\r\n\x1a\n" + body


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("transparent", [0, 1, 3])
@pytest.mark.parametrize("bits", [2, 4, 8, 16])
def test_a_grey_png_with_a_transparent_grey(tmp_path, bits, transparent, channels):
    values = np.arange(4)
    packed = sum(int(v) << bits * (3 - i) for i, v in enumerate(values)).to_bytes(bits // 2, "big")
    (tmp_path / "grey.png").write_bytes(png(bits, 0, [packed], (b"tRNS", struct.pack(">H", transparent))))
    wanted = np.round(values * 255 / (2**bits - 1))
    wanted[transparent] = 255
    read = read_picture(tmp_path / "grey.png", channels)
    np.testing.assert_array_equal(read, np.broadcast_to(wanted, (channels, 1, 4)))


def test_16_bits_are_scaled_with_and_without_transparency(tmp_path):
    grey = (GREY * 109).astype(np.uint16)
    rows = [row.astype(">u2").tobytes() for row in grey]
    for chunks in ((), ((b"tRNS", struct.pack(">H", 7)),)):
        (tmp_path / "grey.png").write_bytes(png(16, 0, rows, *chunks))
        np.testing.assert_array_equal(read_picture(tmp_path / "grey.png", 1)[0], np.round(grey / 257))


def test_a_transparent_colour_of_16_bits_is_refused(tmp_path):
    """Pillow drops the lower halves, without which nobody knows which pixels have it."""
    rows = [np.arange(6, dtype=">u2").tobytes()]
    (tmp_path / "rgb.png").write_bytes(png(16, 2, rows, (b"tRNS", struct.pack(">HHH", 0, 1, 2))))
    with pytest.raises(DataError, match=r"rgb\.png: one of 2\^48 colours is transparent"):
        read_picture(tmp_path / "rgb.png", 3)


@pytest.mark.parametrize(
    ("pixels", "shares"),
    [
        (np.linspace(0, 1, 600, dtype=np.float32), np.linspace(0, 1, 600)),
        (np.arange(600, dtype=np.int32) * 109, np.arange(600) * 109 / 65535),
        ((np.arange(600) * 109).astype(">u2"), np.arange(600) * 109 / 65535),
    ],
)
def test_numbers_in_a_tiff_are_shares_of_white(tmp_path, pixels, shares):
    mode = {"f4": "F", "i4": "I", "u2": "I;16B"}[pixels.dtype.str[1:]]
    Image.frombytes(mode, (30, 20), pixels.tobytes()).save(tmp_path / "a.tif")
    for channels in (1, 3):
        read = read_picture(tmp_path / "a.tif", channels)
        np.testing.assert_allclose(read[0].ravel(), shares * 255, atol=0.51)


@pytest.mark.parametrize(
    "pixels",
    [
        np.linspace(0, 255, 600, dtype=np.float32),
        np.linspace(-1, 1, 600, dtype=np.float32),
        np.full(600, np.nan, np.float32),
        np.arange(600, dtype=np.int32) - 1,
        np.arange(600, dtype=np.int32) << 16,
    ],
)
def test_numbers_that_are_no_shares_of_white_are_refused(tmp_path, pixels):
    Image.fromarray(pixels.reshape(20, 30)).save(tmp_path / "a.tif")
    with pytest.raises(DataError, match=rf"a\.tif: {pixels.dtype} pixels from .* are not of 0 to"):
        read_picture(tmp_path / "a.tif", 1)


def test_lab_is_read_in_grey_as_in_colours(tmp_path):
    grey = np.linspace(0, 255, 600).astype(np.uint8).reshape(20, 30)
    middle = Image.new("L", (30, 20), 0)  # of the two colour axes, in a TIFF, whose bytes are signed
    Image.merge("LAB", [Image.fromarray(grey), middle, middle]).save(tmp_path / "lab.tif")
    red, green, blue = read_picture(tmp_path / "lab.tif", 3).astype(float)
    read = read_picture(tmp_path / "lab.tif", 1)[0]
    np.testing.assert_allclose(read, 0.299 * red + 0.587 * green + 0.114 * blue, atol=1)


@pytest.mark.parametrize("shape", [(40, 97), (97, 40), (33, 33), (3, 500)])
@pytest.mark.parametrize("arguments", [((16, 16),), ((24, 8),), ((16, 16), 20), ((50, 60),)])
def test_the_box_that_is_kept_is_as_if_all_were_resized(tmp_path, shape, arguments):
    pixels = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    (height, width), *shorter = arguments
    factor = shorter[0] / min(shape) if shorter else max(width / shape[1], height / shape[0])
    whole = max(width, round(shape[1] * factor)), max(height, round(shape[0] * factor))
    resized = np.asarray(Image.fromarray(pixels).resize(whole, Image.Resampling.BILINEAR)).astype(int)
    top, left = (whole[1] - height) // 2, (whole[0] - width) // 2
    read = read_picture(tmp_path / "a.png", 1, *arguments)[0]
    np.testing.assert_allclose(read, resized[top : top + height, left : left + width], atol=1)


def test_a_strip_takes_no_memory(tmp_path):
    """Brought to a shorter side of 224 it would have a thousand million pixels, as a square 400 million."""
    Image.new("L", (20_000, 1), 255).save(tmp_path / "strip.png")
    code = (
        "import resource; from nbconv.data import read_digit; from nbconv.data.picture import read_picture\n"
        "resource.setrlimit(resource.RLIMIT_AS, (4 << 30, -1))\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        f"read_picture({str(tmp_path / 'strip.png')!r}, 3, (224, 224))\n"
        f"read_digit({str(tmp_path / 'strip.png')!r}, 32)\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 100 << 10  # KiB


@pytest.mark.parametrize("size", [(20_001, 1), (8_200, 8_200)])
def test_too_many_pixels(tmp_path, size):
    Image.new("1", size).save(tmp_path / "big.png")
    with pytest.raises(DataError, match=f"{size[0]} x {size[1]} pixels are too many"):
        read_picture(tmp_path / "big.png", 3, (8, 8))


def test_no_other_program_runs_on_a_picture(tmp_path):
    """Pillow gives PostScript, whatever the name, to Ghostscript."""
    file = io.BytesIO()
    Image.new("L", (4, 4)).save(file, "EPS")
    (tmp_path / "a.png").write_bytes(file.getvalue())
    with pytest.raises(DataError, match="not an image that Pillow can read"):
        read_picture(tmp_path / "a.png", 1)


@pytest.mark.parametrize("kind", ["PNG", "GIF", "TIFF", "BMP", "JPEG", "PPM", "TGA", "ICO"])
@pytest.mark.filterwarnings("ignore")
def test_damaged_pictures_are_read_or_errors_of_ours(tmp_path, kind):
    whole = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)
    Image.fromarray(pixels).convert("P" if kind == "GIF" else "RGB").save(whole, kind)
    rng, path = np.random.default_rng(1), tmp_path / "a.png"
    for _ in range(150):
        changed = bytearray(whole.getvalue())
        places = rng.integers(0, min(len(changed), 300), rng.integers(1, 4))
        for place in places:
            changed[place] = rng.choice([0, 1, 127, 128, 255, rng.integers(256)])
        path.write_bytes(changed[: None if rng.random() < 0.7 else rng.integers(len(changed))])
        for read in (lambda: read_picture(path, 3, (8, 8)), lambda: read_digit(path, 8)):
            with contextlib.suppress(DataError):
                read()
