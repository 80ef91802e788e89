"""Trains a network on your own videos, in one command: faces, split, training, report and answers.

examples:
  videos in <Class>/<name>.mp4           python Train_Own_Clips.py videos --output own
  no person in training and validation   python Train_Own_Clips.py videos --person-pattern '/([^_]+)_'
  every frame, more epochs               python Train_Own_Clips.py videos --fps 0 -- --epochs 96
  the whole network, for many clips      python Train_Own_Clips.py videos -- --no-freeze-backbone --epochs 15

Steps: faces (Prepare_Faces.py), split, training on the clips that are not held out (Demo_AFEW_Attention.py, which
writes report.html), answers for the held-out clips before and after the training (Predict_Video.py). Each step prints
its command, which also works alone. Nothing is chosen on the held-out clips: the last epoch counts. Started again, the
command skips what is done. Flags after `--` go to the training.
Needs `pip install -r requirements-faces.txt`.
exit status: that of the step that failed; 0 done, 2 an input, a flag or an installation is wrong
"""

from __future__ import annotations

import argparse
import csv
import math
import sys
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

from Code.common.commandline import add_device, count, number, run_script, script_parser, seed
from Code.common.errors import UsageError
from Code.common.files import PROJECT, inside, regular, writing
from Code.common.lock import one_writer
from Code.common.names import DEFAULT_AT_TYPE, FAN_FILE, FERPLUS_FILE, SHIPPED_FILE, expression
from Code.common.steps import Steps, fingerprint, script
from Code.common.wording import counted
from Code.data.clips import DataError
from Code.faces.inputs import Job, find_jobs
from Code.readers.heldout import SHARE, Split

DEMO = "Demo_AFEW_Attention.py"
CLIPS, BEFORE, AFTER = "clips.csv", "before.csv", "answers.csv"  # tables in the output
SHIPPED_FAN = PROJECT / FAN_FILE
# The head of a frozen backbone. With more epochs or a higher rate it overfits few clips: trained on 13 clips of two
# people and evaluated on a third one (24 clips, 8 classes, 4 draws), 48 epochs at 0.01 are right as often (14.8 of 24
# clips) as 12 epochs at 0.001 (15.2), but with a loss of 1.55 instead of 1.04. New classes need more steps.
EPOCHS, RATE = 12, 0.001
EPOCHS_OF_NEW, RATE_OF_NEW = 24, 0.003
BATCH, SAMPLES, FEWEST = 32, 400, 4
PRECISION = "fp32"  # of the training and of the answers, so that figures, tables and report agree exactly


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = script_parser(__doc__, usage="%(prog)s VIDEOS [flags] [-- flags of Demo_AFEW_Attention.py]")
    parser.add_argument("videos", type=Path, metavar="VIDEOS", help="holds <Class>/<name>.mp4 (or any other video)")
    parser.add_argument("--output", type=Path, default=Path("own"), metavar="FOLDER", help="for everything it writes")
    parser.add_argument(
        "--pretrained",
        type=Path,
        metavar="PATH",
        help="a run, a FAN or a backbone to start from (default: the FAN in pretrain_model/, else its backbone)",
    )
    parser.add_argument(
        "--fps", type=number(0, 1000), default=10.0, metavar="N", help="read at most N frames a second; 0: all"
    )
    parser.add_argument(
        "--share", type=number(0, 1, above=True, below=True), default=SHARE, metavar="S", help="of the clips, held out"
    )
    parser.add_argument(
        "--person-pattern", metavar="REGEX", help="finds the person in `<Class>/<name>`; see Code.readers.heldout"
    )
    parser.add_argument("--predict", type=count, default=12, metavar="N", help="draw at most N held-out clips")
    parser.add_argument("--seed", type=seed, default=0, metavar="N", help="of split and training")
    add_device(parser)
    return parser


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


def check_start(given: Path | None) -> None:
    """Refuses a start that cannot be one, before torch is imported."""
    if given is not None and str(given).lower() == "none":
        raise UsageError("--pretrained none: few clips cannot train a network from random weights; omit the flag")
    if given is not None and not given.exists():
        raise UsageError(f"--pretrained {given}: no such file or folder")


@dataclass(frozen=True)
class Start:
    """The weights that the training starts from.

    Attributes:
        path: the file.
        at_type: the attention that their head has, else the default.
        labels: what they answer with; empty for a backbone.
        line: says all this.
        is_fan: whether they have an attention head, whose classes keep their weights.
    """

    path: Path
    at_type: int
    labels: tuple[str, ...]
    line: str
    is_fan: bool = False

    def kept(self, classes: Iterable[str]) -> dict[str, str]:
        """Your class -> the FAN's class that gives it its weights: of the same name, or of the same expression."""
        if not self.is_fan:
            return {}
        meant = {expression(label): label for label in self.labels}
        pairs = {name: name if name in self.labels else meant.get(expression(name)) for name in classes}
        return {name: label for name, label in pairs.items() if label is not None}


def start_of(given: Path | None) -> Start:
    """Finds the weights to start from."""
    from Code.network.checkpoints import CheckpointError, read_checkpoint
    from Code.network.pretrained import find_checkpoint, load_fan

    usual = (SHIPPED_FAN, PROJECT / FERPLUS_FILE, PROJECT / SHIPPED_FILE)
    path = find_checkpoint(given) if given else next((path for path in usual if path.is_file()), usual[-1])
    if path.is_relative_to(Path.cwd()):
        path = path.relative_to(Path.cwd())
    read_checkpoint(path)
    try:
        fan, info = load_fan(path)
    except CheckpointError:  # a face network without expressions, for example
        return Start(path, DEFAULT_AT_TYPE, (), f"start: {path} (a backbone; your clips alone train the attention)")
    labels = info["labels"]
    if not fan.head.weighs_frames:
        line = f"start: {path} (a frame classifier; your clips alone train the attention)"
        return Start(path, DEFAULT_AT_TYPE, labels, line)
    line = f"start: {path} (a FAN with {fan.head.title} and {counted(len(labels), 'class', 'classes')})"
    return Start(path, fan.at_type, labels, line, is_fan=True)


def spread(names: Iterable[str], most: int) -> list[str]:
    """At most `most` clips, taken from the classes in turn."""
    classes: dict[str, list[str]] = {}
    for name in names:
        classes.setdefault(name.split("/")[0], []).append(name)
    return [name for turn in zip_longest(*classes.values()) for name in turn if name is not None][:most]


def answers_of_run(run: Path, held_out: Iterable[str]) -> tuple[dict[str, str], str]:
    """What the trained network says about each held-out clip, as the report has it, and the accuracy's interval.

    Raises:
        ReportError: the files of the run are damaged.
        DataError: they are about other clips.
    """
    from Code.results.runs import read_run
    from Code.training.intervals import interval_text
    from Code.training.records import read_results

    said = {clip.name: clip.prediction for clip in read_run(run).clips}
    strange = sorted(said.keys() - set(held_out))
    if strange:
        raise DataError(f"{run / 'predictions.csv'}: has {strange[0]}, which is not held out now; move the run away")
    best = read_results(run / "results.json").best
    interval = interval_text(best.accuracy_interval, best.num_clips) if best else "no interval"
    return {name: said[name] for name in held_out if name in said}, interval


def knows_prepared_crops(network: Path) -> bool:
    """Whether a network was trained on the crop of Prepare_Faces.py. Those of FER+ were not, and answer worse on it."""
    from Code.network.pretrained import knows_fer2013, load_fan

    return not knows_fer2013(load_fan(network)[1])


def answers_of_table(table: Path, inputs: Mapping[str, str]) -> dict[str, str]:
    """What a network says about some clips, from the table of Predict_Video.py.

    Args:
        inputs: name of a clip -> the input that it was answered from.

    Raises:
        DataError: the table is missing or damaged, or lacks a clip.
    """
    try:
        with open(table, encoding="utf-8", errors="surrogateescape", newline="", opener=regular) as file:
            said = {row["input"]: row["expression"] for row in csv.DictReader(file) if row["expression"]}
        return {name: said[place] for name, place in inputs.items()}
    except (OSError, csv.Error) as error:
        raise DataError(f"{table}: cannot be read ({getattr(error, 'strerror', None) or error})") from None
    except KeyError as error:
        raise DataError(f"{table}: has no {error}; delete it, and start the same command again") from None


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
    wrong = [f"{clip}: predicted {said}" for clip, said in after.items() if truth[clip] != said]
    lines = [f"held-out clips right: {len(after) - len(wrong)} of {len(after)} ({interval})"]
    if before:
        right = sum(expression(said) == expression(truth[clip]) for clip, said in before.items())
        lines.append(f"without training ({name}): {right} of {len(before)}")
    return "\n  ".join([*lines, *wrong])


@dataclass(frozen=True)
class Recipe:
    """The steps of one call, in order; each reads what those before it wrote.

    Attributes:
        args: the command line.
        jobs: the videos by the names of their clips.
        steps: runs them.
    """

    args: argparse.Namespace
    jobs: dict[str, Job]
    steps: Steps

    @property
    def faces(self) -> Path:
        """The face crops, `<Class>/<clip>/<frame>.jpg`."""
        return self.args.output / "faces"

    @property
    def clips(self) -> Path:
        """The list of the split."""
        return self.args.output / CLIPS

    def prepare(self) -> None:
        """Videos -> OUTPUT/faces/<Class>/<clip>/<frame>.jpg."""
        from Code.faces.summary import is_whole

        command = [script("Prepare_Faces.py"), str(self.args.videos), str(self.faces), *self.fps_flag()]

        def passes(status: int) -> bool:
            # 1 and a summary: some videos show no face, the others are there.
            return status == 0 or (status == 1 and is_whole(self.faces))

        self.steps.run(
            "faces",
            [*command, "--device", self.args.device],
            fingerprint(job.path for job in self.jobs.values()),
            there=lambda: is_whole(self.faces),
            passes=passes,
        )

    def split(self) -> Split:
        """Faces -> OUTPUT/clips.csv."""
        args = self.args
        command = [
            "-m",
            "Code.readers.heldout",
            str(self.faces),
            "--output",
            str(self.clips),
            "--share",
            f"{args.share:g}",
        ]
        command += ["--seed", str(args.seed)]
        command += ["--person-pattern", args.person_pattern] if args.person_pattern else []
        self.steps.run("split", command, fingerprint([self.faces / "faces.csv"]), there=self.clips.is_file)
        split = Split.read(self.clips)
        for warning in split.warnings({name: job.path for name, job in self.jobs.items()}):
            print(f"warning: {warning}", file=sys.stderr, flush=True)
        return split

    def train(self, start: Start, split: Split) -> Path:
        """The clips that are not held out -> a run's folder below OUTPUT/model."""
        args, models = self.args, self.args.output / "model"
        samples = max(FEWEST, math.ceil(SAMPLES / max(1, len(split.train))))
        command = [script(DEMO), "--dataset", "list"]
        command += ["--train-root", str(self.faces), "--train-list", str(self.clips), "--pretrained", str(start.path)]
        classes = sorted({split.classes[name] for name in split.train})
        kept = start.kept(classes)
        renamed = [f"{name}={label}" for name, label in kept.items() if name != label]
        command += ["--map-labels", *renamed] if renamed else []
        epochs, rate = (EPOCHS, RATE) if len(kept) == len(classes) else (EPOCHS_OF_NEW, RATE_OF_NEW)
        command += ["--at_type", str(start.at_type), "--freeze-backbone", "--epochs", str(epochs), "--lr", f"{rate:g}"]
        command += ["--batch-size", str(BATCH), "--samples-per-clip", str(samples), "--select-on", "last"]
        command += ["--seed", str(args.seed), "--cache", "none", "--output", str(models), "--device", args.device]
        command += ["--precision", PRECISION]
        command += args.training
        inputs = fingerprint([self.faces / "faces.csv", self.clips, start.path])
        earlier = self.run_folder()
        resume = None
        saved = earlier and any((earlier / name).is_file() for name in ("last.pth", "previous.pth"))
        if saved and self.steps.begun("training", command, inputs):
            resume = [command[0], "--resume", str(earlier), "--cache", "none", "--device", args.device]
        self.steps.run("training", command, inputs, there=lambda: is_finished(earlier), instead=resume)
        run = self.run_folder()
        if run is None or not is_finished(run):
            raise UsageError(f"{models}: no run with results; do the flags after -- ask for a training?")
        return run

    def run_folder(self) -> Path | None:
        """The run that the training step made, in this call or before; None if it has made none."""
        name = self.steps.made("training")
        return inside(self.args.output / "model", name, self.steps.file) if name else None

    def predict(self, step: str, names: Sequence[str], checkpoint: Path, table: Path, *flags: str) -> dict[str, str]:
        """Answers some held-out clips: writes a table and, without `--no-figure`, OUTPUT/pictures.

        The trained network gets the crops of the first step, and its answers are those of the report. A network that
        knows another crop gets the videos, from which Predict_Video.py cuts the crop that it was trained on.

        Returns:
            Name of a clip -> expression.
        """
        if knows_prepared_crops(checkpoint):
            how, inputs = ["--aligned"], {name: str(self.faces / name) for name in names}
        else:
            how, inputs = self.fps_flag(), {name: str(Path(self.jobs[name].path)) for name in names}
        command = [script("Predict_Video.py"), *how, *inputs.values(), "--checkpoint", str(checkpoint)]
        command += ["--csv", str(table), "--precision", PRECISION, "--device", self.args.device, *flags]

        def there() -> bool:
            try:
                return bool(answers_of_table(table, inputs))
            except DataError:
                return False

        read = fingerprint([self.faces / "faces.csv", self.clips, checkpoint, *inputs.values()])
        self.steps.run(step, command, read, there=there, results=[table])
        return answers_of_table(table, inputs)

    def fps_flag(self) -> list[str]:
        """How many frames of a second are read, before and after the training alike."""
        return ["--fps", f"{self.args.fps:g}"] if self.args.fps else []


def is_finished(run: Path | None) -> bool:
    """Whether a run has its network, and results that are complete."""
    return run is not None and (run / "best.pth").is_file() and (run / "results.json").is_file()


def follow(args: argparse.Namespace) -> None:
    """Checks the videos, then goes through the recipe."""
    jobs = videos_by_name(args.videos)
    check_start(args.pretrained)
    start = start_of(args.pretrained)
    print(start.line, flush=True)
    try:
        args.output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"--output {args.output}: cannot be made ({error.strerror})") from error
    with one_writer(args.output):
        follow_steps(Recipe(args, jobs, Steps(args.output / "steps.json", (CLIPS, BEFORE, AFTER))), start)


def follow_steps(recipe: Recipe, start: Start) -> None:
    """Goes through the steps, and says what they came to."""
    args, steps = recipe.args, recipe.steps
    recipe.prepare()
    split = recipe.split()
    run = recipe.train(start, split)

    held_out = list(split.val)
    unadapted = start.path if start.labels else SHIPPED_FAN
    before: dict[str, str] = {}
    if held_out and unadapted.is_file():
        table = args.output / BEFORE
        before = recipe.predict("answers without training", held_out, unadapted, table, "--no-figure")
    drawn = spread(held_out, args.predict)
    if drawn:
        pictures = str(args.output / "pictures")
        recipe.predict("answers", drawn, run / "best.pth", args.output / AFTER, "--output", pictures)
    after, interval = answers_of_run(run, held_out)
    print(compare(after, before, split.classes, interval, unadapted.name))
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
    with writing(args.output):
        follow(args)
    return 0


if __name__ == "__main__":
    sys.exit(run_script(main))
