"""Clips in folders and lists, valid and not: what is read, and how each fault is named."""

from __future__ import annotations

import os
import pickle
import unicodedata
from pathlib import Path

import pytest

from Code.common.names import AFEW_LABELS
from Code.data.clips import ClipSet, DataError, describe
from Code.data.request import Request
from Code.readers import find
from Code.readers.folders import read_folders
from tests.trees import read_afew, stub_clip


def make_list(root: Path, content: str | bytes) -> Path:
    path = root.parent / "list.txt"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def names(clip_set: ClipSet) -> list[str]:
    return [clip.name for clip in clip_set.clips]


def error_of(read, *args, **kwargs) -> DataError:
    with pytest.raises(DataError) as caught:
        read(*args, **kwargs)
    return caught.value


def problem_of(read, *args, **kwargs) -> str:
    (problem,) = error_of(read, *args, **kwargs).problems
    return problem


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Three clips of two classes."""
    root = tmp_path / "Train"
    for name, frames in (("Fear/000633000", 3), ("Fear/000633680", 2), ("Happy/000149120", 4)):
        stub_clip(root / name, frames, first=0)
    return root


# Valid data


def test_clips_of_a_list_are_in_its_order_and_those_of_folders_in_that_of_the_classes(root):
    clip_set = read_afew(root, make_list(root, "Happy/000149120 Happy\nFear/000633000 Fear\n"))
    assert [(clip.name, clip.label) for clip in clip_set.clips] == [("Happy/000149120", 0), ("Fear/000633000", 3)]
    assert clip_set.labels == AFEW_LABELS and clip_set.skipped == []
    clip = clip_set.clips[1]
    assert len(clip) == 3 and clip.frames == ("000.jpg", "001.jpg", "002.jpg")
    assert clip.paths == [str(root / "Fear/000633000" / frame) for frame in clip.frames]
    clip_set = read_afew(root)
    assert names(clip_set) == ["Happy/000149120", "Fear/000633000", "Fear/000633680"]
    assert describe(clip_set) == "3 clips, 9 frames, 7 classes" and clip_set.root == str(root)
    stub_clip(root / "Fear/empty", 0)
    stub_clip(root / "Sad/long", 1200)
    text = describe(read_afew(root, skip_empty=True))
    assert text == "4 clips, 1 209 frames, 7 classes, 1 clip without frames skipped"


def test_links_are_followed_and_loops_end(root, tmp_path):
    (root / "Fear/linked").symlink_to(stub_clip(tmp_path / "other_disk/clip", 5), target_is_directory=True)
    assert len(read_afew(root).clips) == 4
    (root / "Fear/loop").symlink_to(root, target_is_directory=True)
    problem = problem_of(read_afew, root)
    assert f"{root / 'Fear/loop'}: no frames, only folders: is the root one level too high?" in problem


def test_frames_and_clips_are_in_natural_order_and_other_files_are_no_frames(tmp_path):
    frames = ["1.jpg", "2.jpg", "03.jpg", "10.jpg", "img.png", "Img 3.png", "img (1).png"]
    clutter = [".DS_Store", "Thumbs.db", "._001.jpg", ".hidden.png", "landmarks.txt", "jpg"]
    folder = stub_clip(tmp_path / "Sad/c10", [*reversed(frames), *clutter])
    (folder / "deeper.jpg").mkdir()
    for name in ("Sad/c2", ".git/1", "__MACOSX/1", "Sad/.ipynb_checkpoints"):
        stub_clip(tmp_path / name)
    clip_set = read_afew(tmp_path)
    assert names(clip_set) == ["Sad/c2", "Sad/c10"]
    assert list(clip_set.clips[1].frames) == frames


def test_folders_take_their_class_names_as_labels_or_those_of_training(tmp_path):
    stub_clip(tmp_path / "smile/b")
    stub_clip(tmp_path / "frown/a")
    (tmp_path / "notes.txt").touch()
    clip_set = read_folders(tmp_path)
    assert clip_set.labels == ("frown", "smile")
    assert [(clip.name, clip.label) for clip in clip_set.clips] == [("frown/a", 0), ("smile/b", 1)]
    clip_set = read_folders(tmp_path, labels=("frown", "neutral", "smile"))
    assert [clip.label for clip in clip_set.clips] == [0, 2] and len(clip_set.labels) == 3
    problem = problem_of(read_folders, tmp_path, labels=("frown", "smiles"))
    assert problem == f'{tmp_path / "smile"}: unknown class "smile"; known: frown, smiles'


# One name in several spellings

COMPOSED, DECOMPOSED = "Fr\u00f6hlich", "Fro\u0308hlich"


def test_two_spellings_of_one_class_are_one_error_that_names_both(tmp_path):
    for one, other in ((COMPOSED, DECOMPOSED), ("happy", "Happy"), ("very sad", "very  sad"), ("calm", "ca\u200blm")):
        root = tmp_path / ascii(one)
        for name in (one, other, "third"):
            stub_clip(root / name / "1")
        problem = problem_of(read_folders, root)
        assert problem.startswith(f"{root}: ") and problem.endswith("; merge the folders")
        assert ascii(one) in problem and ascii(other) in problem
        problem = problem_of(read_folders, root, labels=(one, "third"))
        assert f"did you mean {one!a}, not {other!a}?" in problem


@pytest.mark.parametrize(("listed_as", "lies_as"), [("NFC", "NFD"), ("NFD", "NFC")])
def test_a_list_may_spell_a_folder_as_other_systems_do(tmp_path, listed_as, lies_as):
    stub_clip(tmp_path / "Train" / unicodedata.normalize(lies_as, "Fear/Zo\u00eb"))
    name = unicodedata.normalize(listed_as, "Fear/Zo\u00eb")
    (clip,) = read_afew(tmp_path / "Train", make_list(tmp_path / "Train", f"{name} Fear\n")).clips
    assert clip.name == name and len(os.listdir(clip.folder)) == 3


# Lists


@pytest.mark.parametrize(
    "content",
    [
        b"\xef\xbb\xbfFear/000633000 Fear\r\nHappy/000149120 Happy\n",
        b"Fear/000633000 Fear\rHappy/000149120 Happy",
        b"Fear/000633000\tFear\nHappy/000149120 \t Happy\t\n",
        b"\n\n  Fear/000633000   Fear  \n\t\n \nHappy/000149120 Happy\n\n",
        b"./Fear//000633000/ Fear\nFear/../Happy/000149120 Happy\n",
        b"Fear\\000633000 Fear\r\nHappy\\000149120 Happy\r\n",
        b"Fear/000633000 Fear\n\xef\xbb\xbfHappy/000149120 Happy",
        "Fear/000633000 Fear\r\nHappy/000149120 Happy\r\n".encode("utf-16"),
    ],
    ids=["bom", "cr", "tabs", "blanks", "dots", "backslashes", "joined", "utf-16"],
)
def test_lists_of_every_editor(root, content):
    assert names(read_afew(root, make_list(root, content))) == ["Fear/000633000", "Happy/000149120"]


@pytest.mark.parametrize("name", ["Fear/my first clip", "Fear/Zo\u00eb \u6050\u308c", "Fear/a\u2028b", "Fear/Fear"])
@pytest.mark.parametrize("separator", [" ", "\t"])
def test_spaces_and_other_alphabets_in_names(tmp_path, name, separator):
    stub_clip(tmp_path / "Train" / name)
    listed = make_list(tmp_path / "Train", f"{name}{separator}Fear\n")
    assert names(read_afew(tmp_path / "Train", listed)) == names(read_afew(tmp_path / "Train")) == [name]


# Errors


def test_nothing_to_read_gets_a_newcomer_further(tmp_path):
    for read in (read_afew, read_folders):
        for root, problem in ((tmp_path / "none", "no such folder"), (tmp_path, "no clips")):
            error = error_of(read, root)
            assert error.problems == [f"{root}: {problem}"]
            advice = ("<Class>/<clip>/<frame>.jpg", "--dataset sample", "Data/README.md")
            assert all(text in str(error) for text in advice)
    (tmp_path / "Fear/1").mkdir(parents=True)
    assert "no clip of 1 has frames" in problem_of(read_afew, tmp_path, skip_empty=True)


def test_missing_and_unreadable_lists(root):
    path = root.parent / "none.txt"
    assert problem_of(read_afew, root, path) == f"{path}: no such list file; correct the path"
    assert problem_of(read_afew, root, "/dev/zero") == "/dev/zero: the list cannot be read (not a regular file)"
    listed = make_list(root, b"Fear/000633000 Fear\nFear/\xe9t\xe9 Fear\n")
    assert problem_of(read_afew, root, listed).startswith(f"{listed}, line 2: not UTF-8")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("Fear/000633001 Fear", "no such folder"),
        ("Fear/file Fear", "the folder cannot be read (Not a directory)"),
        ("Fear/000633000 FEAR", "did you mean 'Fear', not 'FEAR'?"),
        ("Fear/000633000 Xyz", "known: Happy, Angry, Disgust, Fear, Sad, Neutral, Surprise"),
        ("Fear/000633000 Happy", "is in folder Fear, but the line says Happy"),
        ("Fear Fear", "does not name a clip"),
        ("/etc Fear", "absolute"),
        ("Fear/../../Train/Fear/000633000 Fear", "leaves the root"),
        ("..\\Train\\Fear\\000633000 Fear", "leaves the root"),
        ("Fear/000\x00633000 Fear", "leaves the root"),
        ("./Fear/000633680/\tFear", "already in line 1"),
        ("Fear/empty Fear", "no frames"),
        ("Fear/" + "x" * 5000 + " Fear", "cannot be read (File name too long)"),
    ],
    ids=lambda text: repr(text[:30]),
)
def test_each_bad_line_is_named(root, line, message):
    (root / "Fear/empty").mkdir()
    (root / "Fear/file").touch()
    listed = make_list(root, f"Fear/000633680 Fear\n\n{line}\nHappy/000149120 Happy\n")
    problem = problem_of(read_afew, root, listed)
    assert problem.startswith(f"{listed}, line 3: ") and message in problem
    assert problem.isprintable() and len(problem) < 700


def test_a_thousand_missing_clips_do_not_flood_the_terminal(root):
    error = error_of(read_afew, root, make_list(root, "".join(f"Fear/x{i} Fear\n" for i in range(1000))))
    lines = str(error).split("\n")
    assert len(error.problems) == 1000 and len(lines) == 23
    assert lines[0] == "1000 problems:" and lines[1].strip() == error.problems[0] and lines[21] == "  and 980 more"
    assert "is it the right folder?" in lines[22]


def test_empty_clips_are_fatal_or_skipped_and_counted(root):
    (root / "Fear/empty").mkdir()
    stub_clip(root / "Happy/videos", ["1.avi", ".DS_Store"])
    text = str(error_of(read_afew, root))
    assert str(root / "Fear/empty") in text and str(root / "Happy/videos") in text and "--skip-empty" in text
    clip_set = read_afew(root, skip_empty=True)
    assert clip_set.skipped == ["Happy/videos", "Fear/empty"] and len(clip_set.clips) == 3
    listed = make_list(root, "Fear/empty Fear\nFear/000633000 Fear\n")
    clip_set = read_afew(root, listed, skip_empty=True)
    assert clip_set.skipped == ["Fear/empty"] and len(clip_set.clips) == 1


def test_names_that_no_csv_file_can_hold(root):
    os.mkdir(os.fsencode(root / "Fear") + b"/caf\xe9")
    with open(os.fsencode(root / "Fear/000633000") + b"/\xff.jpg", "wb"):
        pass
    problems = error_of(read_afew, root, skip_empty=True).problems
    assert len(problems) == 2 and all("not valid UTF-8" in problem for problem in problems)
    "\n".join(problems).encode()


def test_folds_of_an_absolute_and_a_relative_root(tmp_path, monkeypatch):
    stub_clip(tmp_path / "train/Happy/1", 1)
    stub_clip(tmp_path / "val/Happy/2", 1)
    monkeypatch.chdir(tmp_path)
    clips = find("folders").read_all(Request(train_root=str(tmp_path / "train"), val_root="val", fold=1))
    assert names(clips) == ["Happy/1", "Happy/2"] and clips.root == str(tmp_path)


def test_error_survives_a_worker_process():
    error = DataError(["a", "b"], ["do c"])
    again = pickle.loads(pickle.dumps(error))
    assert str(again) == str(error) == "2 problems:\n  a\n  b\ndo c"
    assert again.problems == error.problems
