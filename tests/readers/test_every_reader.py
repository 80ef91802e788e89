"""The problems that every reader of lists must report, all at once."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from Code.check import check_before_training
from Code.data.clips import ClipSet, DataError
from Code.readers import crop_of, find, names, title_of, trained_on
from tests.trees import read_dataset, stub_clip


@dataclass(frozen=True)
class Format:
    """A list format, by clips of class Happy with a number, {}."""

    dataset: str  # that has such lists
    folder: str  # of a clip below the root
    line: str
    unknown_class: str  # an invalid line
    malformed: str
    header: str = ""

    def read(self, root: Path, path: Path, **more: Any) -> ClipSet:
        return read_dataset(self.dataset, root, path, **more)


FORMATS = {
    "afew": Format("afew", "Happy/{}", "Happy/{} Happy", "Joy/5 Joy", "Happy"),
    "dfew": Format("dfew", "0000{}", "0000{},1", "00005,9", "00005", "video_name,label"),
    "ferv39k": Format("ferv39k", "Action/Happy/{}", "Action/Happy/{} Happy", "Action/Joy/5 Joy", "Action"),
    "mafw": Format("mafw", "data/frames/0000{}", "0000{}.mp4 happiness", "00005.mp4 joy", "00005.mp4"),
    "shared list": Format("list", "Happy/{}", "Happy/{} 3 0", "Happy/5 3 9", "Happy/5"),
    "table": Format("afew", "c/{}", "c/{},Happy", "c/5,Joy", "c/5", "path,label"),
}


@pytest.fixture(params=FORMATS.values(), ids=FORMATS.keys())
def form(request: pytest.FixtureRequest) -> Format:
    return request.param


def write_list(path: Path, form: Format, lines: list[str]) -> Path:
    path.write_text("\n".join([form.header, *lines] if form.header else lines) + "\n")
    return path


def test_every_fault_is_named_with_its_line_and_all_at_once(form: Format, tmp_path: Path) -> None:
    root = tmp_path / "frames"
    stub_clip(root / form.folder.format(1))
    stub_clip(root / form.folder.format(4), 0)
    good, missing, empty = (form.line.format(number) for number in (1, 2, 4))
    path = write_list(tmp_path / "list.csv", form, [good, missing, good, form.unknown_class, form.malformed, empty])
    with pytest.raises(DataError) as caught:
        form.read(root, path)
    first = 2 if form.header else 1
    problems = caught.value.problems
    assert len(problems) == 5, problems
    for number in (1, 2, 3, 4, 5):
        (problem,) = [problem for problem in problems if f"{path}, line {first + number}: " in problem]
        assert "\n" not in problem
    assert any("already in line" in problem for problem in problems)
    assert any("no frames" in problem for problem in problems)
    assert "--skip-empty" in str(caught.value)


def test_clips_without_frames_are_left_out_and_counted(form: Format, tmp_path: Path) -> None:
    root = tmp_path / "frames"
    for number, frames in ((1, 3), (4, 0)):
        stub_clip(root / form.folder.format(number), frames)
    path = write_list(tmp_path / "list.csv", form, [form.line.format(1), form.line.format(4)])
    clips = form.read(root, path, skip_empty=True)
    assert [len(clip) for clip in clips.clips] == [3]
    assert len(clips.everything) == 2 and len(clips.skipped) == 1


def test_a_missing_root_is_one_clear_problem(form: Format, tmp_path: Path) -> None:
    path = write_list(tmp_path / "list.csv", form, [form.line.format(1), form.line.format(2)])
    with pytest.raises(DataError) as caught:
        form.read(tmp_path / "nowhere", path)
    (problem,) = caught.value.problems
    assert "nowhere" in problem and "Data/README.md" in str(caught.value)


def test_the_check_names_clips_in_both_splits_and_short_ones(form: Format, tmp_path: Path) -> None:
    root = tmp_path / "frames"
    stub_clip(root / form.folder.format(1))
    clips = form.read(root, write_list(tmp_path / "list.csv", form, [form.line.format(1)]))
    warnings = check_before_training(clips, clips, num_frames=4, known_labels=None, headers=False)
    assert {line.partition(":")[0] for line in warnings} >= {"clips in both splits", "short clips, which repeat frames"}


def test_every_dataset_says_its_protocol_and_its_words_without_torch() -> None:
    assert names() == ["afew", "ckplus", "composed", "dfew", "ferv39k", "folders", "list", "mafw", "sample"]
    for name in names():
        assert find(name).name == name and find(name).protocol.epochs > 0
    assert title_of("ckplus") == "CK+" and title_of("other") == "other"
    assert trained_on("dfew") == "trained on film clips (DFEW)"
    assert trained_on("ferplus") == "trained on single gray pictures of faces (FER+)"
    assert trained_on(None) == "the file does not say what it was trained on"
    crops = {"composed": "fer2013", "ferplus": "fer2013", "dfew": "own", "other": "paper", None: "paper"}
    assert {name: crop_of({"dataset": name, "kind": "FAN"}) for name in crops} == crops
    assert crop_of({"dataset": None, "kind": "frame classifier"}) == "fer2013"
    code = "import sys; from Code.readers import names; names(); raise SystemExit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
