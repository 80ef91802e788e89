"""Reads a run's folder: its arguments, its log, its results, and the prediction and attention for each clip."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from Code.common.errors import ProjectError
from Code.network import attention_titles

FILES = ("args.json", "log.jsonl", "results.json", "predictions.csv", "attention.csv")
ATTENTION_COLUMNS = ("clip", "frame", "alpha", "beta", "weight")
# Titles of the heads. Score fusion, the baseline without attention, comes first, as in the paper's table.
HEADS = dict(sorted(attention_titles().items(), key=lambda head: head[0] != 2))
DATASETS = {
    "afew": "AFEW", "ckplus": "CK+", "dfew": "DFEW", "ferv39k": "FERV39k", "mafw": "MAFW", "folders": "own clips",
    "sample": "the generated sample", "composed": "composed clips",
}  # fmt: skip


class ReportError(ProjectError, ValueError):
    """A run's folder cannot be read or reported on. The message names the file and, in tables, the line or clip."""


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
        return at_type if at_type in HEADS else None

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
            return "Backbone pretrained on single faces of FER+"
        if self.at_type is None:
            return self.name
        title = HEADS[self.at_type].capitalize()
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
    results = _read_json(folder / "results.json")
    classes, clips = _read_clips(folder)
    return RunFiles(
        folder=folder,
        about=_read_json(folder / "args.json"),
        log=_read_log(folder / "log.jsonl"),
        results=results,
        labels=list(results.get("labels", classes)),
        clips=clips,
        folders={name: Path(where) for name, where in list(_read_table(folder / "clips.csv", ("clip", "folder")))[1:]},
        missing=missing,
    )


def _read_json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ReportError(f"{path}: is not JSON ({error}); repeat the evaluation to write it again") from error
    if not isinstance(content, dict):
        raise ReportError(f"{path}: holds a {type(content).__name__}, expected an object")
    return content


def _read_log(path: Path) -> list[dict[str, Any]]:
    if not path.is_file():
        return []
    lines = []
    for number, text in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            line = json.loads(text)
        except ValueError as error:
            raise ReportError(f"{path}:{number}: is not JSON ({error}); remove the line") from error
        if not isinstance(line, dict) or "epoch" not in line:
            raise ReportError(f"{path}:{number}: is not an object with an epoch; remove the line")
        lines.append(line)
    return lines


def _read_table(path: Path, header: Sequence[str]) -> Iterator[list[str]]:
    """The header of a CSV file, which must start with `header`, then its rows, which must be as wide."""
    if not path.is_file():
        return
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


def _read_clips(folder: Path) -> tuple[list[str], list[ClipRow]]:
    """Class names and clips of predictions.csv, most certain first and then by name."""
    weights = _read_weights(folder / "attention.csv")
    path = folder / "predictions.csv"
    table = _read_table(path, ("clip", "label", "prediction"))
    # By position, not by name: a class could be called "label".
    classes = next(table, [])[3:]
    clips = []
    for name, label, prediction, *values in table:
        unknown = {label, prediction} - set(classes)
        if unknown:
            raise ReportError(f"{path}: clip {name!r}: no column for class {unknown.pop()!r}")
        shares = tuple(_number(value, path, name) for value in values)
        sure, of_label = shares[classes.index(prediction)], shares[classes.index(label)]
        clips.append(ClipRow(name, label, prediction, shares, sure, of_label, weights.get(name)))
    return classes, sorted(clips, key=lambda clip: (-clip.certainty, clip.name))


def _read_weights(path: Path) -> dict[str, FrameWeights]:
    weights: dict[str, FrameWeights] = {}
    table = _read_table(path, ATTENTION_COLUMNS)
    extra = next(table, [])[len(ATTENTION_COLUMNS) :]
    for clip, frame, alpha, _, weight, *more in table:
        of_clip = weights.setdefault(clip, FrameWeights())
        of_clip.frames.append(frame)
        of_clip.alpha.append(_number(alpha, path, clip))
        of_clip.weight.append(_number(weight, path, clip))
        truth = more[extra.index("intensity")] if "intensity" in extra else ""
        if truth:
            of_clip.intensity.append(_number(truth, path, clip))
    for clip, of_clip in weights.items():
        if len(of_clip.intensity) not in (0, len(of_clip.frames)):
            raise ReportError(f"{path}: clip {clip!r}: some of its frames have an intensity and some do not")
    return weights


def _number(text: str, path: Path, clip: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise ReportError(f"{path}: clip {clip!r}: {text!r} is not a number") from None
    if value != value or abs(value) == float("inf"):
        raise ReportError(f"{path}: clip {clip!r}: {text!r} is not a finite number")
    return value
