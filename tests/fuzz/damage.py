"""Faults of files: those of disks and networks (bits, pieces, zeros), and those of people (text, tables)."""

from __future__ import annotations

import random
from collections.abc import Callable

ODD = (
    *("", " ", "nan", "inf", "-1", "7", "1.5", "1e999", "0x10", "0", '"', "'", "a,b", "\t", "é", "\x00", "None", "#"),
    *("..", "../around", "/", "x" * 5000, "\u2028", "\ufeff", "\x1a", "\udcff"),
)
ENCODINGS = ("utf-16", "utf-16-le", "utf-32", "utf-8-sig", "utf-7", "cp037")


def damaged(whole: bytes, form: str, rng: random.Random) -> bytes:
    """One to four faults.

    Args:
        whole: the content of a file.
        form: what it is: "table" (CSV), "text" or "bytes".
        rng: draws them.
    """
    for _ in range(rng.choice([1, 1, 1, 2, 3, 4])):
        fault = _FORMS[form] if rng.random() < 0.65 else _bytes  # whatever a file is, a disk sees bytes
        whole = fault(whole, rng)
    return whole


def _bytes(whole: bytes, rng: random.Random) -> bytes:
    """Cut, overwritten, lost, doubled and inserted pieces, and single bits."""
    data = bytearray(whole)
    at = rng.randrange(len(data) + 1)
    if rng.random() < 0.4:  # headers are short, and worth much of the attention
        at = min(at, rng.randrange(300))
    piece = slice(at, at + rng.choice([1, 2, 4, 16, 300, 5000]))
    length = len(data[piece])
    match rng.randrange(9):
        case 0:
            del data[at:]
        case 1:
            data[at:] = bytes(len(data) - at)
        case 2:
            del data[piece]
        case 3:
            data[at:at] = rng.randbytes(length)
        case 4:
            data[piece] = rng.randbytes(length)
        case 5:
            data[at : at + 4] = rng.choice([b"\xff" * 4, b"\x7f\xff\xff\xff", bytes(4), b"\x80\0\0\0", b"\0\0\0\x01"])
        case 6:
            data[at:at] = data[piece]
        case 7:
            data[piece] = bytes(length)
        case _ if data:
            data[min(at, len(data) - 1)] ^= 1 << rng.randrange(8)
    return bytes(data)


def _text(whole: bytes, rng: random.Random) -> bytes:
    """Lines lost, doubled, shuffled, glued and made huge; other separators, line ends and encodings."""
    lines = whole.decode("utf-8", "surrogateescape").splitlines(keepends=True) or [""]
    at = rng.randrange(len(lines))
    match rng.randrange(9):
        case 0:
            del lines[at]
        case 1:
            lines.insert(at, lines[at])
        case 2:
            lines.insert(at, rng.choice(ODD) + rng.choice(["", "\n"]))
        case 3:
            lines[at] = lines[at].rstrip("\r\n")
        case 4:
            lines[at] = lines[at].replace(rng.choice(" ,\t/."), rng.choice([" ", ",", ";", "\t", "\\", ""]))
        case 5:
            lines[at] = lines[at].rstrip("\n") * rng.choice([50, 3000]) + "\n"
        case 6:
            return "".join(lines).encode(rng.choice(ENCODINGS), "replace")
        case 7:
            lines = [line.rstrip("\n") + rng.choice(["\r\n", "\r", "\x0b", "\x85"]) for line in lines]
        case _:
            rng.shuffle(lines)
    return "".join(lines).encode("utf-8", "surrogateescape")


def _table(whole: bytes, rng: random.Random) -> bytes:
    """A wrong cell, one too many, one that is gone, or a column that is gone."""
    if rng.random() < 0.25:
        return _text(whole, rng)
    rows = [line.split(",") for line in whole.decode("utf-8", "surrogateescape").splitlines()] or [[""]]
    row = rng.choice(rows)
    cell = rng.randrange(len(row))
    match rng.randrange(5):
        case 0:
            row.insert(cell, rng.choice(ODD))
        case 1:
            del row[cell]
        case 2:
            for other in rows:
                del other[cell : cell + 1]
        case 3:
            row[cell] = rng.choice(rng.choice(rows) or [""])
        case _:
            row[cell] = rng.choice(ODD)
    return "\n".join(",".join(row) for row in rows).encode("utf-8", "surrogateescape")


_FORMS: dict[str, Callable[[bytes, random.Random], bytes]] = {"bytes": _bytes, "text": _text, "table": _table}
