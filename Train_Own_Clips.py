"""From videos of one's own to a trained network, its report and its answers, in one command.

examples:
  videos in <Class>/<name>.mp4           python Train_Own_Clips.py videos --output own
  no person in training and validation   python Train_Own_Clips.py videos --person-pattern '/([^_]+)_'
  every frame, more epochs               python Train_Own_Clips.py videos --fps 0 -- --epochs 96
  the whole network, for many clips      python Train_Own_Clips.py videos -- --no-freeze-backbone --epochs 15

Steps: faces (Prepare_Faces.py), split, training on the clips that are not held out (Demo_AFEW_Attention.py, which
writes report.html), prediction of held-out videos (Predict_Video.py). Each step shows its command, to be used alone.
Started again, the command leaves out what is done. What follows `--` goes to the training.
Needs `pip install -r requirements-faces.txt`.
exit status: that of the step that failed; 0 done, 2 an input, a flag or an installation is wrong
"""

from __future__ import annotations

import argparse
import csv
import math
import sys
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

from Code.common.commandline import add_device, count, number, run_script, script_parser, seed
from Code.common.errors import UsageError
from Code.common.steps import PROJECT, StepError, Steps, fingerprint, script
from Code.data.clips import DataError
from Code.data.readers.plainlist import parse_plain_list
from Code.data.split import SHARE
from Code.faces.inputs import Job, find_jobs
from Code.network.attention import HEADS
from Code.network.checkpoints import CheckpointError, read_checkpoint
from Code.network.pretrained import find_checkpoint, load_fan
from Code.network.weights import FERPLUS_FILE, SHIPPED_FILE

SHIPPED_FAN = PROJECT / "pretrain_model" / "FAN_FER+_composed.pth"
# A head on a fixed backbone: 48 epochs, as on the generated sample, of at least 400 samples.
EPOCHS, BATCH, SAMPLES, FEWEST = 48, 32, 400, 4


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = script_parser(__doc__, usage="%(prog)s VIDEOS [flags] [-- flags of Demo_AFEW_Attention.py]")
    parser.add_argument("videos", type=Path, metavar="VIDEOS", help="holds <Class>/<name>.mp4 (or any other video)")
    parser.add_argument("--output", type=Path, default=Path("own"), metavar="FOLDER", help="for all that is made")
    parser.add_argument(
        "--pretrained",
        type=Path,
        metavar="PATH",
        help="a run, a FAN or a backbone to start from (default: the FAN in pretrain_model, else its backbone)",
    )
    parser.add_argument(
        "--fps", type=number(0, 1000), default=10.0, metavar="N", help="look at N frames a second at most; 0: at all"
    )
    parser.add_argument(
        "--share", type=number(0, 1, above=True, below=True), default=SHARE, metavar="S", help="of the clips, held out"
    )
    parser.add_argument(
        "--person-pattern", metavar="REGEX", help="finds the person in `<Class>/<name>`; see Code.data.split"
    )
    parser.add_argument("--predict", type=count, default=12, metavar="N", help="at most N held-out videos")
    parser.add_argument("--seed", type=seed, default=0, metavar="N", help="of split and training")
    add_device(parser)
    return parser


def videos_by_name(root: Path) -> dict[str, Job]:
    """The clips in `<Class>/<name>`, by name; what cannot be trained on is refused before the long work."""
    jobs, _ = find_jobs(root)
    if root.is_file():
        raise DataError(f"{root}: is a file; name the folder that holds <Class>/<name>.mp4")
    astray = [job.path for job in jobs if job.name.count("/") != 1]
    if astray:
        raise DataError(
            f"{astray[0]}: {len(astray)} of {len(jobs)} videos are not in a class folder; put them into "
            f"{root}/<Class>/<name>.mp4"
        )
    counts: dict[str, int] = {}
    for job in jobs:
        counts[job.name.split("/")[0]] = counts.get(job.name.split("/")[0], 0) + 1
    few = [name for name, count in counts.items() if count < 2]
    if len(counts) < 2 or few:
        what = f"{', '.join(few)}: only one video" if few else f"{next(iter(counts))} is the only class"
        raise DataError(f"{root}: {what}; two classes of two videos each are the least that can be trained on")
    return {job.name: job for job in jobs}


def start_of(given: Path | None) -> tuple[Path, int, str]:
    """Which weights to start from, the attention that their head is for, and a line that says so."""
    if given is not None and str(given).lower() == "none":
        raise UsageError("--pretrained none: few clips teach no network from random weights; leave it away")
    usual = (SHIPPED_FAN, PROJECT / FERPLUS_FILE, PROJECT / SHIPPED_FILE)
    path = find_checkpoint(given) if given else next((path for path in usual if path.is_file()), usual[-1])
    if path.is_relative_to(Path.cwd()):
        path = path.relative_to(Path.cwd())
    read_checkpoint(path)
    try:
        _, info = load_fan(path)
    except CheckpointError:  # a face network that tells no expressions, say
        return path, 1, f"start: {path} (a backbone; the attention is learnt from your clips alone)"
    if not HEADS[info["at_type"]].weighs_frames:
        return path, 1, f"start: {path} (a frame classifier's backbone; the attention is learnt from your clips alone)"
    return (
        path,
        info["at_type"],
        f"start: {path} (a FAN with {HEADS[info['at_type']].title}, of {len(info['labels'])} classes)",
    )


def rows_of(path: Path, split: str) -> list[str]:
    """The clips of a split in the list that the second step wrote, and that people may have changed."""
    content, problems = parse_plain_list(str(path))
    if problems:
        raise DataError(problems, str(path))
    return [clip.name for clip, said in zip(content.clips, content.splits, strict=True) if said == split]


def finished_run(models: Path) -> Path | None:
    """The newest run with results; folders begin with date and time."""
    runs = sorted(path.parent for path in models.glob("*/best.pth") if (path.parent / "results.json").exists())
    return runs[-1] if runs else None


def half_run(models: Path) -> Path | None:
    """The newest run, if it can be gone on with."""
    runs = sorted(path.parent for path in models.glob("*/last.pth"))
    return runs[-1] if runs and not (runs[-1] / "results.json").exists() else None


def spread(names: list[str], count: int) -> list[str]:
    """At most so many clips, taken from the classes in turn."""
    classes: dict[str, list[str]] = {}
    for name in names:
        classes.setdefault(name.split("/")[0], []).append(name)
    return [name for turn in zip_longest(*classes.values()) for name in turn if name is not None][:count]


def compare(answers: Path, jobs: dict[str, Job]) -> str:
    """Which held-out videos the network named right."""
    of_path = {job.path: job.name for job in jobs.values()}
    with answers.open(encoding="utf-8", newline="") as file:
        said = [(of_path[row["input"]], row["expression"]) for row in csv.DictReader(file)]
    wrong = [f"{name} is called {answer}" for name, answer in said if name.split("/")[0] != answer]
    return "\n  ".join([f"held-out videos named right: {len(said) - len(wrong)} of {len(said)}", *wrong])


@dataclass(frozen=True)
class Recipe:
    """The steps of one call, in their order; each reads what those before it wrote.

    Attributes:
        args: the command line.
        jobs: the videos by their clips' names.
        steps: runs them.
    """

    args: argparse.Namespace
    jobs: dict[str, Job]
    steps: Steps

    @property
    def faces(self) -> Path:
        return self.args.output / "faces"

    @property
    def clips(self) -> Path:
        return self.args.output / "clips.csv"

    @property
    def fps(self) -> list[str]:
        """Faces are trained on and predicted from at the same rate."""
        return ["--fps", f"{self.args.fps:g}"] if self.args.fps else []

    def prepare(self) -> None:
        """Videos -> OUTPUT/faces/<Class>/<clip>/<frame>.jpg."""
        written = [self.faces / name for name in ("summary.json", "faces.csv")]
        before = written[0].stat().st_mtime_ns if written[0].is_file() else 0
        command = [script("Prepare_Faces.py"), str(self.args.videos), str(self.faces), *self.fps]

        def passes(status: int) -> bool:
            # 1 and a new summary: some videos show no face, the others are there.
            return status == 0 or (status == 1 and written[0].is_file() and written[0].stat().st_mtime_ns > before)

        self.steps.run(
            "faces",
            [*command, "--device", self.args.device],
            fingerprint(job.path for job in self.jobs.values()),
            there=lambda: all(path.is_file() for path in written),
            passes=passes,
        )

    def split(self) -> None:
        """Faces -> OUTPUT/clips.csv."""
        args = self.args
        command = ["-m", "Code.data.split", str(self.faces), "--output", str(self.clips), "--share", f"{args.share:g}"]
        command += ["--seed", str(args.seed)]
        command += ["--person-pattern", args.person_pattern] if args.person_pattern else []
        self.steps.run("split", command, fingerprint([self.faces / "faces.csv"]), there=self.clips.is_file)

    def train(self, start: Path, at_type: int) -> Path:
        """The clips that are not held out -> a run's folder below OUTPUT/model."""
        args, models = self.args, self.args.output / "model"
        samples = max(FEWEST, math.ceil(SAMPLES / max(1, len(rows_of(self.clips, "train")))))
        command = [script("Demo_AFEW_Attention.py"), "--dataset", "list"]
        command += ["--train-root", str(self.faces), "--train-list", str(self.clips), "--pretrained", str(start)]
        command += ["--at_type", str(at_type), "--freeze-backbone", "--epochs", str(EPOCHS), "--batch-size", str(BATCH)]
        command += ["--samples-per-clip", str(samples), "--seed", str(args.seed), "--cache", "none"]
        command += ["--output", str(models), "--device", args.device, *args.training]
        inputs, half = fingerprint([self.faces / "faces.csv", self.clips, start]), half_run(models)
        resume = None
        if half is not None and self.steps.begun("training", command, inputs):
            resume = [command[0], "--resume", str(half), "--cache", "none", "--device", args.device]
        self.steps.run("training", command, inputs, there=lambda: finished_run(models) is not None, instead=resume)
        run = finished_run(models)
        if run is None:
            raise UsageError(f"{models}: no run with results; do the flags behind -- ask for a training?")
        return run

    def predict(self, run: Path) -> None:
        """Some of the held-out videos -> OUTPUT/answers.csv and OUTPUT/pictures."""
        answers, pictures = self.args.output / "answers.csv", self.args.output / "pictures"
        names = spread([name for name in rows_of(self.clips, "val") if name in self.jobs], self.args.predict)
        if not names:
            return
        command = [script("Predict_Video.py"), *(self.jobs[name].path for name in names), "--checkpoint", str(run)]
        command += [*self.fps, "--csv", str(answers), "--output", str(pictures), "--device", self.args.device]
        self.steps.run(
            "prediction",
            command,
            fingerprint([run / "results.json", run / "best.pth"]),
            there=answers.is_file,
            passes=lambda status: status in (0, 1) and answers.is_file(),
        )
        print(compare(answers, self.jobs))


def follow(args: argparse.Namespace) -> None:
    """Checks the videos, then goes through the recipe."""
    jobs = videos_by_name(args.videos)
    start, at_type, line = start_of(args.pretrained)
    print(line, flush=True)
    try:
        args.output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"--output {args.output}: cannot be made ({error.strerror})") from error
    steps = Steps(args.output / "steps.json")
    recipe = Recipe(args, jobs, steps)
    recipe.prepare()
    recipe.split()
    run = recipe.train(start, at_type)
    recipe.predict(run)
    took = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in steps.seconds.items())
    print(f"network: {run / 'best.pth'}")
    print(f"report:  {run / 'report.html'}")
    print(f"time:    {sum(steps.seconds.values()):.1f} s ({took})")


def main() -> int:
    """Runs the recipe; returns the exit status."""
    words = sys.argv[1:]
    at = words.index("--") if "--" in words else len(words)
    args = build_parser().parse_args(words[:at])
    args.training = words[at + 1 :]
    try:
        follow(args)
    except StepError as error:
        print(error, file=sys.stderr)
        return error.status
    except OSError as error:
        raise UsageError(f"{error.filename or args.output}: cannot be written ({error.strerror})") from error
    return 0


if __name__ == "__main__":
    sys.exit(run_script(main))
