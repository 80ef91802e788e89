"""Image files: decodes a file to RGB pixels, or raises one line that names the file.

Only the formats of video frames are opened. Pillow knows dozens more, some of which start other programs (EPS runs
Ghostscript); a file named `001.jpg` must not be able to do that.
"""

from __future__ import annotations

import hashlib
import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import numpy as np
from PIL import (  # importing the plugins by name keeps Pillow from loading all of them
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    ImageOps,
    JpegImagePlugin,
    PngImagePlugin,
    UnidentifiedImageError,
    WebPImagePlugin,
)

from ..common.files import regular
from ..common.names import printable
from .clips import DataError

_PLUGINS = (JpegImagePlugin, PngImagePlugin, BmpImagePlugin, WebPImagePlugin, GifImagePlugin)
FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "GIF")
MAX_PIXELS = 89_478_485  # Pillow's own limit: 256 MiB of RGB
MAX_BYTES = 1 << 28  # of a file: 16-bit RGB of that many pixels at half its size

_SMALLEST = 16  # pixels; decoding a JPEG at an eighth of its size still reads all of it, in half the time

# Pillow warns about damaged metadata, which changes no pixel. The warnings would break progress bars.
warnings.filterwarnings("ignore", module=r"PIL\.")


class ImageError(DataError):
    """A file that cannot be read as an image. The text is one line that names the file."""


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
    image.load()  # raises if the pixels are damaged
    with suppress(Exception):  # damaged metadata can raise anything, but spoil no pixels
        image = ImageOps.exif_transpose(image)
    return to_rgb(image)


def check_image(path: str, *, decode: bool = True) -> bytes:
    """Finds out whether a file is an image.

    Args:
        path: the file.
        decode: decode all of it. If false, only its header is looked at, which finds no truncated file.

    Returns:
        8 bytes, a hash of the file's contents; empty if only the header was read.

    Raises:
        ImageError: one line naming the file.
    """
    with open_image(path, whole=decode) as image:
        if not decode:
            return b""
        contents: io.BytesIO = getattr(image, "fp")  # noqa: B009  # of open_image; missing in Pillow's types
        digest = hashlib.blake2b(contents.getbuffer(), digest_size=8).digest()
        image.draft(None, (_SMALLEST, _SMALLEST))
        image.load()
    return digest


def is_animated(path: str) -> bool:
    """Whether a file holds several pictures to be shown one after another. False if it cannot be read."""
    try:
        with open_image(path, whole=False) as image:
            # MPO: a photograph with previews
            return image.format != "MPO" and bool(getattr(image, "is_animated", False))
    except ImageError:  # reading it names the fault
        return False


@contextmanager
def open_image(path: str, *, whole: bool = True) -> Iterator[Image.Image]:
    """Opens an image file without decoding it. Any failure inside the block becomes an `ImageError`.

    Args:
        path: the file.
        whole: read all of the file first, at once; else Pillow reads what it needs.
    """
    try:
        with (
            open(path, "rb", opener=regular) as file,
            Image.open(io.BytesIO(file.read(MAX_BYTES)) if whole else file, formats=FORMATS) as image,
        ):
            if image.width * image.height > MAX_PIXELS:
                raise Image.DecompressionBombError
            yield image
    except DataError:
        raise
    except Exception as error:  # a damaged file can raise anything in a decoder
        raise ImageError(f"{printable(path)}: {_fault(error)}") from None


def _fault(error: Exception) -> str:
    """What is wrong with a file, and what to do."""
    if isinstance(error, FileNotFoundError):
        return "no such file; write it again"
    if isinstance(error, UnidentifiedImageError):
        return "not an image (JPEG, PNG, BMP, WebP, GIF), or empty; delete the file or write it again"
    if isinstance(error, Image.DecompressionBombError):
        return f"more than {MAX_PIXELS // 10**6} million pixels (a decompression bomb?); delete it"
    if isinstance(error, OSError) and error.strerror:
        return f"cannot be read ({error.strerror})"
    return f"cannot be decoded ({printable(str(error) or type(error).__name__)}); write it again"
