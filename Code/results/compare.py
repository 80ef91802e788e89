"""Several runs on the same clips, side by side: which belong together, and how much better one is than another.

Runs that differ only in their seed or fold are one method, repeated. Methods have short names, A, B, ..., and a key
says in which arguments they differ. With a single method, each run gets a letter.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..common.names import counted, natural_key
from ..training.intervals import Difference, difference_text, interval_text, paired_difference
from ..training.records import ReportError
from .figures import choose_frames, line_styles
from .page import Card, Pictures, curve_pictures, make_course, make_tiles, panels_of_runs, with_progress, write_page
from .runs import HEAD_TITLES, ClipRow, RunFiles, describe_setting, head_of, read_run

# Arguments that do not make another method: repetition, machine, and where the same data is.
NOT_A_METHOD = {
    "at_type", "seed", "seeds", "fold", "output", "resume", "device", "workers", "print_freq", "compile", "evaluate",
    "checkpoint", "precision", "cache", "figures", "skip_empty", "deterministic",
    "train_root", "val_root", "train_list", "val_list", "data_flags",
}  # fmt: skip
MEASURES = {"accuracy": "WAR %", "uar": "UAR %", "attention_correlation": "correlation with true intensity"}
CURVES = ("val_war", "val_uar", "val_loss", "train_loss", "train_war", "lr")
SHOWN_FRAMES = 8


@dataclass
class Method:
    """Runs that differ only in seed or fold."""

    name: str  # a letter
    settings: dict[str, str]  # the head, and the arguments in which methods differ
    runs: dict[str, RunFiles]  # by their short names: A, or A1, A2, ...
    differences: dict[str, str]  # settings that differ from those of the earlier method that it is most like
    like: str = ""  # the name of that method

    @property
    def description(self) -> str:
        """How it differs, in one line."""
        parts = [value if key == "head" else f"{key} {value}" for key, value in self.differences.items()]
        return (f"like {self.like}, but " if self.like else "") + ", ".join(parts)

    def spread(self, which: str, measure: str) -> tuple[str, str]:
        """Mean and range of a number of results.json over the runs, in words: "-" if a run does not have it.

        The range is empty if all runs have the same number.
        """
        known = [getattr(run.metrics(which), measure, None) for run in self.runs.values()]
        values: list[float] = [value for value in known if value is not None]
        if len(values) < len(known):
            return "-", ""
        scale, digits = (1, 3) if measure == "attention_correlation" else (100, 2)
        mean, low, high = (f"{scale * value:.{digits}f}" for value in (np.mean(values), min(values), max(values)))
        return mean, "" if low == high else f"{low} to {high}"

    def right(self) -> dict[str, float]:
        """For each clip the share of the runs that have it right, among those that evaluated it."""
        answers: dict[str, list[bool]] = {}
        for run in self.runs.values():
            for clip in run.clips:
                answers.setdefault(clip.name, []).append(clip.right)
        return {name: float(np.mean(rights)) for name, rights in answers.items()}


class Pair(NamedTuple):
    """How much better the method `first` is than `second`, on the clips that both evaluated."""

    first: str
    second: str
    war: Difference
    uar: Difference
    better: int
    worse: int
    clips: int


def compare_runs(
    folders: Sequence[Path], output: Path, frames_root: Path | None = None, *, progress: bool = False
) -> tuple[Path, str]:
    """Writes the page that compares runs.

    Args:
        folders: of two or more runs.
        output: the page to write, `.html`.
        frames_root: see `read_run`.
        progress: show a progress bar.

    Returns:
        (the page, the methods and their differences as plain text).

    Raises:
        ReportError, StateError: the runs cannot be read or compared.
        UsageError: the page cannot be written.
    """
    if output.suffix != ".html" or not output.parent.is_dir():
        raise ReportError(f"--output {output}: name a .html file in an existing folder")
    methods = group_runs(read_runs(folders, frames_root))
    pairs, differing = pairs_of(methods), clips_that_differ(methods)
    runs = {name: run for of in methods for name, run in of.runs.items()}
    whiches = [which for which in ("best", "last") if any(run.metrics(which) for run in runs.values())]
    styles = line_styles({name: of.name for of in methods for name in of.runs})
    logs = {name: run.log for name, run in runs.items() if len(run.log) > 1}  # one point makes no curve
    pictures, labels = Pictures(len(differing)), next(iter(runs.values())).labels
    choices = [("truth", "true class", labels)]
    for at, of in enumerate(methods):
        values = ["all wrong", "some right", "all right"] if len(of.runs) > 1 else ["wrong", "", "right"]
        choices.append((f"m{at}", of.name, values))
    cards = _cards(methods, differing, labels, pictures)
    page = write_page(
        output,
        "compare.html.j2",
        name=f"{counted(len(runs), 'run')} compared",
        methods=methods,
        whiches=whiches,
        chosen_here=any(run.chosen_here for run in runs.values()),
        measures={
            key: title
            for key, title in MEASURES.items()
            if any(of.spread(which, key)[0] != "-" for of in methods for which in whiches)
        },
        pairs=pairs,
        difference_text=difference_text,
        curves=curve_pictures(panels_of_runs(logs, CURVES), styles),
        styles={name: styles[name] for name in logs},
        choices=choices,
        total=len(differing),
        num_clips=len({clip.name for run in runs.values() for clip in run.clips}),
        pictures=pictures,
        cards=with_progress(cards, "comparison", len(differing), show=progress),
        runs=runs,
        interval_text=interval_text,
    )
    return page, _as_text(methods, pairs, whiches)


def read_runs(folders: Sequence[Path], frames_root: Path | None = None) -> list[RunFiles]:
    """Reads runs. A ReportError says why they cannot be compared."""
    if len({Path(folder).resolve() for folder in folders}) < max(2, len(folders)):
        raise ReportError("--compare: name two or more runs, each once")
    runs = [read_run(folder, frames_root) for folder in folders]
    truth: dict[str, str] = {}
    for run in runs:
        if not run.clips or not run.epochs:
            missing = "predictions.csv" if not run.clips else "results.json"
            raise ReportError(f"{run.folder}: has no {missing}, so its training did not end; finish it with --resume")
        if run.labels != runs[0].labels:
            theirs, ours = ", ".join(runs[0].labels), ", ".join(run.labels)
            raise ReportError(f"{run.folder}: its classes are {ours}, but those of {runs[0].folder} are {theirs}")
        for clip in run.clips:
            if truth.setdefault(clip.name, clip.label) != clip.label:
                both = f"{clip.label} there and {truth[clip.name]} in another run"
                raise ReportError(f"{run.folder}: clip {clip.name!r} is {both}; compare runs on the same data")
    return runs


def group_runs(runs: Sequence[RunFiles]) -> list[Method]:
    """Groups runs into methods, in the order of the paper's table: score fusion, self-attention, relation-attention."""
    order = [*HEAD_TITLES.values(), ""]
    ordered = sorted(
        runs,
        key=lambda run: (order.index(head_of(run.args)), *(natural_key(_value(run, key)) for key in ("fold", "seed"))),
    )
    # A single method is told apart by fold and seed; if some runs are equal even in these, by their folders.
    keys = _differing(runs, {key for run in runs for key in run.args} - NOT_A_METHOD)
    groups = _grouped(ordered, ["head", *keys])
    if len(groups) == 1:
        groups = _grouped(ordered, ["head", *_differing(runs, {"fold", "seed"})])
        groups = groups if len(groups) == len(runs) else _grouped(ordered, ["head", "folder"])
    methods: list[Method] = []
    for at, (settings, members) in enumerate(groups):
        name = chr(ord("A") + at) if at < 26 else f"A{at}"
        names = [name] if len(members) == 1 else [f"{name}{number}" for number in range(1, len(members) + 1)]
        method = Method(name, settings, dict(zip(names, members, strict=True)), settings)
        for other in methods:
            differences = {key: value for key, value in settings.items() if value != other.settings[key]}
            if len(differences) < len(method.differences) or not method.like:
                method.like, method.differences = other.name, differences
        methods.append(method)
    return methods


def _grouped(runs: Sequence[RunFiles], keys: Sequence[str]) -> list[tuple[dict[str, str], list[RunFiles]]]:
    """Runs with the same values of these arguments together, in the order of the first of each."""
    groups: dict[tuple[str, ...], list[RunFiles]] = {}
    for run in runs:
        groups.setdefault(tuple(_value(run, key) for key in keys), []).append(run)
    return [(dict(zip(keys, values, strict=True)), members) for values, members in groups.items()]


def _differing(runs: Sequence[RunFiles], keys: set[str]) -> list[str]:
    """Those of the arguments in which runs differ. One that a run does not have at all is of another version."""
    known = [key for key in sorted(keys) if all(key in run.args for run in runs)]
    return [key for key in known if len({_value(run, key) for run in runs}) > 1]


def _value(run: RunFiles, key: str) -> str:
    if key == "head":
        return head_of(run.args) or "unknown"
    return run.name if key == "folder" else describe_setting(key, run.args.get(key)) or "-"


def pairs_of(methods: Sequence[Method]) -> list[Pair]:
    """The paired differences of all methods. The later minus the earlier one: an improvement is positive."""
    truth = {clip.name: clip.label for of in methods for run in of.runs.values() for clip in run.clips}
    pairs = []
    for second, first in combinations([(of, of.right()) for of in methods], 2):
        common = sorted(first[1].keys() & second[1].keys())
        if not common:
            folders = [next(iter(of.runs.values())).folder for of, _ in (first, second)]
            raise ReportError(f"{folders[0]}: no clip in common with {folders[1]}; compare runs on the same clips")
        a, b = (np.array([rights[name] for name in common]) for _, rights in (first, second))
        classes = np.unique([truth[name] for name in common], return_inverse=True)[1]
        war, uar = (paired_difference(a, b, classes, balanced=balanced) for balanced in (False, True))
        better, worse = int((a > b).sum()), int((a < b).sum())
        pairs.append(Pair(first[0].name, second[0].name, war, uar, better, worse, len(common)))
    return pairs


def clips_that_differ(methods: Sequence[Method]) -> list[tuple[float, ClipRow]]:
    """Clips that not all runs predict alike, with the largest difference of methods in the share of right runs."""
    answers: dict[str, list[ClipRow]] = {}
    for clip in (clip for of in methods for run in of.runs.values() for clip in run.clips):
        answers.setdefault(clip.name, []).append(clip)
    rights, differing = [of.right() for of in methods], []
    for name, rows in answers.items():
        if len({row.prediction for row in rows}) > 1:
            shares = [of[name] for of in rights if name in of]
            differing.append((max(shares) - min(shares), rows[0]))
    return sorted(differing, key=lambda pair: (-pair[0], pair[1].name))


def _cards(
    methods: Sequence[Method], differing: Sequence[tuple[float, ClipRow]], labels: Sequence[str], pictures: Pictures
) -> Iterator[Card]:
    """The clips that differ, one by one. The script filters them by whether all or some runs of a method are right."""
    runs = [(name, run, {clip.name: clip for clip in run.clips}) for of in methods for name, run in of.runs.items()]
    rights = [of.right() for of in methods]
    for _, clip in differing:
        answers, weights, folder = [], None, None
        for name, run, rows in runs:
            folder = folder or run.folders.get(clip.name)
            if clip.name in rows:
                row = rows[clip.name]
                weights = weights or row.weights  # not every run has the weights of this clip
                course = None if row.weights is None else make_course(row.weights.frames, row.weights.weight)
                answer = {"run": name, "prediction": row.prediction, "right": row.right, "certainty": row.certainty}
                answers.append(answer | {"course": course})
        levels = {f"m{at}": {0.0: 0, 1.0: 2}.get(of[clip.name], 1) for at, of in enumerate(rights) if clip.name in of}
        card = Card(clip.name, clip.label, data={"truth": labels.index(clip.label), **levels}, answers=answers)
        if weights is not None:
            shown = choose_frames(weights.weight, min(SHOWN_FRAMES, pictures.frames))
            card.tiles = make_tiles(weights.frames, weights.alpha, weights.weight, shown)
        if folder is not None:
            pictures.read(card.tiles, folder)
        yield card


def _as_text(methods: Sequence[Method], pairs: Sequence[Pair], whiches: Sequence[str]) -> str:
    """The key, the table of methods and the paired differences for a terminal."""
    lines = [f"{of.name}: {of.description}" for of in methods]
    rows = [["", "runs", *(f"{name} % ({which})" for which in whiches for name in ("WAR", "UAR"))]]
    for of in methods:
        spreads = [of.spread(which, name) for which in whiches for name in ("accuracy", "uar")]
        cells = [f"{mean} ({values})" if values else mean for mean, values in spreads]
        rows.append([of.name, str(len(of.runs)), *cells])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines += ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    for pair in pairs:
        differences = (
            f"{name} {100 * of.value:+.2f} points ({difference_text(of)})"
            for name, of in (("WAR", pair.war), ("UAR", pair.uar))
        )
        lines.append(f"{pair.first} - {pair.second}: {', '.join(differences)}; {counted(pair.clips, 'clip')}")
    return "\n".join(lines)
