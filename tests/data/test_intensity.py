"""The table of true importance beside generated clips."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from Code.data.clips import DataError
from Code.data.intensity import intensities_of, read_intensity, write_intensity
from Code.data.request import Request
from Code.readers import find


def test_read_intensity_names_file_and_line(tmp_path: Path) -> None:
    path = tmp_path / "intensity.csv"
    with pytest.raises(DataError, match=r"intensity\.csv: No such file"):
        read_intensity(path)
    head = "split,clip,frame,intensity,distractor\nTrain,Sad/000004,001.jpg,0.5,\n"
    path.write_text(head)
    assert read_intensity(path) == {("Train", "Sad/000004", "001.jpg"): (0.5, "")}
    for line in ("Train,Sad/000004,002.jpg,much,", "Train,Sad/000004,002.jpg,1.5,", "Train,Sad/000004"):
        path.write_text(head + line + "\n")
        with pytest.raises(DataError, match=r"intensity\.csv, line 3"):
            read_intensity(path)
    path.write_text("clip;frame\nSad/000004;1\n")
    with pytest.raises(DataError, match=r"intensity\.csv, line 2"):
        read_intensity(path)


def _tree(root: Path, clips: dict[str, int]) -> None:
    for clip, frames in clips.items():
        (root / clip).mkdir(parents=True)
        for number in range(frames):
            Image.new("L", (8, 8)).save(root / clip / f"{number:03d}.png")


def test_folders_with_a_table_have_true_importance(tmp_path: Path) -> None:
    root = tmp_path / "Onsets" / "Train"
    _tree(root, {"happiness/094": 3, "neutral/007": 2})
    rows = [("Train", "happiness/094", f"{n:03d}.png", n / 2, "") for n in range(3)]
    rows += [("Train", "neutral/007", f"{n:03d}.png", 0.0, "") for n in range(2)]
    reader = find("folders")
    clips = reader.read(Request(train_root=str(root)), "train")
    assert reader.intensities(clips) is None
    write_intensity(root.parent, rows)
    truth = reader.intensities(clips)
    assert truth is not None
    np.testing.assert_array_equal(truth["happiness/094"], [0, 0.5, 1])
    np.testing.assert_array_equal(truth["neutral/007"], [0, 0])
    # A clip of the same name in another split is another clip.
    for order in (1, -1):
        other = [("Val", "happiness/094", f"{n:03d}.png", 0.25, "") for n in range(3)]
        write_intensity(root.parent, [*rows, *other][::order])
        truth = reader.intensities(clips)
        assert truth is not None
        np.testing.assert_array_equal(truth["happiness/094"], [0, 0.5, 1])
    write_intensity(root.parent, rows[:-1])
    with pytest.raises(DataError, match=r"intensity\.csv: lacks frames of neutral/007"):
        intensities_of(clips)


def test_a_root_may_be_the_current_folder_and_clips_right_below_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _tree(tmp_path / "Val", {"Happy/1": 1, "2": 1})
    (tmp_path / "clips.csv").write_text("path,label\n2,Happy\n")
    monkeypatch.chdir(tmp_path / "Val")
    reader = find("folders")
    listed = reader.read(Request(train_root=".", train_list="../clips.csv"), "train")
    assert reader.intensities(listed) is None
    (tmp_path / "Val" / "2").rename(tmp_path / "2")
    clips = reader.read(Request(val_root="."), "val")
    assert reader.intensities(clips) is None
    write_intensity(tmp_path, [("Val", "Happy/1", "000.png", 0.5, "")])
    assert reader.intensities(clips) == {"Happy/1": [0.5]}
