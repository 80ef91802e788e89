"""The dataset readers: valid data, and arbitrary text."""

from __future__ import annotations

import os
import random
import tempfile
import time
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from Code.common.names import AFEW_LABELS
from Code.common.wording import natural_key
from Code.data.clips import DataError, describe
from Code.readers.folders import read_folders
from tests.data.clip_trees import make_clip, make_list, names, problems_of, three_clips
from tests.trees import read_afew


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return three_clips(tmp_path)


# Valid data


def test_list_gives_clips_in_its_order(root):
    listed = make_list(root, "Happy/000149120 Happy\nFear/000633000 Fear\n")
    clip_set = read_afew(root, listed)
    assert names(clip_set) == ["Happy/000149120", "Fear/000633000"]
    assert [clip.label for clip in clip_set.clips] == [0, 3]
    assert clip_set.labels == AFEW_LABELS and clip_set.listed == 2 and clip_set.skipped == []
    clip = clip_set.clips[1]
    assert len(clip) == 3 and clip.frames == ("000.jpg", "001.jpg", "002.jpg")
    assert clip.paths == [str(root / "Fear/000633000" / frame) for frame in clip.frames]
    assert clip.path(2) == clip.paths[2]


def test_without_list_folders_are_scanned_in_label_order(root):
    clip_set = read_afew(root)
    assert names(clip_set) == ["Happy/000149120", "Fear/000633000", "Fear/000633680"]
    assert clip_set.listed == 3 and clip_set.root == str(root)


def test_frames_and_clips_are_in_natural_order(tmp_path):
    frames = ["10.jpg", "2.jpg", "1.jpg", "img (1).png", "img.png", "Img 3.png", "03.jpg"]
    make_clip(tmp_path, "Sad/c10", frames)
    make_clip(tmp_path, "Sad/c2")
    clip_set = read_afew(tmp_path)
    assert names(clip_set) == ["Sad/c2", "Sad/c10"]
    assert clip_set.clips[1].frames == (
        "1.jpg", "2.jpg", "03.jpg", "10.jpg", "img.png", "Img 3.png", "img (1).png",
    )  # fmt: skip


@settings(max_examples=50, deadline=None)
@given(st.lists(st.text(max_size=8), max_size=5))
def test_natural_order_does_not_depend_on_the_order_before(texts):
    in_order = sorted(texts, key=natural_key)
    assert sorted(reversed(texts), key=natural_key) == in_order


def test_folders_take_their_class_names_as_labels(tmp_path):
    make_clip(tmp_path, "smile/b")
    make_clip(tmp_path, "frown/a")
    (tmp_path / "notes.txt").touch()
    clip_set = read_folders(tmp_path)
    assert clip_set.labels == ("frown", "smile")
    assert [(clip.name, clip.label) for clip in clip_set.clips] == [("frown/a", 0), ("smile/b", 1)]


def test_folders_with_the_labels_of_training(tmp_path):
    make_clip(tmp_path, "smile/b")
    clip_set = read_folders(tmp_path, labels=("frown", "neutral", "smile"))
    assert [clip.label for clip in clip_set.clips] == [2] and len(clip_set.labels) == 3
    (problem,) = problems_of(read_folders, tmp_path, labels=("frown", "smiles"))
    assert str(tmp_path / "smile") in problem
    assert "did you mean smiles? known: frown, smiles" in problem


@pytest.mark.parametrize(
    "content",
    [
        b"\xef\xbb\xbfFear/000633000 Fear\nHappy/000149120 Happy\n",
        b"Fear/000633000 Fear\r\nHappy/000149120 Happy\r\n",
        b"Fear/000633000 Fear\rHappy/000149120 Happy",
        b"Fear/000633000\tFear\nHappy/000149120 \t Happy\t\n",
        b"\n\n  Fear/000633000   Fear  \n\t\n \nHappy/000149120 Happy\n\n",
        b"./Fear//000633000/ Fear\nFear/../Happy/000149120 Happy\n",
        b"Fear\\000633000 Fear\r\nHappy\\000149120 Happy\r\n",
        b"Fear/000633000 Fear\n\xef\xbb\xbfHappy/000149120 Happy",
        "Fear/000633000 Fear\r\nHappy/000149120 Happy\r\n".encode("utf-16"),
    ],
    ids=["bom", "crlf", "cr", "tabs", "blanks", "dots", "backslashes", "joined", "utf-16"],
)
def test_lists_of_every_editor(root, content):
    assert names(read_afew(root, make_list(root, content))) == ["Fear/000633000", "Happy/000149120"]


@pytest.mark.parametrize("name", ["Fear/my first clip", "Fear/Zo\u00eb \u6050\u308c", "Fear/a\u2028b", "Fear/Fear"])
@pytest.mark.parametrize("separator", [" ", "\t"])
def test_spaces_and_other_alphabets_in_names(tmp_path, name, separator):
    make_clip(tmp_path / "Train", name)
    listed = make_list(tmp_path / "Train", f"{name}{separator}Fear\n")
    assert names(read_afew(tmp_path / "Train", listed)) == names(read_afew(tmp_path / "Train")) == [name]


@pytest.mark.parametrize(("listed_as", "lies_as"), [("NFC", "NFD"), ("NFD", "NFC")])
def test_accents_as_macos_writes_them(tmp_path, listed_as, lies_as):
    make_clip(tmp_path / "Train", unicodedata.normalize(lies_as, "Fear/Zo\u00eb"))
    name = unicodedata.normalize(listed_as, "Fear/Zo\u00eb")
    (clip,) = read_afew(tmp_path / "Train", make_list(tmp_path / "Train", f"{name} Fear\n")).clips
    assert clip.name == name and len(os.listdir(clip.folder)) == 3


def test_after_a_tab_even_a_class_may_hold_spaces(tmp_path):
    make_clip(tmp_path / "Train", "very happy/clip 1")
    listed = make_list(tmp_path / "Train", "very happy/clip 1\tvery happy\n")
    assert names(read_afew(tmp_path / "Train", listed, labels=["very happy"])) == ["very happy/clip 1"]


def test_hidden_and_system_files_are_no_frames(tmp_path):
    clutter = [".DS_Store", "Thumbs.db", "._001.jpg", ".hidden.png", "desktop.ini", "landmarks.txt", "jpg"]
    folder = make_clip(tmp_path, "Sad/1", ["001.jpg", *clutter])
    (folder / "deeper.jpg").mkdir()
    for name in [".git", "__MACOSX", ".ipynb_checkpoints"]:
        make_clip(tmp_path, f"{name}/1")
        make_clip(tmp_path, f"Sad/{name}")
    (clip,) = read_afew(tmp_path).clips
    assert clip.frames == ("001.jpg",)


def test_frame_suffixes_in_any_case(tmp_path):
    frames = ["1.jpg", "2.JPG", "3.jpeg", "4.Jpeg", "5.png", "6.PNG", "7.bmp", "8.webp", "9.GIF"]
    make_clip(tmp_path, "Sad/1", frames)
    assert read_folders(tmp_path).clips[0].frames == tuple(frames)


def test_links_are_followed_and_loops_end(root, tmp_path):
    elsewhere = make_clip(tmp_path / "other_disk", "clip", 5)
    (root / "Fear/linked").symlink_to(elsewhere, target_is_directory=True)
    assert len(read_afew(root).clips) == 4
    (root / "Fear/loop").symlink_to(root, target_is_directory=True)
    (problem,) = problems_of(read_afew, root)
    assert str(root / "Fear/loop") in problem and "no frames" in problem


# The summary of valid data


def test_describe(root):
    assert describe(read_afew(root)) == "3 clips, 9 frames, 7 classes"
    (root / "Fear/empty").mkdir()
    make_clip(root, "Sad/long", 1200)
    text = describe(read_afew(root, skip_empty=True))
    assert text == "4 clips, 1 209 frames, 7 classes, 1 clip without frames skipped"


# Arbitrary text

LINE = st.one_of(
    st.text(max_size=30),
    st.builds(
        "{}{}{}{}".format,
        st.sampled_from(["Fear/1", "Happy/2", "Fear/../Happy/2", "/", "..", "C:/x", "Fear\\1", "Sad/\u00e9", "."]),
        st.sampled_from([" ", "\t", "  ", "", "\u00a0", " \t"]),
        st.sampled_from(["Fear", "Happy", "happy", "7", "", "\ufeff"]),
        st.sampled_from(["\n", "\r\n", "\r", "\0", " \n"]),
    ),
)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(LINE, max_size=8).map(lambda lines: "".join(lines).encode()) | st.binary(max_size=60),
)
def test_no_list_whatsoever_crashes(tmp_path_factory, content):
    root = tmp_path_factory.getbasetemp() / "fuzzed" / "Train"
    if not root.exists():
        make_clip(root, "Fear/1")
        make_clip(root, "Happy/2")
    listed = make_list(root, content)
    try:
        clip_set = read_afew(root, listed)
    except DataError as error:
        assert error.problems and all(line.isprintable() for line in error.problems)
        assert all(line.startswith(f"{listed}") for line in error.problems)
        assert len(str(error)) < 10_000
    else:
        assert set(names(clip_set)) <= {"Fear/1", "Happy/2"} and clip_set.listed == len(clip_set.clips) > 0


NO_SPACES = st.characters(exclude_categories=["Cs", "Cc", "Zs", "Zl", "Zp"], exclude_characters="/\\\ufeff")
NAME = st.text(NO_SPACES, min_size=1, max_size=12).filter(lambda name: name[0] != ".")


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(AFEW_LABELS), NAME), unique=True, min_size=1, max_size=5),
    st.sampled_from(["\n", "\r\n", "\r", "\n\n", " \n", "\t\r\n"]),
    st.sampled_from([" ", "\t", "   "]),
    st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
)
def test_well_formed_lists_come_back_whole(clips, line_end, separator, encoding):
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder, "Train")
        for class_name, clip in clips:
            make_clip(root, f"{class_name}/{clip}", 1)
        text = line_end.join(f"{class_name}/{clip}{separator}{class_name}" for class_name, clip in clips)
        clip_set = read_afew(root, make_list(root, text.encode(encoding)))
    assert names(clip_set) == [f"{class_name}/{clip}" for class_name, clip in clips]
    assert [AFEW_LABELS[clip.label] for clip in clip_set.clips] == [class_name for class_name, _ in clips]


@pytest.mark.slow
def test_a_dataset_of_afew_size_is_indexed_within_ten_seconds(tmp_path):
    rng = random.Random(0)
    root = tmp_path / "Train"
    lines = []
    for i in range(1152):
        class_name = rng.choice(AFEW_LABELS)
        make_clip(root, f"{class_name}/{i:09d}", 60 + (i < 880))
        lines.append(f"{class_name}/{i:09d} {class_name}\n")
    listed = make_list(root, "".join(lines))
    for read in (lambda: read_afew(root, listed), lambda: read_afew(root), lambda: read_folders(root)):
        start = time.perf_counter()
        clip_set = read()
        assert time.perf_counter() - start < 10
        assert describe(clip_set) == "1 152 clips, 70 000 frames, 7 classes"
