"""Prepare_Faces.py: from trees of videos or raw frames to trees of faces, with what failed named.

The people in these videos are the generated sample's; the detector takes them for real.
"""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import Prepare_Faces
from Code.data.images import read_image
from Code.faces import prepare as prepare_module
from Code.faces.align import PAPER_EYES, Eyes
from Code.faces.detect import Detector
from Code.faces.extract import Analysis, Cutout, cut_out
from Code.faces.track import FaceTrack
from Code.faces.video import Source

pytest.importorskip("facenet_pytorch", reason="detection needs facenet-pytorch")

Draw = Callable[..., Image.Image]
Write = Callable[..., Path]
Call = Callable[..., int]


def names(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.jpg"))


def rows(output: Path) -> list[dict[str, str]]:
    with (output / "faces.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def no_half_work(output: Path) -> bool:
    """Whether nothing but whole clips is left."""
    return not list((output / ".prepared").rglob("*.jpg")) and not list(output.rglob("*.tmp"))


@pytest.fixture
def tree(tmp_path: Path, write_video: Write, scene_of: Draw) -> Path:
    """Three videos of six frames in three containers and codecs; one starts with two frames without a face."""
    root = tmp_path / "videos"
    for index, (name, codec) in enumerate((("Happy/one.mp4", "mpeg4"), ("Sad/two.avi", "mjpeg"))):
        write_video(root / name, [scene_of((index, 20 + n, 10, 120)) for n in range(6)], codec=codec)
    late = [scene_of()] * 2 + [scene_of((2, 30, 12, 120))] * 4
    write_video(root / "Sad" / "late.webm", late, codec="libvpx")
    return root


def test_a_tree_of_videos_becomes_a_tree_of_faces_and_broken_ones_are_named(
    tree: Path, tmp_path: Path, prepare: Call, capsys: pytest.CaptureFixture[str]
) -> None:
    (tree / "Sad" / "broken.avi").write_bytes(np.random.default_rng(0).bytes(3000))
    (tree / "Sad" / "empty.mp4").touch()
    (tree / "notes.txt").write_text("passed over")
    output = tmp_path / "faces"
    assert prepare(tree, output) == 1
    out, err = capsys.readouterr()
    assert "broken.avi" in err
    assert "empty.mp4: an empty file" in err
    assert "1 .txt" in err
    assert "Traceback" not in err
    assert "3 of 5 clips with faces" in out
    assert "2 could not be read: Sad/broken, Sad/empty" in out

    every = [f"{number:07d}.jpg" for number in range(6)]
    assert names(output) == sorted(
        [f"Happy/one/{n}" for n in every] + [f"Sad/two/{n}" for n in every] + [f"Sad/late/{n}" for n in every[2:]]
    )
    for name in names(output):
        with Image.open(output / name) as image:
            assert (image.format, image.mode, image.size) == ("JPEG", "RGB", (224, 224))
    assert not (output / "Sad" / "broken").exists()
    assert (output / "list.txt").read_text().split() == [
        *("Happy/one", "Happy", "Sad/late", "Sad", "Sad/two", "Sad"),
    ]
    table = rows(output)
    assert [(row["frame"], bool(row["track"])) for row in table if row["clip"] == "Sad/late"] == [
        (str(number), number >= 2) for number in range(6)
    ]
    for row in table:
        if row["track"]:
            assert float(row["left"]) < float(row["left_eye_x"]) < float(row["right_eye_x"]) < float(row["right"])
            assert float(row["confidence"]) > 0.9
    summary = json.loads((output / "summary.json").read_text())
    assert (summary["clips"], summary["clips_with_faces"], summary["written"]) == (5, 3, 16)
    assert len(summary["problems"]) == 2


def test_eyes_of_what_is_written_are_where_the_paper_has_them(tree: Path, tmp_path: Path, prepare: Call) -> None:
    output = tmp_path / "faces"
    assert prepare(tree / "Happy" / "one.mp4", output) == 0
    images = np.stack([read_image(str(path), 224) for path in sorted((output / "one").iterdir())])
    padded = np.pad(images, ((0, 0), (90, 90), (90, 90), (0, 0)), constant_values=127)
    found = np.stack([faces.landmarks[0][:2] - 90 for faces in Detector(min_face=80)(padded)])
    assert np.median(np.hypot(*np.moveaxis(found - PAPER_EYES, -1, 0))) < 6  # drawn eyes; real ones are nearer


def test_names_may_be_as_long_as_files_may_have_them(tree: Path, tmp_path: Path, prepare: Call) -> None:
    name = "e" * 246
    (tree / "Sad" / "two.avi").rename(tree / "Sad" / f"{name}.avi")
    output = tmp_path / "faces"
    assert prepare(tree, output) == 0
    assert len(names(output / "Sad" / name)) == 6
    before = {path: path.stat().st_mtime_ns for path in output.rglob("*.jpg")}
    assert prepare(tree, output) == 0  # nothing is left to do
    assert {path: path.stat().st_mtime_ns for path in output.rglob("*.jpg")} == before


def test_a_clip_without_a_face_is_exit_status_1_and_named(
    tree: Path, tmp_path: Path, prepare: Call, write_video: Write, scene_of: Draw, capsys: pytest.CaptureFixture[str]
) -> None:
    write_video(tree / "Happy" / "nobody.mkv", [scene_of()] * 4, codec="ffv1")
    assert prepare(tree / "Happy", tmp_path / "faces") == 1
    out, err = capsys.readouterr()
    assert "no face: nobody (4 frames)" in err
    assert "1 without a face: nobody" in out
    assert {name.split("/")[0] for name in names(tmp_path / "faces")} == {"one"}
    assert sum(row["clip"] == "nobody" and row["left"] == "" for row in rows(tmp_path / "faces")) == 4


def test_interrupted_in_the_middle_of_a_clip_it_goes_on_where_it_was(
    tree: Path, tmp_path: Path, prepare: Call, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    output, whole = tmp_path / "faces", tmp_path / "whole"
    assert prepare(tree, whole) == 0

    def stop_at_the_second_clip(
        source: Source, analysis: Analysis, paths: Mapping[int, FaceTrack], eyes: Eyes = PAPER_EYES
    ) -> Iterator[Cutout]:
        for count, face in enumerate(cut_out(source, analysis, paths, eyes)):
            if count == 3 and "one" not in source.path.name:
                raise KeyboardInterrupt
            yield face

    with monkeypatch.context() as patch:
        patch.setattr(prepare_module, "cut_out", stop_at_the_second_clip)
        assert prepare(tree, output) == 130
    assert names(output / "Happy") == [f"one/{number:07d}.jpg" for number in range(6)]
    assert not (output / "Sad").exists()
    assert not (output / "faces.csv").exists()
    first = (output / "Happy" / "one" / "0000000.jpg").stat().st_mtime_ns
    capsys.readouterr()

    assert prepare(tree, output) == 0
    assert "1 of 3 clips are prepared already" in capsys.readouterr().out
    assert (output / "Happy" / "one" / "0000000.jpg").stat().st_mtime_ns == first
    assert names(output) == names(whole)
    for name in [*names(whole), "faces.csv", "list.txt"]:
        assert (output / name).read_bytes() == (whole / name).read_bytes()
    assert no_half_work(output)


@pytest.mark.slow
def test_killed_at_any_time_it_never_leaves_a_half_written_clip_and_goes_on(
    tmp_path: Path, prepare: Call, write_video: Write, scene_of: Draw
) -> None:
    """SIGKILL for the whole process group, again and again, until a call comes through."""
    videos, output, whole = tmp_path / "my videos", tmp_path / "my faces", tmp_path / "whole"
    for clip in range(4):
        write_video(videos / f"{clip}.mp4", [scene_of((clip % 3, 20 + n % 9, 10, 120)) for n in range(60)])
    assert prepare(videos, whole, "--workers", 2) == 0
    script = Path(Prepare_Faces.__file__)
    command = [sys.executable, str(script), str(videos), str(output), "--workers", "2", "--device", "cpu"]
    killed = 0
    for _ in range(20):
        partial = output / ".prepared" / "partial"
        with subprocess.Popen(command, start_new_session=True, stdout=subprocess.DEVNULL) as call:
            # A little later each time: while the workers start, detect, and write.
            while call.poll() is None and not (killed < 4 and list(partial.rglob(f"*{9 * killed + 5:07d}.jpg"))):
                time.sleep(0.002)
            if call.poll() is None:
                os.killpg(call.pid, signal.SIGKILL)
                killed += 1
        for clip in range(4):
            assert not (output / str(clip)).exists() or len(names(output / str(clip))) == 60
        if call.returncode == 0:
            break
    assert killed >= 1
    assert call.returncode == 0
    for name in [*names(whole), "faces.csv", "summary.json"]:
        assert (output / name).read_bytes() == (whole / name).read_bytes()
    assert no_half_work(output)


def test_a_clip_that_lost_frames_or_changed_is_prepared_anew(
    tree: Path, tmp_path: Path, prepare: Call, write_video: Write, scene_of: Draw
) -> None:
    output, source = tmp_path / "faces", tree / "Happy"
    assert prepare(source, output) == 0
    (output / "one" / "0000003.jpg").unlink()
    assert prepare(source, output) == 0
    assert len(names(output)) == 6
    write_video(source / "one.mp4", [scene_of((0, 20, 10, 120))] * 4)
    assert prepare(source, output) == 0
    assert len(names(output)) == 4


def test_several_processes_write_what_one_does(tree: Path, tmp_path: Path, prepare: Call) -> None:
    assert prepare(tree, tmp_path / "one") == 0
    assert prepare(tree, tmp_path / "two", "--workers", 2) == 0
    assert names(tmp_path / "one") == names(tmp_path / "two")
    for name in [*names(tmp_path / "one"), "faces.csv", "list.txt", "summary.json"]:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_raw_frame_folders_keep_their_numbers_and_fps_thins_videos(
    tree: Path, tmp_path: Path, prepare: Call, scene_of: Draw
) -> None:
    frames = tmp_path / "ck" / "S005" / "001"
    frames.mkdir(parents=True)
    for number in (1, 2, 11):
        scene_of((0, 20, 10, 120)).convert("L").save(frames / f"S005_001_{number:08d}.png")
    assert prepare(tmp_path / "ck", tmp_path / "raw") == 0
    assert names(tmp_path / "raw") == [f"S005/001/{number:07d}.jpg" for number in (1, 2, 11)]
    assert not list((tmp_path / "raw").glob("list*.txt"))  # CK+'s labels lie in files of their own
    assert prepare(tree / "Happy", tmp_path / "thin", "--fps", 5) == 0
    assert names(tmp_path / "thin") == [f"one/{number:07d}.jpg" for number in (0, 2, 4)]


def test_all_faces_are_a_folder_per_person_and_the_main_one_is_the_larger(
    tmp_path: Path, prepare: Call, write_video: Write, scene_of: Draw
) -> None:
    people = [scene_of((0, 5, 40, 90), (1, 150, 20, 150), size=(320, 200))] * 6
    clip = write_video(tmp_path / "two.mkv", people, codec="ffv1")
    assert prepare(clip, tmp_path / "main") == 0
    assert all(float(row["left"]) > 130 for row in rows(tmp_path / "main"))
    assert prepare(clip, tmp_path / "all", "--faces", "all") == 0
    assert sorted({name.split("/")[0] for name in names(tmp_path / "all")}) == ["two_01", "two_02"]
    assert len(names(tmp_path / "all")) == 12


def test_two_people_in_the_same_place_are_told_apart_by_the_cut_between_them(
    tmp_path: Path, prepare: Call, write_video: Write, scene_of: Draw
) -> None:
    shots = [scene_of((0, 30, 10, 120), grey=60)] * 5 + [scene_of((1, 34, 12, 118), grey=170)] * 7
    clip = write_video(tmp_path / "two shots.mp4", shots)
    assert prepare(clip, tmp_path / "all", "--faces", "all") == 0
    every = [f"two shots_01/{n:07d}.jpg" for n in range(5)] + [f"two shots_02/{n:07d}.jpg" for n in range(5, 12)]
    assert names(tmp_path / "all") == every
    assert prepare(clip, tmp_path / "main") == 0
    assert names(tmp_path / "main") == [f"two shots/{number:07d}.jpg" for number in range(5, 12)]


def test_what_must_not_be_mixed_or_overwritten_is_refused_in_one_line(
    tree: Path, tmp_path: Path, prepare: Call, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "faces"
    (output / "one").mkdir(parents=True)
    (output / "one" / "mine.jpg").write_bytes(b"")
    cases: list[tuple[tuple[Any, ...], str]] = [
        ((tmp_path / "nothing", output), "no such file"),
        ((tree, tree / "faces"), "inside the input"),
        ((tree / "Happy", output), "was not made by Prepare_Faces.py"),
        ((tree, tmp_path / "x", "--fps", "0"), "not a number above 0"),
    ]
    for arguments, says in cases:
        assert prepare(*arguments) == 2
        err = capsys.readouterr().err
        assert says in err
        assert "Traceback" not in err
    assert (output / "one" / "mine.jpg").exists()
    assert prepare(tree / "Happy", tmp_path / "y") == 0
    assert prepare(tree / "Happy", tmp_path / "y", "--fps", 5) == 2
    assert "was prepared with --fps unset" in capsys.readouterr().err
