"""What the JSON files of a run hold, and how its tables are known to be complete.

results.json is written last, so it marks a run whose results are complete. It has the number of rows and the SHA-256 of
each table beside it. Numbers that cannot be (a probability of 7, an accuracy that its confusion matrix does not have)
are errors.
"""

from __future__ import annotations

import csv
import hashlib
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import IO, Any

from ..common.errors import ProjectError
from ..common.json_files import StateError, read_lines, read_state, shaped
from ..common.wording import counted

VERSION = 1  # of args.json, results.json and summary.json; files of earlier versions of the project have none
AGAIN = "write it again: --resume the run, or repeat the evaluation"
TABLES = ("predictions.csv", "attention.csv", "clips.csv")
MOST_CLIPS = MOST_EPOCHS = 10**9
ROUNDED = 1e-4  # of values that were written with few digits


class ReportError(ProjectError, ValueError):
    """A run's folder cannot be read or reported on. The message names the file and, in tables, the line or clip."""


def check_share(name: str, value: float | None, low: float = 0.0) -> None:
    """Makes sure that a number is from 0 (or `low`) to 1, but for rounding.

    Raises:
        ValueError: it is not; NaN neither.
    """
    if value is not None and not low - ROUNDED <= value <= 1 + ROUNDED:
        raise ValueError(f"{name} is {value}, expected a number from {low:g} to 1")


def check_equal(name: str, given: float | None, computed: float | None) -> None:
    """Makes sure that a number is what the numbers beside it come to.

    Raises:
        ValueError: it is not; NaN neither.
    """
    if given is None or computed is None:
        if given is not computed:
            raise ValueError(f"{name} is {given}, but {computed} by the numbers beside it")
    elif not abs(given - computed) <= ROUNDED:
        raise ValueError(f"{name} is {given}, but {computed:.6f} by the numbers beside it")


@dataclass
class Table:
    """A table beside results.json: its rows without the header, and the SHA-256 of its bytes."""

    rows: int
    sha256: str


@dataclass
class Metrics:
    """The metrics of one epoch: see `Code.training.metrics.classification_metrics`."""

    accuracy: float
    accuracy_interval: tuple[float, float]
    uar: float
    per_class_recall: list[float | None]
    confusion: list[list[int]]
    num_clips: int
    epoch: float | None = None
    accuracy_listed: float | None = None
    uar_interval: tuple[float, float] | None = None
    num_clips_listed: int | None = None
    num_skipped: int = 0
    loss: float | None = None
    attention_correlation: float | None = None
    attention_auc: float | None = None

    def __post_init__(self) -> None:
        for name in ("accuracy", "accuracy_listed", "uar", "attention_auc"):
            check_share(name, getattr(self, name))
        for name in ("accuracy_interval", "uar_interval"):
            low, high = getattr(self, name) or (0.0, 1.0)
            check_share(name, low)
            check_share(name, high)
            if not low <= high:
                raise ValueError(f"{name} is from {low} to {high}")
        for recall in self.per_class_recall:
            check_share("per_class_recall", recall)
        check_share("attention_correlation", self.attention_correlation, low=-1.0)
        if self.epoch is not None and not 0 <= self.epoch <= MOST_EPOCHS:
            raise ValueError(f"epoch is {self.epoch}")
        if not 1 <= self.num_clips <= MOST_CLIPS or self.num_skipped < 0:
            raise ValueError(f"num_clips is {self.num_clips} and num_skipped {self.num_skipped}")
        if self.confusion:
            self._check_confusion()
        if not self.accuracy_interval[0] - ROUNDED <= self.accuracy <= self.accuracy_interval[1] + ROUNDED:
            raise ValueError(f"accuracy is {self.accuracy}, outside of its interval")
        listed = self.num_clips + self.num_skipped if self.num_clips_listed is None else self.num_clips_listed
        if listed < self.num_clips:
            raise ValueError(f"num_clips_listed is {listed}, but num_clips is {self.num_clips}")
        if self.accuracy_listed is not None:
            check_equal("accuracy_listed", self.accuracy_listed, self.accuracy * self.num_clips / listed)

    def _check_confusion(self) -> None:
        counts = [sum(row) for row in self.confusion]
        hits = [row[at] if at < len(row) else -1 for at, row in enumerate(self.confusion)]
        if any(len(row) != len(counts) or min(row) < 0 for row in self.confusion):
            raise ValueError("confusion is not a square of counts")
        if sum(counts) != self.num_clips:
            raise ValueError(f"confusion counts {counted(sum(counts), 'clip')}, but num_clips is {self.num_clips}")
        recalls = [hit / count if count else None for hit, count in zip(hits, counts, strict=True)]
        present = [recall for recall in recalls if recall is not None]
        check_equal("accuracy", self.accuracy, sum(hits) / self.num_clips)
        check_equal("uar", self.uar, sum(present) / len(present))
        for recall, value in zip(self.per_class_recall, recalls, strict=False):
            check_equal("per_class_recall", recall, value)


@dataclass
class Results:
    """results.json. "last" and "best" may be missing: an evaluation has "best" alone."""

    labels: list[str]
    last: Metrics | None = None
    best: Metrics | None = None
    selected_on: str | None = None
    fold: int | None = None
    num_folds: int | None = None
    tables: dict[str, Table] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, metrics in (("last", self.last), ("best", self.best)):
            if metrics is None or not (metrics.confusion or metrics.per_class_recall):
                continue  # with very many classes, both are empty
            for key in ("confusion", "per_class_recall"):
                length = len(getattr(metrics, key))
                if length != len(self.labels):
                    raise ValueError(f"{name}.{key} has {length} classes, but labels has {len(self.labels)}")

    @property
    def shown(self) -> Metrics | None:
        """The metrics of the clips in predictions.csv."""
        return self.best or self.last


@dataclass
class RunArgs:
    """The arguments in args.json that decide what a page says; all others are only shown."""

    at_type: int | None = None
    dataset: str | None = None
    seed: int | None = None
    fold: int | str | None = None
    evaluate: bool = False
    label_mode: str | None = None


@dataclass
class About:
    """args.json: the command, its arguments as given and as resolved, and the machine.

    Attributes:
        started: in UTC, ISO 8601. Runs of earlier versions do not have it.
    """

    args: RunArgs = field(default_factory=RunArgs)
    given: dict[str, Any] | None = None
    command: str | None = None
    launch: str | None = None
    started: str | None = None
    versions: dict[str, Any] = field(default_factory=dict)
    device: str | None = None
    precision: str | None = None
    threads: int | None = None


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

    def __post_init__(self) -> None:
        for name in ("train_war", "val_war", "val_uar"):
            check_share(name, getattr(self, name))
        if not 0 <= self.epoch <= MOST_EPOCHS:
            raise ValueError(f"epoch is {self.epoch}")


def read_results(path: Path) -> tuple[Results, dict[str, Any]]:
    """results.json, checked, and as it is, but without fields that are null.

    Raises:
        StateError: the file is missing, damaged, or of a newer version.
    """
    content = _set(read_state(path, dict[str, Any], remedy=AGAIN, newest=VERSION))
    return shaped(content, Results, place=str(path), remedy=AGAIN), content


def read_about(path: Path, remedy: str = "restore the file, or name another run") -> tuple[About, dict[str, Any]]:
    """args.json, checked, and as it is, but without fields that are null.

    Raises:
        StateError: the file is missing, damaged, or of a newer version.
    """
    content = _set(read_state(path, dict[str, Any], remedy=remedy, newest=VERSION))
    return shaped(content, About, place=str(path), remedy=remedy), content


def _set(content: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in content.items() if value is not None}


def read_log(path: Path) -> list[dict[str, Any]]:
    """The lines of log.jsonl, checked; none without the file. A last line that was never finished is skipped.

    Raises:
        StateError: naming the line.
    """
    if not path.is_file():
        return []
    lines = read_lines(path, LogLine, remedy="remove the line")
    for number, (before, line) in enumerate(pairwise(lines), start=2):
        if line.epoch <= before.epoch:
            raise StateError(f"{path}:{number}: has epoch {line.epoch} after epoch {before.epoch}; remove the line")
    found = read_lines(path, dict[str, Any], remedy="remove the line")
    # A number without a point is a float, too.
    return [{**as_is, **_set(asdict(line))} for as_is, line in zip(found, lines, strict=True)]


def started_at(folder: Path) -> datetime:
    """When a run was started, in UTC.

    Runs of earlier versions have no stamp. Their folder's name has the local time, which a file of the run bounds.
    """
    try:
        stamp = datetime.fromisoformat(read_about(folder / "args.json")[0].started or "")
        if stamp.tzinfo is not None:
            return stamp
    except ValueError:  # StateError is one
        pass
    try:
        first = min(path.stat().st_mtime for path in folder.iterdir())
    except (OSError, ValueError):
        first = 0.0
    written = datetime.fromtimestamp(first, UTC)
    try:
        named = datetime.strptime(folder.name[:15], "%Y%m%d-%H%M%S").astimezone(UTC)
    except (ValueError, OverflowError):
        return written
    return min(named, written)


class TableFile:
    """Where `csv.writer` writes a table to: counts its rows and computes its checksum on the way.

    File names that are not valid UTF-8 are written byte for byte.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._file, self._digest, self._lines = file, hashlib.sha256(), 0

    def write(self, line: str) -> None:
        """Called once for each row."""
        data = line.encode("utf-8", "surrogateescape")
        self._file.write(data)
        self._digest.update(data)
        self._lines += 1

    @property
    def facts(self) -> Table:
        """Of what has been written; the first row is the header."""
        return Table(self._lines - 1, self._digest.hexdigest())


def check_table(path: Path, written: Table | None) -> None:
    """Makes sure that a table is the one that results.json was written with. Older runs do not say: None.

    Raises:
        ReportError: it is not.
    """
    if written is None:
        return
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found == written.sha256:
        return
    try:
        with path.open(newline="", encoding="utf-8", errors="surrogateescape") as text:
            rows = sum(1 for _ in csv.reader(text)) - 1
    except csv.Error:
        rows = -1
    if rows != written.rows:
        what = "cannot be parsed" if rows < 0 else f"has {counted(rows, 'row')}"
        raise ReportError(f"{path}: {what}, but results.json was written with {written.rows}; {AGAIN}")
    raise ReportError(f"{path}: was changed since results.json was written (other checksum); {AGAIN}")


def check_tables(folder: Path) -> None:
    """Makes sure that a run's results are complete: results.json is there and fits the tables beside it.

    Raises:
        StateError, ReportError: naming the file that is missing or does not fit.
    """
    for name, written in read_results(folder / "results.json")[0].tables.items():
        if name not in TABLES:
            raise ReportError(f"{folder / 'results.json'}: tables: there is no table {name!r}; {AGAIN}")
        if not (folder / name).is_file():
            raise ReportError(f"{folder / name}: is missing, but results.json was written with it; {AGAIN}")
        check_table(folder / name, written)
