"""DFEW, FERV39k, MAFW and the lists that other projects share of them."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from Code.check import check_before_training
from Code.common.names import AFEW_LABELS
from Code.data.clips import DataError
from Code.data.request import Request
from Code.readers.official import DFEW, DFEW_LABELS, FERV39K, FERV39K_LABELS, MAFW, MAFW_LABELS
from Code.readers.tables import is_shared_list
from tests.trees import MAFW_CLASSES, read_dataset, stub_clip, stub_dfew, stub_ferv39k, stub_mafw

read_dfew, read_ferv39k, read_mafw = (partial(read_dataset, name) for name in ("dfew", "ferv39k", "mafw"))
DFEW_TRAIN_LIST, DFEW_TEST_LIST = DFEW.train_list or "", DFEW.val_list or ""


def problems_of(read, *args, **kwargs) -> list[str]:
    with pytest.raises(DataError) as caught:
        read(*args, **kwargs)
    return caught.value.problems


@pytest.fixture
def dfew(tmp_path: Path) -> Path:
    return stub_dfew(tmp_path / "DFEW")


@pytest.fixture
def ferv39k(tmp_path: Path) -> Path:
    return stub_ferv39k(tmp_path / "FERV39k")


def test_dfew_labels_begin_with_one_and_ids_have_five_digits(dfew):
    clips = read_dfew(dfew, dfew / DFEW_TEST_LIST.format(fold=1))
    assert [clip.name for clip in clips.clips] == ["00005", "00010", "00015", "00020"]
    assert [DFEW_LABELS[clip.label] for clip in clips.clips] == ["Surprise", "Neutral", "Happy", "Disgust"]
    assert clips.clips[0].paths == [str(dfew / "Clip/clip_224x224/00005" / name) for name in ("001.jpg", "002.jpg")]


def test_dfew_folds_cover_every_clip_once_and_train_on_the_others(dfew):
    tested = []
    for fold in range(1, 6):
        train = read_dfew(dfew, dfew / DFEW_TRAIN_LIST.format(fold=fold))
        val = read_dfew(dfew, dfew / DFEW_TEST_LIST.format(fold=fold))
        assert len(train.clips) == 16 and len(val.clips) == 4
        warnings = check_before_training(train, val, num_frames=3, known_labels=None, headers=False)
        assert not [line for line in warnings if "both" in line]
        tested += [clip.name for clip in val.clips]
    assert sorted(tested) == [f"{number:05d}" for number in range(1, 21)]


def test_dfew_ids_that_lost_their_zeros_are_the_same_clips(dfew, tmp_path):
    other = stub_dfew(tmp_path / "other", numbers_as_written=True)
    lists = [root / DFEW_TEST_LIST.format(fold=3) for root in (dfew, other)]
    assert "\n3," not in lists[0].read_text() and "\n2," in lists[1].read_text()
    assert read_dfew(dfew, lists[0]).clips == read_dfew(dfew, lists[1]).clips


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("00001,0", 'label "0" is not a number from 1 (Happy) to 7 (Fear)'),
        ("00001,8", 'label "8"'),
        ("00001,Happy", 'label "Happy"'),
        ("clip,1", '"clip" is not the number of a clip'),
        ("../1,1", "is not the number of a clip"),
    ],
)
def test_each_bad_line_of_a_dfew_list_is_named(dfew, line, said):
    path = dfew / "set.csv"
    path.write_text(f"video_name,label\n00003,1\n{line}\n")
    (problem,) = problems_of(read_dfew, dfew, path)
    assert problem.startswith(f"{path}, line 3: ") and said in problem


def test_ferv39k_has_no_header_and_its_first_line_is_a_clip(ferv39k):
    train = read_ferv39k(ferv39k, ferv39k / str(FERV39K.train_list))
    assert [(clip.name, FERV39K_LABELS[clip.label]) for clip in train.clips] == [
        ("Action/Happy/0267", "Happy"),
        ("Action/Angry/0001", "Angry"),
        ("Crime/Fear/0001", "Fear"),
        ("Crime/Sad/0400", "Sad"),
    ]
    val = read_ferv39k(ferv39k, ferv39k / str(FERV39K.val_list))
    assert [clip.name for clip in val.clips] == ["Action/Happy/0268", "Crime/Fear/0002"]
    assert train.clips[0].frames == ("000.jpg", "001.jpg")


def test_mafw_folds_cover_every_clip_once_with_the_official_classes(tmp_path):
    root = stub_mafw(tmp_path / "MAFW")
    tested = []
    for fold in range(1, 6):
        train, val, count = MAFW.read_pair(Request(train_root=str(root), fold=fold))
        assert count == 5 and train.labels == val.labels == MAFW_LABELS and len(MAFW_LABELS) == 11
        assert not {clip.name for clip in train.clips} & {clip.name for clip in val.clips}
        assert len(train.clips) + len(val.clips) == 22
        tested += [(clip.name, MAFW_LABELS[clip.label]) for clip in val.clips]
    names = {"anger": "Angry", "happiness": "Happy", "sadness": "Sad"}
    classes = [names.get(name, name.capitalize()) for name in MAFW_CLASSES]
    assert sorted(tested) == [(f"{number:05d}", classes[(number - 1) % 11]) for number in range(1, 23)]


def test_mafw_prefers_faces_and_is_evaluated_in_folds(tmp_path):
    root = stub_mafw(tmp_path / "MAFW")
    assert read_mafw(root, root / str(MAFW.val_list).format(fold=1)).root == str(root / "data/frames")
    for clip in (root / "data/frames").iterdir():
        stub_clip(root / "data/faces" / clip.name, 1)
    clips = read_mafw(root, root / str(MAFW.train_list).format(fold=1))
    assert clips.root == str(root / "data/faces") and {len(clip) for clip in clips.clips} == {1}
    assert MAFW.needs_folds(Request()) and MAFW.count_folds(Request(train_root=str(root), fold="all")) == 5


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("00001.mp4 joy", 'class "joy" is not one of happiness, sadness'),
        ("00001.mp4 anger A man shouts.", "is not one of happiness"),
        ("clip.mp4 anger", '"clip.mp4" is not the number of a clip'),
    ],
)
def test_each_bad_line_of_a_mafw_list_is_named(tmp_path, line, said):
    root = stub_mafw(tmp_path / "MAFW")
    path = root / "list.txt"
    path.write_text(f"00003.mp4 fear\n{line}\n")
    (problem,) = problems_of(read_mafw, root, path)
    assert problem.startswith(f"{path}, line 2: ") and said in problem


def test_indices_of_mafws_shared_lists_reach_to_ten(tmp_path):
    root = stub_mafw(tmp_path / "MAFW")
    lists = []
    for split, numbers in {"train": range(11), "test": range(11, 22)}.items():
        lines = [f"/elsewhere/MAFW/data/faces/{number + 1:05d} 2 {number % 11}\n" for number in numbers]
        lists.append(tmp_path / f"MAFW_set_1_{split}.txt")
        lists[-1].write_text("".join(lines))
    template = str(tmp_path / "MAFW_set_{fold}_")
    flags = {
        "train_root": str(root),
        "train_list": template + "train.txt",
        "val_list": template + "test.txt",
        "root_map": [f"/elsewhere/MAFW/data/faces={root / 'data/frames'}"],
    }
    assert MAFW.needs_folds(Request.of(flags))
    train, val, _ = MAFW.read_pair(Request.of({**flags, "fold": 1}))
    assert [clip.label for clip in train.clips] == [clip.label for clip in val.clips] == list(range(11))
    assert train.labels[7:] == ("Contempt", "Anxiety", "Helplessness", "Disappointment")


# Lists written on another machine

read_shared_list = partial(read_dataset, "list")
OLD = "/home/someone/datasets/DFEW/Clip/clip_224x224"


def shared(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "DFEW_set_1_test.txt"
    path.write_text(text)
    return path


def test_shared_list_of_another_machine(dfew, tmp_path):
    path = shared(tmp_path, f"{OLD}/00005 2 4\n{OLD}/00010 2 2\n{OLD}/00015 2 0\n")
    assert is_shared_list(path.read_text().split("\n")[0]) and not is_shared_list("00005,1")
    with pytest.raises(DataError) as caught:
        read_shared_list(dfew, path)
    assert len(caught.value.problems) == 3 and "say where it is with --root-map OLD=NEW" in str(caught.value)
    here = str(dfew / "Clip/clip_224x224")
    for root_map in ([f"{OLD}={here}"], ["/home=/nowhere", f"{OLD}/={here}"]):
        clips = read_shared_list(dfew, path, root_map=root_map)
        assert [(clip.name, DFEW_LABELS[clip.label], clip.folder) for clip in clips.clips] == [
            (name, label, f"{here}/{name}")
            for name, label in (("00005", "Surprise"), ("00010", "Neutral"), ("00015", "Happy"))
        ]
        assert clips.notes == []


def test_shared_list_from_windows_and_a_map_that_names_only_the_beginning(dfew, tmp_path):
    path = shared(tmp_path, "D:\\data\\DFEW\\Clip\\clip_224x224\\00005 2 4\r\n")
    (clip,) = read_shared_list(dfew, path, root_map=[f"D:\\data\\DFEW={dfew}"]).clips
    assert clip.name == "Clip/clip_224x224/00005" and len(clip) == 2
    (problem,) = problems_of(read_shared_list, dfew, path, root_map=[f"D:\\data\\DF={dfew}"])
    assert "is in no known folder" in problem  # a mapping ends with the name of a folder


def test_indices_of_a_shared_list_keep_their_meaning_in_another_datasets_order(tmp_path):
    for index in range(7):
        stub_clip(tmp_path / "AFEW" / f"{index}")
    path = shared(tmp_path, "".join(f"{index} 3 {index}\n" for index in range(7)))
    clips = read_dataset("afew", tmp_path / "AFEW", path)
    names = [clips.labels[clip.label] for clip in clips.clips]
    assert clips.labels == AFEW_LABELS
    assert names == ["Happy", "Sad", "Neutral", "Angry", "Surprise", "Disgust", "Fear"]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("x 2 7", "label 7 is unknown; known: 0 Happy, 1 Sad, 2 Neutral"),
        ("x Happy", "malformed"),
        ("x 2", "malformed"),
        ("x 2 -1", "malformed"),
        ("../x 2 1", "leaves the root"),
    ],
)
def test_each_bad_line_of_a_shared_list_is_named(dfew, tmp_path, line, said):
    path = shared(tmp_path, f"Clip/clip_224x224/00005 2 4\n{line}\n")
    (problem,) = problems_of(read_shared_list, dfew, path)
    assert problem.startswith(f"{path}, line 2: ") and said in problem
