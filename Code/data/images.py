"""Image files: from bytes that may be anything to RGB pixels, or to one line that names the file.

Only the formats that frames come in are opened. Pillow knows dozens more; some of them start other programs
(EPS runs Ghostscript), which a file that calls itself `001.jpg` must not be able to do.
"""

from __future__ import annotations

import hashlib
import io
import os
import re
import stat
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, NamedTuple

import numpy as np
from PIL import (  # naming the plugins keeps Pillow from loading all that it has
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    JpegImagePlugin,
    PngImagePlugin,
    UnidentifiedImageError,
    WebPImagePlugin,
)

from Code.data.clips import DataError
from Code.data.lists import printable

_PLUGINS = (JpegImagePlugin, PngImagePlugin, BmpImagePlugin, WebPImagePlugin, GifImagePlugin)
FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "GIF")
MAX_PIXELS = 89_478_485  # Pillow warns from here on: a quarter of a GiB of RGB
MAX_BYTES = 1 << 28  # 16-bit colours of that many pixels, packed by half

_ORIENTATION = 0x0112  # EXIF tag
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")  # JPEG: what these bytes follow is data, restart or padding
_SMALLEST = 16  # a JPEG that is decoded at an eighth of its size is unpacked whole, in half the time

# What Pillow has to say of damaged metadata would tear progress bars apart, and changes no pixel.
warnings.filterwarnings("ignore", module=r"PIL\.")


class ImageError(DataError):
    """A file that cannot be read as an image.

    Attributes:
        kind: "missing", "unreadable", "empty file", "not an image", "truncated", "damaged" or "too large".
    """

    def __init__(self, kind: str, line: str) -> None:
        super().__init__(line)
        self.kind = kind

    def __reduce__(self) -> tuple[type[ImageError], tuple[str, str]]:
        return ImageError, (self.kind, self.problems[0])


class ImageFacts(NamedTuple):
    """What an image file says of itself.

    Attributes:
        width, height: pixels, upright.
        mode: Pillow's name of the stored pixel format: "RGB", "L" (grey), "CMYK", "I;16", ...
        transparent: it has an alpha channel or a transparent colour; reading drops it.
        animated: it holds several frames; the first one is read.
        rotated: its EXIF orientation turns or mirrors it; reading applies that.
        digest: 8 bytes, of the file's contents; empty where they were not read.
    """

    width: int
    height: int
    mode: str
    transparent: bool
    animated: bool
    rotated: bool
    digest: bytes = b""


def read_image(path: str, size: int | None = None) -> np.ndarray:
    """Decodes one image file.

    The first frame of an animation is taken, EXIF orientation is applied, 16-bit values keep their upper
    byte, and an alpha channel is dropped.

    Args:
        path: a file in one of `FORMATS`, whatever its name ends in.
        size: side in pixels to resize to (bilinear, antialiased), or None to leave the size alone.

    Returns:
        uint8 [H, W, 3], RGB.

    Raises:
        ImageError: one line naming the file, if it cannot be decoded.
    """
    with open_image(path) as image:
        image.draft("RGB", (size, size) if size else None)
        if image.mode.startswith("I"):  # 16-bit grey: Pillow's own conversion cuts off at 255
            rgb = Image.fromarray((np.asarray(image) >> 8).clip(0, 255).astype(np.uint8)).convert("RGB")
        else:
            rgb = image.convert("RGB")
        orientation = _orientation(image)
        if orientation in _UPRIGHT:
            rgb = rgb.transpose(_UPRIGHT[orientation])
        if size and rgb.size != (size, size):
            rgb = rgb.resize((size, size), Image.Resampling.BILINEAR)
        return np.asarray(rgb)


@contextmanager
def open_image(path: str) -> Iterator[Image.Image]:
    """Opens an image file, not decoded yet; whatever fails inside the block becomes an `ImageError`."""
    with _naming(path):
        contents = _contents(path)
        with _opened(io.BytesIO(contents)) as image:
            _require_end(image, contents)
            yield image


def look_at(path: str) -> ImageFacts:
    """Opens a file's header alone: finds what is no image, but not what breaks off in its middle.

    Raises:
        ImageError: one line naming the file.
    """
    with _naming(path):
        _size(path)
        with open(path, "rb") as file, _opened(file) as image:
            return _facts(image, image.size)


def examine(path: str) -> ImageFacts:
    """Decodes a file, to see that all of it can be, and takes the digest of its bytes.

    Raises:
        ImageError: one line naming the file.
    """
    with _naming(path):
        contents = _contents(path)
        with _opened(io.BytesIO(contents)) as image:
            _require_end(image, contents)
            stored = image.size
            image.draft(None, (_SMALLEST, _SMALLEST))
            image.load()
            return _facts(image, stored, hashlib.blake2b(contents, digest_size=8).digest())


def _facts(image: Image.Image, size: tuple[int, int], digest: bytes = b"") -> ImageFacts:
    orientation = _orientation(image)
    width, height = size[::-1] if orientation >= 5 else size
    return ImageFacts(
        width=width,
        height=height,
        mode=image.mode,
        transparent=image.mode in ("LA", "PA", "RGBA", "La", "RGBa") or "transparency" in image.info,
        animated=_is_animated(image),
        rotated=orientation in _UPRIGHT,
        digest=digest,
    )


def _orientation(image: Image.Image) -> int:
    """EXIF orientation, 1 to 8; 1, upright, where there is none or it cannot be read."""
    try:
        # Not PngImageFile's own method, which decodes the pixels in search of a chunk behind them.
        value = Image.Image.getexif(image).get(_ORIENTATION)
    except Exception:  # damaged metadata can provoke anything, and is no reason to refuse good pixels
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _is_animated(image: Image.Image) -> bool:
    if image.format == "MPO":  # a photograph with previews, not a film
        return False
    try:
        return bool(getattr(image, "is_animated", False))
    except Exception:  # the second frame is damaged; it is not wanted anyway
        return True


@contextmanager
def _opened(file: IO[bytes]) -> Iterator[Image.Image]:
    with Image.open(file, formats=FORMATS) as image:
        if image.width * image.height > MAX_PIXELS:
            raise Image.DecompressionBombError(f"{image.width} x {image.height} pixels")
        yield image


def _require_end(image: Image.Image, contents: bytes) -> None:
    """Refuses a JPEG that lacks its end marker.

    Its decoder takes zeros, which a power cut may leave of the second half of a file, for a grey area. All
    other ends that are missing it tells itself.
    """
    if image.format not in ("JPEG", "MPO"):
        return
    position = 2
    while marker := _MARKER.search(contents, position):
        position = marker.end()
        code = contents[position - 1]
        if code == 0xD9:
            return
        if code != 0x01:  # all others say how long they are
            position += int.from_bytes(contents[position : position + 2])
    raise _Refused("truncated", "cannot be decoded (the file breaks off before its end); write it again")


def _size(path: str) -> int:
    """Bytes of a regular file. A pipe would be waited for, /dev/zero never ends."""
    status = os.stat(path)
    if not stat.S_ISREG(status.st_mode):
        raise _Refused("unreadable", "not a regular file; only files can hold frames")
    if status.st_size == 0:
        raise _Refused("empty file", "the file is empty (0 bytes); delete it or write it again")
    if status.st_size > MAX_BYTES:
        raise _Refused("too large", f"a file of {status.st_size >> 20} MiB is no frame; delete it")
    return status.st_size


def _contents(path: str) -> bytes:
    size = _size(path)
    with open(path, "rb") as file:
        return file.read(size)


class _Refused(Exception):
    """(kind, what is wrong) of a file that is not even opened."""


@contextmanager
def _naming(path: str) -> Iterator[None]:
    """Turns whatever is raised inside into an `ImageError` that names the file."""
    try:
        yield
    except ImageError:
        raise
    except Exception as error:  # a damaged file can provoke anything in a decoder
        kind, what = _verdict(error)
        raise ImageError(kind, f"{printable(path)}: {what}") from None


def _verdict(error: Exception) -> tuple[str, str]:
    """What kind of fault it is, and how to say it."""
    if isinstance(error, _Refused):
        return error.args
    if isinstance(error, FileNotFoundError):
        return "missing", "no such file; write it again"
    if isinstance(error, UnidentifiedImageError):
        return "not an image", "not an image (JPEG, PNG, BMP, WebP, GIF); delete the file or write it again"
    if isinstance(error, Image.DecompressionBombError):
        return "too large", f"refused as a decompression bomb: more than {MAX_PIXELS // 10**6} million pixels"
    if isinstance(error, OSError) and error.strerror:
        return "unreadable", f"cannot be read ({error.strerror})"
    if isinstance(error, MemoryError):
        return "too large", "not enough memory to decode it"
    reason = printable(str(error) or type(error).__name__)
    kind = "truncated" if isinstance(error, OSError) and "truncated" in reason else "damaged"
    return kind, f"cannot be decoded ({reason}); write it again"
