"""From videos to a network in one command; the people are the generated sample's, the steps are the real ones."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from PIL import Image

import Train_Own_Clips as script
from Code.data import split
from Code.network.checkpoints import save_atomically
from Code.network.fan import FAN
from Code.network.weights import to_published
from tests.trees import stub_clip

Call = Callable[..., Any]
Draw = Callable[..., Image.Image]


def write_videos(root: Path, names: tuple[str, ...]) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"a video, as far as its name goes")
    return root


def test_mistakes_are_told_before_the_long_work(call: Call, tmp_path: Path) -> None:
    def refused(videos: Path, *flags: object) -> str:
        outcome = call(script, videos, "--output", tmp_path / "own", *flags, cwd=tmp_path)
        assert outcome.status == 2 and not (tmp_path / "own").exists(), outcome
        return outcome.err.strip()

    good = write_videos(tmp_path / "good", ("Happy/1.mp4", "Happy/2.mp4", "Sad/1.mp4", "Sad/2.mp4"))
    assert "no such file or folder" in refused(tmp_path / "nowhere")
    assert "name the folder that holds <Class>/<name>.mp4" in refused(good / "Happy" / "1.mp4")
    flat = write_videos(tmp_path / "flat", ("1.mp4", "2.mp4", "Sad/3.mp4"))
    assert f"1.mp4: 2 of 3 videos are not in a class folder; put them into {flat}/<Class>" in refused(flat)
    few = write_videos(tmp_path / "few", ("Happy/1.mp4", "Happy/2.mp4", "Sad/1.mp4"))
    assert "Sad: only one video; two classes of two videos each" in refused(few)
    one = write_videos(tmp_path / "one", ("Happy/1.mp4", "Happy/2.mp4"))
    assert "Happy is the only class" in refused(one)
    assert "--pretrained none: few clips teach no network" in refused(good, "--pretrained", "none")
    assert "no such file" in refused(good, "--pretrained", tmp_path / "missing.pth")
    assert "not a number above 0 and below 1" in refused(good, "--share", 2)
    assert "not a number of frames a second" in refused(good, "--fps", -1)
    (tmp_path / "file").write_text("")
    outcome = call(script, good, "--output", tmp_path / "file", cwd=tmp_path)
    assert outcome.status == 2 and "cannot be made" in outcome.err


def test_the_first_steps_error_is_the_commands(call: Call, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    videos = write_videos(tmp_path / "videos", ("Happy/1.mp4", "Happy/2.mp4", "Sad/1.mp4", "Sad/2.mp4"))
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "faces").write_text("in the way")
    outcome = call(script, videos, "--output", "own", "--device", "cpu", cwd=tmp_path)
    assert outcome.status == 2
    assert capfd.readouterr().err == "error: own/faces: is a file; name a folder for the faces\n"
    assert outcome.err.startswith("stopped in step 1. faces; what is done stays")


def test_which_weights_it_starts_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(script, "SHIPPED_FAN", tmp_path / "fan.pth")
    path, at_type, line = script.start_of(None)
    assert path.name.startswith("Resnet18_FER+") and at_type == 1 and "a frame classifier's backbone" in line
    fan = FAN(0, 8)
    saved = {"format": "emotion-fan/1", "state_dict": fan.state_dict(), "at_type": 0, "labels": list("abcdefgh")}
    save_atomically(saved, tmp_path / "fan.pth")
    path, at_type, line = script.start_of(None)
    assert (path, at_type) == (tmp_path / "fan.pth", 0) and "a FAN with self-attention, of 8 classes" in line
    classifier = tmp_path / "own.pth.tar"
    save_atomically({"state_dict": to_published(FAN(2, 8))}, classifier)
    assert script.start_of(classifier)[:2] == (classifier, 1)


def test_held_out_videos_are_taken_from_all_classes(tmp_path: Path) -> None:
    assert script.spread(["A/1", "A/2", "A/3", "B/1", "C/1", "C/2"], 5) == ["A/1", "B/1", "C/1", "A/2", "C/2"]
    jobs = {name: SimpleNamespace(name=name, path=f"videos/{name}.mp4") for name in ("A/1", "B/1")}
    (tmp_path / "answers.csv").write_text("input,expression\nvideos/A/1.mp4,A\nvideos/B/1.mp4,A\n")
    said = script.compare(tmp_path / "answers.csv", jobs)
    assert said == "held-out videos named right: 1 of 2\n  B/1 is called A"


@pytest.mark.slow
@pytest.mark.timeout(900)  # a dozen processes, each of which imports torch
def test_the_whole_recipe_and_what_is_done_again(
    tmp_path: Path, write_video: Callable[..., Path], person: Draw
) -> None:
    pytest.importorskip("facenet_pytorch", reason="detection needs facenet-pytorch")
    for label in ("Happy", "Surprise", "Sad"):
        for number in range(4):
            frames = []
            for frame in range(4):
                room = Image.new("RGB", (192, 144), (90, 90, 90))
                room.paste(person(number, label, frame).resize((120, 120)), (30, 12))
                frames.append(room)
            write_video(tmp_path / "videos" / label / f"p{number}_{label}.mp4", frames)
    write_video(tmp_path / "videos" / "Sad" / "nobody.mp4", [Image.new("RGB", (192, 144))] * 4)
    torch.manual_seed(0)
    saved = {"format": "emotion-fan/1", "state_dict": FAN(1, 2).state_dict(), "at_type": 1, "labels": ["Sad", "Calm"]}
    save_atomically({**saved, "image_size": 64}, tmp_path / "fan.pth")

    def recipe(*flags: str) -> subprocess.CompletedProcess[str]:
        base = [sys.executable, script.__file__, "videos", "--output", "own", "--device", "cpu"]
        command = [*base, "--pretrained", "fan.pth", "--person-pattern", "/([^_.]+)", *flags, "--", "--epochs", "2"]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=400)

    first = recipe()
    assert first.returncode == 0, first.stdout + first.stderr
    assert "no face: Sad/nobody" in first.stderr  # named, and the others go on
    assert "9 clips to train on, 3 held out (1 of 4 persons)" in first.stdout
    assert "classifier: 1 classes taken over by name, Happy, Surprise new" in first.stdout
    assert "held-out videos named right: " in first.stdout and " of 3" in first.stdout
    for step in ("faces", "split", "training", "prediction"):
        assert f". {step}\n" in first.stdout and f"   {step}: " in first.stdout
    (run,) = (tmp_path / "own" / "model").iterdir()
    assert (run / "report.html").is_file() and len(list((tmp_path / "own" / "pictures").glob("*.png"))) == 3

    before = (run / "best.pth").stat().st_mtime_ns
    second = recipe()
    assert second.returncode == 0 and second.stdout.count("is done already") == 4, second.stdout
    assert (run / "best.pth").stat().st_mtime_ns == before

    # Stopped after its first epoch: the run is gone on with, not begun anew.
    state = json.loads((tmp_path / "own" / "steps.json").read_text())
    state["training"]["done"] = False
    (tmp_path / "own" / "steps.json").write_text(json.dumps(state))
    (run / "results.json").unlink()
    third = recipe()
    assert third.returncode == 0 and "--resume own/model/" in third.stdout, third.stdout + third.stderr
    assert len(list((tmp_path / "own" / "model").iterdir())) == 1

    other = recipe("--seed", "3")
    assert other.returncode == 0 and other.stdout.count("is done already") == 1, other.stdout
    assert len(list((tmp_path / "own" / "model").iterdir())) == 2


def test_a_face_tree_is_split_as_the_recipe_reads_it(tmp_path: Path) -> None:
    for name in ("Happy/1", "Happy/2", "Sad/1", "Sad/2"):
        stub_clip(tmp_path / "faces" / name)
    assert split.main([str(tmp_path / "faces"), "--output", str(tmp_path / "clips.csv")]) == 0
    train, val = (script.rows_of(tmp_path / "clips.csv", part) for part in ("train", "val"))
    assert sorted(train + val) == ["Happy/1", "Happy/2", "Sad/1", "Sad/2"] and len(val) == 2
