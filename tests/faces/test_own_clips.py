"""From videos to a network in one command; the people are drawn, the steps are the real ones."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

import Train_Own_Clips as script
from Code import own_clips
from Code.common.lock import one_writer
from Code.faces.inputs import Job
from Code.network.checkpoints import save_atomically
from Code.network.fan import FAN
from Code.network.weights import published_weights, to_published
from Code.own_clips import OwnClips, Start
from Code.readers import heldout
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
    assert outcome.status == 2 and outcome.err.startswith("error: ") and str(tmp_path / "file") in outcome.err


def test_the_first_steps_error_is_the_commands(call: Call, tmp_path: Path) -> None:
    videos = write_videos(tmp_path / "videos", ("Happy/1.mp4", "Happy/2.mp4", "Sad/1.mp4", "Sad/2.mp4"))
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "faces").write_text("in the way")
    outcome = call(script, videos, "--output", "own", "--device", "cpu", cwd=tmp_path)
    assert outcome.status == 2
    assert outcome.err == "error: own/faces: is a file; name a folder for the faces\n"


def test_which_weights_it_starts_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own_clips, "SHIPPED_FAN", tmp_path / "fan.pth")
    start = Start.find(None)
    assert start.path.name.startswith("Resnet18_FER+") and start.at_type == 1 and len(start.labels) == 8
    assert "a frame classifier; your clips alone train the attention" in start.kind
    fan = FAN(0, 8)
    saved = {"format": "emotion-fan/1", "state_dict": published_weights(fan), "at_type": 0, "labels": list("abcdefgh")}
    save_atomically(saved, tmp_path / "fan.pth")
    start = Start.find(None)
    assert (start.path, start.at_type, start.labels) == (tmp_path / "fan.pth", 0, tuple("abcdefgh"))
    assert "a FAN with self-attention and 8 classes" in start.kind
    classifier = tmp_path / "own.pth.tar"
    save_atomically({"state_dict": to_published(FAN(2, 8))}, classifier)
    assert (Start.find(classifier).path, Start.find(classifier).at_type) == (classifier, 1)


def test_classes_of_the_same_expression_keep_their_weights() -> None:
    fan = Start(Path("fan.pth"), 1, ("neutral", "happiness", "Tired"), is_fan=True)
    assert fan.classes_kept(["Happy", "JOY", "neutral", "Tired", "Bored"]) == {
        **{"Happy": "happiness", "JOY": "happiness", "neutral": "neutral", "Tired": "Tired"}
    }
    assert Start(Path("backbone.pth"), 1, ("happiness",)).classes_kept(["Happy"]) == {}


def test_held_out_clips_are_drawn_from_all_classes_and_compared() -> None:
    assert own_clips.spread(["A/1", "A/2", "A/3", "B/1", "C/1", "C/2"], 5) == ["A/1", "B/1", "C/1", "A/2", "C/2"]
    after, before = {"Happy/1": "Happy", "Sad/1": "Happy"}, {"Happy/1": "happiness", "Sad/1": "sadness"}
    truth = {"Happy/1": "Happy", "Sad/1": "Sad"}
    assert own_clips.compare(after, before, truth, "95 % interval 1.0 to 99.0 %", "fan.pth").splitlines() == [
        "held-out clips right: 1 of 2 (95 % interval 1.0 to 99.0 %)",
        "  without training (fan.pth): 2 of 2",
        "  Sad/1: predicted Happy",
    ]


def test_the_class_of_a_clip_is_that_of_the_list_which_people_may_correct(tmp_path: Path) -> None:
    rows = ["Happy/1,Happy,train", "Sad/1,Happy,train", "Sad/2,Sad,train", "Sad/3,Happy,val"]
    (tmp_path / "clips.csv").write_text("\n".join(["path,label,split", *rows]))
    parts = heldout.read_split(tmp_path / "clips.csv")
    assert parts.classes == {"Happy/1": "Happy", "Sad/1": "Happy", "Sad/2": "Sad", "Sad/3": "Happy"}
    text = own_clips.compare({"Sad/3": "Happy"}, {"Sad/3": "happiness"}, parts.classes, "", "fan.pth")
    assert "right: 1 of 1" in text and "without training (fan.pth): 1 of 1" in text and "predicted" not in text


def test_copies_on_both_sides_are_reported(tmp_path: Path) -> None:
    jobs = {}
    for name, content in {"Happy/1": b"one", "Happy/2": b"two", "Sad/3": b"one", "Sad/4": b"four"}.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)
        jobs[name] = Job(name, str(tmp_path / name))
    split = heldout.Split({"Happy/1": "", "Happy/2": ""}, {"Sad/3": "", "Sad/4": "", "Sad/gone": ""}, {})
    assert own_clips.copies(split, jobs) == ["Sad/3 = Happy/1"]


class Commands:
    """Stand in for the scripts: each notes its flags; a training makes a run's folder, finished or not."""

    def __init__(self, output: Path) -> None:
        self.output, self.finishes = output, True
        self.trainings: list[list[str]] = []
        self.answered: list[list[str]] = []

    def prepare(self, words: Sequence[str]) -> int:
        for name in ("Happy/1", "Happy/2", "Sad/1", "Sad/2"):
            if not (self.output / "faces" / name).exists():
                stub_clip(self.output / "faces" / name)
        return 1  # some videos show no face

    def train(self, words: Sequence[str]) -> int:
        self.trainings.append(list(words))
        run = Path(words[-1])
        run.mkdir(parents=True, exist_ok=True)
        (run / "args.json").touch()
        if not self.finishes:
            raise KeyboardInterrupt
        for name in ("best.pth", "results.json", "report.html"):
            (run / name).touch()
        return 0

    def answer(self, words: Sequence[str]) -> int:
        self.answered.append(list(words))
        inputs = [word for word in words[: words.index("--checkpoint")] if "/" in word]
        rows = [f"{path},Sad\n" for path in inputs]
        Path(words[words.index("--csv") + 1]).write_text("".join(["input,expression\n", *rows]))
        return 0

    def steps(self, **flags: Any) -> OwnClips:
        given: dict[str, Any] = {"fps": 10.0, "share": 0.5, "person_pattern": None, "predict": 2, "seed": 0}
        given |= {"pretrained": None, "device": "cpu", "training": [], **flags}
        return OwnClips(Path("videos"), self.output, **given, prepare_faces=self.prepare, train=self.train,
                        answer=self.answer)  # fmt: skip


@pytest.fixture
def commands(tmp_path: Path) -> Commands:
    (tmp_path / "own").mkdir()
    return Commands(tmp_path / "own")


def fitted(steps: OwnClips) -> Path:
    steps.cut_out_faces()
    return steps.fit(Start(Path("fan.pth"), 1), steps.draw_split())


def test_a_training_is_done_once_for_each_split_and_flags(commands: Commands) -> None:
    first = fitted(commands.steps())
    assert fitted(commands.steps()) == first and len(commands.trainings) == 1
    assert " --at_type 1 --freeze-backbone --epochs 24 " in " ".join(commands.trainings[0])  # new classes
    clips = commands.output / "clips.csv"
    # Corrected by hand, the list stays and is used.
    some = clips.read_text().splitlines()[1].split(",")[0]
    clips.write_text(clips.read_text().replace(f"{some},", f"{some},Bored ", 1))
    begun = (first / "args.json").stat().st_mtime
    os.utime(clips, (begun + 5, begun + 5))
    first.rename(first.with_name("of the first list"))  # names have seconds
    second = fitted(commands.steps())
    assert len(commands.trainings) == 2 and "Bored" in clips.read_text()
    second.rename(second.with_name("with other flags"))
    fitted(commands.steps(training=["--epochs", "3"]))
    assert len(commands.trainings) == 3 and commands.trainings[2][-4:-2] == ["--epochs", "3"]


def test_a_training_that_was_stopped_is_resumed(commands: Commands) -> None:
    commands.finishes = False
    with pytest.raises(KeyboardInterrupt):
        fitted(commands.steps())
    commands.finishes = True
    fitted(commands.steps())
    assert commands.trainings[0] == commands.trainings[1] and commands.trainings[0][-2] == "--resume"


@pytest.mark.parametrize(("dataset", "crops"), [("composed", False), ("list", True)])
def test_every_network_is_asked_about_the_crop_that_it_was_trained_on(
    commands: Commands, tmp_path: Path, dataset: str, crops: bool
) -> None:
    saved = {"format": "emotion-fan/1", "state_dict": published_weights(FAN(0, 2)), "at_type": 0}
    save_atomically({**saved, "labels": ["Happy", "Sad"], "dataset": dataset}, tmp_path / "fan.pth")
    jobs = {"Happy/1": Job("Happy/1", "videos/Happy/1.mp4")}

    def answers() -> dict[str, str]:
        return commands.steps().answers("answers", ["Happy/1"], jobs, tmp_path / "fan.pth", "before.csv")

    assert answers() == answers() == {"Happy/1": "Sad"} and len(commands.answered) == 1
    how = ["--aligned", str(commands.output / "faces/Happy/1")] if crops else ["--fps", "10", "videos/Happy/1.mp4"]
    assert commands.answered[0][: len(how)] == how
    assert "--precision fp32" in " ".join(commands.answered[0])  # as in the training: the report has the same answers


def test_a_step_that_fails_says_what_helps(commands: Commands, capsys: pytest.CaptureFixture[str]) -> None:
    steps = commands.steps()
    steps.prepare_faces = lambda words: 2
    with pytest.raises(own_clips.StepError, match=r"stopped in step 1\. faces; .* the same command resumes here"):
        steps.cut_out_faces()
    printed = capsys.readouterr().out
    assert printed.startswith("1. faces\n   python ") and "Prepare_Faces.py videos " in printed


def test_one_call_at_a_time(call: Call, tmp_path: Path) -> None:
    videos = write_videos(tmp_path / "videos", ("Happy/1.mp4", "Happy/2.mp4", "Sad/1.mp4", "Sad/2.mp4"))
    with one_writer(tmp_path / "own"):
        outcome = call(script, videos, "--output", "own", cwd=tmp_path)
    assert outcome.status == 2 and outcome.err.count("\n") == 1
    assert outcome.err.startswith("error: own: ")


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
    saved = {
        "format": "emotion-fan/1",
        "state_dict": published_weights(FAN(1, 2)),
        "at_type": 1,
        "labels": ["Sad", "Calm"],
    }
    save_atomically({**saved, "labels": ["Sad", "Calm"], "image_size": 64}, tmp_path / "fan.pth")

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

    before = content(tmp_path / "own")
    second = recipe()
    assert second.returncode == 0 and second.stdout.count("done before") == 4, second.stdout
    assert content(tmp_path / "own") == before

    # Killed after the last epoch, before the results: the run is resumed, and ends with the same content.
    for name in ("results.json", "predictions.csv", "report.html"):
        (run / name).unlink()
    third = recipe()
    assert third.returncode == 0 and third.stdout.count("done before") == 3, third.stdout + third.stderr
    assert len(list((tmp_path / "own" / "model").iterdir())) == 1
    after = content(tmp_path / "own")
    for name in ("best.pth", "predictions.csv"):
        name = f"model/{run.name}/{name}"
        assert after[name] == before[name]

    # Another split is another run.
    other = recipe("--seed", "3")
    assert other.returncode == 0 and "done before" not in other.stdout, other.stdout
    assert len(list((tmp_path / "own" / "model").iterdir())) == 2
    assert sorted(path.name for path in (tmp_path / "own").iterdir()) == [
        *("answers.csv", "before.csv", "clips.csv", "faces", "model", "own.json", "pictures"),
    ]


def content(folder: Path) -> dict[str, bytes]:
    """All files but logs of TensorBoard and locks."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}
