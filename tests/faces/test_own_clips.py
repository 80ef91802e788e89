"""From videos or pictures to a fitted network in one command; the people are drawn, the steps are the real ones."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import Train_Own_Clips as script
from Code import Predictor, load_fan, own_clips
from Code.common.files import one_writer
from Code.data.clips import DataError
from Code.network.fan import FAN
from Code.own_clips import OwnClips
from tests.faces.conftest import Draw, Write
from tests.runs import save_run

Call = Callable[..., Any]


def write(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(name.encode())
    return root


def test_mistakes_are_one_line(call: Call, tmp_path: Path) -> None:
    good = write(tmp_path / "good", "Happy/1.mp4", "Happy/2.mp4", "Sad/1.mp4", "Sad/2.mp4")

    def refused(*words: object) -> str:
        outcome = call(script, *words, "--output", "own", cwd=tmp_path)
        assert outcome.status == 2 and outcome.err.count("\n") == 1, outcome
        return str(outcome.err)

    assert "no such file or folder" in refused("nowhere")
    flat = write(tmp_path / "flat", "1.mp4", "2.mp4", "Sad/3.mp4")
    assert f"1.mp4: is not in a class folder; put all into {flat}/<Class>" in refused(flat)
    assert "--pretrained missing.pth: no such file" in refused(good, "--pretrained", "missing.pth")
    (tmp_path / "file").write_text("")
    assert "error: " in call(script, good, "--output", "file", cwd=tmp_path).err
    assert "add --train before --" in call(script, good, "--output", "own", "--", "--epochs", "2", cwd=tmp_path).err
    with one_writer(tmp_path / "own"):
        assert refused(good).startswith("error: own: ")


def test_videos_frames_and_pictures_are_clips_of_their_class_folder(tmp_path: Path) -> None:
    root = write(tmp_path, "Happy/1.mp4", "Sad/anna/1.jpg", "Sad/anna/2.jpg", "Calm/a.jpg", "Calm/b.png")
    Image.new("RGB", (4, 4)).save(root / "Calm" / "b.png")
    names = {"Calm/a.jpg": "Calm/a.jpg", "Calm/b.png": "Calm/b.png", "Happy/1": "Happy/1.mp4", "Sad/anna": "Sad/anna"}
    assert own_clips.find_clips(root) == {name: str(root / path) for name, path in names.items()}


def some_clips(persons: int = 6) -> OwnClips:
    """Each person neutral twice, and happy once; the last two persons are held out."""
    rows = [(f"p{person}", label) for person in range(persons) for label in (1, 1, 0)]
    return OwnClips(
        names=[f"{label}/{person}_{at}" for at, (person, label) in enumerate(rows)],
        classes=("Happy", "Calm"),
        targets=np.array([label for _, label in rows]),
        held=np.array([int(person[1:]) >= persons - 2 for person, _ in rows]),
        persons=np.array([person for person, _ in rows]),
        features=np.random.default_rng(0).normal(size=(len(rows), 512)),
    )


def test_neutral_clips_of_a_person_are_the_reference_but_not_of_themselves() -> None:
    own = some_clips()
    mean = np.full(512, 0.5)
    features, same, count = own.with_references(mean)
    assert same is mean and count == 18
    np.testing.assert_allclose(features[0], own.features[0] - 0.5 * (own.features[1] - mean))
    np.testing.assert_allclose(features[2], own.features[2] - 0.5 * (own.features[:2].mean(axis=0) - mean))
    own.persons[0] = ""  # unknown
    features, _, count = own.with_references(mean)
    assert count == 16 and (features[:2] == own.features[:2]).all()
    # A network that does not say its mean neutral feature gets that of the fit, if there are enough people.
    assert some_clips(6).with_references(None)[1:] == (None, 0)
    _, found, count = some_clips(7).with_references(None)
    own = some_clips(7)
    known = (own.targets == 1) & ~own.held
    np.testing.assert_allclose(found, own.features[known].mean(axis=0))
    assert count == 21


def test_the_list_may_be_corrected_and_other_flags_divide_anew(tmp_path: Path, capsys: Any) -> None:
    features = {f"{label}/{at}": np.full(4, at) for label in ("Happy", "Sad") for at in range(4)}

    def divided(seed: int = 0, some: int = 8) -> OwnClips:
        chosen = dict(list(features.items())[:some])
        return own_clips.divided(chosen, Path("videos"), tmp_path, share=0.25, seed=seed, pattern=None)

    own = divided()
    assert "warning: " in (out := capsys.readouterr().out) and "also in the fit, such as" in out  # equal features
    assert own.held.sum() == 2 and own.classes == ("Happy", "Sad") and own.features.shape == (8, 4)
    table = tmp_path / "clips.csv"
    table.write_text(table.read_text().replace(f"{own.names[0]},Happy", f"{own.names[0]},Bored"))
    assert "Bored" in divided().classes
    assert "Bored" not in divided(seed=1).classes and len(divided(some=6).names) == 6
    with pytest.raises(DataError, match="too few clips: Sad has 1"):
        divided(some=5)


@pytest.mark.parametrize("at_type", [0, 1, 2])
def test_the_fitted_file_answers_with_your_classes_as_the_report_says(tmp_path: Path, at_type: int) -> None:
    torch.manual_seed(0)
    about = {"image_size": 40, "dataset": "composed", "class_shares": [0.9, 0.1], "neutral_feature": [0.25] * 512}
    path = save_run(tmp_path / "fan.pth", FAN(at_type, 2), ("neutral", "happiness"), **about)
    predictor = Predictor(path, "cpu")
    own = some_clips(8)
    own.features = np.tile(own.features, 2 if at_type == 1 else 1)
    own.features[:, :9] += 3 * own.targets[:, None]
    said, right = own_clips.fit(own, predictor, tmp_path)
    assert "fitted with strength" in said and "24 of 24 clips with the person's neutral clips as reference" in said
    fitted, info = load_fan(tmp_path / "fan.pth")
    assert info["labels"] == ("Happy", "Calm") and info["dataset"] == "composed" and info["class_shares"] is None
    assert info["neutral_feature"] == (0.25,) * 512 and info["recipe"]["own_fit"]["clips"] == 18
    features, _, _ = own.with_references(np.full(own.features.shape[1], 0.25))
    with torch.inference_mode():
        answers = fitted.classifier(torch.tensor(features[own.held], dtype=torch.float32)).argmax(dim=1).numpy()
    assert ((answers == own.targets[own.held]) == right).all() and f"{right.sum()} of 6 after" in said
    rows = list(csv.DictReader((tmp_path / "answers.csv").open()))
    assert [row["after"] for row in rows if row["held_out"] == "1"] == [own.classes[answer] for answer in answers]


def test_classes_of_the_same_expression_keep_their_weights_and_unknown_ones_are_wrong_before(tmp_path: Path) -> None:
    kept = own_clips.classes_kept(["Happy", "JOY", "neutral", "Tired", "Bored"], ("neutral", "happiness", "Tired"))
    assert kept == {"Happy": "happiness", "JOY": "happiness", "neutral": "neutral", "Tired": "Tired"}
    path = save_run(tmp_path / "fan.pth", FAN(0, 2), ("fear", "Calm"))
    said, _ = own_clips.fit(some_clips(8), Predictor(path, "cpu"), tmp_path)
    assert "Happy: 0 of 2 before" in said


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_whole_recipe_and_what_is_done_again(tmp_path: Path, write_video: Write, person: Draw) -> None:
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
    save_run(tmp_path / "fan.pth", FAN(1, 2), ("Sad", "Calm"), image_size=64)

    def recipe(*flags: str) -> subprocess.CompletedProcess[str]:
        base = [sys.executable, script.__file__, "videos", "--output", "own", "--device", "cpu"]
        command = [*base, "--pretrained", "fan.pth", "--person-pattern", "/([^_.]+)", *flags]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=400)

    first = recipe()
    assert first.returncode == 0, first.stdout + first.stderr
    assert "nobody.mp4: no face" in first.stderr  # named, and the others go on
    assert "9 clips to fit to, 3 held out (1 of 4 persons)" in first.stdout
    assert "held-out clips right: " in first.stdout and "after - before: " in first.stdout
    before = {name: (tmp_path / "own" / name).read_bytes() for name in ("clips.csv", "answers.csv", "features.pt")}
    second = recipe()
    assert second.returncode == 0 and "to fit to" not in second.stdout
    assert {name: (tmp_path / "own" / name).read_bytes() for name in before} == before
    third = recipe("--train", "--", "--epochs", "2")
    assert third.returncode == 0, third.stdout + third.stderr
    assert "Demo_AFEW_Attention.py --dataset list" in third.stdout and "after the training" in third.stdout
    (run,) = (tmp_path / "own" / "model").iterdir()
    assert (run / "report.html").is_file() and json.loads((run / "results.json").read_text())
    again = recipe("--train", "--", "--epochs", "2")
    assert again.returncode == 0 and len(list((tmp_path / "own" / "model").iterdir())) == 1
    wrong = recipe("--train", "--", "--epochs", "2", "--lr", "-1")
    assert wrong.returncode == 2 and "Traceback" not in wrong.stderr
