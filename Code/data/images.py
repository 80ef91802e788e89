"""Image files: decodes a file to RGB pixels, or raises one line that names the file.

Only the formats of video frames are opened. Pillow knows dozens more, some of which start other programs (EPS runs
Ghostscript); a file named `001.jpg` must not be able to do that.
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
from PIL import (  # importing the plugins by name keeps Pillow from loading all of them
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    JpegImagePlugin,
    PngImagePlugin,
    UnidentifiedImageError,
    WebPImagePlugin,
)

from ..common.wording import printable
from .clips import DataError

_PLUGINS = (JpegImagePlugin, PngImagePlugin, BmpImagePlugin, WebPImagePlugin, GifImagePlugin)
FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "GIF")
MAX_PIXELS = 89_478_485  # Pillow's own limit: 256 MiB of RGB
MAX_BYTES = 1 << 28  # of a file: 16-bit RGB of that many pixels at half its size

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
_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")  # JPEG; 00, d0 to d7 and ff stand for data, restart, padding
_SMALLEST = 16  # pixels; decoding a JPEG at an eighth of its size still reads all of it, in half the time

# Pillow warns about damaged metadata, which changes no pixel. The warnings would break progress bars.
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
    """Properties of an image file.

    Attributes:
        width, height: in pixels, after EXIF orientation.
        mode: Pillow's name of the stored pixel format: "RGB", "L" (grayscale), "CMYK", "I;16", ...
        transparent: it has an alpha channel or a transparent color; `read_image` drops it.
        animated: it contains several frames; `read_image` reads the first.
        rotated: its EXIF orientation rotates or mirrors it; `read_image` applies that.
        digest: 8 bytes, a hash of the file's contents; empty if only the header was read.
    """

    width: int
    height: int
    mode: str
    transparent: bool
    animated: bool
    rotated: bool
    digest: bytes = b""


def read_image(path: str, size: int | None = None, *, gray: bool = False) -> np.ndarray:
    """Decodes one image file.

    Takes the first frame of an animation, applies EXIF orientation, keeps the upper byte of 16-bit values, and drops
    an alpha channel.

    Args:
        path: a file in one of `FORMATS`, whatever its name ends in.
        size: side in pixels to resize to (bilinear, antialiased), or None to keep the size.
        gray: turn it gray before it is resized, as networks of FER2013's faces see it.

    Returns:
        uint8 [H, W, 3], RGB; three equal channels if `gray`.

    Raises:
        ImageError: one line naming the file, if it cannot be decoded.
    """
    with open_image(path) as image:
        image.draft("RGB", (size, size) if size and not gray else None)
        upright = upright_rgb(image)
        if gray:
            upright = upright.convert("L")
        if size and upright.size != (size, size):
            upright = upright.resize((size, size), Image.Resampling.BILINEAR)
        return np.asarray(upright.convert("RGB"))


def to_rgb(image: Image.Image) -> Image.Image:
    """The current frame of an image in RGB: the upper byte of 16-bit values, without an alpha channel."""
    if image.mode.startswith("I"):  # 16-bit grayscale; Pillow's own conversion clips at 255
        image = Image.fromarray((np.asarray(image) >> 8).clip(0, 255).astype(np.uint8))
    return image.convert("RGB")


def upright_rgb(image: Image.Image) -> Image.Image:
    """`to_rgb`, rotated and mirrored as the EXIF orientation says."""
    rgb, orientation = to_rgb(image), _orientation(image)
    return rgb.transpose(_UPRIGHT[orientation]) if orientation in _UPRIGHT else rgb


@contextmanager
def open_image(path: str) -> Iterator[Image.Image]:
    """Opens an image file without decoding it. Any failure inside the block becomes an `ImageError`."""
    with _naming(path):
        contents = _contents(path)
        with _opened(io.BytesIO(contents)) as image:
            _require_end(path, image, contents)
            yield image


def read_header(path: str) -> ImageFacts:
    """Reads a file's header only: finds files that are not images, but not truncated ones.

    Raises:
        ImageError: one line naming the file.
    """
    with _naming(path):
        _size(path)
        with open(path, "rb") as file, _opened(file) as image:
            return _facts(image, image.size)


def read_facts(path: str) -> ImageFacts:
    """Decodes a whole file and takes the digest of its bytes.

    Raises:
        ImageError: one line naming the file.
    """
    with _naming(path):
        contents = _contents(path)
        with _opened(io.BytesIO(contents)) as image:
            _require_end(path, image, contents)
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
    """EXIF orientation, 1 to 8; 1 (upright) if there is none or it cannot be read."""
    try:
        # Not PngImageFile's own method, which decodes all pixels to look for a chunk after them.
        value = Image.Image.getexif(image).get(_ORIENTATION)
    except Exception:  # damaged metadata can raise anything; the pixels are still good
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _is_animated(image: Image.Image) -> bool:
    if image.format == "MPO":  # a photograph with previews
        return False
    try:
        return bool(getattr(image, "is_animated", False))
    except Exception:  # the second frame is damaged; it is not used
        return True


@contextmanager
def _opened(file: IO[bytes]) -> Iterator[Image.Image]:
    with Image.open(file, formats=FORMATS) as image:
        if image.width * image.height > MAX_PIXELS:
            raise Image.DecompressionBombError(f"{image.width} x {image.height} pixels")
        yield image


def _require_end(path: str, image: Image.Image, contents: bytes) -> None:
    """Raises if a JPEG has no end marker.

    After a power cut the second half of a file may be zeros, which the decoder takes for a gray area. It reports all
    other truncated files itself.
    """
    if image.format not in ("JPEG", "MPO"):
        return
    position = 2
    while marker := _MARKER.search(contents, position):
        position = marker.end()
        code = contents[position - 1]
        if code == 0xD9:
            return
        if code != 0x01:  # all other markers are followed by a length
            position += int.from_bytes(contents[position : position + 2])
    raise _error(path, "truncated", "cannot be decoded (the file is truncated); write it again")


def _size(path: str) -> int:
    """Size in bytes of a regular file. Reading a pipe would block, and /dev/zero never ends."""
    status = os.stat(path)
    if not stat.S_ISREG(status.st_mode):
        raise _error(path, "unreadable", "not a regular file; replace it by an image file")
    if status.st_size == 0:
        raise _error(path, "empty file", "the file is empty (0 bytes); delete it or write it again")
    if status.st_size > MAX_BYTES:
        raise _error(path, "too large", f"a file of {status.st_size >> 20} MiB is too large for a frame; delete it")
    return status.st_size


def _contents(path: str) -> bytes:
    size = _size(path)
    with open(path, "rb") as file:
        return file.read(size)


def _error(path: str, kind: str, what: str) -> ImageError:
    return ImageError(kind, f"{printable(path)}: {what}")


@contextmanager
def _naming(path: str) -> Iterator[None]:
    """Turns any exception inside the block into an `ImageError` that names the file."""
    try:
        yield
    except ImageError:
        raise
    except Exception as error:  # a damaged file can raise anything in a decoder
        raise _error(path, *_fault(error)) from None


def _fault(error: Exception) -> tuple[str, str]:
    """(kind of `ImageError`, what is wrong) of an exception."""
    if isinstance(error, FileNotFoundError):
        return "missing", "no such file; write it again"
    if isinstance(error, UnidentifiedImageError):
        return "not an image", "not an image (JPEG, PNG, BMP, WebP, GIF); delete the file or write it again"
    if isinstance(error, Image.DecompressionBombError):
        return "too large", f"more than {MAX_PIXELS // 10**6} million pixels (a decompression bomb?); delete it"
    if isinstance(error, OSError) and error.strerror:
        return "unreadable", f"cannot be read ({error.strerror})"
    if isinstance(error, MemoryError):
        return "too large", "not enough memory to decode it"
    reason = printable(str(error) or type(error).__name__)
    kind = "truncated" if isinstance(error, OSError) and "truncated" in reason else "damaged"
    return kind, f"cannot be decoded ({reason}); write it again"
