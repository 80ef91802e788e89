"""Image files of every kind, valid and damaged: the right pixels, or one line that names the file."""

from __future__ import annotations

import os
import pickle
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from Code.data.clips import DataError
from Code.data.images import MAX_PIXELS, is_animated, open_image, read_image


def read_header(path: str) -> None:
    with open_image(path, whole=False):
        pass


READERS = (read_image, read_header)


def corners() -> Image.Image:
    """8 x 16 pixels with another color in each quarter, so that every rotation and reflection changes it."""
    pixels = np.zeros((16, 8, 3), np.uint8)
    pixels[:8, :4], pixels[:8, 4:], pixels[8:, :4] = (255, 0, 0), (0, 255, 0), (0, 0, 255)
    return Image.fromarray(pixels)


def error_of(read, path: Path) -> DataError:
    with pytest.raises(DataError) as caught:
        read(str(path))
    return caught.value


@pytest.mark.parametrize(
    ("suffix", "orientation"), [*(("jpg", number) for number in range(9)), ("png", 6), ("webp", 6)]
)
def test_exif_orientation_is_applied_to_the_pixels(tmp_path, suffix, orientation):
    exif, path = Image.Exif(), tmp_path / f"frame.{suffix}"
    exif[0x0112] = orientation
    corners().save(path, exif=exif, quality=100)
    with Image.open(path) as image:
        expected = np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    assert np.array_equal(read_image(str(path)), expected)
    assert expected.shape[:2] == ((8, 16) if orientation >= 5 else (16, 8))


@pytest.mark.parametrize("exif", [b"Exif\0\0MM\0*\xff\xff\xff\xff", b"Exif\0\0" + b"\xff" * 40])
def test_damaged_exif_spoils_no_pixels(tmp_path, exif):
    corners().save(tmp_path / "plain.jpg")
    corners().save(tmp_path / "frame.jpg", exif=exif)
    assert np.array_equal(read_image(str(tmp_path / "frame.jpg")), read_image(str(tmp_path / "plain.jpg")))


@pytest.mark.parametrize("suffix", ["gif", "webp"])
def test_of_an_animation_the_first_frame_is_read(tmp_path, suffix):
    frames = [Image.new("RGB", (8, 8), color) for color in ("red", "green", "blue")]
    path = tmp_path / f"frame.{suffix}"
    frames[0].save(path, save_all=True, append_images=frames[1:])
    assert read_image(str(path))[4, 4].argmax() == 0
    assert is_animated(str(path))
    frames[0].save(path)
    assert not is_animated(str(path)) and not is_animated(str(tmp_path / "none.png"))


@pytest.mark.parametrize("mode", ["RGB", "L", "P", "1", "RGBA", "LA", "CMYK"])
def test_every_mode_is_read_as_rgb_without_alpha(tmp_path, mode):
    path = str(tmp_path / ("frame.jpg" if mode == "CMYK" else "frame.png"))
    image = corners().convert(mode)
    image.save(path, quality=100)
    pixels = read_image(path)
    assert pixels.shape == (16, 8, 3) and pixels.dtype == np.uint8
    assert np.abs(pixels.astype(int) - np.asarray(image.convert("RGB"))).max() <= 4
    assert (read_image(path, gray=True)[..., 0] == read_image(path, gray=True)[..., 2]).all()


def test_of_16_bit_values_the_upper_byte_is_read(tmp_path):
    values = np.arange(0, 65536, 256, dtype=np.uint16).reshape(16, 16)
    Image.fromarray(values).save(tmp_path / "frame.png")
    assert np.array_equal(read_image(str(tmp_path / "frame.png"))[..., 0], values >> 8)


def png(width: int, height: int) -> bytes:
    """A black PNG file with this size in its header."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(10**6))) + chunk(b"IEND", b"")


@pytest.mark.parametrize(("width", "height"), [(60_000, 60_000), (MAX_PIXELS + 1, 1)])
def test_decompression_bombs_are_refused_by_name(tmp_path, width, height):
    path = tmp_path / "bomb.png"
    path.write_bytes(png(width, height))
    for read in READERS:
        text = str(error_of(read, path))
        assert text.startswith(f"{path}: not an image that can be read (") and "pixels" in text


def test_what_is_no_file_is_refused_and_never_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "folder.jpg").mkdir()
    (tmp_path / "zero.jpg").symlink_to("/dev/zero")
    (tmp_path / "loop.jpg").symlink_to("loop.jpg")
    for name in ("pipe", "folder", "zero", "loop"):
        for read in READERS:
            assert f"{name}.jpg: not an image that can be read (" in str(error_of(read, tmp_path / f"{name}.jpg"))


@pytest.mark.parametrize(
    ("said", "spoil"),
    [
        ("No such file", lambda path, whole: path.unlink()),
        ("or empty", lambda path, whole: path.write_bytes(b"")),
        ("neither JPEG, PNG", lambda path, whole: path.write_bytes(b"<html>404</html>")),
        ("image file is truncated", lambda path, whole: path.write_bytes(whole[: len(whole) // 2])),
        ("image file is truncated", lambda path, whole: path.write_bytes(whole[:-20])),
    ],
    ids=["missing", "empty", "text", "half", "end"],
)
def test_each_fault_is_one_line_that_names_the_file(tmp_path, said, spoil):
    path = tmp_path / "a name with\nspaces and \u6050.jpg"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(path)
    spoil(path, path.read_bytes())
    error = error_of(read_image, path)
    assert str(error).startswith(str(path).replace("\n", "\\n") + ": not an image that can be read (")
    assert said in str(error) and "\n" not in str(error)
    assert str(pickle.loads(pickle.dumps(error))) == str(error)  # from a worker process


def test_files_that_would_start_another_program_are_no_images(tmp_path):
    path, mark = tmp_path / "frame.jpg", tmp_path / "mark"
    path.write_text(f"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n({mark}) (w) file closefile\nshowpage\n%%EOF\n")
    with Image.open(path) as image:
        assert image.format == "EPS"  # Pillow would start Ghostscript for it
    for read in READERS:
        assert "not an image" in str(error_of(read, path))
    assert not mark.exists()
