"""The dataset readers: what they read, what they refuse, and how they say it."""

from __future__ import annotations

import os
import pickle
import random
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from Code.data.afew import read_afew, read_folders
from Code.data.clips import AFEW_LABELS, ClipSet, DataError, describe, quick_check
from Code.data.lists import natural_key


def make_clip(root: Path, name: str, frames: int | list[str] = 3) -> Path:
    """A clip folder with empty stub files."""
    folder = root / name
    folder.mkdir(parents=True)
    names = [f"{i:03d}.jpg" for i in range(frames)] if isinstance(frames, int) else frames
    for frame in names:
        (folder / frame).touch()
    return folder


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


def problems_of(read, *args, **kwargs) -> list[str]:
    return error_of(read, *args, **kwargs).problems


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Three clips of two classes."""
    root = tmp_path / "Train"
    make_clip(root, "Fear/000633000")
    make_clip(root, "Fear/000633680", 2)
    make_clip(root, "Happy/000149120", 4)
    return root


# What is read


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


# What is refused


def test_missing_root_gets_a_newcomer_further(tmp_path):
    error = error_of(read_afew, tmp_path / "Train")
    assert error.problems == [f"{tmp_path / 'Train'}: no such folder"]
    text = str(error)
    assert str(tmp_path / "Train" / "Happy") in text and "<Class>/<clip>/<frame>.jpg" in text
    assert "--dataset sample" in text and "Data/README.md" in text
    assert "--dataset sample" in str(error_of(read_folders, tmp_path / "none"))


def test_missing_root_hides_no_fault_of_the_list(tmp_path):
    listed = make_list(tmp_path / "Train", "Fear/1 Fear\nFear/2 Faer\nFear/3 Fear\nFear/4 Fear\n")
    problems = problems_of(read_afew, tmp_path / "Train", listed)
    assert len(problems) == 2 and problems[1] == f"{tmp_path / 'Train'}: no such folder"
    assert problems[0].startswith(f"{listed}, line 2: ") and "did you mean Fear?" in problems[0]


def test_root_that_is_a_file(tmp_path):
    (tmp_path / "Train").touch()
    (problem,) = problems_of(read_afew, tmp_path / "Train")
    assert str(tmp_path / "Train") in problem and "a file" in problem


@pytest.mark.parametrize("content", ["", "\n \r\n\t\n", "\ufeff"])
def test_empty_list(root, content):
    listed = make_list(root, content)
    (problem,) = problems_of(read_afew, root, listed)
    assert str(listed) in problem and "empty" in problem


def test_missing_and_unreadable_lists(root):
    (problem,) = problems_of(read_afew, root, root.parent / "nowhere.txt")
    assert "nowhere.txt" in problem and "no such list file" in problem
    (problem,) = problems_of(read_afew, root, root)
    assert str(root) in problem and "cannot be read" in problem
    listed = make_list(root, b"Fear/000633000 Fear\nFear/\xe9t\xe9 Fear\n")
    (problem,) = problems_of(read_afew, root, listed)
    assert problem.startswith(f"{listed}, line 2: ") and "UTF-8" in problem


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("Fear/000633001 Fear", "no such folder"),
        ("Fear/file Fear", "a file"),
        ("Fear/000633000 Faer", "did you mean Fear?"),
        ("Fear/000633000 FEAR", "did you mean Fear?"),
        ("Fear/000633000 Xyz", "known: Happy, Angry, Disgust, Fear, Sad, Neutral, Surprise"),
        ("Fear/000633000", "malformed"),
        ("\tFear", "malformed"),
        ("Fear/000633000 Happy", "lies in folder Fear, but the line says Happy"),
        ("Fear Fear", "names no clip"),
        (". Fear", "names no clip"),
        ("/etc Fear", "absolute"),
        ("C:\\Fear\\000633000 Fear", "absolute"),
        ("../Train/Fear/000633000 Fear", "leaves the root"),
        ("Fear/../../Train/Fear/000633000 Fear", "leaves the root"),
        ("..\\Train\\Fear\\000633000 Fear", "leaves the root"),
        (".. Fear", "leaves the root"),
        ("Fear/000\x00633000 Fear", "NUL"),
        ("Fear/000633680 Fear", "already in line 1"),
        ("./Fear/000633680/\tFear", "already in line 1"),
        ("Fear/empty Fear", "no frames"),
        ("Fear/" + "x" * 5000 + " Fear", "cannot be read (File name too long)"),
    ],
    ids=lambda text: repr(text[:30]),
)
def test_each_bad_line_is_named(root, line, said):
    (root / "Fear/empty").mkdir()
    (root / "Fear/file").touch()
    listed = make_list(root, f"Fear/000633680 Fear\n\n{line}\nHappy/000149120 Happy\n")
    (problem,) = problems_of(read_afew, root, listed)
    assert problem.startswith(f"{listed}, line 3: ") and said in problem
    assert problem.isprintable() and len(problem) < 700


def test_all_problems_at_once(root):
    (root / "Fear/empty").mkdir()
    lines = [
        "Fear/000633000 Fear", "Fear/gone Fear", "Fear/000633680 Feer", "Fear/000633000 Fear", "nonsense",
        "Fear/empty Fear", "../x Fear", "Happy/000149120 Sad", "Happy/gone\tHappy",
    ]  # fmt: skip
    listed = make_list(root, "\n".join(lines))
    error = error_of(read_afew, root, listed)
    numbers = sorted(int(problem.split(", line ")[1].split(":")[0]) for problem in error.problems)
    assert numbers == [2, 3, 4, 5, 6, 7, 8, 9]
    text = str(error)
    assert text.startswith(f"8 problems in {root} (listed in {listed}):\n")
    assert all(problem in text for problem in error.problems)
    assert "--skip-empty" in text


def test_all_problems_of_a_scan_at_once(root):
    (root / "Fear/empty").mkdir()
    make_clip(root, "Happines/1")
    (root / "Sad").mkdir()
    (root / "Sad/loose.png").touch()
    (root / "Neutral").symlink_to("nowhere")
    (root / "Angry").symlink_to("Angry")
    (root / "Fear/000633000/009.jpg").symlink_to("gone.jpg")
    problems = problems_of(read_afew, root)
    assert len(problems) == 6
    for path, said in [
        ("Fear/empty", "no frames"),
        ("Happines", "did you mean Happy?"),
        ("Sad", '1 images outside of any clip folder, for example "loose.png"'),
        ("Neutral", "broken link"),
        ("Angry", "cannot be read"),
        ("Fear/000633000/009.jpg", "broken link"),
    ]:
        assert any(line.startswith(f"{root / path}: ") and said in line for line in problems), path


def test_a_thousand_missing_clips_do_not_flood_the_terminal(root):
    listed = make_list(root, "".join(f"Fear/x{i} Fear\n" for i in range(1000)))
    error = error_of(read_afew, root, listed)
    lines = str(error).split("\n")
    assert len(error.problems) == 1000
    assert lines[0].startswith("1000 problems in ") and lines[21] == "  and 980 more" and len(lines) == 23
    assert lines[1].strip() == error.problems[0] and lines[20].strip() == error.problems[19]
    assert "is it the folder for this list?" in lines[22]


def test_empty_clips_are_fatal_or_skipped_and_counted(root):
    (root / "Fear/empty").mkdir()
    make_clip(root, "Happy/videos", ["1.avi", ".DS_Store"])
    text = str(error_of(read_afew, root))
    assert str(root / "Fear/empty") in text and str(root / "Happy/videos") in text and "--skip-empty" in text
    clip_set = read_afew(root, skip_empty=True)
    assert clip_set.skipped == ["Happy/videos", "Fear/empty"]
    assert clip_set.listed == 5 and len(clip_set.clips) == 3
    listed = make_list(root, "Fear/empty Fear\nFear/000633000 Fear\n")
    clip_set = read_afew(root, listed, skip_empty=True)
    assert clip_set.skipped == ["Fear/empty"] and clip_set.listed == 2 and len(clip_set.clips) == 1


def test_nothing_to_read_is_an_error(tmp_path):
    for read in (read_afew, read_folders):
        text = str(error_of(read, tmp_path))
        assert text.startswith(f"{tmp_path}: no clips") and "Data/README.md" in text
    (tmp_path / "Fear/1").mkdir(parents=True)
    (problem,) = problems_of(read_afew, tmp_path, skip_empty=True)
    assert "all 1 clips are without frames" in problem


def test_root_one_level_too_high(root):
    problems = problems_of(read_folders, root.parent)
    assert len(problems) == 2 and all("one level too high" in problem for problem in problems)


def test_names_that_no_csv_file_can_hold(root):
    os.mkdir(os.fsencode(root / "Fear") + b"/caf\xe9")
    with open(os.fsencode(root / "Fear/000633000") + b"/\xff.jpg", "wb"):
        pass
    problems = problems_of(read_afew, root, skip_empty=True)
    assert len(problems) == 2 and all("not valid UTF-8" in problem for problem in problems)
    "\n".join(problems).encode()


@pytest.fixture
def plain_user() -> Iterator[Path]:
    """A folder, and a user who is held to its permissions even where the tests run as root."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    is_root = os.geteuid() == 0
    try:
        yield folder
    finally:
        if is_root:
            os.seteuid(0)
        for path in [folder, *folder.rglob("*")]:
            path.chmod(0o755)
        shutil.rmtree(folder)


def test_unreadable_folders_are_named(plain_user):
    root = plain_user / "Train"
    make_clip(root, "Fear/1")
    make_clip(root, "Sad/2")
    make_clip(root, "Happy/3")
    listed = make_list(root, "Fear/1 Fear\nHappy/3 Happy\n")
    (root / "Fear/1").chmod(0)
    (root / "Sad").chmod(0)
    if os.geteuid() == 0:
        os.seteuid(65534)
    scanned = problems_of(read_afew, root)
    from_list = problems_of(read_afew, root, listed)
    assert [line.split(":")[0] for line in scanned] == [str(root / "Sad"), str(root / "Fear/1")]
    assert all("cannot be read (Permission denied)" in line for line in scanned + from_list)
    assert len(from_list) == 1 and from_list[0].startswith(f"{listed}, line 1: {root / 'Fear/1'}")


# The error itself


def test_error_of_one_line_is_that_line():
    error = DataError("Data/x.csv: no header")
    assert str(error) == "Data/x.csv: no header" and error.problems == ["Data/x.csv: no header"]


def test_errors_of_two_splits_are_joined(tmp_path):
    errors = [error_of(read_afew, tmp_path / split) for split in ("Train", "Val")]
    error = DataError.joined(errors)
    assert len(error.problems) == 2 and error.where == f"{tmp_path / 'Train'} and {tmp_path / 'Val'}"
    assert str(error).count("--dataset sample") == 1


def test_error_survives_a_worker_process():
    error = DataError(["a", "b"], "Train", ["do c"])
    again = pickle.loads(pickle.dumps(error))
    assert str(again) == str(error) == "2 problems in Train:\n  a\n  b\ndo c"
    assert again.problems == error.problems


# What is said about data that can be used


def test_describe(root):
    assert describe(read_afew(root)) == "3 clips, 9 frames, 7 classes"
    (root / "Fear/empty").mkdir()
    make_clip(root, "Sad/long", 1200)
    text = describe(read_afew(root, skip_empty=True))
    assert text == "4 clips, 1 209 frames, 7 classes, 1 without frames left out"


def test_quick_check(root, tmp_path):
    val = tmp_path / "Val"
    make_clip(val, "Sad/1")
    make_clip(val, "Fear/000633000", 1)
    train_set, val_set = read_afew(root), read_afew(val)
    warnings = quick_check(train_set, val_set, frames=3)
    assert warnings[0] == "1 clip in both training and validation, by name: Fear/000633000"
    assert warnings[1] == "1 clip shorter than the 3 frames to be sampled: Fear/000633680"
    assert warnings[2:] == [
        "class Angry has no training clips",
        "class Disgust has no training clips",
        "class Sad has no training clips, but 1 for validation",
        "class Neutral has no training clips",
        "class Surprise has no training clips",
    ]
    folders = tmp_path / "own"
    make_clip(folders, "a/1")
    assert quick_check(read_folders(folders), ClipSet([], ("a",), 0, [], "")) == []


# Any text at all

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
