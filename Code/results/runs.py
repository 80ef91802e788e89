"""Reads a run's folder: its arguments, its log, its results, and the prediction and the attention of each clip."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ..common.names import ATTENTION_TITLES
from ..readers import title_of
from ..training.records import AGAIN, Arguments, Metrics, ReportError, Results, read_arguments, read_log, read_results

FILES = ("args.json", "log.jsonl", "results.json", "predictions.csv", "attention.csv")
# Titles of the heads. Score fusion, the baseline without attention, comes first, as in the paper's table.
HEAD_TITLES = dict(sorted(ATTENTION_TITLES.items(), key=lambda head: head[0] != 2))

MACHINE = ("started", "git_commit", "device", "precision", "threads", "processes")


@dataclass
class FrameWeights:
    """The attention of one clip: frame names, alpha, weight and true intensity (empty if it is unknown), each [T]."""

    frames: list[str] = field(default_factory=list)
    alpha: list[float] = field(default_factory=list)
    weight: list[float] = field(default_factory=list)
    intensity: list[float] = field(default_factory=list)


@dataclass
class ClipRow:
    """One line of predictions.csv, with the clip's attention if attention.csv has it."""

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
        clips: the lines of predictions.csv, most certain first.
        folders: for each clip the folder of its frames.
        missing: names of the files that are missing.
    """

    folder: Path
    arguments: Arguments | None
    log: list[dict[str, Any]]
    results: Results
    clips: list[ClipRow]
    folders: dict[str, Path]
    missing: list[str]

    @property
    def name(self) -> str:
        """The name of the folder."""
        return self.folder.resolve().name

    @property
    def labels(self) -> list[str]:
        """The class names."""
        return self.results.labels

    @property
    def args(self) -> dict[str, Any]:
        """The arguments as they were resolved; empty without args.json."""
        return self.arguments.args if self.arguments else {}

    @property
    def is_pretraining(self) -> bool:
        """Whether Pretrain_FERPlus.py wrote it: a backbone trained on single faces, without a head."""
        return "votes" in self.args  # a flag of its own

    @property
    def selected_on(self) -> str:
        """How the best epoch was chosen, in words."""
        return self.results.selected_on or "best on the evaluated split"

    @property
    def chosen_here(self) -> bool:
        """Whether the best epoch was chosen by its accuracy on the clips that it is reported on."""
        return None not in (self.results.last, self.results.best) and "evaluated" in self.selected_on

    def metrics(self, which: str) -> Metrics | None:
        """Those of the "last" or the "best" epoch in results.json."""
        of: Metrics | None = getattr(self.results, which)
        return of

    @property
    def epochs(self) -> list[tuple[str, Metrics]]:
        """A title and the metrics for each different epoch of results.json: best and last, one, or a checkpoint."""
        best, last = self.results.best, self.results.last
        if best is not None and last is not None and best.epoch == last.epoch:
            return [("last epoch" if self.selected_on.startswith("last") else "best and last epoch", last)]
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
        if self.results.fold:
            title += f", fold {self.results.fold} of {self.results.num_folds or '?'}"
        return title + (", evaluation" if self.args.get("evaluate") else "")


def read_run(folder: Path, frames_root: Path | None = None) -> RunFiles:
    """Reads a run's folder.

    Args:
        folder: has at least one of `FILES`.
        frames_root: where the clips' frames are now, `<frames_root>/<clip>/<frame>` (default: where they were when
            the run was evaluated).

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
    labels, clips = _read_clips(folder)
    results = Results(labels) if "results.json" in missing else read_results(folder / "results.json")
    if frames_root is None:
        with _opened_table(folder / "clips.csv", "clip,folder") as (_, rows):
            folders = {name: Path(path) for name, path, *_ in rows}
    elif frames_root.is_dir():
        folders = {clip.name: frames_root / clip.name for clip in clips}
    else:
        raise ReportError(f"--frames {frames_root}: no such folder; name the folder that has <clip>/<frame>")
    if clips and labels != results.labels:
        raise ReportError(f"{folder / 'predictions.csv'}: has other classes than results.json; {AGAIN}")
    return RunFiles(
        folder=folder,
        arguments=None if "args.json" in missing else read_arguments(folder),
        log=[asdict(line) for line in read_log(folder / "log.jsonl")],
        results=results,
        clips=clips,
        folders=folders,
        missing=missing,
    )


@contextmanager
def _opened_table(path: Path, header: str) -> Iterator[tuple[list[str], Iterator[list[str]]]]:
    """The columns of a CSV file, which begin with `header`, and its rows; none without the file.

    A ValueError about a row becomes a ReportError that names the line.
    """
    if not path.is_file():
        yield [], iter(())
        return
    with path.open(newline="", encoding="utf-8", errors="surrogateescape") as file:
        rows = csv.reader(file)
        try:
            columns = next(rows, [])
            if not ",".join(columns).startswith(header):
                raise ValueError(f"its columns are {','.join(columns)!r} and not {header!r}")
            yield columns, rows
        except (ValueError, csv.Error) as error:
            raise ReportError(f"{path}:{rows.line_num}: is damaged ({error}); {AGAIN}") from None


def _read_clips(folder: Path) -> tuple[list[str], list[ClipRow]]:
    """Class names and clips of predictions.csv, most certain first and then by name."""
    weights, clips = _read_weights(folder / "attention.csv"), []
    with _opened_table(folder / "predictions.csv", "clip,label,prediction") as (columns, rows):
        for name, label, prediction, *values in rows:  # by position: a class could be called "label"
            probabilities = dict(zip(columns[3:], map(float, values), strict=True))
            if not {label, prediction} <= probabilities.keys():
                raise ValueError(f"no column for {label} or {prediction}")
            clips.append(ClipRow(name, label, prediction, probabilities, weights.get(name)))
    return columns[3:], sorted(clips, key=lambda clip: (-clip.certainty, clip.name))


def _read_weights(path: Path) -> dict[str, FrameWeights]:
    weights: dict[str, FrameWeights] = {}
    with _opened_table(path, "clip,frame,alpha,beta,weight") as (_, rows):
        for clip, frame, alpha, _, weight, *intensity in rows:
            of_clip = weights.setdefault(clip, FrameWeights())
            of_clip.frames.append(frame)
            of_clip.alpha.append(float(alpha))
            of_clip.weight.append(float(weight))
            of_clip.intensity += map(float, intensity)
    return weights


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
    if value in (None, [], {}):
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
