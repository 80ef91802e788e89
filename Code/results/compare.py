"""The comparison of runs on the same clips.

Runs that differ only in seed or fold are one method, repeated. Methods have short names, A, B, ..., and a key says in
which arguments they differ. With a single method, each run gets a letter.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..common.names import counted, natural_key
from ..common.progress import Progress
from ..training.intervals import Difference, difference_text, interval_text, paired_difference
from ..training.records import ReportError
from .figures import choose_frames
from .page import Card, Pictures, make_course, make_tiles, write_page
from .runs import HEAD_TITLES, ClipRow, RunFiles, head_of, read_run, setting_text
from .series import COLUMNS, Spread, curves_of_runs, spread

# Arguments that do not make another method: repetition, machine, and where the same data is.
NOT_A_METHOD = {
    "at_type", "seed", "seeds", "fold", "output", "resume", "device", "workers", "print_freq", "compile", "evaluate",
    "checkpoint", "precision", "cache", "figures", "skip_empty", "deterministic",
    "train_root", "val_root", "train_list", "val_list", "data_flags",
}  # fmt: skip
SHOWN_FRAMES = 8  # of a clip in a comparison


@dataclass
class Method:
    """Runs that differ only in seed or fold."""

    name: str  # a letter
    settings: dict[str, str]  # the head, and the arguments in which methods differ
    runs: dict[str, RunFiles]  # by their short names: A, or A1, A2, ...

    @property
    def description(self) -> str:
        """Its settings in one line."""
        return ", ".join(value if key == "head" else f"{key} {value}" for key, value in self.settings.items())

    def spread(self, which: str, measure: str) -> Spread | None:
        """Of a number in results.json over the runs; None if a run does not have it."""
        values: list[Any] = [getattr(getattr(run.results, which), measure, None) for run in self.runs.values()]
        return None if None in values else spread(values)

    def right(self) -> dict[str, float]:
        """For each clip the share of the runs that have it right, among those that evaluated it."""
        answers: dict[str, list[bool]] = {}
        for run in self.runs.values():
            for clip in run.clips:
                answers.setdefault(clip.name, []).append(clip.right)
        return {name: float(np.mean(rights)) for name, rights in answers.items()}


def runs_of(methods: Sequence[Method]) -> dict[str, RunFiles]:
    """All runs by their short names."""
    return {name: run for of in methods for name, run in of.runs.items()}


class Pair(NamedTuple):
    """How much better the method `first` is than `second`, on the clips that both evaluated."""

    first: str
    second: str
    war: Difference
    uar: Difference
    better: int  # how many clips
    worse: int


def compare_runs(
    folders: Sequence[Path], output: Path, frames_root: Path | None = None, *, progress: bool = False
) -> tuple[Path, str]:
    """Writes the page `output` that compares two or more runs, and returns its path and its results as plain text.

    `frames_root` is that of `read_run`.
    ReportError, StateError, UsageError: the runs cannot be read or compared, or the page cannot be written.
    """
    methods = group_runs(read_runs(folders, frames_root))
    pairs, differing = pairs_of(methods), clips_that_differ(methods)
    runs = runs_of(methods)
    whiches = [which for which in ("best", "last") if any(getattr(run.results, which) for run in runs.values())]
    measures = COLUMNS | {"attention_correlation": "correlation with true intensity, %"}
    pictures = Pictures(len(differing))
    page = write_page(
        output,
        "compare.html.j2",
        name=f"{counted(len(runs), 'run')} compared",
        methods=methods,
        runs=runs,
        whiches=whiches,
        measures={key: title for key, title in measures.items() if any(of.spread("best", key) for of in methods)},
        pairs=pairs,
        labels=next(iter(runs.values())).results.labels,
        total=len(differing),
        num_clips=len({clip.name for run in runs.values() for clip in run.clips}),
        pictures=pictures,
        cards=_cards(methods, differing, pictures, progress),
        difference_text=difference_text,
        interval_text=interval_text,
        **curves_of_runs(runs, {name: of.name for of in methods for name in of.runs}),
    )
    return page, _as_text(methods, pairs, whiches)


def read_runs(folders: Sequence[Path], frames_root: Path | None = None) -> list[RunFiles]:
    """Reads runs. A ReportError says why they cannot be compared."""
    if len({Path(folder).resolve() for folder in folders}) < max(2, len(folders)):
        raise ReportError("--compare: name two or more runs, each once")
    runs = [read_run(folder, frames_root) for folder in folders]
    for run in runs:
        if not run.clips or not run.epochs:
            raise ReportError(f"{run.folder}: has no results, so its training did not end; finish it with --resume")
        if run.results.labels != runs[0].results.labels:
            raise ReportError(f"{run.folder}: its classes are other ones than in {runs[0].folder}, or in another order")
    return runs


def group_runs(runs: Sequence[RunFiles]) -> list[Method]:
    """Groups runs into methods, in the order of the paper's table: score fusion, self-attention, relation-attention."""
    order = [*HEAD_TITLES.values(), "unknown"]

    def place(run: RunFiles) -> tuple[Any, ...]:
        return order.index(_value(run, "head")), *(natural_key(_value(run, key)) for key in ("fold", "seed"))

    # An argument that a run does not have at all is of another version.
    known = sorted(set.intersection(*(set(run.args) for run in runs)))
    differing = [key for key in known if len({_value(run, key) for run in runs}) > 1]
    of_methods = [key for key in differing if key not in NOT_A_METHOD]
    of_runs = [key for key in differing if key in ("fold", "seed")]  # which tell the runs of a single method apart
    for keys in (["head", *of_methods], ["head", *of_runs], ["head", "folder"]):
        groups: dict[tuple[str, ...], list[RunFiles]] = {}
        for run in sorted(runs, key=place):
            groups.setdefault(tuple(_value(run, key) for key in keys), []).append(run)
        if len(groups) > 1:
            break
    methods = []
    for at, (values, members) in enumerate(groups.items()):
        letter = chr(ord("A") + at)
        of_letter = {f"{letter}{number}": run for number, run in enumerate(members, 1)}
        settings = dict(zip(keys, values, strict=True))
        methods.append(Method(letter, settings, of_letter if len(members) > 1 else {letter: members[0]}))
    return methods


def _value(run: RunFiles, key: str) -> str:
    if key == "head":
        return head_of(run.args) or "unknown"
    return run.name if key == "folder" else setting_text(run.args.get(key)) or "-"


def pairs_of(methods: Sequence[Method]) -> list[Pair]:
    """The paired differences of all methods. The later minus the earlier one: an improvement is positive."""
    truth = {clip.name: clip.label for run in runs_of(methods).values() for clip in run.clips}
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
        pairs.append(Pair(first[0].name, second[0].name, war, uar, better, worse))
    return pairs


def clips_that_differ(methods: Sequence[Method]) -> list[dict[str, ClipRow]]:
    """Clips that not all runs predict alike, each with its row of every run; the largest difference first."""
    rows: dict[str, dict[str, ClipRow]] = {}
    for name, run in runs_of(methods).items():
        for clip in run.clips:
            rows.setdefault(clip.name, {})[name] = clip
    rights = [of.right() for of in methods]

    def gap(clip: str) -> float:
        shares = [of[clip] for of in rights if clip in of]
        return max(shares) - min(shares)

    differing = [clip for clip, of_runs in rows.items() if len({row.prediction for row in of_runs.values()}) > 1]
    return [rows[clip] for clip in sorted(differing, key=lambda clip: (-gap(clip), clip))]


def _cards(
    methods: Sequence[Method], differing: Sequence[dict[str, ClipRow]], pictures: Pictures, progress: bool
) -> Iterator[Card]:
    """The clips that differ, one by one. The script filters them by whether all or some runs of a method are right."""
    runs = list(runs_of(methods).values())
    rights, labels = [of.right() for of in methods], runs[0].results.labels
    with Progress("comparison", len(differing), unit="clips", show=progress) as bar:
        for rows in differing:
            clip = next(iter(rows.values()))
            card = Card(clip.name, clip.label, data={"truth": labels.index(clip.label)})
            for at, of in enumerate(rights):
                if clip.name in of:
                    card.data[f"m{at}"] = {0.0: 0, 1.0: 2}.get(of[clip.name], 1)
            courses = {name: make_course(row.weights.weight) for name, row in rows.items() if row.weights}
            card.answers = [{"run": name, "row": row, "course": courses.get(name)} for name, row in rows.items()]
            # Not every run has the weights of this clip, or its frames.
            if weights := next((row.weights for row in rows.values() if row.weights), None):
                shown = choose_frames(weights.weight, min(SHOWN_FRAMES, pictures.frames))
                card.tiles = make_tiles(weights.frames, weights.alpha, weights.weight, shown)
                if folder := next((run.folders[clip.name] for run in runs if clip.name in run.folders), None):
                    pictures.read(card.tiles, folder)
            yield card
            bar()


def _as_text(methods: Sequence[Method], pairs: Sequence[Pair], whiches: Sequence[str]) -> str:
    """The key, the results of the methods and the paired differences for a terminal."""
    lines = []
    for of in methods:
        lines.append(f"{of.name}: {of.description}; {counted(len(of.runs), 'run')}")
        for which in whiches:
            accuracy, recall = of.spread(which, "accuracy"), of.spread(which, "uar")
            if accuracy and recall:
                lines.append(f"   {which} epoch: WAR {accuracy.mean_text} %, UAR {recall.mean_text} %")
    for pair in pairs:
        war, uar = (f"{100 * of.value:+.2f} points ({difference_text(of)})" for of in (pair.war, pair.uar))
        clips = counted(pair.war.clips, "clip")
        lines.append(f"{pair.first} - {pair.second}: WAR {war}, UAR {uar}; {clips}")
    return "\n".join(lines)
