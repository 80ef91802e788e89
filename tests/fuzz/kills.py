"""Kills the scripts at random instants, starts them again, and compares what they leave with an uninterrupted call."""

from __future__ import annotations

import random
import re
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import numpy as np
import torch
from PIL import Image

import Demo_AFEW_Attention
import Predict_Video
import Prepare_Faces
import Pretrain_FERPlus
import Train_Own_Clips
from tests.conftest import write_ferplus
from tests.fuzz.engine import HANG, Tally, attempt, call
from tests.fuzz.inputs import BACKBONE, SIDE, encode, people, tiny_checkpoints
from tests.runs import same

WHOLE = 300.0  # seconds of an uninterrupted call
NOT_COMPARED = re.compile(r"(^|/)(events\..*|\.lock|\.writer\.json|(args|own|finished)\.json|.*\.(jsonl|html|png))$")
DATE = re.compile(r"[0-9]{8}-[0-9]{6}")  # in the names of runs


@dataclass(frozen=True)
class Scenario:
    """A command: `build` makes its inputs in a folder, `output` is the folder that it writes."""

    name: str
    script: ModuleType
    build: Callable[[Path], None]
    words: str
    output: str

    def start(self, folder: Path, log: Path, seconds: float) -> str:
        return attempt(lambda: call(self.script, self.words.split()), folder, log, seconds)


def frames(folder: Path) -> None:
    rng = np.random.default_rng(0)
    for name in ("Happy/ann_1", "Happy/bob_1", "Happy/bob_2", "Sad/ann_1", "Sad/ann_2", "Sad/bob_1"):
        (folder / "tree" / name).mkdir(parents=True)
        for number in range(3):
            picture = Image.fromarray(rng.integers(0, 255, (SIDE, SIDE, 3), dtype=np.uint8))
            picture.save(folder / "tree" / name / f"{number}.png")


def ferplus(folder: Path) -> None:
    write_ferplus(folder / "FERPlus", as_csv=False, counts={"Training": 24, "PublicTest": 16, "PrivateTest": 16})


def videos(folder: Path) -> None:
    for label, codec in (("Happy", "h264"), ("Sad", "mpeg4")):
        (folder / "videos" / label).mkdir(parents=True)
        for number in range(3):
            encode(folder / "videos" / label / f"{number}.mp4", people(), codec)
    (folder / "out").mkdir()
    tiny_checkpoints(folder)


CPU = "--device cpu --precision fp32"
SMALL = f"--image-size {SIDE} --batch-size 8 --backbone {BACKBONE} --resume model/run {CPU}"
DEMO = f"--dataset folders --train-root tree --pretrained none --workers 0 --no-freeze-backbone {SMALL}"
FOLDS = "--fold all --folds 2 --person-pattern (ann|bob) --epochs 1 --samples-per-clip 2"
ANSWERS = f"--checkpoint run.pth --output out --csv out/answers.csv --json out/answers.json --window 0.4 {CPU}"
OWN = f"--pretrained run.pth --share 0.34 --train -- --backbone {BACKBONE} --image-size {SIDE} --epochs 2 --workers 0"
SCENARIOS = (
    Scenario("demo", Demo_AFEW_Attention, frames, f"{DEMO} --val-root tree --epochs 3 --samples-per-clip 2", "model"),
    Scenario("demo-folds", Demo_AFEW_Attention, frames, f"{DEMO} {FOLDS}", "model"),
    Scenario("pretrain", Pretrain_FERPlus, ferplus, f"--data-root FERPlus --epochs 3 {SMALL}", "model"),
    Scenario("prepare", Prepare_Faces, videos, "videos faces --workers 2 --device cpu", "faces"),
    Scenario("predict", Predict_Video, videos, f"videos/Happy/0.mp4 videos/Sad/1.mp4 {ANSWERS}", "out"),
    Scenario("own", Train_Own_Clips, videos, f"videos --output own --device cpu {OWN}", "own"),
)


def content(folder: Path) -> dict[str, object]:
    """What the files of a folder hold, without times and logs."""
    contents: dict[str, object] = {}
    for path in folder.rglob("*"):
        name = DATE.sub("DATE", path.relative_to(folder).as_posix())
        if path.suffix in (".pth", ".tar"):
            contents[name] = torch.load(path, weights_only=True)["state_dict"]
        elif path.is_file() and not NOT_COMPARED.search(name):
            contents[name] = DATE.sub("DATE", path.read_bytes().decode("latin-1")).replace(f"{folder.parent}", "")
    return contents


def kill(scenario: Scenario, scratch: Path, tally: Tally, index: int) -> None:
    """One to three kills at random instants, and the command again after each; notes what came of it."""
    base, whole, work = (scratch / f"{part}-{scenario.name}" for part in ("base", "whole", "work"))
    log, rng = scratch / f"kill-{scenario.name}.txt", random.Random(f"{tally.seed}/{scenario.name}/{index}")
    if not base.exists():
        base.mkdir(parents=True)
        scenario.build(base)
        shutil.copytree(base, whole)
        begun = time.monotonic()
        what = scenario.start(whole, log, WHOLE)
        assert what == "accepted", f"{scenario.name}: {what}\n{log.read_text()}"
        (base / "seconds").write_text(str(time.monotonic() - begun))
    seconds = float((base / "seconds").read_text())
    shutil.rmtree(work, ignore_errors=True)
    shutil.copytree(base, work)
    what = "killed"
    limits = [rng.uniform(0, seconds) for _ in range(rng.choice([1, 1, 1, 2, 3]))]
    for limit in (*limits, HANG + 5 * seconds):
        if what == "killed":
            what = scenario.start(work, log, limit)
    if what == "accepted":
        made, expected = content(work / scenario.output), content(whole / scenario.output)
        names = sorted(made.keys() | expected.keys())
        if differing := [name for name in names if not same(made.get(name), expected.get(name))]:
            what = f"other content: {differing}"
    tally.add(scenario.name, index, what, log.read_text(errors="replace"))
