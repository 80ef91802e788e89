"""Splits of your own clips into training and validation: by class, by person, and errors."""

from __future__ import annotations

from pathlib import Path

import pytest

from Code.common.commandline import run_script
from Code.data.clips import DataError
from Code.data.folds import name_persons
from Code.readers.folders import read_folders
from Code.readers.heldout import main, split_clips
from tests.trees import read_dataset, stub_clip

PATTERN = "/([^_]+)_"


def tree(root: Path, persons: str = "abcdefgh", classes: tuple[str, ...] = ("Happy", "Sad")) -> Path:
    """One clip per person and class."""
    for label in classes:
        for person in persons:
            stub_clip(root / label / f"{person}_{label}")
    return root


def test_a_share_of_each_class_is_held_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root, output = tree(tmp_path / "faces"), tmp_path / "clips.csv"
    (root / "Sad" / "nobody").mkdir()  # Prepare_Faces makes no folder for a clip without a face, other tools may
    assert main([str(root), "--output", str(output)]) == 0
    said = capsys.readouterr().out
    assert "12 clips to train on, 4 held out (25 % of each class's clips; persons are unknown" in said
    train, val = (read_dataset("list", root, output, split=split) for split in ("train", "val"))
    assert [sum(clip.label == label for clip in val.clips) for label in (0, 1)] == [2, 2]
    assert train.labels == val.labels == ("Happy", "Sad")
    assert not {clip.name for clip in train.clips} & {clip.name for clip in val.clips}

    first = output.read_text()
    assert main([str(root), "--output", str(output)]) == 0 and output.read_text() == first
    assert main([str(root), "--output", str(output), "--seed", "1"]) == 0 and output.read_text() != first


def test_no_person_is_on_both_sides(tmp_path: Path) -> None:
    root, output = tree(tmp_path / "faces"), tmp_path / "clips.csv"
    assert main([str(root), "--output", str(output), "--person-pattern", PATTERN, "--share", "0.4"]) == 0
    train, val = (read_dataset("list", root, output, split=split) for split in ("train", "val"))
    sides = [{clip.person for clip in clips.clips} for clips in (train, val)]
    assert not sides[0] & sides[1] and sides[0] | sides[1] == set("abcdefgh")
    assert len(sides[1]) == 4  # whole persons until the share is reached: 8 of 16 clips, not 6


def test_what_cannot_be_split_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def refused(*arguments: object) -> str:
        assert run_script(lambda: main([str(argument) for argument in arguments])) == 2
        (line,) = capsys.readouterr().err.splitlines()
        return line

    output = ("--output", tmp_path / "clips.csv")
    few = tree(tmp_path / "few", "a")
    assert "Happy has 1, Sad has 1; a training needs at least two classes with two clips each" in refused(few, *output)
    assert "only one class, Happy" in refused(tree(tmp_path / "one", classes=("Happy",)), *output)
    faces = tree(tmp_path / "faces")
    assert "cannot be written" in refused(faces, "--output", faces / "Sad" / "a_Sad" / "001.jpg" / "clips.csv")
    assert "not a regular expression" in refused(faces, *output, "--person-pattern", "(")
    assert not (tmp_path / "clips.csv").exists()
    for number in range(3):  # one person is in all clips of a class
        stub_clip(tmp_path / "lost" / "Sad" / f"z_{number}")
        stub_clip(tmp_path / "lost" / "Happy" / f"y_{number}")
    with pytest.raises(DataError, match=r"all clips of (Sad|Happy) show persons held out"):
        split_clips(name_persons(read_folders(tmp_path / "lost"), PATTERN))
