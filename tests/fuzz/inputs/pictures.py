"""Pictures of many formats and modes, and damage to their chunks, tags and segments."""

from __future__ import annotations

import functools
import io
import struct
import zlib

import numpy as np

from .damage import ANY, EXTREMES, Mutation, Random, one_of

_PNG = b"\x89PNG\r\n\x1a\n"


@functools.cache
def pictures() -> dict[str, list[bytes]]:
    """By suffix, well-formed files; none if there is no Pillow."""
    try:
        from PIL import Image
    except ImportError:
        return {}
    rng = np.random.default_rng(0)
    colours = Image.fromarray(rng.integers(0, 256, (9, 12, 3), np.uint8))
    alpha = Image.fromarray(rng.integers(0, 256, (9, 12, 4), np.uint8))
    deep = Image.fromarray(rng.integers(0, 65536, (9, 12), np.uint16))
    shares = Image.fromarray(rng.random((9, 12), np.float32))
    palette, grey = colours.quantize(7), colours.convert("L")
    exif = Image.Exif()
    exif[0x0112] = 6

    def saved(image, form, **options):
        written = io.BytesIO()
        image.save(written, form, **options)
        return written.getvalue()

    frames = [palette, grey.quantize(3)]
    return {
        "png": [
            *(saved(image, "PNG") for image in (colours, alpha, grey, palette, deep, grey.convert("1"))),
            saved(palette, "PNG", transparency=2),
            saved(grey, "PNG", transparency=40),
            saved(colours, "PNG", transparency=(1, 2, 3), exif=exif, icc_profile=bytes(200), dpi=(72, 72)),
        ],
        "jpg": [
            saved(colours, "JPEG", exif=exif, icc_profile=bytes(200)),
            *(saved(colours.convert(mode), "JPEG", progressive=True) for mode in ("L", "CMYK", "YCbCr")),
        ],
        "tiff": [
            *(
                saved(image, "TIFF")
                for image in (colours, alpha, deep, shares, palette, colours.convert("CMYK"))
            ),
            *(
                saved(colours, "TIFF", compression=c)
                for c in ("tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg")
            ),
            saved(colours.convert("LAB"), "TIFF"),
            saved(grey.convert("1"), "TIFF", compression="group4"),
        ],
        "gif": [
            saved(palette, "GIF"),
            saved(palette, "GIF", save_all=True, append_images=frames, transparency=1),
        ],
        "bmp": [saved(image, "BMP") for image in (colours, grey, palette, alpha, grey.convert("1"))],
        "webp": [saved(colours, "WEBP"), saved(alpha, "WEBP", lossless=True, exif=exif)],
        "ppm": [saved(colours, "PPM"), saved(grey, "PPM"), b"P2 2 2 255 1 2 3 4\n", b"P6 1 1 65535 abcdef"],
    }


# PNG: length, name, content and checksum of each chunk


def _chunks(data: bytes) -> list[tuple[bytes, bytes]]:
    found, place = [], len(_PNG)
    while place + 8 <= len(data):
        size = int.from_bytes(data[place : place + 4])
        found.append((data[place + 4 : place + 8], data[place + 8 : place + 8 + size]))
        place += 12 + size
    return found


def _png(chunks: list[tuple[bytes, bytes]]) -> bytes:
    """A file whose lengths and checksums are right."""
    return _PNG + b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        for name, body in chunks
    )


def png_chunk(data: bytes, rng: Random) -> bytes:
    if not data.startswith(_PNG) or not (chunks := _chunks(data)):
        return data
    at, other = (int(place) for place in rng.integers(len(chunks), size=2))
    name, body = chunks[at]
    match one_of(rng, "body", "body", "drop", "twice", "swap", "new", "pixels"):
        case "body":
            chunks[at] = name, one_of(rng, *ANY)(body, rng)
        case "drop":
            del chunks[at]
        case "twice":
            chunks.insert(at, chunks[other])
        case "swap":
            chunks[at], chunks[other] = chunks[other], chunks[at]
        case "new":
            chunks.insert(at, one_of(rng, *_new_chunks()))
        case "pixels":
            lines = zlib.compress(one_of(rng, b"", bytes(100), rng.bytes(1000), bytes(1 << 20)))
            chunks = [(name, lines if name == b"IDAT" else body) for name, body in chunks]
    return _png(chunks)


@functools.cache
def _new_chunks() -> list[tuple[bytes, bytes]]:
    swollen = zlib.compress(bytes(1 << 26), 9)
    return [
        (b"iCCP", b"x\0\0" + swollen), (b"zTXt", b"x\0\0" + swollen), (b"iTXt", b"x\0\1\0\0\0" + swollen),
        (b"tRNS", b"\0\1"), (b"tRNS", bytes(300)), (b"gAMA", b"\0\0\0\0"), (b"eXIf",
        b"MM\0\x2a\0\0\0\x08\xff\xff"),
        (b"acTL", b"\xff\xff\xff\xff\0\0\0\0"), (b"fcTL", bytes(26)), (b"fdAT", bytes(4)), (b"pHYs", b"\0"),
        (b"PLTE", b"\1\2\3\4"), (b"sRGB", b""), (b"cHRM", b"\0"), (b"tEXt", b""), (b"IEND", b""), (b"IDAT",
        b""),
    ]  # fmt: skip


def png_size(data: bytes, rng: Random) -> bytes:
    """Another width, height, depth or kind of pixels in the header."""
    if not data.startswith(_PNG) or not (chunks := _chunks(data)) or len(chunks[0][1]) != 13:
        return data
    w, h, *rest = struct.unpack(">IIBBBBB", chunks[0][1])
    sides = (0, 1, 13, 9_000, 13_000, 20_000, 70_000, 1 << 31, (1 << 32) - 1)
    match one_of(rng, "size", "size", "kind"):
        case "size":
            w, h = one_of(rng, w, *sides), one_of(rng, h, *sides)
        case "kind":
            rest[int(rng.integers(5))] = int(one_of(rng, 0, 1, 2, 3, 4, 6, 8, 16, 255))
    chunks[0] = chunks[0][0], struct.pack(">IIBBBBB", w, h, *rest)
    return _png(chunks)


# TIFF: tags of twelve bytes; JPEG: segments with a length; others: numbers in a short header


def tiff_tag(data: bytes, rng: Random) -> bytes:
    order = {b"II": "<", b"MM": ">"}.get(data[:2])
    if order is None or len(data) < 8:
        return data
    (start,) = struct.unpack_from(order + "I", data, 4)
    if start + 2 > len(data):
        return data
    (count,) = struct.unpack_from(order + "H", data, start)
    places = [start + 2 + 12 * index for index in range(count) if start + 14 + 12 * index <= len(data)]
    if not places:
        return data
    changed, place = bytearray(data), one_of(rng, *places)
    match one_of(rng, "tag", "type", "count", "value", "value", "value"):
        case "tag":
            struct.pack_into(
                order + "H", changed, place, int(one_of(rng, 256, 258, 259, 262, 273, 277, 320, 339, 34665))
            )
        case "type":
            struct.pack_into(order + "H", changed, place + 2, int(rng.integers(0, 20)))
        case "count":
            struct.pack_into(order + "I", changed, place + 4, one_of(rng, *EXTREMES) & 0xFFFFFFFF)
        case "value":
            value = one_of(rng, *EXTREMES, 3, 4, 5, 6, 7, 8, 12, 16, 32, 13_000, start, 32773) & 0xFFFFFFFF
            struct.pack_into(order + "I", changed, place + 8, value)
    return bytes(changed)


def jpeg_segment(data: bytes, rng: Random) -> bytes:
    places, place = [], 2
    while data[:2] == b"\xff\xd8" and place + 4 <= len(data) and data[place] == 0xFF:
        places.append(place)
        place += 2 + int.from_bytes(data[place + 2 : place + 4])
    if not places:
        return data
    start = one_of(rng, *places)
    end = start + 2 + int.from_bytes(data[start + 2 : start + 4])
    segment = data[start:end]
    match one_of(rng, "body", "body", "length", "drop", "twice", "size"):
        case "body":
            segment = segment[:4] + one_of(rng, *ANY)(segment[4:], rng)
            segment = segment[:2] + (len(segment) - 2 & 0xFFFF).to_bytes(2) + segment[4:]
        case "length":
            segment = segment[:2] + one_of(rng, b"\0\0", b"\0\1", b"\0\2", b"\xff\xff") + segment[4:]
        case "drop":
            segment = b""
        case "twice":
            segment *= 2
        case "size" if 0xC0 <= segment[1] <= 0xC2:
            side = int(one_of(rng, 0, 1, 9_000, 20_000, 65_535)).to_bytes(2)
            segment = segment[:5] + side + one_of(rng, segment[7:9], side) + segment[9:]
    return data[:start] + segment + data[end:]


def header_number(data: bytes, rng: Random) -> bytes:
    """A number of two or four bytes where such headers have sizes and depths."""
    place, size = int(rng.integers(2, 60)), int(one_of(rng, 2, 4))
    number = one_of(rng, *EXTREMES, 13_000, 20_000, 24, 32, 3) % (1 << 8 * size)
    return data[:place] + number.to_bytes(size, "little") + data[place + size :]


OWN: dict[str, tuple[Mutation, ...]] = {
    "png": (png_chunk, png_chunk, png_size),
    "jpg": (jpeg_segment,),
    "tiff": (tiff_tag,),
    "gif": (header_number,),
    "bmp": (header_number,),
    "webp": (header_number,),
    "ppm": (),
}
"""By suffix, the mutations that know the format."""
