"""Reads a run's folder: its arguments, its log, its results, and the prediction and attention for each clip.

The parts are compared: a table that results.json does not fit is an error, never a number on a page.
"""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..common.json_files import StateError
from ..common.wording import counted
from ..network import attention_titles
from ..training.records import AGAIN, ReportError, Results, as_dict, read_arguments, read_log, read_results

FILES = ("args.json", "log.jsonl", "results.json", "predictions.csv", "attention.csv")
ROUNDED = 1e-4  # of values that were written with few digits
SUMS_TO_ONE = 1e-3  # probabilities have six digits
ATTENTION_COLUMNS = ("clip", "frame", "alpha", "beta", "weight")
# Titles of the heads. Score fusion, the baseline without attention, comes first, as in the paper's table.
HEAD_TITLES = dict(sorted(attention_titles().items(), key=lambda head: head[0] != 2))
DATASETS = {
    "afew": "AFEW", "ckplus": "CK+", "dfew": "DFEW", "ferv39k": "FERV39k", "mafw": "MAFW", "folders": "own clips",
    "list": "own clips", "sample": "the generated sample", "composed": "composed clips",
}  # fmt: skip


@dataclass
class FrameWeights:
    """The attention of one clip: frame names, alpha, weight and true intensity, each [T].

    `intensity` is empty if the dataset does not know it.
    """

    frames: list[str] = field(default_factory=list)
    alpha: list[float] = field(default_factory=list)
    weight: list[float] = field(default_factory=list)
    intensity: list[float] = field(default_factory=list)

    @property
    def shares(self) -> list[float]:
        """Weights relative to the clip's highest weight."""
        highest = max(self.weight)
        return [value / highest if highest > 0 else 0.0 for value in self.weight]

    @property
    def peak(self) -> str:
        """The name of the frame with the highest weight."""
        return self.frames[max(range(len(self.frames)), key=self.weight.__getitem__)]


@dataclass
class ClipRow:
    """One line of predictions.csv, with the clip's attention.

    Attributes:
        probabilities: [C], in [0, 1].
        certainty: probability of the predicted class.
        of_label: probability of the true class.
        weights: None if attention.csv does not have the clip.
    """

    name: str
    label: str
    prediction: str
    probabilities: tuple[float, ...]
    certainty: float
    of_label: float
    weights: FrameWeights | None

    @property
    def right(self) -> bool:
        """Whether the prediction is the true class."""
        return self.label == self.prediction


@dataclass
class RunFiles:
    """The contents of a run's folder. The content of a missing file is empty.

    Attributes:
        about: args.json.
        log: the lines of log.jsonl.
        results: results.json, with metrics under "last" and "best".
        labels: the class names.
        clips: the lines of predictions.csv, most certain first.
        folders: for each clip the folder that had its frames when it was evaluated.
        missing: names of the files that are missing.
    """

    folder: Path
    about: dict[str, Any]
    log: list[dict[str, Any]]
    results: dict[str, Any]
    labels: list[str]
    clips: list[ClipRow]
    folders: dict[str, Path]
    missing: list[str]

    @property
    def name(self) -> str:
        """The name of the folder."""
        return self.folder.resolve().name

    @property
    def args(self) -> dict[str, Any]:
        """The arguments as they were resolved; empty without args.json."""
        args = self.about.get("args", {})
        return args if isinstance(args, dict) else {}

    @property
    def at_type(self) -> int | None:
        """The head: 0, 1, 2, or None if args.json does not say."""
        at_type = self.args.get("at_type")
        return at_type if at_type in HEAD_TITLES else None

    @property
    def is_pretraining(self) -> bool:
        """Whether Pretrain_FERPlus.py wrote it: a backbone trained on single faces, without a head."""
        return "label_mode" in self.args

    @property
    def chosen_here(self) -> bool:
        """Whether the best epoch was chosen by its accuracy on the clips that it is reported on."""
        # Runs of earlier versions do not say; they always did.
        return {"best", "last"} <= self.results.keys() and "evaluated" in self.results.get("selected_on", "evaluated")

    @property
    def shown_results(self) -> list[tuple[str, dict[str, Any]]]:
        """A name and the metrics for each different epoch of results.json: best and last, one, or a checkpoint."""
        found = [(which, self.results[which]) for which in ("best", "last") if which in self.results]
        if len(found) == 2 and found[0][1].get("epoch") == found[1][1].get("epoch"):
            chosen = not str(self.results.get("selected_on", "")).startswith("last")
            return [("best and last epoch" if chosen else "last epoch", found[1][1])]
        if self.args.get("evaluate"):
            return [("checkpoint", metrics) for _, metrics in found]
        return [(f"{which} epoch", metrics) for which, metrics in found]

    @property
    def title(self) -> str:
        """What was done, for a heading: `Relation-attention on CK+, fold 3 of 10`. Without args.json, the name."""
        if self.is_pretraining:
            what = "labeled pictures" if self.args.get("dataset") == "folders" else "single faces of FER+"
            return f"Backbone pretrained on {what}"
        if self.at_type is None:
            return self.name
        title = HEAD_TITLES[self.at_type].capitalize()
        if self.args.get("dataset"):
            title += f" on {DATASETS.get(self.args['dataset'], self.args['dataset'])}"
        if self.results.get("fold"):
            title += f", fold {self.results['fold']} of {self.results.get('num_folds', '?')}"
        return title + (", evaluation" if self.args.get("evaluate") else "")


def read_run(folder: Path) -> RunFiles:
    """Reads a run's folder.

    Args:
        folder: has at least one of `FILES`.

    Raises:
        ReportError: the folder does not exist, has none of these files, or one of them cannot be read.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ReportError(f"{folder}: no such folder; name a run's folder, for example model/<date-time>_...")
    missing = [name for name in FILES if not (folder / name).is_file()]
    if len(missing) == len(FILES):
        raise ReportError(f"{folder}: is not a run's folder; it has none of {', '.join(FILES)}")
    try:
        return _read(folder, missing)
    except StateError as error:
        raise ReportError(str(error)) from None


def _read(folder: Path, missing: list[str]) -> RunFiles:
    has_results = (folder / "results.json").is_file()
    results = read_results(folder / "results.json") if has_results else Results([])
    as_is = as_dict(results) if has_results else {}
    classes, clips = _read_clips(folder, results)
    places = list(read_table(folder / "clips.csv", ("clip", "folder")))[1:]
    return RunFiles(
        folder=folder,
        about=as_dict(read_arguments(folder)) if (folder / "args.json").is_file() else {},
        log=as_dict(read_log(folder / "log.jsonl")),
        results=as_is,
        labels=list(as_is.get("labels", classes)),
        clips=clips,
        folders={name: Path(where) for name, where, *_ in places},
        missing=missing,
    )


def read_table(path: Path, header: Sequence[str]) -> Iterator[list[str]]:
    """The header of a CSV file, which must start with `header`, then its rows, which must be as wide.

    Raises:
        ReportError: naming the line.
    """
    if not path.is_file():
        return
    try:
        with path.open(newline="", encoding="utf-8", errors="surrogateescape") as file:
            rows = csv.reader(file)
            columns = next(rows, [])
            if columns[: len(header)] != list(header):
                raise ReportError(f"{path}:1: the columns are {','.join(columns)!r}, expected {','.join(header)!r}")
            yield columns
            for row in rows:
                if len(row) != len(columns):
                    raise ReportError(f"{path}:{rows.line_num}: {len(row)} values, expected {len(columns)}")
                yield row
    except csv.Error as error:
        raise ReportError(f"{path}:{rows.line_num}: is not CSV ({error}); {AGAIN}") from None


def _read_clips(folder: Path, results: Results) -> tuple[list[str], list[ClipRow]]:
    """Class names and clips of predictions.csv, most certain first and then by name."""
    weights = _read_weights(folder / "attention.csv")
    path = folder / "predictions.csv"
    table = read_table(path, ("clip", "label", "prediction"))
    # By position, not by name: a class could be called "label".
    classes = next(table, [])[3:]
    clips = []
    for name, label, prediction, *values in table:
        unknown = {label, prediction} - set(classes)
        if unknown:
            raise ReportError(f"{path}: clip {name!r}: no column for class {unknown.pop()!r}")
        shares = tuple(_share(value, path, name) for value in values)
        if abs(sum(shares) - 1) > SUMS_TO_ONE:
            raise ReportError(f"{path}: clip {name!r}: its probabilities sum to {sum(shares):.4f}, not to 1; {AGAIN}")
        sure, of_label = shares[classes.index(prediction)], shares[classes.index(label)]
        clips.append(ClipRow(name, label, prediction, shares, sure, of_label, weights.get(name)))
    if path.is_file():
        _compare(path, clips, results)
    return classes, sorted(clips, key=lambda clip: (-clip.certainty, clip.name))


def _compare(path: Path, clips: Sequence[ClipRow], results: Results) -> None:
    """Compares predictions.csv with results.json, which counts the same clips."""
    shown = results.shown
    if shown is None:
        return
    if len(clips) != shown.num_clips:
        raise ReportError(
            f"{path}: has {counted(len(clips), 'row')}, but results.json counts {counted(shown.num_clips, 'clip')}; "
            f"{AGAIN}"
        )
    counts = Counter((clip.label, clip.prediction) for clip in clips)
    if shown.confusion and counts != Counter(
        {
            (true, said): count
            for true, row in zip(results.labels, shown.confusion, strict=True)
            for said, count in zip(results.labels, row, strict=True)
            if count
        }
    ):
        raise ReportError(f"{path}: does not have the predictions that results.json counts; {AGAIN}")


def _read_weights(path: Path) -> dict[str, FrameWeights]:
    weights: dict[str, FrameWeights] = {}
    table = read_table(path, ATTENTION_COLUMNS)
    extra = next(table, [])[len(ATTENTION_COLUMNS) :]
    for clip, frame, alpha, _, weight, *more in table:
        of_clip = weights.setdefault(clip, FrameWeights())
        of_clip.frames.append(frame)
        of_clip.alpha.append(_share(alpha, path, clip))
        of_clip.weight.append(_share(weight, path, clip))
        truth = more[extra.index("intensity")] if "intensity" in extra else ""
        if truth:
            of_clip.intensity.append(_share(truth, path, clip))
    for clip, of_clip in weights.items():
        if len(set(of_clip.frames)) != len(of_clip.frames):
            raise ReportError(f"{path}: clip {clip!r}: has a frame twice; {AGAIN}")
        if len(of_clip.intensity) not in (0, len(of_clip.frames)):
            raise ReportError(f"{path}: clip {clip!r}: some of its frames have an intensity and some do not")
    return weights


def _share(text: str, path: Path, clip: str) -> float:
    """A number from 0 to 1, but for rounding."""
    try:
        value = float(text)
    except ValueError:
        raise ReportError(f"{path}: clip {clip!r}: {text!r} is not a number") from None
    if not -ROUNDED <= value <= 1 + ROUNDED:  # NaN neither
        raise ReportError(f"{path}: clip {clip!r}: {text!r} is not a number from 0 to 1; {AGAIN}")
    return value
