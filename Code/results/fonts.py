"""Finds fonts for names in any script: the default font of matplotlib has no Chinese characters, for example."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache

from matplotlib.figure import Figure
from matplotlib.font_manager import FontEntry, findfont, fontManager, get_font
from matplotlib.text import Text


@contextmanager
def fonts_for(figure: Figure) -> Iterator[None]:
    """Inside the block, texts of the figure are drawn with installed fonts that have all of their characters.

    A character that no installed font has is drawn as a box, without a warning.
    """
    for text in figure.findobj(Text):
        assert isinstance(text, Text)
        others = _families(text.get_text(), findfont(text.get_fontproperties()))
        if others:
            text.set_fontfamily([*text.get_fontfamily(), *others])
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"Glyph .* missing from")
        yield


def font_file(text: str, usual: str) -> str | None:
    """A font file that has the first character that the `usual` file lacks; None if there is none."""
    lacking = _lacking(text, usual)
    entry = _font_with(lacking[0], len(fontManager.ttflist)) if lacking else None
    return None if entry is None else entry.fname


def _families(text: str, usual: str) -> list[str]:
    found = (_font_with(letter, len(fontManager.ttflist)) for letter in _lacking(text, usual))
    return list(dict.fromkeys(entry.name for entry in found if entry is not None))


def _lacking(text: str, usual: str) -> list[str]:
    if text.isascii():
        return []
    font = get_font(usual)
    return [letter for letter in dict.fromkeys(text) if letter.isprintable() and not font.get_char_index(ord(letter))]


@lru_cache(maxsize=4096)
def _font_with(letter: str, installed: int) -> FontEntry | None:
    """An installed font that has a character, of regular style if possible; cached for a number of installed fonts."""

    def plainness(entry: FontEntry) -> tuple[bool, bool, str]:
        return entry.style != "normal", str(entry.weight) not in ("400", "normal", "regular"), entry.name

    # "Last Resort", which comes with matplotlib, has every character, but only as a box.
    for entry in sorted((e for e in fontManager.ttflist if not e.name.startswith("Last Resort")), key=plainness):
        try:
            if get_font(entry.fname).get_char_index(ord(letter)):
                return entry
        except (OSError, RuntimeError):  # removed since matplotlib listed it, or damaged
            continue
    return None
