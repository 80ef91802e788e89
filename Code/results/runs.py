"""Reads a run's folder: its arguments, its log, its results, and the prediction and the attention of each clip."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ..common.names import ATTENTION_TITLES
from ..readers import title_of
from ..training.records import AGAIN, Arguments, Metrics, ReportError, Results, read_arguments, read_log, read_results

FILES = ("args.json", "log.jsonl", "results.json", "predictions.csv", "attention.csv")
ATTENTION_COLUMNS = ("clip", "frame", "alpha", "beta", "weight")
# Titles of the heads. Score fusion, the baseline without attention, comes first, as in the paper's table.
HEAD_TITLES = dict(sorted(ATTENTION_TITLES.items(), key=lambda head: head[0] != 2))

MACHINE = ("started", "git_commit", "device", "precision", "threads", "processes")


@dataclass
class FrameWeights:
    """The attention of one clip: frame names, alpha, weight and true intensity, each [T].

    `intensity` is empty if the dataset does not know it.
    """

    frames: list[str] = field(default_factory=list)
    alpha: list[float] = field(default_factory=list)
    weight: list[float] = field(default_factory=list)
    intensity: list[float] = field(default_factory=list)


@dataclass
class ClipRow:
    """One line of predictions.csv, with the clip's attention.

    Attributes:
        probabilities: of each class, in [0, 1].
        weights: None if attention.csv does not have the clip.
    """

    name: str
    label: str
    prediction: str
    probabilities: dict[str, float]
    weights: FrameWeights | None

    @property
    def right(self) -> bool:
        """Whether the prediction is the true class."""
        return self.label == self.prediction

    @property
    def certainty(self) -> float:
        """The probability of the predicted class."""
        return self.probabilities[self.prediction]


@dataclass
class RunFiles:
    """The contents of a run's folder. The content of a missing file is empty, or None.

    Attributes:
        arguments: args.json.
        log: the lines of log.jsonl, as dictionaries.
        labels: the class names.
        clips: the lines of predictions.csv, most certain first.
        folders: for each clip the folder that had its frames when it was evaluated.
        missing: names of the files that are missing.
    """

    folder: Path
    arguments: Arguments | None
    log: list[dict[str, Any]]
    results: Results | None
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
        return self.arguments.args if self.arguments else {}

    @property
    def is_pretraining(self) -> bool:
        """Whether Pretrain_FERPlus.py wrote it: a backbone trained on single faces, without a head."""
        return "votes" in self.args  # a flag of its own

    @property
    def chosen_here(self) -> bool:
        """Whether the best epoch was chosen by its accuracy on the clips that it is reported on."""
        both = self.metrics("last") is not None and self.metrics("best") is not None
        return both and "evaluated" in (getattr(self.results, "selected_on", None) or "evaluated")

    def metrics(self, which: str) -> Metrics | None:
        """Those of the "last" or the "best" epoch in results.json."""
        return getattr(self.results, which, None)

    @property
    def epochs(self) -> list[tuple[str, Metrics]]:
        """A title and the metrics for each different epoch of results.json: best and last, one, or a checkpoint."""
        best, last = self.metrics("best"), self.metrics("last")
        if best is not None and last is not None and best.epoch == last.epoch:
            chosen = not (getattr(self.results, "selected_on", None) or "").startswith("last")
            return [("best and last epoch" if chosen else "last epoch", last)]
        titles = ("checkpoint", "checkpoint") if self.args.get("evaluate") else ("best epoch", "last epoch")
        return [(title, of) for title, of in zip(titles, (best, last), strict=True) if of is not None]

    @property
    def title(self) -> str:
        """What was done, for a heading: `Relation-attention on CK+, fold 3 of 10`. Without args.json, the name."""
        if self.is_pretraining:
            what = "labeled pictures" if self.args.get("dataset") == "folders" else "single faces of FER+"
            return f"Backbone pretrained on {what}"
        if not head_of(self.args):
            return self.name
        title = method_of(self.args)
        if self.results is not None and self.results.fold:
            title += f", fold {self.results.fold} of {self.results.num_folds or '?'}"
        return title + (", evaluation" if self.args.get("evaluate") else "")


def read_run(folder: Path) -> RunFiles:
    """Reads a run's folder.

    Args:
        folder: has at least one of `FILES`.

    Raises:
        ReportError: the folder does not exist, has none of these files, or a table has another shape.
        StateError: a JSON file cannot be read, or has another shape.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ReportError(f"{folder}: no such folder; name a run's folder, for example model/<date-time>_...")
    missing = [name for name in FILES if not (folder / name).is_file()]
    if len(missing) == len(FILES):
        raise ReportError(f"{folder}: is not a run's folder; it has none of {', '.join(FILES)}")
    results = None if "results.json" in missing else read_results(folder / "results.json")
    labels, clips = _read_clips(folder)
    if clips and results is not None and labels != results.labels:
        raise ReportError(f"{folder / 'predictions.csv'}: has other classes than results.json; {AGAIN}")
    return RunFiles(
        folder=folder,
        arguments=None if "args.json" in missing else read_arguments(folder),
        log=[asdict(line) for line in read_log(folder / "log.jsonl")],
        results=results,
        labels=labels if results is None else results.labels,
        clips=clips,
        folders={name: Path(path) for name, path, *_ in [*_read_table(folder / "clips.csv", ("clip", "folder"))][1:]},
        missing=missing,
    )


def _read_table(path: Path, header: Sequence[str]) -> Iterator[list[str]]:
    """The header of a CSV file, which must start with `header`, then its rows; nothing without the file.

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


def _read_clips(folder: Path) -> tuple[list[str], list[ClipRow]]:
    """Class names and clips of predictions.csv, most certain first and then by name."""
    path, weights = folder / "predictions.csv", _read_weights(folder / "attention.csv")
    table = _read_table(path, ("clip", "label", "prediction"))
    classes = next(table, [])[3:]
    clips = []
    for name, label, prediction, *values in table:  # by position: a class could be called "label"
        unknown = {label, prediction} - set(classes)
        if unknown:
            raise ReportError(f"{path}: clip {name!r}: no column for class {unknown.pop()!r}")
        probabilities = zip(classes, (_number(value, path, name) for value in values), strict=True)
        clips.append(ClipRow(name, label, prediction, dict(probabilities), weights.get(name)))
    return classes, sorted(clips, key=lambda clip: (-clip.certainty, clip.name))


def _read_weights(path: Path) -> dict[str, FrameWeights]:
    weights: dict[str, FrameWeights] = {}
    table = _read_table(path, ATTENTION_COLUMNS)
    next(table, [])
    for clip, frame, alpha, _, weight, *intensity in table:
        of_clip = weights.setdefault(clip, FrameWeights())
        of_clip.frames.append(frame)
        of_clip.alpha.append(_number(alpha, path, clip))
        of_clip.weight.append(_number(weight, path, clip))
        of_clip.intensity += [_number(value, path, clip) for value in intensity]
    return weights


def _number(text: str, path: Path, clip: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ReportError(f"{path}: clip {clip!r}: {text!r} is not a number") from None


def head_of(args: dict[str, Any]) -> str:
    """The title of the head that arguments name; "" if they name none."""
    at_type = args.get("at_type")
    return HEAD_TITLES.get(at_type, "") if isinstance(at_type, int) else ""


def method_of(args: dict[str, Any]) -> str:
    """`Relation-attention on CK+`"""
    title, dataset = (head_of(args) or "runs").capitalize(), args.get("dataset")
    return f"{title} on {title_of(str(dataset))}" if dataset else title


def describe_setting(key: str, value: Any) -> str:
    """An argument's value as people write it; "" if it has none."""
    if value is None or value == [] or value == {}:
        return ""
    if key == "pretrained" and value == "none":
        return "random weights"
    if key == "at_type" and head_of({key: value}):
        return f"{value} ({head_of({key: value})})"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(describe_setting("", entry) for entry in value)
    if isinstance(value, dict):
        return ", ".join(f"{name} {describe_setting('', entry)}" for name, entry in value.items())
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def shown_settings(arguments: Arguments | None) -> dict[str, Any]:
    """What a page says about args.json: the command, (name, value) of its arguments, and of versions and machine."""
    if arguments is None:
        return {}
    args = [(key, describe_setting(key, value)) for key, value in sorted(arguments.args.items())]
    machine = {name.replace("_", " "): getattr(arguments, name) for name in MACHINE}
    machine |= dict(sorted(arguments.versions.items(), key=lambda item: item[0].lower()))
    return {
        "command": arguments.command,
        "args": [(key, text) for key, text in args if text],
        "unset": [key for key, text in args if not text],
        "environment": [(key, describe_setting("", value)) for key, value in machine.items() if value is not None],
    }
