"""The dataset readers: errors and their messages."""

from __future__ import annotations

import os
import pickle
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from Code.data.clips import DataError
from Code.readers.folders import read_folders
from tests.data.clip_trees import error_of, make_clip, make_list, problems_of, three_clips
from tests.trees import read_afew


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return three_clips(tmp_path)


# Errors


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
        ("Fear/000633000 Happy", "is in folder Fear, but the line says Happy"),
        ("Fear Fear", "does not name a clip"),
        (". Fear", "does not name a clip"),
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


def test_list_that_is_a_device_or_too_large_is_refused(root, tmp_path):
    (problem,) = problems_of(read_afew, root, "/dev/zero")
    assert problem == "/dev/zero: the list cannot be read (not a regular file)"
    large = tmp_path / "large.txt"
    large.touch()
    os.truncate(large, 64 * 2**20 + 1)  # takes no space on the disk
    (problem,) = problems_of(read_afew, root, str(large))
    assert problem == f"{large}: larger than 64 MiB, so not a list of clips; correct the path"


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
        ("Sad", '1 image outside of any clip folder, for example "loose.png"'),
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
    assert "is it the right folder for this list?" in lines[22]


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
    assert "no clip of 1 has frames" in problem


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
    """A folder, and a user without root's permissions, even if the tests run as root."""
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
