"""Pictures that are drawn for the tests of inputs."""

from __future__ import annotations

from PIL import Image, ImageDraw


def plain(level: int, size: tuple[int, int] = (64, 48)) -> Image.Image:
    return Image.new("RGB", size, (level, level, level))


def card(size: tuple[int, int] = (64, 48)) -> Image.Image:
    """No two of its eight views are alike: white top left, grey top right, black below."""
    picture = Image.new("RGB", size)
    draw = ImageDraw.Draw(picture)
    draw.rectangle((0, 0, size[0] // 2 - 1, size[1] // 2 - 1), fill=(255, 255, 255))
    draw.rectangle((size[0] // 2, 0, size[0] - 1, size[1] // 2 - 1), fill=(128, 128, 128))
    return picture
