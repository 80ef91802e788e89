"""Tables of your own, and their folds and persons."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from Code.check import check_before_training
from Code.common.errors import UsageError
from Code.data.clips import ClipSet, DataError
from Code.data.folds import (
    Folds,
    folds_by_person,
    folds_from_file,
    hold_out,
    name_persons,
    write_fold_file,
)
from Code.data.listing import Listing, read_lines
from Code.data.request import Request
from Code.readers import find
from Code.readers.folders import read_folders
from Code.readers.tables import read_table
from tests.trees import stub_clip

ROWS = [
    ("a/1", "happy", "train", "1", "anna"),
    ("a/2", "sad", "train", "2", "anna"),
    ("b/clip 1", "happy", "val", "1", "bob"),
    ("b/2", "sad", "test", "2", "bob"),
]


def read_plain_list(root: Path, path: Path, *, labels: Sequence[str] = (), split: str | None = None) -> ClipSet:
    listing = Listing(str(root), tuple(labels), str(path))
    read_table(listing, read_lines(str(path)), split)
    return listing.find_frames()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for path, *_ in ROWS:
        stub_clip(tmp_path / "clips" / path)
    return tmp_path / "clips"


def write(root: Path, *rows: tuple[str, ...] | str, header: str = "path,label,split,fold,person") -> Path:
    path = root.parent / "own.csv"
    path.write_text("\n".join([header, *(row if isinstance(row, str) else ",".join(row) for row in rows)]) + "\n")
    return path


def problems_of(root: Path, path: Path, **kwargs) -> list[str]:
    with pytest.raises(DataError) as caught:
        read_plain_list(root, path, **kwargs)
    return caught.value.problems


def test_every_column(root):
    path = write(root, *ROWS)
    clips = read_plain_list(root, path)
    assert clips.labels == ("happy", "sad")
    assert [(c.name, c.label, c.fold, c.person) for c in clips.clips] == [
        ("a/1", 0, 1, "anna"), ("a/2", 1, 2, "anna"), ("b/clip 1", 0, 1, "bob"), ("b/2", 1, 2, "bob"),
    ]  # fmt: skip
    assert [len(read_plain_list(root, path, split=split).clips) for split in ("train", "val", "test")] == [2, 1, 1]
    val = read_plain_list(root, path, split="val")
    assert val.labels == clips.labels
    given = read_plain_list(root, path, labels=("sad", "angry", "happy"))
    assert [clip.label for clip in given.clips] == [2, 0, 2, 0] and given.labels == ("sad", "angry", "happy")
    assert val.notes == [f"{path}: 1 row of split test not used; --eval-split test evaluates them"]


def test_columns_in_any_order_and_with_any_separator(root):
    for separator in (",", ";", "\t"):
        header = separator.join(["person", "LABEL", "note", "path"])
        rows = [separator.join([who, label, "x", path]) for path, label, _, _, who in ROWS]
        clips = read_plain_list(root, write(root, *rows, header=header))
        assert [(c.name, c.person) for c in clips.clips] == [(row[0], row[4]) for row in ROWS]


def test_quotes_spreadsheet_leftovers_and_other_line_ends(root):
    stub_clip(root / "c, d")
    text = '\ufeffpath,label,split,,\r\n"c, d",happy,train,,\r\n,,,,\r\na/1,sad,test\r\n'
    path = root.parent / "own.csv"
    path.write_text(text, newline="")
    assert [clip.name for clip in read_plain_list(root, path).clips] == ["c, d", "a/1"]
    assert [clip.name for clip in read_plain_list(root, path, split="val").clips] == ["a/1"]


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("a/2,hapy,train,1,anna", "known: happy, sad"),
        ("a/2,,train,1,anna", "no label"),
        ("a/2,happy,dev,1,anna", 'split "dev" is not train, val or test'),
        ("a/2,happy,train,0,anna", 'fold "0" is not a number from 1'),
        ("a/2,happy,,1,anna", "no split, but other rows have one"),
        ("a/2,happy,train,1,anna,more", "6 values for the 5 columns"),
        ('"a/2,happy,train,1,anna', "malformed"),
        ("/a/2,happy,train,1,anna", "absolute"),
        (".,happy,train,1,anna", "the root itself"),
    ],
)
def test_each_bad_row_is_named(root, row, said):
    path = write(root, ROWS[0], row, ROWS[2])
    (problem,) = problems_of(root, path, labels=("happy", "sad"))
    assert problem.startswith(f"{path}, line 3: ") and said in problem


@pytest.mark.parametrize(
    ("text", "split", "said"),
    [
        ("a/1,happy\n", None, "the first line should be path,label"),
        ("path,label\n", None, "no row"),
        ("path,label\na/1,happy\n", "train", "no row has split train; name a list per split, or use --fold"),
        ("path,label,split\na/1,happy,train\n", "val", "no row has split test"),
    ],
)
def test_lists_that_are_none(root, text, split, said):
    (root.parent / "own.csv").write_text(text)
    assert said in problems_of(root, root.parent / "own.csv", split=split)[0]


# Folds


def test_folds_of_the_list_and_of_persons(root):
    clips = read_plain_list(root, write(root, *ROWS))
    listed, made = Folds(clips, "list"), folds_by_person(clips, 2)
    assert [[clip.name for clip in clips] for clips in listed.members()] == [["a/1", "b/clip 1"], ["a/2", "b/2"]]
    assert [[clip.name for clip in clips] for clips in made.members()] == [["a/1", "a/2"], ["b/clip 1", "b/2"]]
    assert listed.split_persons() == ["anna", "bob"] and made.split_persons() == []
    with pytest.raises(DataError, match="2 persons cannot be divided into 3 folds"):
        folds_by_person(clips, 3)


def test_folds_that_cannot_be(root):
    clips = read_plain_list(root, write(root, *(row[:2] for row in ROWS), header="path,label"))
    with pytest.raises(DataError, match=r"4 clips without a person, e\.g\. a/1; .* `person`.* --person-pattern"):
        folds_by_person(clips, 2)
    for folds, problem in (
        ("", "list: .a/1. has no fold"),
        ("1313", "fold 2 has no clip"),
        ("1111", "at least 2 folds"),
    ):
        rows = [(*row[:2], *fold) for row, fold in zip(ROWS, folds or [()] * 4, strict=True)]
        clips = read_plain_list(root, write(root, *rows, header="path,label,fold" if folds else "path,label"))
        with pytest.raises(DataError, match=problem):
            Folds(clips, "list")


def test_persons_from_names(tmp_path):
    for name in ("happy/anna_1", "happy/bob_1", "sad/Anna_2"):
        stub_clip(tmp_path / name)
    clips = read_folders(tmp_path)
    assert [clip.person for clip in name_persons(clips, r"/([A-Za-z]+)_").clips] == ["anna", "bob", "anna"]
    assert [clip.person for clip in name_persons(clips, r"[aA]nna|bob").clips] == ["anna", "bob", "anna"]
    with pytest.raises(DataError) as caught:
        name_persons(clips, "[aA]nna")
    assert caught.value.problems == ['--person-pattern "[aA]nna": does not match "happy/bob_1"']
    with pytest.raises(DataError, match="not a regular expression"):
        name_persons(clips, "(")


def test_folds_go_through_a_file(root):
    clips = read_plain_list(root, write(root, *ROWS))
    folds = folds_by_person(clips, 2)
    path = root.parent / "folds.txt"
    write_fold_file(path, folds)
    assert folds_from_file(clips, str(path)).members() == folds.members()
    path.write_text(path.read_text().replace("a/1 happy", "a/1 sad").replace("a/2 sad", "c sad"))
    with pytest.raises(DataError) as caught:
        folds_from_file(clips, str(path))
    assert len(caught.value.problems) == 2
    assert "is happy in the data" in caught.value.problems[0] and '"c" is not a clip' in caught.value.problems[1]
    path.write_text("1-fold 1\na/1 happy\n2-fold 1\nb/clip 1 happy\n")
    with pytest.raises(DataError, match='"a/2" has no fold'):
        folds_from_file(clips, str(path))


# One name in several spellings


def test_a_person_in_two_spellings_is_one_person_in_folds_lists_and_the_check(root):
    spellings = ("Zo\u00eb", "Zoe\u0308", "bob  b", "\u200bBob B")
    rows = [(*row[:2], split, who) for row, who, split in zip(ROWS, spellings, ("train", "val") * 2, strict=True)]
    path = write(root, *rows, header="path,label,split,person")
    clips = read_plain_list(root, path)
    assert [clip.person for clip in clips.clips] == ["zo\u00eb", "zo\u00eb", "bob b", "bob b"]
    assert len(clips.notes) == 2 and all(note.endswith("; taken as one person") for note in clips.notes)
    assert "'Zo\\xeb', 'Zoe\\u0308'" in clips.notes[0]
    assert [[clip.name for clip in fold] for fold in folds_by_person(clips, 2).members()] == [
        ["b/clip 1", "b/2"], ["a/1", "a/2"],
    ]  # fmt: skip
    train, val = (read_plain_list(root, path, split=split) for split in ("train", "val"))
    warnings = check_before_training(train, val, num_frames=3, known_labels=None, headers=False)
    assert any(line.startswith("persons in both splits: 2, ") for line in warnings)


def test_a_class_in_two_spellings_is_one_error_that_names_both(root):
    for one, other in (("Fr\u00f6h", "Fro\u0308h"), ("sad", "SAD"), ("\uff33ad", "Sad")):
        path = write(root, ("a/1", one), ("a/2", other), header="path,label")
        (problem,) = problems_of(root, path)
        assert ascii(one) in problem and ascii(other) in problem and "are one name" in problem
    with pytest.raises(UsageError, match=r"--labels: .* are one name"):
        find("list").check(Request(labels=("sad", "Sad")))


def test_a_tenth_of_the_training_set_is_held_out_person_by_person(tmp_path):
    for person in range(30):
        for label in "ab":
            stub_clip(tmp_path / label / f"p{person:02d}", 1)
    train = name_persons(read_folders(tmp_path), "p[0-9]+")
    kept, held, how = hold_out(train, 0)
    assert len(held.clips) == 6 and len(kept.clips) == 54 and how == "3 of 30 persons"
    assert not {clip.person for clip in kept.clips} & {clip.person for clip in held.clips}
    assert hold_out(train, 0)[1].clips == held.clips and hold_out(train, 1)[1].clips != held.clips
