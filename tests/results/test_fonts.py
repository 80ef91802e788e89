"""Names in any script: no warnings, and letters where an installed font has them."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from matplotlib import font_manager
from matplotlib.figure import Figure
from PIL import Image

from Code.results.figures import figure_bytes, font_file


def picture(title: str) -> np.ndarray:
    figure = Figure(figsize=(3, 1))
    figure.text(0.1, 0.4, title, size=20)
    return np.asarray(Image.open(io.BytesIO(figure_bytes(figure, "png"))))


@pytest.fixture
def squares(tmp_path: Path) -> Iterator[str]:
    """An installed font that draws two Tangut letters as black squares."""

    def square(size: int) -> object:
        pen = TTGlyphPen(None)
        pen.moveTo((0, 0))
        for point in ((0, size), (size, size), (size, 0)):
            pen.lineTo(point)
        pen.closePath()
        return pen.glyph()

    builder = FontBuilder(1000)
    builder.setupGlyphOrder([".notdef", "a", "b"])
    builder.setupCharacterMap({0x17000: "a", 0x17001: "b"})
    builder.setupGlyf({".notdef": TTGlyphPen(None).glyph(), "a": square(900), "b": square(500)})
    builder.setupHorizontalMetrics({name: (1000, 0) for name in (".notdef", "a", "b")})
    builder.setupHorizontalHeader(ascent=900, descent=-100)
    builder.setupNameTable({"familyName": "Squares", "styleName": "Regular"})
    builder.setupOS2(sTypoAscender=900)
    builder.setupPost()
    path = str(tmp_path / "squares.ttf")
    builder.save(path)
    before = list(font_manager.fontManager.ttflist)
    font_manager.fontManager.addfont(path)
    yield path
    font_manager.fontManager.ttflist[:] = before


def ticks(label: str) -> None:
    figure = Figure()
    figure.add_subplot().set_xticks([0, 1], [label, "b"])
    figure_bytes(figure, "svg")


def test_letters_that_no_font_has_warn_of_nothing() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        picture("\U00017002\U00017003 happy")
        ticks("\U00017002")


def test_a_font_that_has_the_letters_is_found_and_used(squares: str) -> None:
    usual = font_manager.findfont("DejaVu Sans")
    assert font_file("\U00017000") == squares
    assert font_file("happy é") == usual
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ticks("\U00017000")
        large, small = ((picture(letter)[..., :3] < 50).sum() for letter in ("\U00017000", "\U00017001"))
    assert large / small == pytest.approx(900**2 / 500**2, rel=0.2)
