"""State files that are damaged, of another shape, or of a newer version."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass, field
from typing import Any

import pytest

from Code.common.errors import UsageError
from Code.common.files import inside
from Code.common.json_files import MissingStateError, NewerStateError, StateError, parse_state, read_lines, read_state


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
    by_name: dict[str, Part] = field(default_factory=dict)
    rest: dict[str, Any] = field(default_factory=dict)


GOOD = {"size": 3, "parts": [{"name": "a", "share": 1}], "rest": {"x": [1, None]}, "unknown": "ignored"}


def test_reads_what_fits(tmp_path):
    path = tmp_path / "state.json"
    path.write_text(json.dumps(GOOD), encoding="utf-8-sig")  # as some editors save it
    assert read_state(path, Whole, remedy="-") == Whole(3, [Part("a", 1.0)], {}, {"x": [1, None]})


def test_keeps_names_that_are_not_valid_unicode():
    name = b"clip\xff".decode("utf-8", "surrogateescape")
    assert parse_state(json.dumps({"name": name, "share": 0}).encode(), Part, place="p", remedy="-").name == name


BROKEN = {
    b"": "is not JSON (Expecting value, line 1, column 1)",
    b"\xff\xfe": "is not UTF-8 (byte 0)",
    b'{"size": 1': "is not JSON (Expecting ',' delimiter, line 1, column 11)",
    b"[" * 100_000: "has brackets within brackets, too many",
    b'{"size": ' + b"9" * 5000 + b"}": "is not JSON (Exceeds the limit",
    b"null": "expected object, got null",
    b"[]": "expected object, got array",
    b"{}": "has no field size",
    b'{"size": "3"}': "size: expected int, got str",
    b'{"size": true}': "size: expected int, got bool",
    b'{"size": 1.5}': "size: expected int, got float",
    b'{"size": 1, "parts": {}}': "parts: expected array, got object",
    b'{"size": 1, "parts": [{"name": "a"}]}': "parts[0]: has no field share",
    b'{"size": 1, "parts": [{"name": "a", "share": 7}]}': "parts[0]: share 7.0 is not from 0 to 1",
    b'{"size": 1, "by_name": {"q": {"name": 1, "share": 0}}}': "by_name.*.name: expected str, got int",
    b'{"size": 1, "parts": [{"name": "a", "share": NaN}]}': "parts[0]: share nan is not from 0 to 1",
}


@pytest.mark.parametrize("data", BROKEN)
def test_names_file_and_field(tmp_path, data):
    path = tmp_path / "state.json"
    path.write_bytes(data)
    with pytest.raises(StateError) as caught:
        read_state(path, Whole, remedy="start again")
    text = str(caught.value)
    assert text.startswith(f"{path}: {BROKEN[data]}") and text.endswith("; start again") and "\n" not in text
    assert caught.value.status == 2


def test_missing_and_unreadable(tmp_path):
    with pytest.raises(MissingStateError, match=r"no\.json: is missing; start again"):
        read_state(tmp_path / "no.json", Whole, remedy="start again")
    with pytest.raises(StateError, match="cannot be read"):
        read_state(tmp_path, Whole, remedy="-")
    with pytest.raises(StateError, match="cannot be read"):
        read_state("a\0b", Whole, remedy="-")


def test_newer_version(tmp_path):
    path = tmp_path / "state.json"
    path.write_text('{"version": 4, "size": "of another shape"}')
    with pytest.raises(NewerStateError, match=r"newer version of this program \(format 4, this one reads up to 3\)"):
        read_state(path, Whole, remedy="-", newest=3)
    for version in ('"version": 3, ', ""):
        path.write_text(f'{{{version}"size": 1}}')
        assert read_state(path, Whole, remedy="-", newest=3).size == 1


def test_lines(tmp_path):
    path = tmp_path / "log.jsonl"
    path.write_text('{"name": "a", "share": 0}\n\n{"name": "b\u2028", "share": 1}\n{"name": "c", "sha')
    assert [part.name for part in read_lines(path, Part, remedy="-")] == ["a", "b\u2028"]
    path.write_text('{"name": "a", "share": 0}\n{"name": 5, "share": 0}\n')
    with pytest.raises(StateError, match=r"log\.jsonl:2: name: expected str, got int; remove the line"):
        read_lines(path, Part, remedy="remove the line")


def test_a_name_stays_inside_its_folder(tmp_path):
    folder, elsewhere = tmp_path / "out", tmp_path / "elsewhere"
    (folder / "clip").mkdir(parents=True)
    elsewhere.mkdir()
    (folder / "link").symlink_to(elsewhere)
    (folder / "near").symlink_to(folder / "clip")
    (folder / "loop").symlink_to(folder / "loop")
    for name in ("clip", "new", "a/b", "near", "x..y"):
        assert inside(folder, name, "record") == folder / name
    hostile = [
        "",
        ".",
        "..",
        "../elsewhere",
        "clip/../../elsewhere",
        "clip/../clip",
        str(elsewhere),
        str(folder / "clip"),
    ]
    for name in [*hostile, "/", "link", "link/x", "loop", "a\0b"]:
        with pytest.raises(UsageError, match=r"record: names .*is not inside"):
            inside(folder, name, "record")


def test_state_starts_fast():
    heavy = "[name for name in ('torch', 'msgspec', 'filelock') if name in sys.modules]"
    code = f"import sys, Code.common.json_files, Code.common.lock; print({heavy})"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_half_of_a_surrogate_pair_is_one_line():
    with pytest.raises(StateError, match=r"^p: has a character that is not Unicode .*; start again$"):
        parse_state(b'"\\ud800"', dict[str, int], place="p", remedy="start again")
