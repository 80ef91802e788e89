"""From videos to a network in one command; the people are drawn, the steps are the real ones."""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

import Train_Own_Clips as script
from Code.common import steps
from Code.common.errors import UsageError
from Code.common.lock import one_writer
from Code.data import heldout as split
from Code.data.clips import DataError
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


def test_mistakes_are_reported_before_the_long_work(call: Call, tmp_path: Path) -> None:
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
    assert "Sad: only one video; training needs at least two classes of two videos each" in refused(few)
    one = write_videos(tmp_path / "one", ("Happy/1.mp4", "Happy/2.mp4"))
    assert "Happy is the only class" in refused(one)
    assert "--pretrained none: few clips cannot train a network" in refused(good, "--pretrained", "none")
    assert "no such file" in refused(good, "--pretrained", tmp_path / "missing.pth")
    assert "not a number above 0 and below 1" in refused(good, "--share", 2)
    assert "is not a number from 0 to 1000" in refused(good, "--fps", -1)
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
    assert outcome.err.startswith("error: stopped in step 1. faces; the steps before it are kept")


def test_which_weights_it_starts_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(script, "SHIPPED_FAN", tmp_path / "fan.pth")
    start = script.start_of(None)
    assert start.path.name.startswith("Resnet18_FER+") and start.at_type == 1 and len(start.labels) == 8
    assert "a frame classifier; your clips alone train the attention" in start.line
    fan = FAN(0, 8)
    saved = {"format": "emotion-fan/1", "state_dict": fan.state_dict(), "at_type": 0, "labels": list("abcdefgh")}
    save_atomically(saved, tmp_path / "fan.pth")
    start = script.start_of(None)
    assert (start.path, start.at_type, start.labels) == (tmp_path / "fan.pth", 0, tuple("abcdefgh"))
    assert "a FAN with self-attention and 8 classes" in start.line
    classifier = tmp_path / "own.pth.tar"
    save_atomically({"state_dict": to_published(FAN(2, 8))}, classifier)
    assert (script.start_of(classifier).path, script.start_of(classifier).at_type) == (classifier, 1)


def test_classes_of_the_same_expression_keep_their_weights(train: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    fan = script.Start(Path("fan.pth"), 1, ("neutral", "happiness", "Tired"), "", is_fan=True)
    assert fan.kept(["Happy", "JOY", "neutral", "Tired", "Bored"]) == {
        **{"Happy": "happiness", "JOY": "happiness", "neutral": "neutral", "Tired": "Tired"}
    }
    assert script.Start(Path("backbone.pth"), 1, ("happiness",), "").kept(["Happy"]) == {}
    monkeypatch.setattr(script, "Start", lambda *_: fan)
    train()
    command = " ".join(train.made.commands[-1])
    assert "--map-labels Happy=happiness --at_type" in command and f"--epochs {script.EPOCHS} " in command


def test_held_out_clips_are_drawn_from_all_classes_and_compared() -> None:
    assert script.spread(["A/1", "A/2", "A/3", "B/1", "C/1", "C/2"], 5) == ["A/1", "B/1", "C/1", "A/2", "C/2"]
    after, before = {"Happy/1": "Happy", "Sad/1": "Happy"}, {"Happy/1": "happiness", "Sad/1": "sadness"}
    truth = {"Happy/1": "Happy", "Sad/1": "Sad"}
    assert script.compare(after, before, truth, "95 % interval 1.0 to 99.0 %", "fan.pth").splitlines() == [
        "held-out clips right: 1 of 2 (95 % interval 1.0 to 99.0 %)",
        "  without training (fan.pth): 2 of 2",
        "  Sad/1: predicted Happy",
    ]


def test_the_class_of_a_clip_is_that_of_the_list_which_people_may_correct(tmp_path: Path) -> None:
    rows = ["Happy/1,Happy,train", "Sad/1,Happy,train", "Sad/2,Sad,train", "Sad/3,Happy,val"]
    (tmp_path / "clips.csv").write_text("\n".join(["path,label,split", *rows]))
    parts = split.Split.read(tmp_path / "clips.csv")
    assert parts.classes == {"Happy/1": "Happy", "Sad/1": "Happy", "Sad/2": "Sad", "Sad/3": "Happy"}
    text = script.compare({"Sad/3": "Happy"}, {"Sad/3": "happiness"}, parts.classes, "", "fan.pth")
    assert "right: 1 of 1" in text and "without training (fan.pth): 1 of 1" in text and "predicted" not in text


def test_copies_and_persons_on_both_sides_are_reported(tmp_path: Path) -> None:
    videos = {}
    for name, content in {"Happy/1": b"one", "Happy/2": b"two", "Sad/3": b"one", "Sad/4": b"four"}.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)
        videos[name] = str(tmp_path / name)
    clips = tmp_path / "clips.csv"
    rows = ["Happy/1,Happy,train,ann", "Happy/2,Happy,train,bob", "Sad/3,Sad,val,ann", "Sad/4,Sad,val,cid"]
    clips.write_text("\n".join(["path,label,split,person", *rows]))
    assert split.Split.read(clips).warnings(videos) == [
        "1 person in training and held-out clips: ann",
        "1 held-out video also in training, the same file: Sad/3 = Happy/1",
    ]
    clips.write_text("path,label,split\nHappy/1,Happy,train\nSad/4,Sad,val\n")
    (unknown,) = split.Split.read(clips).warnings(videos)
    assert "the clips do not name their persons" in unknown and "--person-pattern" in unknown


class Trainings:
    """Stands in for the training: makes a run's folder of some name, finished or not."""

    def __init__(self, models: Path) -> None:
        self.models = models
        self.name, self.finishes, self.notes = "20261025-023000_list", True, True
        self.commands: list[list[str]] = []

    def __call__(self, command: list[str], environment: dict[str, str]) -> int:
        self.commands.append(command)
        run = Path(command[2]) if command[1] == "--resume" else self.models / self.name
        run.mkdir(parents=True, exist_ok=True)
        (run / "last.pth").touch()
        if self.notes:
            Path(environment[steps.NOTE]).write_text(json.dumps({"folder": run.name}))
        if self.finishes:
            finish(run)
        return 0 if self.finishes else 143


def finish(run: Path) -> Path:
    run.mkdir(parents=True, exist_ok=True)
    for name in ("last.pth", "best.pth", "predictions.csv"):
        (run / name).write_bytes(b"")
    table = {"rows": 0, "sha256": hashlib.sha256().hexdigest()}
    (run / "results.json").write_text(json.dumps({"labels": [], "tables": {"predictions.csv": table}}))
    return run


@pytest.fixture
def train(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Runs the step `training` of a new call with a seed, and returns the run that it goes on with."""
    output = tmp_path / "own"
    (output / "faces").mkdir(parents=True)
    for name in ("faces/faces.csv", "clips.csv"):
        (output / name).touch()
    made = Trainings(output / "model")
    monkeypatch.setattr(steps, "run_python", made)

    def call(seed: int = 0, **how: Any) -> Path:
        vars(made).update(how)
        args = argparse.Namespace(output=output, seed=seed, device="cpu", training=[])
        recipe = script.Recipe(args, {}, steps.Steps(output / "steps.json"))
        parts = split.Split({"Happy/1": ""}, {"Sad/1": ""}, {"Happy/1": "Happy", "Sad/1": "Sad"})
        return recipe.train(script.Start(tmp_path / "fan.pth", 1, (), ""), parts)

    vars(call)["made"] = made
    return call


def test_the_run_that_the_step_made_counts_whatever_it_is_called(train: Any, tmp_path: Path) -> None:
    models, made = tmp_path / "own" / "model", train.made
    finish(models / "20990101-000000_list")
    first = train()
    assert first == models / "20261025-023000_list"
    # The hour after the clocks were set back has earlier names; so has a clock that was wrong.
    assert train(1, name="20261025-020500_list") == models / "20261025-020500_list"
    assert train(1) == models / "20261025-020500_list" and len(made.commands) == 2
    shutil.copytree(first, models / "20991231-235959_list")
    assert train(1).name == "20261025-020500_list" and len(made.commands) == 2
    shutil.rmtree(models / "20261025-020500_list")
    assert train(1, name="20200101-000000_list").name == "20200101-000000_list" and len(made.commands) == 3


def test_a_stopped_training_is_resumed_and_no_other(train: Any, tmp_path: Path) -> None:
    models, made = tmp_path / "own" / "model", train.made
    half = models / "20990101-000000_list"  # of somebody else, and newer
    half.mkdir(parents=True)
    (half / "last.pth").touch()
    with pytest.raises(steps.StepError):
        train(finishes=False)
    assert train(finishes=True).name == "20261025-023000_list"
    assert made.commands[-1][1:3] == ["--resume", str(models / "20261025-023000_list")]
    with pytest.raises(steps.StepError):
        train(1, finishes=False, notes=False, name="20261026-000000_list")  # killed before it noted its folder
    assert train(1, finishes=True, notes=True, name="20261027-000000_list").name == "20261027-000000_list"
    assert "--resume" not in made.commands[-1]


@pytest.mark.parametrize("name", ["results.json", "predictions.csv"])
@pytest.mark.parametrize("data", [None, b"half a line"])
def test_results_that_are_lost_or_cut_are_written_again(train: Any, name: str, data: bytes | None) -> None:
    run = train()
    if data is None:
        (run / name).unlink()
    else:
        (run / name).write_bytes(data)
    assert train() == run and train() == run
    assert [command[1:3] for command in train.made.commands[1:]] == [["--resume", str(run)]]


@pytest.mark.parametrize("name", ["..", "../../victim", "/", "{victim}", ".", "link"])
def test_the_recorded_run_lies_in_the_folder_of_the_runs(train: Any, tmp_path: Path, name: str) -> None:
    victim = finish(tmp_path / "victim")
    train()
    (tmp_path / "own" / "model" / "link").symlink_to(victim)
    file = tmp_path / "own" / "steps.json"
    state = json.loads(file.read_text())
    state["training"]["made"] = name.format(victim=victim)
    file.write_text(json.dumps(state))
    with pytest.raises(UsageError, match=r"steps\.json: names .*, which is not inside .*model"):
        train()
    assert len(train.made.commands) == 1


def test_tables_of_answers_are_checked(tmp_path: Path) -> None:
    table, faces = tmp_path / "before.csv", tmp_path / "faces"

    def read() -> dict[str, str]:
        return script.answers_of_table(table, {"Happy/1": str(faces / "Happy/1")})

    table.write_text(f"input,expression\n{faces / 'Happy/1'},happiness\nother,sadness\n")
    assert read() == {"Happy/1": "happiness"}
    for text, says in {
        f"input,face\n{faces / 'Happy/1'},happiness\n": "has no 'expression'",
        "input,expression\nHappy/1,happiness\n": f"has no '{faces / 'Happy/1'}'",
        "": f"has no '{faces / 'Happy/1'}'",
        "input,expression\n" + "x" * 200_000: "cannot be read (field larger than field limit",
    }.items():
        table.write_text(text)
        with pytest.raises(DataError) as caught:
            read()
        assert str(caught.value).startswith(f"{table}: {says}")
    table.unlink()
    with pytest.raises(DataError, match=r"before\.csv: cannot be read \(No such file"):
        read()


@pytest.mark.parametrize(("dataset", "crops"), [("composed", False), ("list", True)])
def test_every_network_is_asked_about_the_crop_that_it_was_trained_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dataset: str, crops: bool
) -> None:
    saved = {"format": "emotion-fan/1", "state_dict": FAN(0, 2).state_dict(), "at_type": 0, "labels": ["Happy", "Sad"]}
    save_atomically({**saved, "dataset": dataset}, tmp_path / "fan.pth")
    video, table = tmp_path / "videos" / "Happy" / "1.mp4", tmp_path / "before.csv"
    asked = str(tmp_path / "own" / "faces" / "Happy" / "1") if crops else str(video)
    commands: list[list[str]] = []

    def predict(command: list[str], environment: dict[str, str]) -> int:
        commands.append(command)
        table.write_text(f"input,expression\n{asked},Sad\n")
        return 0

    monkeypatch.setattr(steps, "run_python", predict)
    args = argparse.Namespace(output=tmp_path / "own", device="cpu", fps=10.0)
    args.output.mkdir()
    jobs = {"Happy/1": script.Job("Happy/1", str(video))}
    recipe = script.Recipe(args, jobs, steps.Steps(args.output / "steps.json"))
    assert recipe.predict("answers", ["Happy/1"], tmp_path / "fan.pth", table) == {"Happy/1": "Sad"}
    how = ["--aligned"] if crops else ["--fps", "10"]
    assert commands[0][1 : 2 + len(how)] == [*how, asked]
    assert "--precision fp32" in " ".join(commands[0])  # as in the training: the report has the same answers


def test_one_call_at_a_time(call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    videos = write_videos(tmp_path / "videos", ("Happy/1.mp4", "Happy/2.mp4", "Sad/1.mp4", "Sad/2.mp4"))
    monkeypatch.setattr(script, "follow_steps", lambda *_: pytest.fail("two at once"))
    with one_writer(tmp_path / "own"):
        outcome = call(script, videos, "--output", "own", cwd=tmp_path)
    assert outcome.status == 2 and outcome.err.count("\n") == 1
    assert f"error: own: process {os.getpid()} on " in outcome.err and "writes there; wait for it" in outcome.err


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
    assert "1 of 3 classes loaded by name" in first.stdout
    assert "held-out clips right: " in first.stdout and "without training (fan.pth): " in first.stdout
    assert "(last, none chosen)" in first.stdout
    for step in ("faces", "split", "training", "answers without training", "answers"):
        assert f". {step}\n" in first.stdout and f"   {step}: " in first.stdout
    (run,) = (tmp_path / "own" / "model").iterdir()
    assert (run / "report.html").is_file() and len(list((tmp_path / "own" / "pictures").glob("*.png"))) == 3
    # The console's answers, the pictures' and the report's are the same, from the same crops.
    with (run / "predictions.csv").open() as file:
        of_run = {f"own/faces/{row['clip']}": row for row in csv.DictReader(file)}
    with (tmp_path / "own" / "answers.csv").open() as file:
        said = {row["input"]: row for row in csv.DictReader(file)}
    assert said.keys() == of_run.keys() and len(said) == 3
    for name, row in said.items():
        assert row["expression"] == of_run[name]["prediction"]
        for label in ("Happy", "Sad", "Surprise"):
            assert float(row[label]) == pytest.approx(float(of_run[name][label]), abs=1e-4)

    before = (run / "best.pth").stat().st_mtime_ns
    second = recipe()
    assert second.returncode == 0 and second.stdout.count("done before") == 5, second.stdout
    assert (run / "best.pth").stat().st_mtime_ns == before

    # Stopped after its first epoch: the run is resumed, not started anew.
    state = json.loads((tmp_path / "own" / "steps.json").read_text())
    state["training"] |= {"done": False, "token": "0123456789abcdef", "made": ""}
    (tmp_path / "own" / "steps.json").write_text(json.dumps(state))
    (tmp_path / "own" / ".steps-0123456789abcdef.json").write_text(json.dumps({"folder": run.name}))
    (run / "results.json").unlink()
    third = recipe()
    assert third.returncode == 0 and "--resume own/model/" in third.stdout, third.stdout + third.stderr
    assert len(list((tmp_path / "own" / "model").iterdir())) == 1

    # A run of the old split that is called like one of the future is not the run of the new split.
    future = shutil.copytree(run, run.parent / "20990101-000000_list_relation-attention")
    other = recipe("--seed", "3")
    assert other.returncode == 0 and other.stdout.count("done before") == 1, other.stdout
    (new,) = {path.name for path in run.parent.iterdir()} - {run.name, future.name}
    assert f"report:  own/model/{new}/report.html" in other.stdout
    assert sorted(path.name for path in (tmp_path / "own").iterdir()) == [
        *("answers.csv", "before.csv", "clips.csv", "faces", "model", "pictures", "steps.json"),
    ]


def test_a_face_tree_is_split_as_the_recipe_reads_it(tmp_path: Path) -> None:
    for name in ("Happy/1", "Happy/2", "Sad/1", "Sad/2"):
        stub_clip(tmp_path / "faces" / name)
    assert split.main([str(tmp_path / "faces"), "--output", str(tmp_path / "clips.csv")]) == 0
    parts = split.Split.read(tmp_path / "clips.csv")
    train, val = list(parts.train), list(parts.val)
    assert sorted(train + val) == ["Happy/1", "Happy/2", "Sad/1", "Sad/2"] and len(val) == 2
