"""Reads a run's folder: its arguments, its log, its results, and the prediction and the attention of each clip."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ..common.names import ATTENTION_TITLES
from ..readers import title_of
from ..training.records import AGAIN, Arguments, Metrics, ReportError, Results, read_arguments, read_log, read_results

FILES = ("args.json", "log.jsonl", "results.json", "predictions.csv")
# Titles of the heads. Score fusion, the baseline without attention, comes first, as in the paper's table.
HEAD_TITLES = dict(sorted(ATTENTION_TITLES.items(), key=lambda head: head[0] != 2))


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
    """The contents of a run's folder. The content of a missing file is empty, or None."""

    folder: Path
    arguments: Arguments | None
    log: list[dict[str, Any]]
    results: Results
    clips: list[ClipRow]  # most certain first
    folders: dict[str, Path]  # of each clip's frames

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
        return None not in (self.results.last, self.results.best) and "evaluated" in (self.results.selected_on or "")

    @property
    def epochs(self) -> list[tuple[str, Metrics]]:
        """A title and the metrics for each different epoch of results.json: best and last, one, or a checkpoint."""
        best, last = self.results.best, self.results.last
        if best and last and best.epoch == last.epoch:
            unchosen = (self.results.selected_on or "").startswith("last")
            return [("last epoch" if unchosen else "best and last epoch", last)]
        title = "checkpoint" if self.args.get("evaluate") else "best epoch"
        return [(title, of) for title, of in ((title, best), ("last epoch", last)) if of]

    @property
    def title(self) -> str:
        """What was done, for a heading: `Relation-attention on CK+, fold 3 of 10`. Without args.json, the name."""
        if self.is_pretraining:
            what = "labeled pictures" if self.args.get("dataset") == "folders" else "single faces of FER+"
            return f"Backbone pretrained on {what}"
        if not head_of(self.args):
            return self.name
        fold = f", fold {self.results.fold} of {self.results.num_folds}" if self.results.fold else ""
        return method_of(self.args) + fold + (", evaluation" if self.args.get("evaluate") else "")


def read_run(folder: Path, frames_root: Path | None = None) -> RunFiles:
    """Reads a run's folder, with at least one of `FILES` in it.

    The clips' frames are now at `<frames_root>/<clip>/<frame>`; without it, where they were when the run was evaluated.
    ReportError, StateError: it is no run's folder, or a file in it is damaged.
    """
    there = [name for name in FILES if (folder / name).is_file()]
    if not there:
        raise ReportError(f"{folder}: is not a run's folder; name one, for example model/<date-time>_...")
    if frames_root and not frames_root.is_dir():
        raise ReportError(f"--frames {frames_root}: no such folder; name the folder that has <clip>/<frame>")
    try:
        labels, clips = _read_clips(folder)
        folders = {name: Path(path) for name, path in _rows(folder / "clips.csv")}
    except (ValueError, LookupError, csv.Error) as error:
        raise ReportError(f"{folder}: predictions.csv or another table is damaged ({error}); {AGAIN}") from None
    return RunFiles(
        folder=folder,
        arguments=read_arguments(folder) if "args.json" in there else None,
        log=[asdict(line) for line in read_log(folder / "log.jsonl")],
        results=read_results(folder / "results.json") if "results.json" in there else Results(labels),
        clips=clips,
        folders=folders if frames_root is None else {clip.name: frames_root / clip.name for clip in clips},
    )


def _rows(path: Path, *, header: bool = False) -> Iterator[list[str]]:
    """The rows of a CSV file, without those of its header unless it is asked for; none without the file."""
    if path.is_file():
        with path.open(newline="", encoding="utf-8", errors="surrogateescape") as file:
            rows = csv.reader(file)
            if not header:
                next(rows, None)
            yield from rows


def _read_clips(folder: Path) -> tuple[list[str], list[ClipRow]]:
    """Class names and clips of predictions.csv, most certain first."""
    weights: dict[str, FrameWeights] = {}
    for clip, frame, alpha, _, weight, *intensity in _rows(folder / "attention.csv"):
        of_clip = weights.setdefault(clip, FrameWeights())
        of_clip.frames.append(frame)
        of_clip.alpha.append(float(alpha))
        of_clip.weight.append(float(weight))
        of_clip.intensity += map(float, intensity)
    clips, rows = [], _rows(folder / "predictions.csv", header=True)
    labels = next(rows, [])[3:]
    for name, label, prediction, *values in rows:  # by position: a class could be called "label"
        probabilities = dict(zip(labels, map(float, values), strict=True))
        clips.append(ClipRow(name, label, prediction, probabilities, weights.get(name)))
    return labels, sorted(clips, key=lambda clip: (-clip.certainty, clip.name))


def head_of(args: dict[str, Any]) -> str:
    """The title of the head that arguments name; "" if they name none."""
    return HEAD_TITLES.get(args.get("at_type", -1), "")


def method_of(args: dict[str, Any]) -> str:
    """`Relation-attention on CK+`"""
    title, dataset = (head_of(args) or "runs").capitalize(), args.get("dataset")
    return f"{title} on {title_of(str(dataset))}" if dataset else title


def setting_text(value: Any) -> str:
    """An argument's value as people write it; "" if it has none."""
    if isinstance(value, dict):
        return ", ".join(f"{name} {entry}" for name, entry in value.items())
    return ", ".join(map(str, value)) if isinstance(value, list) else "" if value is None else str(value)


def shown_settings(arguments: Arguments | None) -> dict[str, Any]:
    """What a page says about args.json: the command, and (name, value) of its arguments, versions and machine."""
    if arguments is None:
        return {}
    machine = {name: getattr(arguments, name) for name in ("started", "git_commit", "device", "precision", "threads")}
    tables = {"args": sorted(arguments.args.items()), "environment": (machine | arguments.versions).items()}
    shown = {name: [(key, setting_text(value)) for key, value in rows] for name, rows in tables.items()}
    return {"command": arguments.command} | {name: [row for row in rows if row[1]] for name, rows in shown.items()}
