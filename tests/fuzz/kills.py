"""Kills the scripts at random instants, starts them again, and compares what they leave with an uninterrupted call.

The same harness starts two processes on one folder, and takes the folder away from under a script.
"""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import pytest

import Demo_AFEW_Attention
import Predict_Video
import Prepare_Faces
import Pretrain_FERPlus
import Train_Own_Clips
from Code.common import steps
from Code.common.commandline import run_script
from Code.data import heldout as split
from Code.network.checkpoints import read_checkpoint
from Code.sample import draw_sample
from tests.conftest import write_ferplus
from tests.fuzz.data_kinds import BACKBONE, SIDE, encode, people, tiny_checkpoints
from tests.fuzz.engine import PROJECT, leave, silence
from tests.fuzz.findings import BrokenKindError, Finding, Tally, Wrong
from tests.fuzz.state_kinds import SMALL, SPEC
from tests.runs import TIMES, same, without_pictures

HANG = 60.0  # seconds beyond a whole call
# What may be there or not, or differ: logs of TensorBoard, locks, and the checkpoint before the last, whose step
# depends on when the training was stopped.
GONE = re.compile(r"^events\.|^\.lock$|^\.writer\.json$|\.frames\.lock$|^previous\.pth$")
COMPARED = (".csv", ".txt", ".jpg", "results.json", "answers.json", "/summary.json", "summary.md")  # byte for byte
DATE = re.compile(r"[0-9]{8}-[0-9]{6}")
RESUMED = ("model", "average", "optimizer", "scheduler", "best", "position")  # of a checkpoint's "training"
Words = tuple[object, ...]


@dataclass(frozen=True)
class Scenario:
    """A command and what it writes.

    Attributes:
        build: makes its inputs in the working directory.
        flags: of the first start.
        resumes: a second start is `--resume RUN` if there is a run; else the same command.
        output: what it writes, compared with an uninterrupted call.
    """

    name: str
    script: ModuleType
    build: Callable[[], None]
    flags: Words
    output: str
    resumes: bool = False

    def words(self, folder: Path) -> Words:
        """The flags of the next start in a folder."""
        runs = sorted((folder / self.output).glob("*/args.json")) if self.resumes else []
        # A run that ended before its first file is begun anew, beside it.
        return ("--resume", runs[-1].parent.relative_to(folder), *MACHINE) if runs else self.flags


MACHINE: Words = ("--device", "cpu")
SAMPLE: Words = ("--dataset", "afew", "--train-root", "Sample/Train", "--val-root", "Sample/Val",
                 "--train-list", "Sample/list_train.txt", "--val-list", "Sample/list_eval.txt", *SMALL)  # fmt: skip
FERPLUS: Words = ("--data-root", "FERPlus", "--image-size", SIDE, "--batch-size", 8, "--precision", "fp32",
                  "--backbone", BACKBONE, "--export", "model/exported.pth.tar", *MACHINE)  # fmt: skip


def drawn() -> None:
    draw_sample("Sample", spec=SPEC)


def ferplus() -> None:
    counts = {"Training": 24, "PublicTest": 16, "PrivateTest": 16}
    write_ferplus(Path("FERPlus"), as_csv=False, counts=counts)


def teachers() -> None:
    ferplus()
    words = (*FERPLUS[:-3], "teacher.pth.tar", *MACHINE, "--epochs", 1, "--output", "teachers")
    assert call(Pretrain_FERPlus, words) == 0
    shutil.rmtree("teachers")


def videos() -> None:
    for name, codec in (("Happy", "h264"), ("Sad", "mpeg4")):
        Path("videos", name).mkdir(parents=True)
        for number in range(3):
            encode(Path("videos", name, f"{number}.mp4"), people(), codec)
    tiny_checkpoints(Path())


OWN: Words = ("videos", "--output", "own", "--device", "cpu", "--pretrained", "run.pth", "--share", 0.34,
              "--predict", 1, "--", "--backbone", BACKBONE, "--image-size", SIDE, "--epochs", 2,
              "--workers", 0)  # fmt: skip
ANSWERS: Words = ("videos/Happy/0.mp4", "videos/Sad/1.mp4", "--checkpoint", "run.pth", "--output", "out", "--csv",
                  "out/answers.csv", "--json", "out/answers.json", "--window", 0.4, *MACHINE)  # fmt: skip
SCENARIOS = {
    scenario.name: scenario
    for scenario in (
        Scenario("demo", Demo_AFEW_Attention, drawn, (*SAMPLE, "--epochs", 3), "model", resumes=True),
        Scenario(
            "demo-steps",
            Demo_AFEW_Attention,
            drawn,
            (*SAMPLE, "--epochs", 2, "--samples-per-clip", 4, "--checkpoint-every", "1e-9"),
            "model",
            resumes=True,
        ),
        Scenario(
            "demo-seeds", Demo_AFEW_Attention, drawn, (*SAMPLE, "--epochs", 1, "--seeds", 0, 1), "model", resumes=True
        ),
        Scenario(
            "demo-folds",
            Demo_AFEW_Attention,
            drawn,
            (*SAMPLE[2:4], "--dataset", "folders", *SMALL, "--epochs", 1, "--fold", "all", "--folds", 2,
             "--person-pattern", "[0-9]+"),
            "model",
            resumes=True,
        ),
        Scenario(
            "demo-composed",
            Demo_AFEW_Attention,
            ferplus,
            ("--dataset", "composed", "--data-root", "FERPlus", "--clip-frames", 4, "--train-clips", 8,
             "--val-clips", 8, "--telling", 0.5, *SMALL, "--epochs", 2),
            "model",
            resumes=True,
        ),
        Scenario("pretrain", Pretrain_FERPlus, ferplus, (*FERPLUS, "--epochs", 3), "model", resumes=True),
        Scenario(
            "pretrain-taught",
            Pretrain_FERPlus,
            teachers,
            (*FERPLUS, "--epochs", 2, "--teachers", "teacher.pth.tar"),
            "model",
            resumes=True,
        ),
        Scenario("prepare", Prepare_Faces, videos, ("videos", "faces", "--workers", 1, *MACHINE), "faces"),
        Scenario("prepare-workers", Prepare_Faces, videos, ("videos", "faces", "--workers", 2, *MACHINE), "faces"),
        Scenario("predict", Predict_Video, lambda: (videos(), Path("out").mkdir())[0], ANSWERS, "out"),
        Scenario("own", Train_Own_Clips, videos, OWN, "own"),
    )
}  # fmt: skip


def call(script: ModuleType, words: Sequence[object]) -> int:
    """Calls a script as its last lines do; the exit status."""
    sys.argv = [f"{script.__name__}.py", *map(str, words)]
    try:
        return run_script(script.main, getattr(script, "resume_command", lambda: None))
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else 1


def forked_python(command: Sequence[str], environment: Mapping[str, str]) -> int:
    """`Code.common.steps.run_python` without the seconds that importing torch takes."""
    child = os.fork()
    if not child:
        os.environ.update(environment)
        script = split if command[0] == "-m" else sys.modules[Path(command[0]).stem]
        leave(lambda: call(script, command[2 if command[0] == "-m" else 1 :]))
    status = os.waitpid(child, 0)[1]
    return 128 + os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)


def start(scenario: Scenario, folder: Path, words: Words, log: Path, *, pictures: bool) -> int:
    """Starts a script in a process group of its own; the process's id."""
    child = os.fork()
    if child:
        return child
    os.setsid()
    silence(log)
    os.chdir(folder)

    def work() -> int:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(steps, "run_python", forked_python)
            if pictures:
                return call(scenario.script, words)
            with without_pictures():
                return call(scenario.script, words)

    leave(work)
    raise AssertionError("unreachable")


def ended(child: int, seconds: float) -> int | None:
    """The exit status of a process (negative: the signal that ended it); None if it still runs after some seconds."""
    deadline = time.monotonic() + seconds
    try:
        while True:
            done, status = os.waitpid(child, os.WNOHANG)
            if done:
                return -os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)
            if time.monotonic() > deadline:
                return None
            time.sleep(0.002)
    except KeyboardInterrupt:  # it is in a session of its own, so Ctrl-C does not reach it
        kill(child)
        raise


def kill(child: int, *, alone: bool = False) -> None:
    """Kills a process, with all that it started unless `alone`."""
    if alone:
        os.kill(child, signal.SIGKILL)
    else:
        os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)


def files_in(folder: Path) -> dict[str, Path]:
    """All files by their relative names, with dates replaced: runs are named by the time."""
    found = sorted(path for path in folder.rglob("*") if path.is_file() and not GONE.search(path.name))
    return {DATE.sub("DATE", path.relative_to(folder).as_posix()): path for path in found}


def compare(made: Path, whole: Path) -> None:
    """The same files with the same content, but for times and names of folders.

    Raises:
        Wrong: what differs.
    """
    one, other = files_in(made), files_in(whole)
    if one.keys() != other.keys():
        more, less = sorted(one.keys() - other.keys()), sorted(other.keys() - one.keys())
        raise Wrong(f"other files: left behind {more}, missing {less}")
    for name, path in one.items():
        if path.suffix == ".pth" or name.endswith(".pth.tar"):
            first, second = (_plain_checkpoint(each) for each in (path, other[name]))
            if not same(first, second):
                raise Wrong(f"other content: {name}")
        elif name.endswith("log.jsonl"):
            if _log(path) != _log(other[name]):
                raise Wrong(f"other content: {name}: {_log(path)} {_log(other[name])}")
        elif name.endswith(COMPARED) and _without_place(path, made) != _without_place(other[name], whole):
            raise Wrong(f"other content: {name}")


def _plain_checkpoint(path: Path) -> dict:
    """Weights, metrics, and the state that a training resumes from, without what it tells of times and places."""
    content = read_checkpoint(path)
    training = content.get("training") or {}
    kept = {name: content[name] for name in ("state_dict", "labels", "epoch", "metrics") if name in content}
    return kept | {name: training[name] for name in RESUMED if name in training}


def _log(path: Path) -> list[dict]:
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return [{name: value for name, value in line.items() if name not in TIMES} for line in lines]


def _without_place(path: Path, place: Path) -> bytes:
    content = path.read_bytes()
    if path.name == "results.json":  # the checksum of clips.csv, which has the places of the frames
        results = json.loads(content)
        results.get("tables", {}).pop("clips.csv", None)
        content = json.dumps(results).encode()
    return content.replace(os.fsencode(place.parent), b"")


class Place:
    """The working directories of one scenario: its inputs, an uninterrupted call, and the one that is disturbed."""

    def __init__(self, scenario: Scenario, scratch: Path) -> None:
        self.scenario = scenario
        place = scratch / f"kill-{scenario.name}"
        self.base, self.whole, self.work = place / "base", place / "full", place / "work"
        self.log = self.base.parent / "log.txt"
        self.seconds: dict[bool, float] = {}

    def build(self) -> None:
        if self.base.exists():
            return
        self.base.mkdir(parents=True)
        child = os.fork()
        if not child:
            silence(self.log)
            os.chdir(self.base)
            leave(self.scenario.build)
        if os.waitpid(child, 0)[1]:
            raise BrokenKindError(f"{self.scenario.name}: no inputs:\n{self.log.read_text(errors='replace')[-3000:]}")

    def uninterrupted(self, pictures: bool) -> Path:
        """The folder of a whole call, timed."""
        whole = self.whole / str(int(pictures))
        if not whole.exists():
            shutil.copytree(self.base, whole, copy_function=shutil.copy2)
            begun = time.monotonic()
            child = start(self.scenario, whole, self.scenario.flags, self.log, pictures=pictures)
            status = ended(child, 300)
            if status != 0:
                raise BrokenKindError(f"{self.scenario.name}: status {status}:\n{self.said()}")
            self.seconds[pictures] = time.monotonic() - begun
        return whole

    def fresh(self) -> None:
        shutil.rmtree(self.work, ignore_errors=True)
        shutil.copytree(self.base, self.work, copy_function=shutil.copy2)

    def said(self) -> str:
        return self.log.read_text(errors="replace")[-4000:]

    def finish(self, pictures: bool, expected: tuple[int, ...] = (0,)) -> None:
        """Starts the script again and lets it end."""
        child = start(self.scenario, self.work, self.scenario.words(self.work), self.log, pictures=pictures)
        status = ended(child, HANG + 5 * self.seconds[pictures])
        if status is None:
            kill(child)
            raise Wrong(f"hang: after a kill, more than {HANG:.0f} s")
        if status not in expected or "Traceback" in self.said():
            raise Wrong(f"status {status} after a restart: {self.said()}")


def kill_once(place: Place, rng: random.Random) -> int:
    """One to three kills, a restart after each; how many kills hit.

    Raises:
        Wrong: something other than what an uninterrupted call leaves.
    """
    pictures = rng.random() < 0.08
    whole = place.uninterrupted(pictures)
    place.fresh()
    kills = 0
    for _ in range(rng.choice([1, 1, 1, 2, 3])):
        child = start(place.scenario, place.work, place.scenario.words(place.work), place.log, pictures=pictures)
        share = rng.uniform(0.75, 1.0) if rng.random() < 0.2 else rng.uniform(0, 1)
        if (status := ended(child, share * place.seconds[pictures])) is not None:
            if status not in (0, 2) or "Traceback" in place.said():
                raise Wrong(f"status {status}: {place.said()}")
            break
        kill(child)
        kills += 1
    place.finish(pictures)
    compare(place.work / place.scenario.output, whole / place.scenario.output)
    return kills


def two_at_once(place: Place, rng: random.Random) -> int:
    """The same command twice on the same folder: one finishes, and the other finishes, too, or says who works there."""
    whole = place.uninterrupted(False)
    place.fresh()
    if place.scenario.resumes:  # on one run, which must exist
        child = start(place.scenario, place.work, place.scenario.flags, place.log, pictures=False)
        if ended(child, rng.uniform(0.3, 0.8) * place.seconds[False]) is None:
            kill(child)
    logs = [place.log.with_name(f"log{number}.txt") for number in range(2)]
    words = place.scenario.words(place.work)
    children = []
    for log in logs:
        children.append(start(place.scenario, place.work, words, log, pictures=False))
        time.sleep(rng.choice([0, 0.01, 0.3, 0.6]) * place.seconds[False])
    statuses = [ended(child, HANG + 10 * place.seconds[False]) for child in children]
    texts = [log.read_text(errors="replace")[-3000:] for log in logs]
    for child, status in zip(children, statuses, strict=True):
        if status is None:
            kill(child)
            raise Wrong("hang: two processes on one folder")
    place.log.write_text("\n".join(texts))
    for status, text in zip(statuses, texts, strict=True):
        if status not in (0, 2) or "Traceback" in text or (status == 2 and "writes there" not in text):
            raise Wrong(f"two processes: statuses {statuses}: {texts}")
    if 0 not in statuses:
        raise Wrong(f"two processes: neither finished: {texts}")
    compare(place.work / place.scenario.output, whole / place.scenario.output)
    return 2


def vanishing(place: Place, rng: random.Random) -> int:
    """The output is deleted while the script works: it says so or makes the folder again, and the next call works."""
    whole = place.uninterrupted(False)
    place.fresh()
    child = start(place.scenario, place.work, place.scenario.words(place.work), place.log, pictures=False)
    if (status := ended(child, rng.uniform(0, 1) * place.seconds[False])) is None:
        shutil.rmtree(place.work / place.scenario.output, ignore_errors=True)
        status = ended(child, HANG + 5 * place.seconds[False])
    if status is None:
        kill(child)
        raise Wrong("hang: the output was deleted")
    if status not in (0, 1, 2) or "Traceback" in place.said():
        raise Wrong(f"deleted output, status {status}: {place.said()}")
    shutil.rmtree(place.work / place.scenario.output, ignore_errors=True)
    if (place.base / place.scenario.output).is_dir():
        shutil.copytree(place.base / place.scenario.output, place.work / place.scenario.output)
    place.finish(False)
    compare(place.work / place.scenario.output, whole / place.scenario.output)
    return 1


ACTIONS: dict[str, Callable[[Place, random.Random], int]] = {
    "kill": kill_once, "two": two_at_once, "vanish": vanishing,
}  # fmt: skip


_places: dict[tuple[Path, str], Place] = {}


def disturb(name: str, scratch: Path, tally: Tally, index: int) -> None:
    """One disturbance, named <action>-<scenario>; the number chooses when."""
    action, _, scenario = name.partition("-")
    place = _places.setdefault((scratch, scenario), Place(SCENARIOS[scenario], scratch))
    place.build()
    begun = time.monotonic()
    os.chdir(PROJECT)
    try:
        hits = ACTIONS[action](place, random.Random(f"{tally.seed}/{name}/{index}"))
    except Wrong as error:
        what = re.sub(r"[0-9a-f]{6,}", "N", str(error).partition(": ")[0])
        if str(error).startswith("other"):
            what = DATE.sub("DATE", str(error))[:200]
        detail = f"{error}\n\nlast output:\n{place.said()}"
        tally.note(name, "finding", index, time.monotonic() - begun)
        if tally.keeps(Finding(name, "kill", f"{what}", detail, index), {}):
            print(f"{name} {index}: {what}", flush=True)
        return
    for _ in range(hits):
        tally.note(name, "accepted", index, (time.monotonic() - begun) / hits)
