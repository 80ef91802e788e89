"""Reads a run's folder: its arguments, its log, its results, and the prediction and the attention of each clip."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ..network import attention_titles
from ..readers import title_of
from ..training.records import (
    AGAIN,
    Arguments,
    Metrics,
    ReportError,
    Results,
    read_arguments,
    read_log,
    read_results,
)

FILES = ("args.json", "log.jsonl", "results.json", "predictions.csv", "attention.csv")
ATTENTION_COLUMNS = ("clip", "frame", "alpha", "beta", "weight")
# Titles of the heads. Score fusion, the baseline without attention, comes first, as in the paper's table.
HEAD_TITLES = dict(sorted(attention_titles().items(), key=lambda head: head[0] != 2))


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
        probabilities: [C], in [0, 1].
        certainty: probability of the predicted class.
        weights: None if attention.csv does not have the clip.
    """

    name: str
    label: str
    prediction: str
    probabilities: tuple[float, ...]
    certainty: float
    weights: FrameWeights | None

    @property
    def right(self) -> bool:
        """Whether the prediction is the true class."""
        return self.label == self.prediction


@dataclass
class ShownArguments:
    """What a page says about args.json: the command, then names and values as people write them.

    Attributes:
        unset: names of arguments without a value.
        environment: versions and machine.
    """

    command: str
    args: list[tuple[str, str]]
    unset: list[str]
    environment: list[tuple[str, str]]


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
    def head(self) -> str:
        """The title of the head; "" if args.json does not say."""
        return head_title(self.args)

    @property
    def is_pretraining(self) -> bool:
        """Whether Pretrain_FERPlus.py wrote it: a backbone trained on single faces, without a head."""
        return "votes" in self.args

    @property
    def chosen_here(self) -> bool:
        """Whether the best epoch was chosen by its accuracy on the clips that it is reported on."""
        results = self.results
        if results is None or results.last is None or results.best is None:
            return False
        return "evaluated" in (results.selected_on or "evaluated")

    def metrics(self, which: str) -> Metrics | None:
        """Those of the "last" or the "best" epoch in results.json."""
        return getattr(self.results, which, None)

    @property
    def shown_results(self) -> list[tuple[str, Metrics]]:
        """A name and the metrics for each different epoch of results.json: best and last, one, or a checkpoint."""
        found = [(which, of) for which in ("best", "last") if (of := self.metrics(which)) is not None]
        if len(found) == 2 and found[0][1].epoch == found[1][1].epoch:
            assert self.results is not None
            chosen = not (self.results.selected_on or "").startswith("last")
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
        if not self.head:
            return self.name
        title = method_title(self.args)
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
    classes, clips = _read_clips(folder)
    if clips and results is not None and classes != results.labels:
        raise ReportError(f"{folder / 'predictions.csv'}: has other classes than results.json; {AGAIN}")
    return RunFiles(
        folder=folder,
        arguments=None if "args.json" in missing else read_arguments(folder),
        log=[asdict(line) for line in read_log(folder / "log.jsonl")],
        results=results,
        labels=classes if results is None else results.labels,
        clips=clips,
        folders={name: Path(path) for name, path, *_ in [*read_table(folder / "clips.csv", ("clip", "folder"))][1:]},
        missing=missing,
    )


def read_table(path: Path, header: Sequence[str]) -> Iterator[list[str]]:
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
    weights = _read_weights(folder / "attention.csv")
    path = folder / "predictions.csv"
    table = read_table(path, ("clip", "label", "prediction"))
    classes = next(table, [])[3:]
    clips = []
    # By position, not by name: a class could be called "label".
    for name, label, prediction, *values in table:
        unknown = {label, prediction} - set(classes)
        if unknown:
            raise ReportError(f"{path}: clip {name!r}: no column for class {unknown.pop()!r}")
        shares = tuple(_number(value, path, name) for value in values)
        certainty = shares[classes.index(prediction)]
        clips.append(ClipRow(name, label, prediction, shares, certainty, weights.get(name)))
    return classes, sorted(clips, key=lambda clip: (-clip.certainty, clip.name))


def _read_weights(path: Path) -> dict[str, FrameWeights]:
    weights: dict[str, FrameWeights] = {}
    table = read_table(path, ATTENTION_COLUMNS)
    known = next(table, [])[len(ATTENTION_COLUMNS) :] == ["intensity"]
    for clip, frame, alpha, _, weight, *more in table:
        of_clip = weights.setdefault(clip, FrameWeights())
        of_clip.frames.append(frame)
        of_clip.alpha.append(_number(alpha, path, clip))
        of_clip.weight.append(_number(weight, path, clip))
        if known:
            of_clip.intensity.append(_number(more[0], path, clip))
    return weights


def _number(text: str, path: Path, clip: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ReportError(f"{path}: clip {clip!r}: {text!r} is not a number") from None


def head_title(args: dict[str, Any]) -> str:
    """The title of the head that arguments name; "" if they name none."""
    at_type = args.get("at_type")
    return HEAD_TITLES.get(at_type, "") if isinstance(at_type, int) else ""


def method_title(args: dict[str, Any]) -> str:
    """`Relation-attention on CK+`"""
    title, dataset = (head_title(args) or "runs").capitalize(), args.get("dataset")
    return f"{title} on {title_of(str(dataset))}" if dataset else title


def shown_arguments(arguments: Arguments | None) -> ShownArguments | None:
    """args.json for people, in alphabetical order."""
    if arguments is None:
        return None
    rows, unset = [], []
    for key, value in sorted(arguments.args.items()):
        if value is None or value == [] or value == {}:
            unset.append(key)
        elif key == "at_type" and head_title(arguments.args):
            rows.append((key, f"{value} ({head_title(arguments.args)})"))
        else:
            rows.append((key, setting(key, value)))
    names = ("started", "git_commit", "device", "precision", "threads", "processes")
    environment = [(name.replace("_", " "), getattr(arguments, name)) for name in names]
    environment += sorted(arguments.versions.items(), key=lambda item: item[0].lower())
    known = [(name, _plain(value)) for name, value in environment if value is not None]
    return ShownArguments(arguments.command or "", rows, unset, known)


def setting(key: str, value: Any) -> str:
    """An argument's value as people write it."""
    if key == "pretrained" and value == "none":
        return "random weights"
    return "-" if value is None else _plain(value)


def _plain(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(map(_plain, value)) or "none"
    if isinstance(value, dict):
        return ", ".join(f"{key} {_plain(entry)}" for key, entry in value.items()) or "none"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
