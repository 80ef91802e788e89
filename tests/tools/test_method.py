"""The picture of the method."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

from PIL import Image

from tools import method


def test_method_figure_is_a_white_card_as_svg_and_png(tmp_path: Path) -> None:
    path = tmp_path / "docs" / "method.svg"
    assert method.main([str(path)]) == 0
    root = ElementTree.parse(path).getroot()
    points = [float(root.attrib[side].removesuffix("pt")) for side in ("width", "height")]
    assert points[0] == 648 and 300 < points[1] < 400  # 9 in: 900 px at 100 dpi
    picture = Image.open(path.with_suffix(".png")).convert("RGBA")
    corner, inside = picture.getpixel((0, 0)), picture.getpixel((picture.width // 2, 40))
    assert corner[3] == 0 and inside == (255, 255, 255, 255)
