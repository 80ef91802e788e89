"""What the JSON files of a run hold: args.json, log.jsonl, results.json.

Training writes them, and pages read them. Fields that a file does not have are None; fields that are not declared here
are ignored.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ..common.errors import ProjectError
from ..common.json_files import read_json, read_json_lines

VERSION = 1  # of args.json, results.json and summary.json
AGAIN = "write it again: --resume the run, or repeat the evaluation"


class ReportError(ProjectError, ValueError):
    """A run's folder cannot be read or reported on. The message names the file and, in tables, the line or clip."""


@dataclass
class Metrics:
    """The metrics of one epoch: see `Code.training.metrics.classification_metrics`."""

    accuracy: float
    accuracy_interval: tuple[float, float]
    uar: float
    uar_interval: tuple[float, float]
    per_class_recall: list[float | None]
    confusion: list[list[int]]
    num_clips: int
    epoch: int | float | None = None  # a fraction in some published files
    accuracy_listed: float | None = None
    num_clips_listed: int | None = None
    num_skipped: int = 0
    loss: float | None = None
    attention_correlation: float | None = None
    attention_auc: float | None = None


@dataclass
class Results:
    """results.json. An evaluation (`-e`) has `best` alone. `selected_on`: how that epoch was chosen, in words."""

    labels: list[str]
    last: Metrics | None = None
    best: Metrics | None = None
    selected_on: str | None = None
    fold: int | None = None
    num_folds: int | None = None
    pooled: bool | None = None  # the clips of several folds together


@dataclass
class Arguments:
    """args.json: the command, its arguments, and the machine."""

    args: dict[str, Any]  # every flag as it was resolved
    given: dict[str, Any] = field(default_factory=dict)  # as it was given, which `--resume` restores
    command: str | None = None
    started: str = ""  # in UTC, ISO 8601
    versions: dict[str, Any] = field(default_factory=dict)
    git_commit: str | None = None
    device: str | None = None
    precision: str | None = None
    threads: int | None = None
    processes: int | None = None


@dataclass
class LogLine:
    """A line of log.jsonl: an epoch."""

    epoch: int
    lr: float | None = None
    train_loss: float | None = None
    train_war: float | None = None
    val_loss: float | None = None
    val_war: float | None = None
    val_uar: float | None = None
    seconds: float | None = None
    frames_per_second: float | None = None
    val_frames_per_second: float | None = None
    val_attention_correlation: float | None = None


def as_dict(record: Any) -> dict[str, Any]:
    """A record as its file has it: dicts, without the fields that are None."""
    return asdict(record, dict_factory=lambda items: {name: value for name, value in items if value is not None})


def read_results(path: Path) -> Results:
    """results.json. Raises StateError if it is missing or damaged, as all of these functions do."""
    return read_json(path, Results, remedy=AGAIN)


def read_arguments(folder: Path) -> Arguments:
    """args.json of a run's folder."""
    return read_json(folder / "args.json", Arguments, remedy="restore the file, or name another run")


def read_log(path: Path) -> list[LogLine]:
    """The lines of log.jsonl; none without the file."""
    return read_json_lines(path, LogLine, remedy="remove the line") if path.is_file() else []
