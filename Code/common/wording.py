"""Numbers and names as people read and sort them."""

from __future__ import annotations

import re
import unicodedata

_DIGITS = re.compile(r"([0-9]+)")
LONGEST = 300  # characters of a name in a message


def counted(count: int, noun: str, plural: str | None = None) -> str:
    """`1 clip`, `2 clips`, `0 clips`.

    Args:
        plural: the noun's plural, if it is not formed with an s.
    """
    return f"{count} {noun if count == 1 else plural or noun + 's'}"


def grouped(number: int) -> str:
    """46080 -> `46 080`."""
    return f"{number:,}".replace(",", " ")


def percent(share: float | None, digits: int = 2) -> str:
    """0.98765 -> `98.77`; None -> `-`."""
    return "-" if share is None else f"{100 * share:.{digits}f}"


def quoted(text: str) -> str:
    """`text` in double quotes, printable."""
    return f'"{printable(text)}"'


def printable(text: str, longest: int = LONGEST) -> str:
    """`text` on one line of at most `longest` characters, with control characters and undecodable bytes escaped."""
    if len(text) > longest:
        text = f"{text[: longest // 2]}...{text[-longest // 2 :]}"
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def one_line(text: str) -> str:
    """A message on one line, however long: names of files may contain line breaks and codes that color a terminal."""
    return printable(text, len(text))


def name_key(name: str) -> str:
    """One spelling for all that look alike: of composed letters (macOS), case, width, invisible characters and spaces.

    It is Unicode's NFKC_Casefold, with single spaces.
    """
    text = unicodedata.normalize("NFKC", unicodedata.normalize("NFKD", name).casefold())
    return " ".join("".join(c for c in text if unicodedata.category(c) != "Cf").split())


def natural_key(name: str) -> tuple[list[str | int], str]:
    """Sort key that puts `2.jpg` before `10.jpg`."""
    parts: list[str | int] = list(_DIGITS.split(name.casefold()))
    parts[1::2] = map(int, parts[1::2])  # text and numbers alternate, so text is compared with text
    return parts, name
