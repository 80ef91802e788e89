"""From videos in class folders to a network that was fitted to them: faces, split, training and answers, step by step.

Each step is one of the project's commands, called with flags that also work on a command line.
"""

from __future__ import annotations

import csv
import hashlib
import json
import math
import os
import shlex
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import zip_longest
from pathlib import Path

from .common.errors import ProjectError, UsageError
from .common.files import PROJECT, save_text
from .common.json_files import MissingStateError, read_json
from .common.lock import one_writer
from .common.names import DEFAULT_AT_TYPE, FAN_FILE, FERPLUS_FILE, expression
from .common.wording import counted
from .data.clips import DataError
from .faces.inputs import Job, find_jobs
from .network.checkpoints import CheckpointError, read_checkpoint
from .network.weights import find_checkpoint, load_fan
from .readers import crop_of, heldout
from .readers.folders import read_folders
from .results.runs import read_run
from .training.intervals import interval_text

SHIPPED_FAN = PROJECT / FAN_FILE
# The head of a frozen backbone. With more epochs or a higher rate it overfits few clips: trained on 13 clips of two
# people and evaluated on a third one (24 clips, 8 classes, 4 draws), 48 epochs at 0.01 are right as often (14.8 of 24
# clips) as 12 epochs at 0.001 (15.2), but with a loss of 1.55 instead of 1.04. New classes need more steps.
EPOCHS, RATE = 12, 0.001
EPOCHS_OF_NEW, RATE_OF_NEW = 24, 0.003
BATCH, SAMPLES, FEWEST = 32, 400, 4
PRECISION = "fp32"  # of the training and of the answers, so that figures, tables and report agree exactly
SHOWN = 5  # copies named in a warning

Command = Callable[[Sequence[str]], int]  # a script's `main`: flags -> exit status


@dataclass
class OwnClips:
    """The steps, each of which reads what those before it wrote to the output folder.

    A step is skipped if `own.json` says that it was done with the same flags, and its results are there.

    Attributes:
        videos ... device: the flags of Train_Own_Clips.py.
        training: flags of the main script.
        prepare_faces, train, answer: Prepare_Faces.py, Demo_AFEW_Attention.py and Predict_Video.py.
        seconds: how long each step of this call took.

    Raises:
        StateError: `own.json` is damaged.
    """

    videos: Path
    output: Path
    pretrained: Path | None
    fps: float
    share: float
    person_pattern: str | None
    predict: int
    seed: int
    device: str
    training: list[str]
    prepare_faces: Command
    train: Command
    answer: Command
    seconds: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.faces = self.output / "faces"  # <Class>/<clip>/<frame>.jpg
        self.clips = self.output / "clips.csv"  # classes, splits and persons, which people may correct
        self.state = self.output / "own.json"
        try:
            self.done = read_json(self.state, dict[str, list[str]], remedy="delete it to do every step again")
        except MissingStateError:
            self.done = {}

    def run(self) -> None:
        """Goes through the steps, and says what they came to."""
        jobs = videos_by_name(self.videos)
        start = Start.find(self.pretrained)
        print(f"start: {start.path} ({start.kind})", flush=True)
        with one_writer(self.output):
            self.cut_out_faces()
            split = self.draw_split()
            if pairs := copies(split, jobs):
                more = f" and {len(pairs) - SHOWN} more" if len(pairs) > SHOWN else ""
                what = counted(len(pairs), "held-out video")
                print(f"warning: {what} also in training, the same file: {', '.join(pairs[:SHOWN])}{more}", flush=True)
            run = self.fit(start, split)
            network, unadapted = run / "best.pth", start.path if start.labels else SHIPPED_FAN
            before: dict[str, str] = {}
            if split.val and unadapted.is_file():
                before = self.answers(
                    "answers without training", split.val, jobs, unadapted, "before.csv", "--no-figure"
                )
            if drawn := spread(split.val, self.predict):
                pictures = str(self.output / "pictures")
                self.answers("answers", drawn, jobs, network, "answers.csv", "--output", pictures)
        files = read_run(run)
        best = files.results.best if files.results else None
        interval = interval_text(best.accuracy_interval, best.num_clips) if best else "no interval"
        trained = {clip.name: clip.prediction for clip in files.clips}
        after = {name: trained[name] for name in split.val if name in trained}
        print(compare(after, before, split.classes, interval, unadapted.name))
        print(f"network: {network}\nreport:  {run / 'report.html'}")
        took = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in self.seconds.items())
        print(f"time:    {sum(self.seconds.values()):.1f} s ({took})")

    def cut_out_faces(self) -> None:
        """Videos -> OUTPUT/faces. The command skips what it has done."""
        words = [str(self.videos), str(self.faces), *self._frame_rate(), "--device", self.device]
        self._call("faces", "Prepare_Faces.py", words, self.prepare_faces, passes=1)  # 1: some videos show no face

    def draw_split(self) -> heldout.Split:
        """Faces -> OUTPUT/clips.csv, anew if there are other clips or flags than before."""
        words = [str(self.faces), "--output", str(self.clips), "--share", f"{self.share:g}", "--seed", str(self.seed)]
        words += ["--person-pattern", self.person_pattern] if self.person_pattern else []
        names = [clip.name for clip in read_folders(self.faces, skip_empty=True).clips]
        done = self.clips.is_file() and self.done.get("split") == [*words, *names]
        self._call("split", "-m Code.readers.heldout", words, None if done else heldout.main)
        self._mark("split", [*words, *names])
        return heldout.read_split(self.clips)

    def fit(self, start: Start, split: heldout.Split) -> Path:
        """The clips that are not held out -> a run's folder below OUTPUT/model, with its network in best.pth.

        A run that was begun with the same flags, after the list was last changed, is resumed.
        """
        samples = max(FEWEST, math.ceil(SAMPLES / max(1, len(split.train))))
        classes = sorted({split.classes[name] for name in split.train})
        kept = start.classes_kept(classes)
        renamed = [f"{name}={label}" for name, label in kept.items() if name != label]
        epochs, rate = (EPOCHS, RATE) if len(kept) == len(classes) else (EPOCHS_OF_NEW, RATE_OF_NEW)
        words = ["--dataset", "list", "--train-root", str(self.faces), "--train-list", str(self.clips)]
        words += ["--pretrained", str(start.path), *(["--map-labels", *renamed] if renamed else [])]
        words += ["--at_type", str(start.at_type), "--freeze-backbone", "--epochs", str(epochs), "--lr", f"{rate:g}"]
        words += ["--batch-size", str(BATCH), "--samples-per-clip", str(samples), "--select-on", "last"]
        words += ["--seed", str(self.seed), "--cache", "none", "--device", self.device, "--precision", PRECISION]
        words += self.training
        *before, name = self.done.get("training") or [""]
        run = self.output / "model" / name
        begun = run / "args.json"
        if before != words or (begun.is_file() and begun.stat().st_mtime < self.clips.stat().st_mtime):
            run = self.output / "model" / f"{datetime.now():%Y%m%d-%H%M%S}_list"
            self._mark("training", [*words, run.name])
        done = all((run / name).is_file() for name in ("best.pth", "results.json", "report.html"))
        words += ["--resume", str(run)]
        self._call("training", "Demo_AFEW_Attention.py", words, None if done else self.train)
        if not (run / "results.json").is_file():
            raise UsageError(f"{run}: no results; do the flags after -- ask for a training?")
        return run

    def answers(
        self, step: str, names: Iterable[str], jobs: Mapping[str, Job], network: Path, table: str, *flags: str
    ) -> dict[str, str]:
        """Answers some clips, and writes a table: name of a clip -> expression.

        A network that was trained on the crop of Prepare_Faces.py gets the crops of the first step, and its answers are
        those of the report. Those of FER+ know another crop, which Predict_Video.py cuts out of the videos.
        """
        file = self.output / table
        if crop_of(load_fan(network)[1]) == "fer2013":
            how, inputs = self._frame_rate(), {name: str(Path(jobs[name].path)) for name in names}
        else:
            how, inputs = ["--aligned"], {name: str(self.faces / name) for name in names}
        words = [*how, *inputs.values(), "--checkpoint", str(network), "--csv", str(file), "--precision", PRECISION]
        words += ["--device", self.device, *flags]
        done = file.is_file() and self.done.get(step) == words
        self._call(step, "Predict_Video.py", words, None if done else self.answer)
        self._mark(step, words)
        with file.open(encoding="utf-8", errors="surrogateescape", newline="") as lines:
            said = {row["input"]: row["expression"] for row in csv.DictReader(lines)}
        return {name: said[path] for name, path in inputs.items()}

    def _frame_rate(self) -> list[str]:
        """How many frames of a second are read, before and after the training alike."""
        return ["--fps", f"{self.fps:g}"] if self.fps else []

    def _call(self, step: str, script: str, words: Sequence[str], main: Command | None, passes: int = 0) -> None:
        """Prints a step's command, and calls it unless it is done (None).

        Args:
            passes: the highest exit status with which the results are there.

        Raises:
            StepError: the command failed, and printed why.
        """
        title = f"{len(self.seconds) + 1}. {step}"
        is_module, elsewhere = script.startswith("-m "), Path.cwd() != PROJECT
        path = str(PROJECT / script) if elsewhere and not is_module else script
        command = shlex.join(["python", *path.split(maxsplit=1 if is_module else 0), *words])
        if elsewhere and is_module:
            command = f"PYTHONPATH={shlex.quote(str(PROJECT))} {command}"
        print(f"{title}{'' if main else ': done before'}\n   {command}", flush=True)
        began = time.monotonic()
        status = main(words) if main else 0
        if status > passes:
            raise StepError(title, status)
        self.seconds[step] = time.monotonic() - began if main else 0.0
        if main:
            print(f"   {step}: {self.seconds[step]:.1f} s", flush=True)

    def _mark(self, step: str, done_with: list[str]) -> None:
        """Records with what a step was done."""
        if self.done.get(step) != done_with:
            self.done[step] = done_with
            save_text(json.dumps(self.done, indent=1) + "\n", self.state)


class StepError(ProjectError, RuntimeError):
    """A step failed, and printed why.

    Attributes:
        status: the step's exit status.
    """

    def __init__(self, step: str, status: int) -> None:
        super().__init__(f"stopped in step {step}; the steps before it are kept, and the same command resumes here")
        self.status = status


@dataclass(frozen=True)
class Start:
    """The network to start from.

    Attributes:
        path: the file.
        at_type: the attention that its head has, else the default.
        labels: what it answers with; empty for a backbone.
        kind: what it is, in words.
        is_fan: whether it has an attention head, whose classes keep their weights.
    """

    path: Path
    at_type: int = DEFAULT_AT_TYPE
    labels: tuple[str, ...] = ()
    kind: str = "a backbone; your clips alone train the attention"
    is_fan: bool = False

    @classmethod
    def find(cls, given: Path | None) -> Start:
        """The weights to start from: a run, a FAN or a backbone; None: the FAN in pretrain_model/, else its backbone.

        Raises:
            CheckpointError: the file cannot be read.
        """
        usual = (SHIPPED_FAN, PROJECT / FERPLUS_FILE)
        path = find_checkpoint(given) if given else next((path for path in usual if path.is_file()), usual[-1])
        if path.is_relative_to(Path.cwd()):
            path = path.relative_to(Path.cwd())
        read_checkpoint(path)
        try:
            fan, info = load_fan(path)
        except CheckpointError:  # a face network without expressions, for example
            return cls(path)
        labels = info["labels"]
        if not fan.head.weighs_frames:
            return cls(path, labels=labels, kind="a frame classifier; your clips alone train the attention")
        kind = f"a FAN with {fan.head.title} and {counted(len(labels), 'class', 'classes')}"
        return cls(path, fan.at_type, labels, kind, is_fan=True)

    def classes_kept(self, classes: Iterable[str]) -> dict[str, str]:
        """Your class -> the FAN's class that gives it its weights: of the same name, or of the same expression."""
        if not self.is_fan:
            return {}
        by_expression = {expression(label): label for label in self.labels}
        pairs = {name: name if name in self.labels else by_expression.get(expression(name)) for name in classes}
        return {name: label for name, label in pairs.items() if label is not None}


def videos_by_name(root: Path) -> dict[str, Job]:
    """The clips by their names, `<Class>/<name>`. What cannot be trained on is refused before the long work."""
    jobs, _ = find_jobs(root)
    if root.is_file():
        raise DataError(f"{root}: is a file; name the folder that holds <Class>/<name>.mp4")
    astray = [job.path for job in jobs if job.name.count("/") != 1]
    if astray:
        raise DataError(
            f"{astray[0]}: {len(astray)} of {len(jobs)} videos are not in a class folder; put them into "
            f"{root}/<Class>/<name>.mp4"
        )
    counts: dict[str, int] = defaultdict(int)
    for job in jobs:
        counts[job.name.split("/")[0]] += 1
    few = [name for name, videos in counts.items() if videos < 2]
    if len(counts) < 2 or few:
        what = f"{', '.join(few)}: only one video" if few else f"{next(iter(counts))} is the only class"
        raise DataError(f"{root}: {what}; training needs at least two classes of two videos each")
    return {job.name: job for job in jobs}


def copies(split: heldout.Split, videos: Mapping[str, Job]) -> list[str]:
    """Held-out videos of which the training has the same bytes: `<held-out clip> = <training clip>`."""

    def sizes(names: Iterable[str]) -> dict[str, int]:
        return {name: os.path.getsize(videos[name].path) for name in names if os.path.isfile(videos[name].path)}

    def digest(name: str) -> bytes:
        with open(videos[name].path, "rb") as file:
            return hashlib.file_digest(file, "sha256").digest()

    val, train = (sizes(videos.keys() & side.keys()) for side in (split.val, split.train))
    known = {digest(name): name for name, size in train.items() if size in val.values()}
    pairs = {name: known.get(digest(name)) for name, size in val.items() if size in train.values()}
    return sorted(f"{name} = {other}" for name, other in pairs.items() if other)


def spread(names: Iterable[str], most: int) -> list[str]:
    """At most `most` clips, taken from the classes in turn."""
    classes: dict[str, list[str]] = {}
    for name in names:
        classes.setdefault(name.split("/")[0], []).append(name)
    return [name for turn in zip_longest(*classes.values()) for name in turn if name is not None][:most]


def compare(
    after: Mapping[str, str], before: Mapping[str, str], truth: Mapping[str, str], interval: str, name: str
) -> str:
    """How many held-out clips are right after and before the training, and which are wrong.

    Args:
        after, before: name of a clip -> expression. Before, spellings count as the same: "happiness" is "Happy".
        truth: name of a clip -> its class.
        interval: of the accuracy after the training.
        name: of the network before the training.
    """
    wrong = [f"{clip}: predicted {answer}" for clip, answer in after.items() if truth[clip] != answer]
    lines = [f"held-out clips right: {len(after) - len(wrong)} of {len(after)} ({interval})"]
    if before:
        right = sum(expression(answer) == expression(truth[clip]) for clip, answer in before.items())
        lines.append(f"without training ({name}): {right} of {len(before)}")
    return "\n  ".join([*lines, *wrong])
