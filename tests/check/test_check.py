"""The check: every fault of a dataset is found, named and counted; a clean dataset is called clean."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import Demo_AFEW_Attention as script
from Code.check import CheckReport, Finding, Reading, check, refuse_broken_images
from Code.check.names import check_names, person_in
from Code.common.names import AFEW_LABELS
from Code.data.clips import Clip, ClipSet, DataError
from Code.readers.folders import read_folders
from tests.trees import read_afew, stub_dfew

LABELS = ("happy", "sad")


def write_frame(path: Path, seed: int, **options) -> None:
    pixels = np.random.default_rng(seed).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)


@dataclass
class Data:
    """A clean dataset of two classes: three training clips and one validation clip per class, four frames per clip."""

    root: Path

    def __post_init__(self) -> None:
        seed = 0
        for split, clips in (("Train", 3), ("Val", 1)):
            for label in LABELS:
                for clip in range(clips):
                    for frame in range(4):
                        write_frame(self.root / split / label / f"{split}{clip}" / f"{frame}.jpg", seed)
                        seed += 1

    def frame(self, name: str) -> Path:
        return self.root / name

    def report(self, **options) -> CheckReport:
        train = Reading.of(lambda: read_folders(self.root / "Train"))
        labels = train.clips.labels if train.clips else LABELS
        val = Reading.of(lambda: read_folders(self.root / "Val", labels=labels))
        return check({"train": train, "val": val}, **options)


@pytest.fixture
def data(tmp_path: Path) -> Data:
    return Data(tmp_path)


def found(report: CheckReport) -> dict[str, dict[str, int]]:
    """The findings, with counts above zero."""
    return {c.name: {split: n for split, n in c.counts.items() if n} for c in report.checks if c.found}


def the(checks: list[Finding], fragment: str) -> Finding:
    (one,) = [check for check in checks if fragment in check.name]
    return one


def test_clean_data_are_called_clean(data):
    report = data.report()
    assert found(report) == {} and report.status == 0
    assert (report.frames, report.labels) == (32, LABELS)
    assert [(row["clips"], row["frames"]) for row in report.classes["train"]] == [(3, 12), (3, 12)]
    assert report.classes["val"] == [{"clips": 1, "frames": 4, "shortest": 4, "median": 4.0, "longest": 4}] * 2
    assert "clean; 32 frames decoded" in report.as_table()


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


ERRORS: dict[str, tuple[Callable[[Path], object], bool]] = {  # how to spoil a frame, whether its header shows it
    "no image": (lambda path: path.write_text("<html>"), True),
    "empty": (lambda path: path.write_bytes(b""), True),
    "truncated": (truncate, False),
    "too large": (lambda path: Image.new("1", (10_000, 9_000)).save(path, "PNG"), True),
}


@pytest.mark.parametrize("fault", ERRORS)
def test_frames_that_cannot_be_read_are_errors(data, fault):
    spoil, in_header = ERRORS[fault]
    path = data.frame("Train/sad/Train1/2.jpg")
    spoil(path)
    report = data.report()
    assert found(report) == {"frames that cannot be read": {"train": 1}} and report.status == 2
    assert the(report.checks, "cannot be read").items[0].startswith(f"{path}: ")
    assert str(path) in report.as_table() and "not usable" in report.as_table()
    train = read_folders(data.root / "Train")
    if in_header:
        with pytest.raises(DataError, match=re.escape(str(path))):
            refuse_broken_images(train)
    else:
        refuse_broken_images(train)


def test_missing_and_empty_clips_are_errors_and_the_rest_is_examined_all_the_same(tmp_path):
    data = Data(tmp_path)
    for frame in data.frame("Train/sad/Train1").iterdir():
        frame.unlink()
    lines = [f"{label}/Train{clip} {label}" for label in LABELS for clip in range(3)]
    (tmp_path / "list.txt").write_text("\n".join([*lines, "sad/gone sad", "sad/Train0 sda"]))
    data.frame("Train/happy/Train2/0.jpg").write_bytes(b"")

    def read(skip_empty: bool = False) -> CheckReport:
        train = Reading.of(
            lambda: read_afew(tmp_path / "Train", tmp_path / "list.txt", labels=LABELS, skip_empty=skip_empty)
        )
        return check({"train": train, "val": Reading.of(lambda: read_folders(tmp_path / "Val"))}, known_labels=LABELS)

    report = read()
    assert found(report) == {
        "problems of lists and folders": {"train": 1},
        "missing clips or folders": {"train": 1},
        "empty clips": {"train": 1},
        "frames that cannot be read": {"train": 1},
    }
    assert report.status == 2 and report.frames == 28
    assert (
        "line 7" in the(report.checks, "missing").items[0]
        and "known: happy, sad" in the(report.checks, "problems of").items[0]
    )
    assert "--skip-empty" in report.as_table()
    (tmp_path / "list.txt").write_text("\n".join(lines))
    write_frame(data.frame("Train/happy/Train2/0.jpg"), 99)
    report = read(skip_empty=True)
    assert report.status == 1 and the(report.checks, "skipped (").items == ["sad/Train1"]


def test_a_split_that_is_not_there_at_all_is_reported(data):
    shutil.rmtree(data.root / "Val")
    report = data.report()
    assert found(report) == {"missing clips or folders": {"val": 1}} and report.status == 2
    assert f"{data.root / 'Val'}: no such folder" in report.as_table()


def test_short_clips_and_absent_classes(data):
    for frame in (2, 3):
        data.frame(f"Train/sad/Train1/{frame}.jpg").unlink()
        data.frame(f"Val/sad/Val0/{frame}.jpg").unlink()  # evaluation reads all frames
    shutil.rmtree(data.root / "Val/happy")
    report = data.report(num_frames=3)
    assert the(report.checks, "shorter than 3 frames").items == ["sad/Train1"]
    assert the(report.checks, "classes without val clips").items == ["happy"]
    assert report.status == 1 and data.report(num_frames=2).status == 0


def test_clips_in_both_splits_by_name_or_by_link(data):
    shutil.move(data.frame("Val/sad/Val0"), data.frame("Val/sad/Train2"))
    data.frame("Val/happy/linked").symlink_to(data.frame("Train/happy/Train1"))
    items = the(data.report().checks, "clips in both").items
    assert items == ["happy/linked is the same folder as happy/Train1", "sad/Train2"]


@pytest.mark.parametrize(
    ("name", "person"),
    [
        ("Happy/S005_001", "s005"), ("S130/007", "s130"), ("Sad/P001-x", "p001"), ("Fear/Actor_07_2", "actor_07"),
        ("Happy/subject12_smile", "subject12"), ("ANG/1001_DFA_ANG_XX", "1001"), ("02-01-06-01-02-01-12", "12"),
        ("Fear/000633000", None), ("Happy/100003", None), ("Action/Happy/0267", None), ("Sad/s1", None),
        ("Happy/Train0", None), ("Sad/videos/p2", None), ("Fear/ids", None), ("Fear/side1", None),
    ],
)  # fmt: skip
def test_names_tell_persons_where_they_are_unmistakable(name, person):
    assert person_in(name) == person


def clip_set(names: list[str], labels: tuple[str, ...] = AFEW_LABELS, label: int = 0) -> Reading:
    clips = [Clip(name, f"/nowhere/{name}", ("1.jpg", "2.jpg", "3.jpg"), label) for name in names]
    return Reading(ClipSet(clips, labels, "/nowhere"))


def test_persons_in_both_splits():
    splits = {"train": clip_set(["S005/001", "S010/002", "S011/001"]), "val": clip_set(["S010/004", "S099/001"])}
    assert the(check_names(splits, 3), "persons").items == ["s010: train S010/002, val S010/004"]


def test_labels_in_another_order_than_the_protocol_or_than_afew():
    alphabetical = tuple(sorted(AFEW_LABELS))
    splits = {name: clip_set(["Angry/1"], alphabetical) for name in ("train", "val")}
    (item,) = the(check_names(splits, 3), "labels out of order").items
    assert "0 Angry 1 Disgust" in item and "the order of AFEW is 0 Happy 1 Angry" in item
    assert the(check_names(splits, 3, alphabetical), "labels out of order").found == 0
    splits = {"train": clip_set(["x"]), "val": clip_set(["y"], alphabetical)}
    assert "train: 0 Happy" in the(check_names(splits, 3), "labels out of order").items[0]


def test_copies_between_the_splits_are_found_by_content_whatever_they_are_called(data):
    shutil.rmtree(data.frame("Val/happy/Val0"))
    shutil.copytree(data.frame("Train/happy/Train1"), data.frame("Val/happy/Val0"))
    shutil.copy(data.frame("Train/sad/Train2/1.jpg"), data.frame("Val/sad/Val0/0.jpg"))
    report = data.report()
    assert the(report.checks, "also train frames").counts == {"both": 5} and the(
        report.checks, "also train frames"
    ).items == [
        "4 of 4 frames, val happy/Val0/0.jpg = train happy/Train1/0.jpg",
        "1 of 4 frames, val sad/Val0/0.jpg = train sad/Train2/1.jpg",
    ]
    assert report.status == 1


def test_json_says_all_that_the_table_says(data):
    for path in sorted(data.root.rglob("*.jpg"))[:9]:
        path.write_bytes(b"")
    report = data.report()
    values = json.loads(json.dumps(report.as_json()))
    assert values["status"] == 2 and values["labels"] == list(LABELS) and values["frames"] == 32
    assert values["classes"]["val"][0]["label"] == "happy" and values["advice"] == []
    (broken,) = [check for check in values["checks"] if check["found"]]
    assert broken["counts"] == {"train": 9, "val": 0} and len(broken["items"]) == 9 and broken["level"] == "error"
    assert "and 4 more; --json lists all" in report.as_table()


# The script


@pytest.mark.parametrize("dataset", ["afew", "folders"])
def test_script_checks_any_dataset_and_exits_with_what_it_found(call, sample, tmp_path, dataset):
    shutil.copytree(sample, tmp_path / "Data")
    done = call(script, "--dataset", dataset, "--check", cwd=tmp_path)
    assert (done.status, done.err) == ((0, "") if dataset == "afew" else (1, ""))  # folders: alphabetical classes
    victim = sorted((tmp_path / "Data/Train").glob("*/*/*.jpg"))[5]
    shutil.copy(sorted((tmp_path / "Data/Val").glob("*/*/*.jpg"))[5], victim)
    assert call(script, "--dataset", dataset, "--check", cwd=tmp_path).status == 1
    truncate(victim)
    done = call(script, "--dataset", dataset, "--check", cwd=tmp_path)
    assert done.status == 2 and str(victim.relative_to(tmp_path)) in done.out and "Traceback" not in done.err
    done = call(script, "--dataset", dataset, "--check", "--json", cwd=tmp_path)
    assert done.status == 2 and json.loads(done.out)["status"] == 2
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize("dataset", ["afew", "ckplus", "dfew", "folders"])
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
    (line,) = [line for line in done.err.splitlines() if "shorter" in line]
    assert line.startswith("warning: clips shorter than 3 frames, which repeat frames: 1 in train (")
    (clip / "002.jpg").write_text("<html>")
    done = call(script, *flags, cwd=tmp_path)
    assert done.status == 2 and f"{clip.relative_to(tmp_path)}/002.jpg: not an image" in done.err


def test_script_checks_all_folds_each_image_once(call, sample, tmp_path):
    shutil.copytree(sample, tmp_path / "Data/Sample")
    roots = ("--train-root", "Data/Sample/Train", "--val-root", "Data/Sample/Val")
    lists = ("--train-list", "Data/Sample/list_train.txt", "--val-list", "Data/Sample/list_eval.txt")
    done = call(script, "--dataset", "sample", *roots, *lists, "--fold", "all", "--check", "--json", cwd=tmp_path)
    report = json.loads(done.out)
    assert report["frames"] == len(list((tmp_path / "Data/Sample").glob("*/*/*/*.jpg")))
    counts = {check["name"]: check["found"] for check in report["checks"]}
    assert counts["persons in both splits"] == counts["clips in both splits"] == 0 and done.status < 2
    truncate(sorted((tmp_path / "Data/Sample/Val").glob("*/*/*.jpg"))[0])
    assert call(script, "--dataset", "sample", *roots, *lists, "--fold", 2, "--check", cwd=tmp_path).status == 2


def test_lists_of_every_fold_are_checked(call, tmp_path):
    root = stub_dfew(tmp_path / "DFEW")
    path = root / "EmoLabel_DataSplit/train(single-labeled)/set_4.csv"
    path.write_text(path.read_text() + "00001,9\n")
    done = call(script, "--dataset", "dfew", "--train-root", root, "--check", cwd=tmp_path)
    assert done.status == 2 and f'{path}, line 18: label "9"' in done.out
