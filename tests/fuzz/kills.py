"""Kills the scripts at random instants, starts them again, and compares what they leave with an uninterrupted call."""

from __future__ import annotations

import json
import random
import re
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

import Demo_AFEW_Attention
import Predict_Video
import Prepare_Faces
import Pretrain_FERPlus
import Train_Own_Clips
from tests.conftest import write_ferplus
from tests.fuzz.engine import HANG, LONGEST, Tally, call, finished, killed, started
from tests.fuzz.inputs import BACKBONE, SIDE, encode, people, tiny_checkpoints
from tests.runs import TIMES, same

WHOLE = 300.0  # seconds of an uninterrupted call
NOT_COMPARED = re.compile(r"(^|/)(events\..*|\.lock|\.writer\.json|(args|own|finished)\.json|.*\.html|.*\.png)$")
DATE = re.compile(r"[0-9]{8}-[0-9]{6}")  # in the names of runs


@dataclass(frozen=True)
class Scenario:
    """A command and what it writes.

    Attributes:
        main: of the script.
        build: makes its inputs in a folder.
        words: the flags.
        output: the folder that it writes, compared with that of an uninterrupted call.
        resumes: a second start is `--resume RUN` if there is a run; else the same command.
    """

    name: str
    main: Callable[..., int]
    build: Callable[[Path], None]
    words: Sequence[object]
    output: str
    resumes: bool = False

    def next_words(self, folder: Path) -> Sequence[object]:
        runs = sorted((folder / self.output).glob("*/args.json")) if self.resumes else []
        return ("--resume", runs[-1].parent.relative_to(folder), "--device", "cpu") if runs else self.words


def frames(folder: Path) -> None:
    rng = np.random.default_rng(0)
    for label in ("Happy", "Sad"):
        for name in ("ann_1", "ann_2", "bob_1", "bob_2"):
            (folder / "tree" / label / name).mkdir(parents=True)
            for number in range(3):
                picture = Image.fromarray(rng.integers(0, 255, (SIDE, SIDE, 3), dtype=np.uint8))
                picture.save(folder / "tree" / label / name / f"{number}.png")


def ferplus(folder: Path) -> None:
    counts = {"Training": 24, "PublicTest": 16, "PrivateTest": 16}
    write_ferplus(folder / "FERPlus", as_csv=False, counts=counts)


def videos(folder: Path) -> None:
    for label, codec in (("Happy", "h264"), ("Sad", "mpeg4")):
        (folder / "videos" / label).mkdir(parents=True)
        for number in range(3):
            encode(folder / "videos" / label / f"{number}.mp4", people(), codec)
    (folder / "out").mkdir()
    tiny_checkpoints(folder)


CPU = ("--device", "cpu", "--precision", "fp32")
SMALL = ("--image-size", SIDE, "--batch-size", 8, "--backbone", BACKBONE, *CPU)
TREE = ("--dataset", "folders", "--train-root", "tree", "--val-root", "tree", "--pretrained", "none", "--workers", 0,
        "--samples-per-clip", 2, "--no-freeze-backbone", *SMALL)  # fmt: skip
SCENARIOS = {
    scenario.name: scenario
    for scenario in (
        Scenario("demo", Demo_AFEW_Attention.main, frames, (*TREE, "--epochs", 3, "--resume", "model/run"), "model"),
        Scenario(
            "demo-folds",
            Demo_AFEW_Attention.main,
            frames,
            ("--fold", "all", "--folds", 2, "--person-pattern", "(ann|bob)", "--epochs", 1, "--resume", "model/run",
             *TREE[:4], *TREE[6:]),
            "model",
        ),
        Scenario(
            "pretrain",
            Pretrain_FERPlus.main,
            ferplus,
            ("--data-root", "FERPlus", "--epochs", 3, "--export", "model/exported.pth.tar", *SMALL),
            "model",
            resumes=True,
        ),
        Scenario(
            "prepare", Prepare_Faces.main, videos, ("videos", "faces", "--workers", 2, "--device", "cpu"), "faces"
        ),
        Scenario(
            "predict",
            Predict_Video.main,
            videos,
            ("videos/Happy/0.mp4", "videos/Sad/1.mp4", "--checkpoint", "run.pth", "--output", "out", "--csv",
             "out/answers.csv", "--json", "out/answers.json", "--window", 0.4, *CPU),
            "out",
        ),
        Scenario(
            "own",
            Train_Own_Clips.main,
            videos,
            ("videos", "--output", "own", "--device", "cpu", "--pretrained", "run.pth", "--share", 0.34, "--train",
             "--", "--backbone", BACKBONE, "--image-size", SIDE, "--epochs", 2, "--workers", 0),
            "own",
        ),
    )
}  # fmt: skip


def content(folder: Path) -> dict[str, object]:
    """What the files of a folder hold, without times and logs."""
    contents: dict[str, object] = {}
    for path in (path for path in folder.rglob("*") if path.is_file()):
        name = DATE.sub("DATE", path.relative_to(folder).as_posix())
        if NOT_COMPARED.search(name):
            continue
        if path.suffix in (".pth", ".tar"):
            stored = torch.load(path, weights_only=True)
            contents[name] = {key: stored[key] for key in ("state_dict", "labels", "epoch", "metrics") if key in stored}
        elif path.suffix == ".jsonl":
            lines = [json.loads(line) for line in path.read_text().splitlines()]
            contents[name] = [{key: line[key] for key in line.keys() - set(TIMES)} for line in lines]
        else:
            contents[name] = DATE.sub("DATE", path.read_bytes().decode("latin-1")).replace(f"{folder.parent}", "")
    return contents


def kill(scenario: Scenario, scratch: Path, tally: Tally, index: int) -> None:
    """One to three kills at random instants, and the command again after each; notes what came of it."""
    base, whole, work = (scratch / f"{part}-{scenario.name}" for part in ("base", "whole", "work"))
    log, rng = scratch / f"kill-{scenario.name}.txt", random.Random(f"{tally.seed}/{scenario.name}/{index}")

    def start(folder: Path) -> tuple[int, int]:
        words = scenario.next_words(folder)
        return started(lambda: call(scenario.main, words), folder, log)

    if not base.exists():
        base.mkdir(parents=True)
        scenario.build(base)
        shutil.copytree(base, whole)
        begun = time.monotonic()
        outcome = finished(*start(whole), WHOLE)
        assert outcome == ("returned", 0), f"{scenario.name}: {outcome}\n{log.read_text()[-LONGEST:]}"
        (base / "seconds").write_text(str(time.monotonic() - begun))
    seconds = float((base / "seconds").read_text())
    shutil.rmtree(work, ignore_errors=True)
    shutil.copytree(base, work)
    outcome = None
    for _ in range(rng.choice([1, 1, 1, 2, 3])):
        child, pipe = start(work)
        outcome = finished(child, pipe, rng.uniform(0, 1) * seconds)
        if outcome is not None:
            break
        killed(child, pipe)
    if outcome is None:
        child, pipe = start(work)
        outcome = finished(child, pipe, HANG + 5 * seconds)
        if outcome is None:
            killed(child, pipe)
    said = log.read_text(errors="replace")[-LONGEST:]
    if outcome != ("returned", 0):
        tally.add(scenario.name, index, (f"after a kill: {outcome and outcome[:1]}", f"{outcome}\n{said}"))
        return
    made, expected = content(work / scenario.output), content(whole / scenario.output)
    differing = sorted(name for name in made.keys() | expected.keys() if not same(made.get(name), expected.get(name)))
    what = f"other content: {differing}" if differing else "accepted"
    tally.add(scenario.name, index, (what, said))
