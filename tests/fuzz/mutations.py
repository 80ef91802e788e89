"""Faults of files: a whole file and a few numbers in, a damaged file out, the same every time.

Some faults are those of disks and networks (bits, pieces, zeros), some those of programs and people: JSON of the right
syntax and the wrong shape, tables with wrong cells, texts in another encoding.
"""

from __future__ import annotations

import csv
import io
import json
import random
from collections.abc import Callable, Sequence
from typing import Any

# In a damaged file this stands for a folder outside of the one that is read, in which nothing may change.
AROUND = "@AROUND@"
# Values that no field of a state file takes all of; paths lead out of the folder in all ways that there are.
ODD_VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 2, 3, 7, 0.5, 1.5, -0.25, 1e308, -1e308, 10**30, 2**31, 2**63, -(2**63), 1e-320),
    *(float("nan"), float("inf"), -float("inf")),
    *("", " ", "0", "1", "-1", "nan", "NaN", "1e999", "true", "null", "none", "all", "\u0000", "\ud800", "\n", "a\nb"),
    *("é", "\u202e", "x" * 5000, "{}", "[]", "%s", "{0}", "<script>alert(1)</script>"),
    *(
        ".",
        "..",
        "/",
        "//",
        "../around",
        "../../around",
        "../around/canary.txt",
        "a/../../around",
        "./",
        "a//b",
        "C:\\",
    ),
    *(AROUND, f"{AROUND}/canary.txt", f"{AROUND}/folder"),
    *([], {}, [[]], [None], [0], ["a"], {"": 0}, {"a": {}}, [1, 2, 3], [[1, 2], [3]], [float("nan")]),
)
ODD_CELLS = (
    *("", " ", "nan", "inf", "-inf", "-1", "7", "-5", "1.5", "1e999", "0x10", "1_0", "１", "0", "1", "0.5", '"', "'"),
    *(
        AROUND,
        f"{AROUND}/folder",
        "a,b",
        "\t",
        "é",
        "\x00",
        "x" * 5000,
        "None",
        "..",
        "../around",
        "/",
        "\udcff",
        "\u2028",
    ),
)
DEEP = 3000  # brackets


def mutated(whole: bytes, form: str, seeds: Sequence[int]) -> bytes:
    """Applies a fault for each seed, one after another.

    Args:
        whole: the content of a file.
        form: what it is: "json", "lines" (JSON a line), "table" (CSV), "text" or "bytes".
        seeds: of the faults.
    """
    for seed in seeds:
        rng = random.Random(seed)
        # Whatever a file is, a disk sees bytes.
        fault = _FORMS[form] if rng.random() < 0.65 else _bytes
        whole = fault(whole, rng)
    return whole


def _bytes(whole: bytes, rng: random.Random) -> bytes:
    data = bytearray(whole)
    at = rng.randrange(len(data) + 1)
    if rng.random() < 0.4:  # headers are short, and worth much of the attention
        at = min(at, rng.randrange(300))
    length = rng.choice([1, 2, 4, 16, 300, 5000])
    kind = rng.randrange(10)
    if kind == 0:
        del data[at:]
    elif kind == 1:
        data[at:] = bytes(len(data) - at)
    elif kind == 2:
        del data[at : at + length]
    elif kind == 3:
        data[at:at] = rng.randbytes(length)
    elif kind == 4:
        data[at : at + length] = rng.randbytes(len(data[at : at + length]))
    elif kind == 5:
        data[at : at + 4] = rng.choice(
            [b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", bytes(4), b"\x80\0\0\0", b"\0\0\0\x01"]
        )
    elif kind in (6, 7) and data:
        data[min(at, len(data) - 1)] ^= 1 << rng.randrange(8)
    elif kind == 8:
        data[at:at] = data[at : at + length]  # a piece twice
    else:
        data[at : at + length] = bytes(len(data[at : at + length]))
    return bytes(data)


def _text(whole: bytes, rng: random.Random) -> bytes:
    """Lines cut, doubled, swapped, glued together or made huge; other separators, quotes and encodings."""
    text = whole.decode("utf-8", "surrogateescape")
    lines = text.splitlines(keepends=True) or [""]
    at = rng.randrange(len(lines))
    kind = rng.randrange(13)
    if kind == 0:
        del lines[at]
    elif kind == 1:
        lines.insert(at, lines[at])
    elif kind == 2:
        lines.append(rng.choice(ODD_CELLS))
    elif kind == 3:
        lines[at] = lines[at].rstrip("\r\n")
    elif kind == 4:
        lines[at] = lines[at].replace(
            rng.choice([" ", ",", "\t", "/", "."]), rng.choice([" ", ",", ";", "\t", "\\", ""])
        )
    elif kind == 5:
        lines = [line.replace(",", rng.choice([";", "\t", ", "])) for line in lines]
    elif kind == 6:
        lines[at] = lines[at].rstrip("\n") * rng.choice([50, 3000]) + "\n"
    elif kind == 7:
        lines[at] = rng.choice(['"', "'", "#", "\ufeff", "\x00", "\x1a", "\u2028"]) + lines[at]
    elif kind == 8:
        return "".join(lines).encode(
            rng.choice(["utf-16", "utf-16-le", "utf-32", "utf-8-sig", "utf-7", "cp037"]), "replace"
        )
    elif kind == 9:
        lines = [line.rstrip("\n") + rng.choice(["\r\n", "\r", "\x0b", "\x85"]) for line in lines]
    elif kind == 10:
        rng.shuffle(lines)
    elif kind == 11:
        words = lines[at].split()
        if words:
            words[rng.randrange(len(words))] = rng.choice(ODD_CELLS)
        lines[at] = rng.choice([" ", ",", "\t"]).join(words) + "\n"
    else:
        lines[at] = lines[at].swapcase()
    return "".join(lines).encode("utf-8", "surrogateescape" if "\udcff" not in "".join(lines) else "replace")


def _table(whole: bytes, rng: random.Random) -> bytes:
    """A wrong cell, a row too many or too few, a column that is gone, numbers that are none."""
    if rng.random() < 0.25:
        return _text(whole, rng)
    try:
        rows = list(csv.reader(io.StringIO(whole.decode("utf-8"), newline="")))
    except (ValueError, csv.Error):
        return _text(whole, rng)
    if not rows:
        return _text(whole, rng)
    at, kind = rng.randrange(len(rows)), rng.randrange(8)
    row = rows[at]
    cell = rng.randrange(len(row)) if row else 0
    if kind in (0, 1) and row:
        row[cell] = rng.choice(ODD_CELLS)
    elif kind == 2:
        rows[at:at] = [list(row) for _ in range(rng.choice([1, 4]))]
    elif kind == 3:
        del rows[at : None if rng.random() < 0.5 else at + 1]
    elif kind == 4 and row:
        for other in rows:
            del other[cell : cell + 1]
    elif kind == 5:
        row.insert(cell, rng.choice(ODD_CELLS))
    elif kind == 6 and row:
        other = rng.choice(rows)
        row[cell] = rng.choice(other) if other else ""
    else:
        numbers = [place for place, value in enumerate(row) if value.replace(".", "", 1).isdigit()]
        if numbers:
            row[rng.choice(numbers)] = f"{rng.uniform(-10, 10):.4f}"
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue().encode("utf-8", "surrogatepass")


def _json(whole: bytes, rng: random.Random) -> bytes:
    """Right syntax, wrong shape: a value of another type, a key that is gone or new, huge and nested values."""
    try:
        document = json.loads(whole)
    except (ValueError, RecursionError):
        return _bytes(whole, rng)
    kind = rng.randrange(20)
    if kind == 0:
        opening, closing = rng.choice(["[]", ('{"a":', "}")])
        return (opening * DEEP + "0" + closing * DEEP).encode()
    if kind == 1:
        return _dumped(document).encode(rng.choice(["utf-16", "utf-8-sig", "utf-32"]))
    if kind == 2:
        document = rng.choice(ODD_VALUES)
    elif kind == 3:  # one value of several thousand brackets inside an otherwise whole file
        return _dumped(_replaced(document, rng, "\x07")).replace('"\\u0007"', "[" * DEEP + "]" * DEEP, 1).encode()
    elif kind == 4:  # digits beyond what Python converts
        return _dumped(_replaced(document, rng, "\x07")).replace('"\\u0007"', "9" * 5000, 1).encode()
    elif kind == 5:
        return (
            _dumped(_replaced(document, rng, "\x07")).replace('"\\u0007"', '"\xff\xfe"', 1).encode("latin-1", "replace")
        )
    else:
        document = _replaced(document, rng, rng.choice(ODD_VALUES))
    return _dumped(document).encode("utf-8", "surrogatepass")


def _lines(whole: bytes, rng: random.Random) -> bytes:
    """A file with a JSON value a line: one of them damaged, or lines lost, doubled and swapped."""
    if rng.random() < 0.3:
        return _text(whole, rng)
    lines = whole.split(b"\n")
    at = rng.randrange(len(lines))
    lines[at] = _json(lines[at], rng) if lines[at] else rng.choice([b"{}", b"[]", b"0", b"null", b'{"epoch": 1}', b" "])
    return b"\n".join(lines)


def _dumped(document: Any) -> str:
    return json.dumps(document, indent=1)


def _places(document: Any, found: list[tuple[Any, Any]]) -> list[tuple[Any, Any]]:
    """(container, key) of every value inside."""
    if isinstance(document, dict | list):
        for key in document if isinstance(document, dict) else range(len(document)):
            found.append((document, key))
            _places(document[key], found)
    return found


def _replaced(document: Any, rng: random.Random, value: Any) -> Any:
    """The document with one value changed: to `value`, dropped, doubled, renamed, or of another type."""
    places = _places(document, [])
    if not places:
        return value
    # As often a field of the outer object as any number deep inside of a matrix.
    outer = [place for place in places if place[0] is document]
    container, key = rng.choice(outer if rng.random() < 0.5 else places)
    kind, before = rng.randrange(9), container[key]
    if value == "\x07" or kind <= 4:
        container[key] = value
    elif kind == 5:
        del container[key]
    elif kind == 6 and isinstance(container, dict):
        container[rng.choice(["", "a", f"{key} ", key.upper(), key + "\x00", "__class__"])] = container.pop(key)
    elif kind == 7:
        container[key] = _other_type(before)
    elif isinstance(container, list):
        container[key:key] = [before] * rng.choice([1, 1000])
    elif isinstance(before, int | float) and not isinstance(before, bool):
        container[key] = rng.choice([-before, before + 1, before * 1e6, before / 2, -1])
    else:
        container["more"] = before
    return document


def _other_type(value: Any) -> Any:
    if isinstance(value, bool) or value is None:
        return str(value)
    if isinstance(value, int | float):
        return str(value)
    if isinstance(value, str):
        return [value]
    return {"0": value} if isinstance(value, list) else list(value.items())


_FORMS: dict[str, Callable[[bytes, random.Random], bytes]] = {
    "bytes": _bytes, "text": _text, "table": _table, "json": _json, "lines": _lines,
}  # fmt: skip
