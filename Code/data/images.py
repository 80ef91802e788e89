"""Image files: decodes a file to RGB pixels, or raises one line that names the file.

Only the formats of video frames are opened. Pillow knows dozens more, some of which start other programs (EPS runs
Ghostscript); a file named `001.jpg` must not be able to do that.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError, WebPImagePlugin

from ..common.files import regular
from ..common.names import printable
from .clips import DataError

FORMATS = ("JPEG", "PNG", "BMP", "GIF", WebPImagePlugin.WebPImageFile.format)  # Pillow loads WebP only if it is named
MAX_PIXELS = 89_478_485  # Pillow's own limit: 256 MiB of RGB
MAX_BYTES = 1 << 28  # of a file: 16-bit RGB of that many pixels at half its size

# Pillow warns about damaged metadata, which changes no pixel. The warnings would break progress bars.
warnings.filterwarnings("ignore", module=r"PIL\.")


def read_image(path: str, size: int | None = None, *, gray: bool = False) -> np.ndarray:
    """Decodes one image file.

    Takes the first frame of an animation, applies EXIF orientation, keeps the upper byte of 16-bit values, and drops
    an alpha channel.

    Args:
        size: side in pixels to resize to (bilinear, antialiased), or None to keep the size.
        gray: turn it gray before it is resized, as networks of FER2013's faces see it.

    Returns:
        uint8 [H, W, 3], RGB; three equal channels if `gray`.
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


def is_animated(path: str) -> bool:
    """Whether a file holds several pictures to be shown one after another. False if it cannot be read."""
    try:
        with open_image(path, whole=False) as image:
            # MPO: a photograph with previews
            return image.format != "MPO" and bool(getattr(image, "is_animated", False))
    except DataError:  # reading it names the fault
        return False


@contextmanager
def open_image(path: str, *, whole: bool = True) -> Iterator[Image.Image]:
    """Opens an image file without decoding it. Any failure inside the block becomes a `DataError` of one line.

    If `whole`, all of the file is read first, at once; else Pillow reads what it needs, at first only the header.
    """
    try:
        with (
            open(path, "rb", opener=regular) as file,
            Image.open(io.BytesIO(file.read(MAX_BYTES)) if whole else file, formats=FORMATS) as image,
        ):
            if image.width * image.height > MAX_PIXELS:
                raise Image.DecompressionBombError(f"more than {MAX_PIXELS // 10**6} million pixels")
            yield image
    except DataError:
        raise
    except Exception as error:  # a damaged file can raise anything in a decoder
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        if isinstance(error, UnidentifiedImageError):
            reason = "neither JPEG, PNG, BMP, WebP nor GIF, or empty"
        raise DataError(
            f"{printable(path)}: not an image that can be read ({reason}); delete it or write it again"
        ) from None
