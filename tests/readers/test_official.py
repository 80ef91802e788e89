"""CK+, DFEW, FERV39k and MAFW in their official layouts, and the lists that other projects share of them."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from Code.common.names import AFEW_LABELS
from Code.data.clips import ClipSet, DataError, describe
from Code.data.folds import Folds, folds_by_person, write_fold_file
from Code.data.request import Request
from Code.readers import find
from Code.readers.official import CKPLUS_LABELS, DFEW, DFEW_LABELS, FERV39K, FERV39K_LABELS, MAFW, MAFW_LABELS
from tests.trees import (
    CKPLUS_FOLD_SIZES,
    MAFW_CLASSES,
    read_ckplus,
    read_dataset,
    stub_ckplus,
    stub_clip,
    stub_dfew,
    stub_ferv39k,
    stub_mafw,
)

# CK+


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
        read_dataset(*args, **kwargs)
    return caught.value.problems


def fold_of(folds: Folds) -> dict[str, int]:
    return {clip.name: clip.fold for clip in folds.clips.everything}


def test_the_whole_set_is_its_327_labeled_sequences_of_118_persons(whole):
    clips = read_ckplus(whole)
    assert describe(clips) == "327 clips, 118 persons, 981 frames, 7 classes"
    assert clips.notes == ["266 sequences without a label not used"]
    counts = Counter(CKPLUS_LABELS[clip.label] for clip in clips.clips)
    assert counts == {"Angry": 45, "Contempt": 18, "Disgust": 59, "Fear": 25, "Happy": 69, "Sad": 28, "Surprise": 83}
    assert all(clip.person == clip.name.split("/")[0] for clip in clips.clips)


def test_folds_have_the_published_sizes_and_format_and_no_person_is_in_two(whole, tmp_path):
    folds = folds_by_person(read_ckplus(whole), 10)
    assert tuple(map(len, folds.members())) == CKPLUS_FOLD_SIZES
    assert folds.split_persons() == []
    train, val = folds.train(1), folds.val(1)
    assert len(val.clips) == 33 and len(train.clips) == 327 - 33
    assert not {clip.person for clip in train.clips} & {clip.person for clip in val.clips}

    path = tmp_path / "folds.txt"
    write_fold_file(path, folds)
    lines = path.read_text().splitlines()
    assert lines[0].startswith("1-fold 33 Angry ") and lines[34].startswith("2-fold 39 ") and len(lines) == 337
    words = lines[0].split()
    assert sorted(words[2::2]) == sorted(CKPLUS_LABELS) and sum(map(int, words[3::2])) == 33
    assert fold_of(Folds(read_ckplus(whole, path), "folds as listed")) == fold_of(folds)


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
    (small / "Emotion").rename(tmp_path / "elsewhere")
    clips = read_ckplus(small / "cohn-kanade-images", path)
    same = [(one.name, one.label, one.person, one.fold) == (other.name, other.label, other.person, other.fold)
            for one, other in zip(clips.clips, labeled.clips, strict=True)]  # fmt: skip
    assert all(same)
    assert clips.notes == ["2 sequences without a label not used"]
    assert (clips.clips[3].name, CKPLUS_LABELS[clips.clips[3].label], clips.clips[3].fold) == ("S005/001", "Disgust", 2)


@pytest.mark.parametrize(
    ("old", "new", "line", "said"),
    [
        ("1-fold 3", "1-fold 4", 1, "fold 1 announces 4 clips, but 3 follow"),
        ("2-fold", "3-fold", 5, "fold 3 where fold 2 is expected"),
        ("S011/001 Happy", "S010/004 Angry", 7, "already in line 2"),
        ("S011/001 Happy", "Happy", 7, "malformed"),
        ("1-fold 3 Angry 1 Surprise 1 Contempt 1\n", "", 1, "before any header"),
        ("S010/004 Angry", "S010/004 Sad", 2, "S010/004 is Sad in this file, but Angry in"),
        ("S011/001 Happy", "S011/009 Happy", 7, "no such folder"),
    ],
)
def test_each_fault_of_a_fold_file_is_named_by_its_line(small, tmp_path, old, new, line, said):
    path = tmp_path / "folds.txt"
    path.write_text(PUBLISHED.replace(old, new))
    problems = problems_of("ckplus", small, split=None, fold_file=str(path))
    assert any(problem.startswith(f"{path}, line {line}: ") and said in problem for problem in problems), problems


@pytest.mark.parametrize("content", ["0.0000000e+00", "8.0", "happy", "3.5"])
def test_labels_that_are_none_are_named_by_their_file(small, content):
    file = next(small.glob("Emotion/S011/001/*"))
    file.write_text(content)
    (problem,) = problems_of("ckplus", small, split=None)
    assert problem.startswith(f'{file}: "{content}" is not a number from 1 to 7 (0, neutral, is not a class')


def test_aligned_faces_are_preferred_and_their_losses_keep_the_folds(small):
    rule = folds_by_person(read_ckplus(small), 2)
    for folder in (small / "cohn-kanade-images").glob("*/*/"):
        stub_clip(small / "faces" / folder.relative_to(small / "cohn-kanade-images"), ["0000001.jpg"])
    (small / "faces/S005/001/0000001.jpg").unlink()
    assert "no frames" in problems_of("ckplus", small, split=None)[0]
    clips = read_ckplus(small, skip_empty=True)
    assert clips.root == str(small / "faces") and clips.skipped == ["S005/001"]
    assert fold_of(folds_by_person(clips, 2)) == fold_of(rule)  # S005 counts, although its only sequence is skipped


def test_missing_parts_of_ckplus_get_a_newcomer_further(small, tmp_path):
    with pytest.raises(DataError) as caught:
        read_ckplus(tmp_path / "nowhere")
    assert "cohn-kanade-images/S005/001" in str(caught.value) and "Data/README.md" in str(caught.value)
    for file in small.glob("Emotion/*/*/*"):
        file.unlink()
    assert "Emotion: no S*/*/*_emotion.txt" in problems_of("ckplus", small, split=None)[0]


# DFEW, FERV39k, MAFW


def named(clips: ClipSet) -> list[tuple[str, str]]:
    return [(clip.name, clips.labels[clip.label]) for clip in clips.clips]


def test_dfew_labels_begin_with_one_and_ids_have_five_digits(tmp_path):
    root, other = stub_dfew(tmp_path / "DFEW"), stub_dfew(tmp_path / "other", numbers_as_written=True)
    _, val, count = DFEW.read_pair(Request(train_root=str(root), fold=1))
    assert count == 5 and val.labels == DFEW_LABELS
    assert named(val) == [("00005", "Surprise"), ("00010", "Neutral"), ("00015", "Happy"), ("00020", "Disgust")]
    assert val.clips[0].paths == [str(root / "Clip/clip_224x224/00005" / name) for name in ("001.jpg", "002.jpg")]
    assert named(DFEW.read_pair(Request(train_root=str(other), fold=1))[1]) == named(val)  # ids that lost their zeros


def test_ferv39k_has_no_header_and_its_first_line_is_a_clip(tmp_path):
    train, val, _ = FERV39K.read_pair(Request(train_root=str(stub_ferv39k(tmp_path / "FERV39k"))))
    names = ["Action/Happy/0267", "Action/Angry/0001", "Crime/Fear/0001", "Crime/Sad/0400"]
    assert named(train) == [(name, name.split("/")[1]) for name in names] and train.labels == FERV39K_LABELS
    assert named(val) == [("Action/Happy/0268", "Happy"), ("Crime/Fear/0002", "Fear")]
    assert train.clips[0].frames == ("000.jpg", "001.jpg")


def test_mafw_folds_cover_every_clip_once_with_the_official_classes(tmp_path):
    root = stub_mafw(tmp_path / "MAFW")
    tested = []
    for fold in range(1, 6):
        train, val, count = MAFW.read_pair(Request(train_root=str(root), fold=fold))
        assert count == 5 and train.labels == val.labels == MAFW_LABELS and len(MAFW_LABELS) == 11
        assert not {clip.name for clip in train.clips} & {clip.name for clip in val.clips}
        assert len(train.clips) + len(val.clips) == 22
        tested += named(val)
    words = {"anger": "Angry", "happiness": "Happy", "sadness": "Sad"}
    classes = [words.get(name, name.capitalize()) for name in MAFW_CLASSES]
    assert sorted(tested) == [(f"{number:05d}", classes[(number - 1) % 11]) for number in range(1, 23)]


def test_mafw_prefers_faces_and_is_evaluated_in_folds(tmp_path):
    request = Request(train_root=str(stub_mafw(tmp_path / "MAFW")), fold=1)
    for clip in (tmp_path / "MAFW/data/frames").iterdir():
        stub_clip(tmp_path / "MAFW/data/faces" / clip.name, 1)
    assert MAFW.read(request, "train").root == str(tmp_path / "MAFW/data/faces")
    assert MAFW.needs_folds(Request()) and MAFW.count_folds(request) == 5


@pytest.mark.parametrize(
    ("dataset", "line", "said"),
    [
        ("dfew", "00001,0", 'label "0" is not a number from 1 (Happy) to 7 (Fear)'),
        ("dfew", "00001,8", 'label "8"'),
        ("dfew", "../1,1", '"../1" is not the number of a clip'),
        ("mafw", "00001.mp4 joy", 'class "joy" is not one of happiness, sadness'),
        ("mafw", "clip.mp4 anger", '"clip.mp4" is not the number of a clip'),
        ("list", "x 2 7", "label 7 is unknown; known: 0 Happy, 1 Sad, 2 Neutral"),
        ("list", "x 2 -1", "malformed"),
        ("list", "../x 2 1", "leaves the root"),
    ],
)
def test_each_bad_line_is_named(tmp_path, dataset, line, said):
    stub_clip(tmp_path / "00003")
    path = tmp_path / "list.txt"
    path.write_text({"dfew": "00003,1", "mafw": "00003.mp4 fear", "list": "00003 3 4"}[dataset] + f"\n{line}\n")
    (problem,) = problems_of(dataset, tmp_path, path)
    assert problem.startswith(f"{path}, line 2: ") and said in problem


# Lists written on another machine

OLD = "/home/someone/datasets/DFEW/Clip/clip_224x224"


def test_shared_list_of_another_machine(tmp_path):
    here = str(stub_dfew(tmp_path / "DFEW") / "Clip/clip_224x224")
    path = tmp_path / "DFEW_set_1_test.txt"
    path.write_text(f"{OLD}/00005 2 4\n{OLD}/00010 2 2\n{OLD}/00015 2 0\n")
    problems = problems_of("list", tmp_path, path)
    assert len(problems) == 3 and "say where it is with --root-map OLD=NEW" in problems[0]
    for root_map in ([f"{OLD}={here}"], ["/home=/nowhere", f"{OLD}/={here}"]):
        clips = read_dataset("list", tmp_path, path, root_map=root_map)
        assert named(clips) == [("00005", "Surprise"), ("00010", "Neutral"), ("00015", "Happy")]
        assert clips.clips[0].folder == f"{here}/00005"
    path.write_text("D:\\data\\DFEW\\Clip\\clip_224x224\\00005 2 4\r\n")  # from Windows
    (clip,) = read_dataset("list", tmp_path, path, root_map=[f"D:\\data\\DFEW={tmp_path / 'DFEW'}"]).clips
    assert clip.name == "Clip/clip_224x224/00005" and len(clip) == 2
    (problem,) = problems_of("list", tmp_path, path, root_map=[f"D:\\data\\DF={tmp_path / 'DFEW'}"])
    assert "is in no known folder" in problem  # a mapping ends with the name of a folder


def test_indices_of_a_shared_list_keep_their_meaning_in_another_datasets_order(tmp_path):
    for index in range(11):
        stub_clip(tmp_path / f"{index:05d}")
    template = str(tmp_path / "{fold}.txt")
    for dataset, labels, count in (("afew", AFEW_LABELS, 7), ("mafw", MAFW_LABELS, 11)):
        (tmp_path / "1.txt").write_text("".join(f"{index:05d} 3 {index}\n" for index in range(count)))
        roots = {"train_root": str(tmp_path), "val_root": str(tmp_path)}
        request = Request(**roots, train_list=template, val_list=template, fold=1)
        assert find(dataset).needs_folds(request)
        train, val, _ = find(dataset).read_pair(request)
        assert train.labels == labels and train.clips == val.clips
        assert [label for _, label in named(train)] == list(MAFW_LABELS[:count])
