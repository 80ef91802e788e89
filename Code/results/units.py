"""Several runs of the same clips: which of them belong together, and how much better one is than another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from Code.results.bootstrap import Difference, paired_difference
from Code.results.run_files import ClipRow, ReportError, RunFiles, read_run

# As the paper's table has them.
METHODS: dict[int | None, str] = {2: "score fusion", 0: "self", 1: "self + relation"}
# Repetitions and machines: runs that differ in nothing else are one method, repeated.
NOT_A_METHOD = {
    "at_type", "seed", "fold", "output", "resume", "device", "workers", "print_freq", "compile", "evaluate",
    "checkpoint", "precision", "cache", "figures", "skip_empty", "checkpoint_every", "deterministic",
    "train_root", "val_root", "train_list", "val_list",
}  # fmt: skip
MEASURES = ("accuracy", "uar", "attention_correlation")


@dataclass
class Unit:
    """Runs of one method: they differ in seed or fold only, as far as their arguments tell.

    Attributes:
        name: the attention, and in which arguments it differs from the other methods.
        runs: at least one.
        names: a short name for each run.
    """

    name: str
    runs: list[RunFiles]
    names: list[str] = field(default_factory=list)

    def spread(self, which: str, measure: str) -> tuple[float, float, float] | None:
        """(mean, lowest, highest) of a figure of results.json over the runs; None where not all have it."""
        values = [run.results.get(which, {}).get(measure) for run in self.runs]
        known = [value for value in values if value is not None]
        return (float(np.mean(known)), min(known), max(known)) if known and len(known) == len(values) else None

    def right(self) -> dict[str, float]:
        """For every clip the share of the runs that evaluated it (seeds, say) that have it right."""
        said: dict[str, list[bool]] = {}
        for run in self.runs:
            for clip in run.clips:
                said.setdefault(clip.name, []).append(clip.right)
        return {name: float(np.mean(rights)) for name, rights in said.items()}


@dataclass(frozen=True)
class Pair:
    """How much better `first` is than `second` on the clips that both evaluated."""

    first: str
    second: str
    war: Difference
    uar: Difference
    better: int
    worse: int
    clips: int


def read_runs(folders: Sequence[Path]) -> list[RunFiles]:
    """Reads runs that can be compared.

    Raises:
        ReportError: fewer than two, one twice, one without results or predictions, or other classes.
    """
    if len(folders) < 2:
        raise ReportError("--compare: name two runs or more")
    runs: list[RunFiles] = []
    for folder in folders:
        if any(Path(folder).resolve() == run.folder.resolve() for run in runs):
            raise ReportError(f"{folder}: is named twice; name every run once")
        run = read_run(folder)
        if not run.clips or not {"best", "last"} & run.results.keys():
            missing = "predictions.csv" if not run.clips else "results.json"
            raise ReportError(f"{folder}: no {missing}, its training did not end; finish it with --resume")
        if runs and run.labels != runs[0].labels:
            theirs, ours = ", ".join(runs[0].labels), ", ".join(run.labels)
            raise ReportError(f"{folder}: its classes are {ours}; those of {runs[0].folder}: {theirs}")
        runs.append(run)
    return runs


def group_runs(runs: Sequence[RunFiles]) -> list[Unit]:
    """Puts runs of one method together, in the paper's order: score fusion, self, self + relation."""
    told = _differences(runs)
    units: dict[str, Unit] = {}
    order = [*METHODS, None]
    for run in sorted(runs, key=lambda run: order.index(_at_type(run))):
        method = METHODS.get(_at_type(run), "no attention known")
        name = ", ".join([method, *(f"{key} {_args(run)[key]}" for key in told)])
        units.setdefault(name, Unit(name, [])).runs.append(run)
    for unit in units.values():
        unit.runs.sort(key=lambda run: (_args(run).get("fold") or 0, _args(run).get("seed") or 0, run.name))
        unit.names = [_run_name(unit, run) for run in unit.runs]
        if len(set(unit.names)) < len(unit.names):
            unit.names = [run.name for run in unit.runs]
    return list(units.values())


def pairs_of(units: Sequence[Unit]) -> list[Pair]:
    """The paired differences of all methods, or of all runs where there is one method only.

    Raises:
        ReportError: two of them have no clip in common, or do not agree on a clip's true class.
    """
    if len(units) == 1:
        units = [Unit(name, [run]) for name, run in zip(units[0].names, units[0].runs, strict=True)]
    truth: dict[str, tuple[str, RunFiles]] = {}
    for unit in units:
        for run in unit.runs:
            for clip in run.clips:
                label, other = truth.setdefault(clip.name, (clip.label, run))
                if label != clip.label:
                    raise ReportError(
                        f"{run.folder}: clip {clip.name!r} is {clip.label} there and {label} in {other.folder}; "
                        "compare runs of the same data"
                    )
    rights = [unit.right() for unit in units]
    pairs = []
    for first, second in combinations(range(len(units)), 2):
        # The later of the paper's rows minus the earlier one: a gain is positive.
        ours, theirs = rights[second], rights[first]
        common = sorted(ours.keys() & theirs.keys())
        if not common:
            raise ReportError(
                f"{units[second].runs[0].folder}: no clip in common with {units[first].runs[0].folder}; "
                "compare runs that were evaluated on the same clips"
            )
        a, b = np.array([ours[name] for name in common]), np.array([theirs[name] for name in common])
        classes = np.unique([truth[name][0] for name in common], return_inverse=True)[1]
        pairs.append(
            Pair(
                units[second].name,
                units[first].name,
                paired_difference(a, b, classes),
                paired_difference(a, b, classes, balanced=True),
                int((a > b).sum()),
                int((a < b).sum()),
                len(common),
            )
        )
    return pairs


def clips_that_differ(units: Sequence[Unit]) -> list[tuple[float, ClipRow]]:
    """Clips that not all runs predict alike: (largest difference between methods in the share of right runs, clip).

    Largest difference first; the clip is the one of the first run that has it.
    """
    said: dict[str, list[ClipRow]] = {}
    for unit in units:
        for run in unit.runs:
            for clip in run.clips:
                said.setdefault(clip.name, []).append(clip)
    rights = [unit.right() for unit in units]
    found = []
    for name, rows in said.items():
        if len({row.prediction for row in rows}) > 1:
            shares = [of[name] for of in rights if name in of]
            found.append((max(shares) - min(shares), rows[0]))
    return sorted(found, key=lambda pair: (-pair[0], pair[1].name))


def _args(run: RunFiles) -> dict[str, Any]:
    args = run.about.get("args", {})
    return args if isinstance(args, dict) else {}


def _at_type(run: RunFiles) -> int | None:
    at_type = _args(run).get("at_type")
    return at_type if at_type in METHODS else None


def _differences(runs: Sequence[RunFiles]) -> list[str]:
    """Arguments that are known of all runs and not the same in all."""
    keys = {key for run in runs for key in _args(run)} - NOT_A_METHOD
    known = [key for key in sorted(keys) if all(_args(run).get(key) is not None for run in runs)]
    return [key for key in known if len({str(_args(run)[key]) for run in runs}) > 1]


def _run_name(unit: Unit, run: RunFiles) -> str:
    parts = [f"{key} {_args(run)[key]}" for key in ("fold", "seed") if _args(run).get(key) is not None]
    return ", ".join([unit.name, *parts])
