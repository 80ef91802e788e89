"""JSON that the program wrote and that is damaged or of another shape is one line of error."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

import pytest

from Code.common.json_files import StateError, read_json, read_json_lines


@dataclass
class Part:
    name: str
    share: float

    def __post_init__(self) -> None:
        if not 0 <= self.share <= 1:
            raise ValueError(f"share {self.share} is not from 0 to 1")


@dataclass
class Whole:
    size: int
    parts: list[Part] = field(default_factory=list)
    rest: dict[str, Any] = field(default_factory=dict)


def test_reads_what_fits_and_names_that_are_no_unicode(tmp_path):
    path, name = tmp_path / "state.json", b"clip\xff".decode("utf-8", "surrogateescape")
    content = {"size": 3, "parts": [{"name": name, "share": 1}], "rest": {"x": [1, None]}, "unknown": "ignored"}
    path.write_text(json.dumps(content))
    assert read_json(path, Whole, remedy="-") == Whole(3, [Part(name, 1.0)], {"x": [1, None]})


BROKEN = {
    b"": "Expecting value",
    b"[" * 100_000: "recursion",
    b"null": "Expected `object`, got `null`",
    b'{"size": "3"}': "Expected `int`, got `str` - at `$.size`",
    b'{"size": 1, "parts": [{"name": "a"}]}': "Object missing required field `share` - at `$.parts[0]`",
    b'{"size": 1, "parts": [{"name": "a", "share": NaN}]}': "share nan is not from 0 to 1",
}


@pytest.mark.parametrize("data", BROKEN)
def test_names_file_and_field(tmp_path, data):
    path = tmp_path / "state.json"
    path.write_bytes(data)
    with pytest.raises(StateError) as caught:
        read_json(path, Whole, remedy="start again")
    text = str(caught.value)
    assert text.startswith(f"{path}: is damaged (") and text.endswith("; start again") and "\n" not in text
    assert BROKEN[data] in text and caught.value.status == 2


def test_missing_and_unreadable(tmp_path):
    for path, reason in ((tmp_path / "no.json", "is missing"), (tmp_path, "cannot be read")):
        with pytest.raises(StateError, match=rf"{path}: {reason}.*; start again"):
            read_json(path, Whole, remedy="start again")


def test_lines(tmp_path):
    path = tmp_path / "log.jsonl"
    path.write_text('{"name": "a", "share": 0}\n\n{"name": "b\u2028", "share": 1}\n{"name": "c", "sha')
    assert [part.name for part in read_json_lines(path, Part, remedy="-")] == ["a", "b\u2028"]
    path.write_text('{"name": "a", "share": 0}\n{"name": 5, "share": 0}\n')
    with pytest.raises(StateError, match=r"log\.jsonl:2: is damaged .*`\$\.name`\); remove the line"):
        read_json_lines(path, Part, remedy="remove the line")
