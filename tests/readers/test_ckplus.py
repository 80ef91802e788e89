"""CK+: labels in a separate tree, folds by the rule and from the published file."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from Code.data.clips import DataError, describe
from Code.data.folds import Folds, folds_by_person, write_fold_file
from Code.readers.official import CKPLUS_LABELS
from tests.trees import CKPLUS_FOLD_SIZES, read_ckplus, stub_ckplus, stub_clip


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """593 sequences, 327 of them labeled."""
    return stub_ckplus(tmp_path_factory.mktemp("ck") / "CKPlus")


@pytest.fixture
def small(tmp_path: Path) -> Path:
    sequences = [("S005/001", 3), ("S010/002", 7), ("S010/004", 1), ("S011/001", 5), ("S130/007", 2)]
    return stub_ckplus(tmp_path / "CKPlus", sequences, unlabeled=2)


def problems_of(*args, **kwargs) -> list[str]:
    with pytest.raises(DataError) as caught:
        read_ckplus(*args, **kwargs)
    return caught.value.problems


def fold_of(folds: Folds) -> dict[str, int]:
    return {clip.name: clip.fold for clip in folds.clips.everything}


def test_the_whole_set_is_its_327_labeled_sequences_of_118_persons(whole):
    clips = read_ckplus(whole)
    assert len(clips.clips) == 327
    assert describe(clips) == "327 clips, 118 persons, 981 frames, 7 classes"
    assert clips.notes == ["266 sequences without a label not used"]
    counts = Counter(CKPLUS_LABELS[clip.label] for clip in clips.clips)
    assert counts == {"Angry": 45, "Contempt": 18, "Disgust": 59, "Fear": 25, "Happy": 69, "Sad": 28, "Surprise": 83}
    assert all(clip.person == clip.name.split("/")[0] for clip in clips.clips)


def test_folds_by_the_rule_have_the_published_sizes_and_no_person_is_in_two(whole):
    folds = folds_by_person(read_ckplus(whole), 10)
    assert tuple(map(len, folds.members())) == CKPLUS_FOLD_SIZES == (33, 39, 40, 35, 30, 37, 29, 29, 33, 22)
    assert folds.split_persons() == []
    for fold in range(1, 11):
        train, val = folds.train(fold), folds.val(fold)
        assert len(val.clips) == CKPLUS_FOLD_SIZES[fold - 1] and len(train.clips) + len(val.clips) == 327
        assert not {c.person for c in train.clips} & {c.person for c in val.clips}
    assert sorted(clip.name for fold in range(1, 11) for clip in folds.val(fold).clips) == sorted(
        clip.name for clip in folds.clips.clips
    )


def test_fold_file_is_written_in_the_published_format_and_read_again(whole, tmp_path):
    folds = folds_by_person(read_ckplus(whole), 10)
    path = tmp_path / "folds.txt"
    write_fold_file(path, folds)
    lines = path.read_text().splitlines()
    assert lines[0].startswith("1-fold 33 Angry ") and lines[34].startswith("2-fold 39 ") and len(lines) == 337
    words = lines[0].split()
    assert sorted(words[2::2]) == sorted(CKPLUS_LABELS)
    assert sum(map(int, words[3::2])) == 33
    assert lines[1].endswith(" Angry") and lines[33].endswith(" Surprise")
    again = Folds(read_ckplus(whole, path), "folds as listed")
    assert fold_of(again) == fold_of(folds) and again.count == 10


PUBLISHED = """1-fold 3 Angry 1 Surprise 1 Contempt 1
S010/004 Angry
S130/007 Contempt
S010/002 Surprise
2-fold 2 Disgust 1 Happy 1
S005/001 Disgust
S011/001 Happy
"""


def test_published_file_alone_will_do_without_emotion_labels(small, tmp_path):
    path = tmp_path / "folds.txt"
    path.write_text(PUBLISHED)
    labeled = read_ckplus(small, path)
    for file in small.glob("Emotion/*/*/*"):
        file.unlink()
    (small / "Emotion").rename(tmp_path / "elsewhere")
    clips = read_ckplus(small / "cohn-kanade-images", path)
    assert [(c.name, c.label, c.person, c.fold) for c in clips.clips] == [
        (c.name, c.label, c.person, c.fold) for c in labeled.clips
    ]
    assert [(c.name, CKPLUS_LABELS[c.label], c.fold) for c in clips.clips[2:4]] == [
        ("S010/002", "Surprise", 1),
        ("S005/001", "Disgust", 2),
    ]
    assert clips.notes == ["2 sequences without a label not used"]


@pytest.mark.parametrize(
    ("old", "new", "line", "said"),
    [
        ("1-fold 3", "1-fold 4", 1, "fold 1 announces 4 clips, but 3 follow"),
        ("2-fold", "3-fold", 5, "fold 3 where fold 2 is expected"),
        ("S011/001 Happy", "S011/001 HAPPY", 7, "did you mean 'Happy', not 'HAPPY'?"),
        ("S011/001 Happy", "S010/004 Angry", 7, "already in line 2"),
        ("S011/001 Happy", "Happy", 7, "malformed"),
        ("1-fold 3 Angry 1 Surprise 1 Contempt 1\n", "", 1, "before any header"),
        ("S010/004 Angry", "../S010/004 Angry", 2, "leaves the root"),
        ("S010/004 Angry", "S010/004 Sad", 2, "S010/004 is Sad in this file, but Angry in"),
        ("S011/001 Happy", "S011/009 Happy", 7, "no such folder"),
    ],
)
def test_each_fault_of_a_fold_file_is_named_by_its_line(small, tmp_path, old, new, line, said):
    path = tmp_path / "folds.txt"
    path.write_text(PUBLISHED.replace(old, new))
    problems = problems_of(small, path)
    assert any(problem.startswith(f"{path}, line {line}: ") and said in problem for problem in problems), problems


def test_empty_and_missing_fold_files(small, tmp_path):
    path = tmp_path / "folds.txt"
    path.write_text("\n")
    assert "the fold file is empty" in problems_of(small, path)[0]
    assert "no such list file" in problems_of(small, tmp_path / "none.txt")[0]
    with pytest.raises(DataError, match=r"--write-folds .* cannot be written"):
        write_fold_file(path / "folds.txt", folds_by_person(read_ckplus(small), 2))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("0.0000000e+00", "0, neutral, is not a class"),
        ("8.0", "not a number from 1 to 7"),
        ("happy", '"happy" is not a number'),
        ("3.5", "not a number"),
    ],
)
def test_labels_that_are_none_are_named_by_their_file(small, content, said):
    file = next(small.glob("Emotion/S011/001/*"))
    file.write_text(content)
    (problem,) = problems_of(small)
    assert problem.startswith(f"{file}: ") and said in problem


def test_aligned_faces_are_preferred_and_their_losses_keep_the_folds(small):
    rule = folds_by_person(read_ckplus(small), 2)
    for folder in (small / "cohn-kanade-images").glob("*/*"):
        if folder.is_dir():
            stub_clip(small / "faces" / folder.relative_to(small / "cohn-kanade-images"), ["0000001.jpg"])
    (small / "faces/S005/001/0000001.jpg").unlink()
    assert "no frames" in problems_of(small)[0]
    clips = read_ckplus(small, skip_empty=True)
    assert clips.root == str(small / "faces") and clips.skipped == ["S005/001"]
    folds = folds_by_person(clips, 2)
    assert fold_of(folds) == fold_of(rule)  # S005 counts, although its only sequence is skipped
    assert (folds.val(1).skipped, len(folds.val(1).clips)) == (["S005/001"], 1)
    assert (folds.val(2).skipped, len(folds.val(2).clips)) == ([], 3)


def test_missing_parts_get_a_newcomer_further(small, tmp_path):
    with pytest.raises(DataError) as caught:
        read_ckplus(tmp_path / "nowhere")
    assert "cohn-kanade-images/S005/001" in str(caught.value) and "Data/README.md" in str(caught.value)
    for file in small.glob("Emotion/*/*/*"):
        file.unlink()
    assert "Emotion: no S*/*/*_emotion.txt; the labels belong there" in problems_of(small)[0]
