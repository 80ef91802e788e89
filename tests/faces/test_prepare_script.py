"""Prepare_Faces.py: from trees of videos or raw frames to trees of faces, with what failed named.

The people in these videos are the generated sample's; the detector takes them for real.
"""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import Prepare_Faces
from Code.common.files import one_writer
from Code.data.images import read_image
from Code.faces import prepare as prepare_module
from Code.faces.align import PAPER_EYES
from Code.faces.detect import Detector
from Code.faces.inputs import find_jobs
from tests.faces.conftest import Call, Draw, Write, run_main
from tests.runs import at_call, interrupt

pytest.importorskip("facenet_pytorch", reason="detection needs facenet-pytorch")


def names(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.jpg"))


def rows(output: Path) -> list[dict[str, str]]:
    with (output / "faces.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def content(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


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
    detector = Detector(min_face=80)
    found = np.stack([detector(image).landmarks[0][:2] - 90 for image in padded])
    assert np.median(np.hypot(*np.moveaxis(found - PAPER_EYES, -1, 0))) < 6  # drawn eyes; real ones are nearer


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


def test_a_clip_that_changed_is_prepared_anew(
    tree: Path, tmp_path: Path, prepare: Call, write_video: Write, scene_of: Draw
) -> None:
    output, source = tmp_path / "faces", tree / "Happy"
    assert prepare(source, output) == 0
    write_video(source / "one.mp4", [scene_of((0, 20, 10, 120))] * 4)
    assert prepare(source, output) == 0
    assert len(names(output)) == 4


def test_several_processes_write_what_one_does(tree: Path, tmp_path: Path, prepare: Call) -> None:
    assert prepare(tree, tmp_path / "one") == prepare(tree, tmp_path / "two", "--workers", 2) == 0
    assert content(tmp_path / "one") == content(tmp_path / "two")


def test_raw_frame_folders_keep_their_numbers_and_fps_thins_videos(
    tree: Path, tmp_path: Path, prepare: Call, scene_of: Draw
) -> None:
    frames = tmp_path / "ck" / "S005" / "001"
    frames.mkdir(parents=True)
    for number in (1, 2, 11):
        scene_of((0, 20, 10, 120)).convert("L").save(frames / f"S005_001_{number:08d}.png")
    assert prepare(tmp_path / "ck", tmp_path / "raw") == 0
    assert names(tmp_path / "raw") == [f"S005/001/{number:07d}.jpg" for number in (1, 2, 11)]
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


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory, write_video: Write, scene_of: Draw) -> Path:
    """Two videos of three frames."""
    root = tmp_path_factory.mktemp("videos")
    for index, name in enumerate(("Happy/one.mp4", "Sad/two.mp4")):
        write_video(root / name, [scene_of((index, 20 + n, 10, 120)) for n in range(3)])
    return root


@pytest.fixture(scope="module")
def whole(videos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The faces in them."""
    output = tmp_path_factory.mktemp("whole") / "faces"
    with pytest.MonkeyPatch.context() as patch:
        assert run_main(Prepare_Faces.main, patch, "Prepare_Faces.py", videos, output, "--device", "cpu") == 0
    return output


@pytest.fixture
def output(whole: Path, tmp_path: Path) -> Path:
    """A copy of the faces, to be spoiled."""
    return Path(shutil.copytree(whole, tmp_path / "out"))


def test_interrupted_it_goes_on_where_it_was(
    videos: Path, whole: Path, tmp_path: Path, prepare: Call, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "faces"
    with at_call(2, prepare_module, "cut_out", interrupt):
        assert prepare(videos, output) == 130
    assert names(output) == [f"Happy/one/{number:07d}.jpg" for number in range(3)]
    assert not list(output.glob("Sad/*")) and not (output / "faces.csv").exists()
    first = (output / "Happy" / "one" / "0000000.jpg").stat().st_mtime_ns
    capsys.readouterr()
    assert prepare(videos, output) == 0
    assert "1 of 2 clips are prepared already" in capsys.readouterr().out
    assert (output / "Happy" / "one" / "0000000.jpg").stat().st_mtime_ns == first
    assert content(output) == content(whole)


@pytest.mark.parametrize("spoiled", ["face", "folder", "record"])
def test_a_clip_of_which_something_is_lost_is_prepared_again_and_no_other(
    output: Path, videos: Path, whole: Path, prepare: Call, spoiled: str
) -> None:
    record, folder = output / ".prepared" / "records" / "Happy" / "one.json", output / "Happy" / "one"
    if spoiled == "face":
        (folder / "0000001.jpg").unlink()
    elif spoiled == "folder":
        shutil.rmtree(folder)
    else:
        record.write_bytes(record.read_bytes()[:-1])
    untouched = (output / "Sad" / "two" / "0000001.jpg").stat().st_mtime_ns
    assert prepare(videos, output) == 0
    assert content(output) == content(whole)
    assert (output / "Sad" / "two" / "0000001.jpg").stat().st_mtime_ns == untouched


def test_files_of_users_are_neither_replaced_nor_deleted(
    output: Path, videos: Path, tmp_path: Path, prepare: Call, capsys: pytest.CaptureFixture[str]
) -> None:
    # In the folder of a clip that has to be prepared again: the others go on.
    (output / "Happy" / "one" / "0000001.jpg").unlink()
    (output / "Happy" / "one" / "notes.txt").write_text("mine")
    assert prepare(videos, output) == 1
    assert f"{output / 'Happy' / 'one'}: has files that were not made by" in capsys.readouterr().err
    assert (output / "Happy" / "one" / "notes.txt").read_text() == "mine"
    for name in ("Happy/one/0000001.jpg", "faces.csv"):
        mine = tmp_path / name.replace("/", "_")
        (mine / name).parent.mkdir(parents=True)
        (mine / name).write_text("mine")
        assert prepare(videos, mine) == 2
        assert f"{mine}: has files that were not made by Prepare_Faces.py" in capsys.readouterr().err
        assert (mine / name).read_text() == "mine"


def test_faces_stay_when_the_input_cannot_be_read_any_more(
    videos: Path, output: Path, whole: Path, prepare: Call, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    moved = Path(shutil.copytree(videos, tmp_path / "videos"))
    (moved / "Happy" / "one.mp4").write_bytes(b"")
    assert prepare(moved, output) == 1
    assert "one.mp4: an empty file" in capsys.readouterr().err
    assert content(output / "Happy") == content(whole / "Happy")
    assert "Happy" not in (output / "faces.csv").read_text()
    shutil.copy2(videos / "Happy" / "one.mp4", moved / "Happy")
    assert prepare(moved, output) == 0
    assert content(output) == content(whole)


def test_a_second_call_at_the_same_time_is_refused(
    videos: Path, output: Path, prepare: Call, capsys: pytest.CaptureFixture[str]
) -> None:
    before = content(output)
    with one_writer(output / ".prepared", ".lock"):
        assert prepare(videos, output) == 2
    assert "another process writes there" in capsys.readouterr().err and content(output) == before


def test_clips_that_are_prepared_in_two_ways_are_not_mixed(
    videos: Path, output: Path, prepare: Call, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = output / ".prepared" / "settings.json"
    whole, before = settings.read_text(), content(output / "Happy")

    def refused(*flags: object) -> str:
        assert prepare(videos, output, *flags) == 2 and content(output / "Happy") == before
        (line,) = capsys.readouterr().err.splitlines()
        return line

    assert "prepared with --fps unset; use the same" in refused("--fps", 5)
    settings.write_text(json.dumps(json.loads(whole) | {"made_by": 1}))
    assert "prepared with another version of this program" in refused()
    for damaged in ("", "null", "[1]"):
        settings.write_text(damaged)
        assert "settings.json: " in (line := refused()) and line.endswith("name another output folder")


def test_wrong_places_and_flags_are_refused_in_one_line(
    tree: Path, tmp_path: Path, prepare: Call, capsys: pytest.CaptureFixture[str]
) -> None:
    cases: list[tuple[tuple[Any, ...], str]] = [
        ((tmp_path / "nothing", tmp_path / "x"), "no such file"),
        ((tree, tree / "faces"), "inside the input"),
        ((tree / "Happy", tree / "Sad" / "two.avi"), "cannot be written (Not a directory)"),
        ((tree, tmp_path / "x", "--fps", "0"), "not a number from 0.001"),
    ]
    for arguments, says in cases:
        assert prepare(*arguments) == 2
        err = capsys.readouterr().err
        assert says in err and "Traceback" not in err


def test_names_of_dots_are_names(tmp_path: Path, write_video: Write) -> None:
    picture = [Image.new("RGB", (64, 48))]
    clips = {"...mp4": "clip", "....mp4": "clip", ".prepared.mp4": "prepared"}
    for name, clip in clips.items():
        (job,), _ = find_jobs(write_video(tmp_path / "videos.mp4", picture).rename(tmp_path / name))
        assert job.name == clip
    (tmp_path / "..frames").mkdir()
    picture[0].save(tmp_path / "..frames" / "1.png")
    assert [job.name for job in find_jobs(tmp_path / "..frames")[0]] == ["frames"]


def test_folders_of_systems_are_left_out(tmp_path: Path) -> None:
    for name in ("Happy/a.mp4", "Happy/@eaDir/a.mp4/SYNOVIDEO.jpg", "#recycle/b.mp4", ".git/c.mp4", "Sad/@tmp/d.mp4"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    jobs, notes = find_jobs(tmp_path)
    assert [job.name for job in jobs] == ["Happy/a"]
    assert notes == []


def test_linked_folders_are_followed_but_not_in_circles(tmp_path: Path) -> None:
    (tmp_path / "store" / "ann").mkdir(parents=True)
    (tmp_path / "store" / "ann" / "1.mp4").touch()
    for split in ("Train", "Val"):
        (tmp_path / "split" / split).mkdir(parents=True)
        (tmp_path / "split" / split / "ann").symlink_to(tmp_path / "store" / "ann")  # one person in both
    (tmp_path / "split" / "Val" / "again").symlink_to(tmp_path / "split")
    (tmp_path / "split" / "Val" / "itself").symlink_to("itself")
    jobs, notes = find_jobs(tmp_path / "split")
    assert [job.name for job in jobs] == ["Train/ann/1", "Val/ann/1"]
    assert any("again: skipped, a link to a folder that it is in" in note for note in notes)
