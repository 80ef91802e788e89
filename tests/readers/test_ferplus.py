"""FER+: the rules that turn ten votes into a target, and the two formats of the images."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from Code.common.names import FERPLUS_LABELS
from Code.data.clips import DataError
from Code.readers.ferplus import VOTE_COLUMNS, majority_targets, read_ferplus, soft_targets

DROPPED: dict[str, float] = {}
# votes, then the targets by majority, and the shares
RULES = {
    "all agree": ({"happiness": 10}, {"happiness": 1}, {"happiness": 1}),
    "six and four": ({"neutral": 6, "sadness": 4}, {"neutral": 1}, {"neutral": 0.6, "sadness": 0.4}),  # 6 < 3/4 of 10
    "three quarters are reached by the first": ({"neutral": 8, "fear": 2}, {"neutral": 1}, {"neutral": 1}),
    "half is no majority": ({"neutral": 5, "anger": 5}, DROPPED, {"neutral": 0.5, "anger": 0.5}),
    "a single vote is an outlier": (
        {"surprise": 5, "fear": 4, "anger": 1},
        {"surprise": 1},  # 5 of the remaining 9
        {"surprise": 5 / 9, "fear": 4 / 9},
    ),
    "tied emotions behind three quarters": (
        {"disgust": 5, "sadness": 2, "anger": 2},
        {"disgust": 1},
        {"disgust": 5 / 7, "sadness": 2 / 7},  # 7 of 9 are enough; of equal votes, the first column comes first
    ),
    "no more than half is taken": (
        {"neutral": 4, "happiness": 2, "surprise": 2, "sadness": 2},
        DROPPED,
        {"neutral": 0.5, "happiness": 0.25, "surprise": 0.25},  # three at most: 8 of 10
    ),
    "ten single votes": (dict.fromkeys(VOTE_COLUMNS, 1), DROPPED, DROPPED),
    "no face": ({"NF": 10}, DROPPED, DROPPED),
    "unknown is strongest": ({"unknown": 6, "neutral": 4}, DROPPED, DROPPED),
    "unknown is second": ({"neutral": 6, "unknown": 4}, {"neutral": 1}, {"neutral": 1}),  # it ends the list
    "unknown ends the list too early": ({"neutral": 4, "unknown": 4, "happiness": 2}, DROPPED, DROPPED),  # 4 of 10
}


def row(shares: dict[str, float], columns: tuple[str, ...]) -> np.ndarray:
    return np.array([shares.get(name, 0.0) for name in columns], dtype=np.float32)


@pytest.mark.parametrize("rule", RULES)
def test_rules_of_the_paper(rule):
    votes, *expected = RULES[rule]
    for targets_of, wanted in zip((majority_targets, soft_targets), expected, strict=True):
        targets, kept = targets_of(row(votes, VOTE_COLUMNS)[None])
        assert kept.tolist() == [bool(wanted)]
        assert targets.shape == (1, 8) and targets.dtype == np.float32
        assert targets[0] == pytest.approx(row(wanted, FERPLUS_LABELS), abs=1e-6)


# Files


def test_folders_and_pixel_file_give_the_same(tmp_path, make_ferplus):
    folders = read_ferplus(make_ferplus(tmp_path / "png", as_csv=False))
    pixels = read_ferplus(make_ferplus(tmp_path / "csv", as_csv=True))
    assert list(folders) == list(pixels) == ["Training", "PublicTest", "PrivateTest"]
    for usage, count in (("Training", 23), ("PublicTest", 7), ("PrivateTest", 7)):  # one has no file name
        one, other = folders[usage], pixels[usage]
        assert one.images.shape == (count, 1, 48, 48) and one.images.dtype == np.uint8
        assert one.votes.shape == (count, 10) and one.votes.dtype == np.float32
        assert one.names == other.names and len(set(one.names)) == count
        assert np.array_equal(one.images, other.images) and np.array_equal(one.votes, other.votes)
    assert folders["Training"].names[:2] == ["fer0000000.png", "fer0000002.png"]
    assert folders["PublicTest"].votes[0].tolist() == [8, 2, 0, 0, 0, 0, 0, 0, 0, 0]


def problems_of(root: Path) -> list[str]:
    with pytest.raises(DataError) as caught:
        read_ferplus(root)
    return caught.value.problems


def test_missing_and_odd_images_are_named(tmp_path, make_ferplus):
    names = ("fer2013new.csv", "FER2013Train", "FER2013Valid", "FER2013Test")
    assert problems_of(tmp_path) == [f"{tmp_path / name}: missing; see Data/README.md" for name in names]
    root = make_ferplus(tmp_path / "png", as_csv=False)
    (root / "FER2013Train/fer0000000.png").write_bytes(b"nothing")
    Image.new("L", (50, 48)).save(root / "FER2013Train/fer0000002.png")
    (root / "FER2013Train/fer0000003.png").unlink()
    first, second, third = problems_of(root)
    assert first.startswith(f"{root}/FER2013Train/fer0000000.png: not an image")
    assert second == f"{root}/FER2013Train/fer0000002.png: 50 x 48 pixels, FER2013 has 48 x 48"
    assert third.startswith(f"{root}/FER2013Train/fer0000003.png: ") and "o such file" in third


PIXELS = " ".join(["7"] * 48 * 48)
BAD_LINES = {
    "fer2013new.csv": {
        3: "Training,a.png,five,0,0,0,0,0,0,0,0,0",
        5: "Training,a.png,4",
        6: "Testing,a.png,4,0,0,0,0,0,0,0,0,0",
        9: "Training,a.png,11,0,0,0,0,0,0,0,0,0",
    },
    "fer2013.csv": {
        2: "0,1 2 3,Training",
        4: f"0,{PIXELS[:-1]}256,Training",
        5: f"0,{PIXELS[:-1]}x,Training",
        6: f"0,{PIXELS},PublicTest",
        7: "0",
    },
}


@pytest.mark.parametrize("name", BAD_LINES)
def test_malformed_lines_are_named(tmp_path, make_ferplus, name):
    root = make_ferplus(tmp_path / "csv", as_csv=True)
    lines = (root / name).read_text().splitlines()
    for number, text in BAD_LINES[name].items():
        lines[number - 1] = text
    (root / name).write_text("\n".join(lines) + "\n")
    assert [line.split(": ")[0] for line in problems_of(root)] == [f"{root / name}, line {n}" for n in BAD_LINES[name]]


def test_a_split_without_images_is_named(tmp_path, make_ferplus):
    votes = make_ferplus(tmp_path / "fer", as_csv=False) / "fer2013new.csv"
    lines = votes.read_text().splitlines()
    # All lines of one split are gone; those of another have no file name.
    kept = [re.sub(r"fer\d+\.png", "", line) if "PrivateTest" in line else line for line in lines]
    votes.write_text("\n".join(line for line in kept if "PublicTest" not in line) + "\n")
    (problem,) = problems_of(votes.parent)
    assert problem == f"{votes}: has no image with a name for PublicTest, PrivateTest; download it again"


@pytest.mark.parametrize("name", BAD_LINES)
@pytest.mark.parametrize("contents", [b"a,b\n1,2\n", b"\x89PNG\r\n\x1a\n\x00\xff\xfe", b"\x00" * 50])
def test_file_of_another_kind_is_refused_by_name(tmp_path, make_ferplus, name, contents):
    root = make_ferplus(tmp_path / "csv", as_csv=True)
    (root / name).write_bytes(contents)
    (problem,) = problems_of(root)
    assert problem.startswith(str(root / name)) and "\n" not in problem
