"""The check: every fault of a dataset is found, named and counted; a clean dataset is called clean."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import Demo_AFEW_Attention as script
from Code.check import Reading, as_table, check, check_before_training, person_in, refuse_broken_images
from Code.common.names import AFEW_LABELS
from Code.data.clips import Clip, ClipSet, DataError
from Code.readers.folders import read_folders
from tests.trees import read_afew, stub_dfew

LABELS = ("happy", "sad")


@dataclass
class Data:
    """A clean dataset of two classes: three training clips and one validation clip per class, four frames per clip."""

    root: Path

    def __post_init__(self) -> None:
        rng = np.random.default_rng(0)
        for split, clips in (("Train", 3), ("Val", 1)):
            for clip in [f"{split}/{label}/{split}{clip}" for label in LABELS for clip in range(clips)]:
                (self.root / clip).mkdir(parents=True)
                for frame in range(4):
                    pixels = rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)
                    Image.fromarray(pixels).save(self.root / clip / f"{frame}.jpg")

    def report(self, **options) -> dict[str, Any]:
        train = Reading.of(lambda: read_folders(self.root / "Train"))
        val = Reading.of(lambda: read_folders(self.root / "Val", labels=train.clips.labels))
        return check({"train": train, "val": val}, **options)


@pytest.fixture
def data(tmp_path: Path) -> Data:
    return Data(tmp_path)


def found(report: dict[str, Any]) -> dict[str, list[str]]:
    """What was found, with its lines."""
    return {each["name"]: each["items"] for each in report["checks"] if each["found"]}


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


def test_clean_data_are_called_clean(data):
    report = data.report()
    assert found(report) == {} and report["status"] == 0
    assert (report["frames"], report["labels"]) == (32, LABELS)
    assert [(row["clips"], row["frames"]) for row in report["classes"]["train"]] == [(3, 12), (3, 12)]
    counts = {"clips": 1, "frames": 4, "shortest": 4, "median": 4.0, "longest": 4}
    assert report["classes"]["val"] == [{"label": label, **counts} for label in LABELS]
    assert "clean; 32 frames decoded" in as_table(report)


@pytest.mark.parametrize("in_header", [True, False])
def test_frames_that_cannot_be_read_are_errors(data, in_header):
    paths = sorted((data.root / "Train").rglob("*.jpg"))[:9]
    for path in paths:
        path.write_text("<html>") if in_header else truncate(path)
    report = json.loads(json.dumps(data.report()))
    assert report["status"] == 2 and report["labels"] == list(LABELS) and report["frames"] == 32
    (broken,) = [each for each in report["checks"] if each["found"]]
    assert (broken["name"], broken["level"]) == ("frames that cannot be read", "error")
    assert broken["counts"] == {"train": 9, "val": 0} and len(broken["items"]) == 9
    assert broken["items"][0].startswith(f"{paths[0]}: ") and broken["items"][0] in as_table(report)
    assert "and 4 more; --json lists all" in as_table(report) and "not usable" in as_table(report)
    train = read_folders(data.root / "Train")
    if in_header:
        with pytest.raises(DataError, match=re.escape(str(paths[0]))):
            refuse_broken_images(train)
    else:
        refuse_broken_images(train)


def test_missing_and_empty_clips_are_errors_and_the_rest_is_examined_all_the_same(data):
    root = data.root
    for frame in (root / "Train/sad/Train1").iterdir():
        frame.unlink()
    lines = [f"{label}/Train{clip} {label}" for label in LABELS for clip in range(3)]
    (root / "list.txt").write_text("\n".join([*lines, "sad/gone sad", "sad/Train0 sda"]))

    def read(skip_empty: bool = False) -> dict[str, Any]:
        train = Reading.of(lambda: read_afew(root / "Train", root / "list.txt", labels=LABELS, skip_empty=skip_empty))
        return check({"train": train, "val": Reading.of(lambda: read_folders(root / "Val"))}, known_labels=LABELS)

    report = read()
    items = found(report)
    assert [(name, len(lines)) for name, lines in items.items()] == [
        ("problems of lists and folders", 1), ("missing clips or folders", 1), ("empty clips", 1)
    ]  # fmt: skip
    assert report["status"] == 2 and report["frames"] == 28 and "--skip-empty" in as_table(report)
    assert "line 7" in items["missing clips or folders"][0]
    assert "known: happy, sad" in items["problems of lists and folders"][0]
    (root / "list.txt").write_text("\n".join(lines))
    report = read(skip_empty=True)
    assert report["status"] == 1 and found(report) == {"skipped clips without frames (--skip-empty)": ["sad/Train1"]}
    shutil.rmtree(root / "Val")
    assert found(read(skip_empty=True))["missing clips or folders"] == [f"{root / 'Val'}: no such folder"]


def test_short_clips_and_absent_classes(data):
    for frame in (2, 3):
        (data.root / f"Train/sad/Train1/{frame}.jpg").unlink()
        (data.root / f"Val/sad/Val0/{frame}.jpg").unlink()  # evaluation reads all frames
    shutil.rmtree(data.root / "Val/happy")
    report = data.report(num_frames=3)
    assert found(report) == {
        "short clips, which repeat frames": ["sad/Train1 has 2 of 3 frames"],
        "notes on lists and folders": ["val has no clips of class happy"],
    }
    assert report["status"] == 1 and data.report(num_frames=2)["status"] == 0


def test_clips_in_both_splits_by_name_or_by_link_and_copies_whatever_they_are_called(data):
    shutil.move(data.root / "Val/sad/Val0", data.root / "Val/sad/Train2")
    (data.root / "Val/happy/linked").symlink_to(data.root / "Train/happy/Train1")
    shutil.copy(data.root / "Train/sad/Train2/1.jpg", data.root / "Val/happy/Val0/0.jpg")
    report = data.report()
    assert report["status"] == 1 and found(report) == {
        "clips in both splits": ["happy/linked", "sad/Train2"],
        "val clips with copies of train frames": [
            "happy/linked: 4 of 4 frames are also in train, in happy/Train1",
            "happy/Val0: 1 of 4 frames are also in train, in sad/Train2",
        ],
    }


@pytest.mark.parametrize(
    ("name", "person"),
    [
        ("Happy/S005_001", "s005"), ("Sad/P001-x", "p001"), ("Fear/Actor_07_2", "actor_07"),
        ("Happy/subject12_smile", "subject12"), ("ANG/1001_DFA_ANG_XX", "1001"), ("02-01-06-01-02-01-12", "12"),
        ("Fear/000633000", ""), ("Action/Happy/0267", ""), ("Sad/s1", ""), ("Happy/Train0", ""), ("Fear/side1", ""),
    ],
)  # fmt: skip
def test_names_tell_persons_where_they_are_unmistakable(name, person):
    assert person_in(name) == person


def test_persons_in_both_splits_and_labels_in_another_order():
    def clips(*names: str, labels: tuple[str, ...] = AFEW_LABELS) -> ClipSet:
        frames = ("1.jpg", "2.jpg", "3.jpg")
        return ClipSet([Clip(name, f"/nowhere/{name}", frames, 0) for name in names], labels, "/nowhere")

    def warned(train: ClipSet, val: ClipSet, kind: str, known_labels: tuple[str, ...] | None = None) -> list[str]:
        lines = check_before_training(train, val, num_frames=3, known_labels=known_labels, headers=False)
        return [line.partition(": ")[2] for line in lines if line.startswith(kind)]

    train, val = clips("S005/001", "S010/002", "S011/001"), clips("S010/004", "S099/001")
    (line,) = warned(train, val, "persons")
    assert line.startswith("1, for example s010: train S010/002, val S010/004")
    alphabetical = tuple(sorted(AFEW_LABELS))
    train, val = clips("Angry/1", labels=alphabetical), clips("Sad/2", labels=alphabetical)
    (line,) = warned(train, val, "labels out of order")
    assert line.startswith("2, for example the order is Angry Disgust") and "that of AFEW is Happy Angry" in line
    (line,) = warned(train, val, "labels out of order", alphabetical)
    assert line.startswith("1, for example Sad/2 is labeled Angry")


# The script


def test_script_checks_any_dataset_and_exits_with_what_it_found(call, sample, tmp_path):
    shutil.copytree(sample, tmp_path / "Data")
    done = call(script, "--check", cwd=tmp_path)
    assert (done.status, done.err) == (0, "")
    assert call(script, "--dataset", "folders", "--check", cwd=tmp_path).status == 1  # alphabetical classes
    victim = sorted((tmp_path / "Data/Train").glob("*/*/*.jpg"))[5]
    shutil.copy(sorted((tmp_path / "Data/Val").glob("*/*/*.jpg"))[5], victim)
    assert call(script, "--check", cwd=tmp_path).status == 1
    truncate(victim)
    done = call(script, "--check", cwd=tmp_path)
    assert done.status == 2 and str(victim.relative_to(tmp_path)) in done.out and "Traceback" not in done.err
    done = call(script, "--check", "--json", cwd=tmp_path)
    assert done.status == 2 and json.loads(done.out)["status"] == 2
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize("dataset", ["ckplus", "dfew", "folders"])
def test_without_data_the_script_names_what_is_missing_and_shows_no_table(call, tmp_path, dataset):
    outcome = call(script, "--check", "--dataset", dataset, cwd=tmp_path)
    assert outcome.status == 2 and outcome.out == "" and outcome.err.startswith("error: ")
    assert "no such folder" in outcome.err and "Traceback" not in outcome.err
    outcome = call(script, "--check", "--dataset", dataset, "--json", cwd=tmp_path)
    assert outcome.status == 2 and "no such folder" in outcome.out and json.loads(outcome.out)["status"] == 2


def test_quick_part_warns_before_a_training_and_names_what_is_no_image(call, sample, tmp_path):
    shutil.copytree(sample, tmp_path / "Data")
    clip = sorted((tmp_path / "Data/Train").glob("*/*"))[0]
    for frame in sorted(clip.iterdir())[2:]:
        frame.unlink()
    flags = ("--pretrained", "none", "--image-size", 32, "--device", "cpu", "--epochs", 1, "--samples-per-clip", 1)
    done = call(script, *flags, cwd=tmp_path)
    assert done.status == 0
    assert "warning: short clips, which repeat frames: 1, for example " in done.err
    (clip / "002.jpg").write_text("<html>")
    done = call(script, *flags, cwd=tmp_path)
    assert done.status == 2 and f"{clip.relative_to(tmp_path)}/002.jpg: not an image" in done.err


def test_script_checks_all_folds_each_image_once(call, sample, tmp_path):
    shutil.copytree(sample, tmp_path / "Data/Sample")
    roots = ("--train-root", "Data/Sample/Train", "--val-root", "Data/Sample/Val")
    lists = ("--train-list", "Data/Sample/list_train.txt", "--val-list", "Data/Sample/list_eval.txt")
    done = call(script, "--dataset", "sample", *roots, *lists, "--fold", "all", "--check", "--json", cwd=tmp_path)
    report = json.loads(done.out)
    assert report["frames"] == len(list((tmp_path / "Data/Sample").glob("*/*/*/*.jpg"))) and done.status < 2
    assert not any("both" in name for name in found(report))
    truncate(sorted((tmp_path / "Data/Sample/Val").glob("*/*/*.jpg"))[0])
    assert call(script, "--dataset", "sample", *roots, *lists, "--fold", 2, "--check", cwd=tmp_path).status == 2


def test_lists_of_every_fold_are_checked(call, tmp_path):
    root = stub_dfew(tmp_path / "DFEW")
    path = root / "EmoLabel_DataSplit/train(single-labeled)/set_4.csv"
    path.write_text(path.read_text() + "00001,9\n")
    done = call(script, "--dataset", "dfew", "--train-root", root, "--check", cwd=tmp_path)
    assert done.status == 2 and f'{path}, line 18: label "9"' in done.out
