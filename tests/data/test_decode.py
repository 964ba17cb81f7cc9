"""One image file: what is done to it is right, and said."""

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from saegan_jax.data import decode as decoding
from saegan_jax.data.decode import UnreadableError, bombs_are_errors, decode, with_channels

PIXELS = np.random.default_rng(0).integers(0, 256, (6, 9, 3), dtype=np.uint8)
TYPES = {1: 0, 2: 4, 3: 2, 4: 6}  # of PNG, by the number of channels


def png16(path: Path, values: np.ndarray) -> None:
    """A PNG of 16 bits, which Pillow writes for grey images alone."""
    height, width, channels = values.shape

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 16, TYPES[channels], 0, 0, 0)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    content = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + content)


@pytest.mark.parametrize("suffix", ["png", "tiff", "bmp", "webp"])
def test_lossless_formats_are_read_to_the_bit(tmp_path, suffix):
    Image.fromarray(PIXELS).save(tmp_path / f"a.{suffix}", **({"lossless": True} if suffix == "webp" else {}))
    found = decode(tmp_path / f"a.{suffix}")
    np.testing.assert_array_equal(found.image, PIXELS, strict=True)
    assert found.changes == ()


def test_orientation_is_applied(tmp_path):
    turned = Image.fromarray(np.ascontiguousarray(np.rot90(PIXELS)))
    exif = Image.Exif()
    exif[0x0112] = 6  # turn clockwise to see it
    turned.save(tmp_path / "a.png", exif=exif)
    found = decode(tmp_path / "a.png")
    np.testing.assert_array_equal(found.image, PIXELS)
    assert found.changes == (decoding.TURNED,)


def test_orientation_0_is_none(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 0
    Image.fromarray(PIXELS).save(tmp_path / "a.png", exif=exif)
    assert decode(tmp_path / "a.png").changes == ()


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_sixteen_bits_are_reduced_and_it_is_said(tmp_path, channels):
    values = np.random.default_rng(1).integers(0, 65536, (6, 9, channels))
    png16(tmp_path / "a.png", values)
    found = decode(tmp_path / "a.png")
    assert decoding.DEPTH in found.changes
    expected = values / 257
    if channels == 2:
        expected = expected[..., [0, 0, 0, 1]]
    assert np.abs(found.image - expected).max() <= 1  # Pillow drops the lower byte of colours


def test_grey_of_sixteen_bits_in_a_tiff(tmp_path):
    values = np.arange(54, dtype=np.uint16).reshape(6, 9) * 1200
    Image.fromarray(values).save(tmp_path / "a.tif")
    np.testing.assert_array_equal(decode(tmp_path / "a.tif").image[..., 0], np.rint(values / 257).astype(np.uint8))


@pytest.mark.parametrize(
    ("mode", "channels", "said"),
    [("1", 1, ()), ("L", 1, ()), ("LA", 1, ()), ("RGBA", 3, ()), ("P", 3, (decoding.COLOUR_SPACE,))],
)
def test_modes_of_opaque_images(tmp_path, mode, channels, said):
    Image.fromarray(PIXELS).convert(mode).save(tmp_path / "a.png")
    found = decode(tmp_path / "a.png")
    assert found.image.shape == (6, 9, channels)
    assert found.changes == said


def test_transparency_stays(tmp_path):
    image = Image.fromarray(PIXELS).convert("RGBA")
    image.putpixel((3, 2), (10, 20, 30, 0))
    image.save(tmp_path / "a.png")
    found = decode(tmp_path / "a.png").image
    assert found.shape == (6, 9, 4)
    assert found[2, 3].tolist() == [10, 20, 30, 0]
    assert with_channels(found, 3)[2, 3].tolist() == [255, 255, 255]


def test_several_frames(tmp_path):
    frames = [Image.fromarray(PIXELS), Image.fromarray(255 - PIXELS)]
    frames[0].save(tmp_path / "a.tif", save_all=True, append_images=frames[1:])
    found = decode(tmp_path / "a.tif")
    np.testing.assert_array_equal(found.image, PIXELS)
    assert found.changes == (decoding.FIRST_FRAME,)


def test_resizing_crops_about_the_centre(tmp_path):
    halves = np.zeros((8, 24, 3), np.uint8)
    halves[:, 12:] = 255
    halves[:, :8] = halves[:, 16:] = 77  # the thirds that are cut off
    Image.fromarray(halves).save(tmp_path / "a.png")
    found = decode(tmp_path / "a.png", size=(8, 8))
    assert found.changes == (decoding.RESIZED,)
    np.testing.assert_array_equal(found.image, halves[:, 8:16])
    assert decode(tmp_path / "a.png", size=(16, 16)).changes == (decoding.RESIZED, decoding.ENLARGED)
    assert decode(tmp_path / "a.png", size=(8, 24)).changes == ()


def damaged(path: Path, kind: str) -> None:
    Image.fromarray(PIXELS).save(path)
    content = bytearray(path.read_bytes())
    if kind == "truncated":
        content = content[: len(content) // 2]
    elif kind == "empty":
        content.clear()
    elif kind == "text":
        content[:] = b"hello"
    elif kind == "absurd":
        content[16:24] = struct.pack(">II", 60000, 60000)
        content[29:33] = struct.pack(">I", zlib.crc32(bytes(content[12:29])))
    elif kind == "float":
        Image.fromarray(PIXELS[..., 0].astype(np.float32)).save(path.with_suffix(".tif"))
        content[:] = path.with_suffix(".tif").read_bytes()
    elif kind == "dark 32 bits":
        Image.fromarray(np.arange(256, dtype=np.int32).reshape(16, 16)).save(path.with_suffix(".tif"))
        content[:] = path.with_suffix(".tif").read_bytes()
    path.write_bytes(content)
    if kind == "vanished":
        path.unlink()


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("truncated", "truncated"),
        ("empty", "no image that Pillow can read"),
        ("text", "no image that Pillow can read"),
        ("absurd", r"claims .*pixels"),
        ("float", "floating-point"),
        ("dark 32 bits", "32 bits go up to 255, so that 8 or 16 bits may be meant"),
        ("vanished", "vanished"),
    ],
)
def test_files_that_cannot_be_used(tmp_path, kind, reason):
    damaged(tmp_path / "a.png", kind)
    with pytest.raises(UnreadableError, match=reason), bombs_are_errors():
        decode(tmp_path / "a.png")


def test_channels():
    grey = PIXELS[..., :1]
    assert with_channels(grey, 3).shape == (6, 9, 3)
    np.testing.assert_array_equal(with_channels(with_channels(grey, 4), 1), grey)
    np.testing.assert_array_equal(
        with_channels(PIXELS, 1)[..., 0], np.rint(PIXELS @ np.array([0.299, 0.587, 0.114])).astype(np.uint8)
    )
    assert with_channels(PIXELS, 3) is PIXELS
