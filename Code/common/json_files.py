"""Reads the files that this program wrote for itself: JSON and JSONL, checked against a dataclass.

The dataclass stands beside the code that writes the file. Fields that it does not have are ignored; a `__post_init__`
that raises `ValueError` checks more than types. Whatever is wrong becomes one line with the file and the field.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TypeVar

import msgspec

from .errors import ProjectError
from .files import regular

T = TypeVar("T")


class StateError(ProjectError, ValueError):
    """A file that this program wrote cannot be used. The text says which file and field, and what to do."""


def read_json(path: str | Path, kind: type[T], *, remedy: str) -> T:
    """Reads a JSON file that holds a `kind`: a dataclass, or any other type that msgspec converts to.

    StateError if it is missing, unreadable, no JSON, or of another shape. `remedy` says what to do: "run ... again".
    """
    return _decoded(_content(path, remedy), kind, str(path), remedy)


def read_json_lines(path: str | Path, kind: type[T], *, remedy: str) -> list[T]:
    """Reads a JSONL file: one `kind` in each line. A last line that is cut off was never finished, and is skipped.

    StateError as `read_json`, with the number of the line.
    """
    *lines, last = _content(path, remedy).split(b"\n")
    if last.rstrip().endswith(b"}"):
        lines.append(last)
    return [_decoded(line, kind, f"{path}:{number}", remedy) for number, line in enumerate(lines, 1) if line.strip()]


def _content(path: str | Path, remedy: str) -> bytes:
    try:
        with open(path, "rb", opener=regular) as file:
            return file.read()
    except FileNotFoundError:
        raise StateError(f"{path}: is missing; {remedy}") from None
    except OSError as error:
        raise StateError(f"{path}: cannot be read ({error.strerror or error}); {remedy}") from None


def _decoded(data: bytes, kind: type[T], source: str, remedy: str) -> T:
    try:  # not msgspec's parser: names of files may be no Unicode, and a number NaN
        return msgspec.convert(json.loads(data), kind)
    except (ValueError, RecursionError) as error:
        raise StateError(f"{source}: is damaged ({error}); {remedy}") from None
