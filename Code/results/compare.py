"""Several runs on the same clips, side by side: which belong together, and how much better one is than another.

Runs that differ only in their seed or fold are one method, repeated. Methods have short names, A, B, ..., and a key
says in which arguments they differ. With a single method, each run gets a letter.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path

import numpy as np

from ..common.wording import counted
from ..training.intervals import Difference, difference_text, paired_difference
from .figures import line_styles
from .page import ClipCards, Tile, log_curves, setting, with_progress, write_page
from .run_files import HEAD_TITLES, ClipRow, ReportError, RunFiles, read_run

# Arguments that do not make another method: repetition, machine, and where the same data is.
NOT_A_METHOD = {
    "at_type", "seed", "seeds", "fold", "output", "resume", "device", "workers", "print_freq", "compile", "evaluate",
    "checkpoint", "precision", "cache", "cache_dir", "figures", "skip_empty", "checkpoint_every", "deterministic",
    "train_root", "val_root", "train_list", "val_list", "data_flags",
}  # fmt: skip
MEASURES = {"accuracy": "WAR %", "uar": "UAR %", "attention_correlation": "correlation with true intensity"}
CURVES = ("val_war", "val_uar", "val_loss", "train_loss", "train_war", "lr")
SHOWN_FRAMES = 8


@dataclass
class Method:
    """Runs that differ only in seed or fold.

    Attributes:
        name: a letter.
        head: "score fusion", "self-attention", "relation-attention", or "unknown".
        settings: the arguments in which it differs from the other methods.
        runs: one or more, by fold and seed.
        names: a short name for each run: A, or A1, A2, ...
        like: the name of the earlier method that it is most like; empty for the first.
        differences: head and settings that differ from that method.
    """

    name: str
    head: str
    settings: dict[str, str]
    runs: list[RunFiles]
    names: list[str]
    like: str = ""
    differences: dict[str, str] = field(default_factory=dict)

    @property
    def description(self) -> str:
        """How it differs, in one line."""
        parts = [value if key == "head" else f"{key} {value}" for key, value in self.differences.items()]
        return (f"like {self.like}, but " if self.like else "") + ", ".join(parts)

    def spread(self, which: str, measure: str) -> tuple[float, float, float] | None:
        """(mean, lowest, highest) of a number of results.json over the runs; None if a run does not have it."""
        values = [run.results.get(which, {}).get(measure) for run in self.runs]
        known = [value for value in values if value is not None]
        return (float(np.mean(known)), min(known), max(known)) if known and len(known) == len(values) else None

    def right(self) -> dict[str, float]:
        """For each clip the share of the runs that have it right, among those that evaluated it."""
        answers: dict[str, list[bool]] = {}
        for run in self.runs:
            for clip in run.clips:
                answers.setdefault(clip.name, []).append(clip.right)
        return {name: float(np.mean(rights)) for name, rights in answers.items()}


@dataclass(frozen=True)
class Pair:
    """How much better the method `first` is than `second`, on the clips that both evaluated."""

    first: str
    second: str
    war: Difference
    uar: Difference
    better: int
    worse: int
    clips: int


@dataclass
class Answer:
    """The prediction of one run for a clip."""

    run: str
    clip: ClipRow


@dataclass
class ComparedClip:
    """A clip that not all runs predict alike.

    Attributes:
        agreement: for each method 0 if all its runs are wrong, 1 if some are right, 2 if all are; None if it did not
            evaluate the clip.
    """

    number: int
    clip: ClipRow
    truth: int
    agreement: list[int | None]
    tiles: list[Tile]
    answers: list[Answer]


def compare_runs(
    folders: Sequence[Path], output: Path, frames_root: Path | None = None, *, progress: bool = False
) -> tuple[Path, str]:
    """Writes the page that compares runs.

    Args:
        folders: of two or more runs.
        output: the page to write, `.html`.
        frames_root: where the clips' frames are now (default: where they were when the runs were evaluated).
        progress: show a progress bar.

    Returns:
        (the page, the methods and their differences as plain text).

    Raises:
        ReportError: the runs cannot be compared, or the page cannot be written.
    """
    if output.suffix != ".html" or not output.parent.is_dir():
        raise ReportError(f"--output {output}: name a .html file in an existing folder")
    methods = group_runs(read_runs(folders))
    pairs, differing = pairs_of(methods), clips_that_differ(methods)
    whiches = [which for which in ("best", "last") if any(which in run.results for of in methods for run in of.runs)]
    runs = {name: run for of in methods for name, run in zip(of.names, of.runs, strict=True)}
    styles = line_styles({name: of.name for of in methods for name in of.names})
    # One point makes no curve.
    logs = {name: run.log for name, run in runs.items() if len(run.log) > 1}
    clip_cards = ClipCards(next(iter(runs.values())), frames_root, clips=max(len(differing), 1))
    cards = _cards(methods, runs, differing, clip_cards)
    page = write_page(
        output,
        "compare.html.j2",
        name=f"{counted(len(runs), 'run')} compared",
        methods=methods,
        settings=list(methods[0].settings),
        whiches=whiches,
        chosen_here=any(run.chosen_here for run in runs.values()),
        spread_text=spread_text,
        measures=[key for key in MEASURES if any(of.spread(which, key) for of in methods for which in whiches)],
        titles=MEASURES,
        runs=runs,
        pairs=pairs,
        curves=log_curves(logs, CURVES, styles),
        styles={name: styles[name] for name in logs},
        labels=next(iter(runs.values())).labels,
        num_differing=len(differing),
        num_clips=len({clip.name for run in runs.values() for clip in run.clips}),
        cards=with_progress(cards, "comparison", len(differing), show=progress),
        side=clip_cards.side,
        clip_cards=clip_cards,
    )  # fmt: skip
    return page, _as_text(methods, pairs, whiches)


def read_runs(folders: Sequence[Path]) -> list[RunFiles]:
    """Reads runs that can be compared.

    Raises:
        ReportError: fewer than two, one of them twice, one without results or predictions, or different classes.
    """
    if len(folders) < 2:
        raise ReportError("--compare: name two or more runs")
    runs: list[RunFiles] = []
    for folder in folders:
        if any(Path(folder).resolve() == run.folder.resolve() for run in runs):
            raise ReportError(f"{folder}: is named twice; name each run once")
        run = read_run(folder)
        if not run.clips or not {"best", "last"} & run.results.keys():
            missing = "predictions.csv" if not run.clips else "results.json"
            raise ReportError(f"{folder}: has no {missing}, so its training did not end; finish it with --resume")
        if runs and run.labels != runs[0].labels:
            theirs, ours = ", ".join(runs[0].labels), ", ".join(run.labels)
            raise ReportError(f"{folder}: its classes are {ours}, but those of {runs[0].folder} are {theirs}")
        runs.append(run)
    return runs


def group_runs(runs: Sequence[RunFiles]) -> list[Method]:
    """Groups runs into methods, in the order of the paper's table: score fusion, self-attention, relation-attention."""
    keys, order = _differences(runs), [*HEAD_TITLES, None]
    groups: dict[tuple[str, ...], list[RunFiles]] = {}
    for run in sorted(
        runs, key=lambda run: (order.index(run.at_type), run.args.get("fold") or 0, _seed(run), run.name)
    ):
        groups.setdefault((_head(run), *(_value(run, key) for key in keys)), []).append(run)
    if len(groups) == 1:
        repeated = [key for key in ("fold", "seed") if len({_value(run, key) for run in runs}) > 1]
        # Runs that are equal even in fold and seed differ in their folder only.
        keys = (
            repeated if len({tuple(_value(run, key) for key in repeated) for run in runs}) == len(runs) else ["folder"]
        )
        (same,) = groups.values()
        groups = {(_head(run), *(_value(run, key) for key in keys)): [run] for run in same}
    methods: list[Method] = []
    for at, ((head, *values), members) in enumerate(groups.items()):
        name = chr(ord("A") + at) if at < 26 else f"A{at}"
        names = [name] if len(members) == 1 else [f"{name}{number}" for number in range(1, len(members) + 1)]
        method = Method(name, head, dict(zip(keys, values, strict=True)), members, names)
        everything = {"head": head, **method.settings}
        method.differences = everything
        for other in methods:
            theirs = {"head": other.head, **other.settings}
            differences = {key: value for key, value in everything.items() if value != theirs[key]}
            if len(differences) < len(method.differences) or not method.like:
                method.like, method.differences = other.name, differences
        methods.append(method)
    return methods


def pairs_of(methods: Sequence[Method]) -> list[Pair]:
    """The paired differences of all methods. The later one minus the earlier one, so that an improvement is positive.

    Raises:
        ReportError: two methods have no clip in common, or runs disagree on the true class of a clip.
    """
    truth: dict[str, tuple[str, RunFiles]] = {}
    for run in (run for of in methods for run in of.runs):
        for clip in run.clips:
            label, other = truth.setdefault(clip.name, (clip.label, run))
            if label != clip.label:
                raise ReportError(
                    f"{run.folder}: clip {clip.name!r} is {clip.label} there and {label} in {other.folder}; "
                    "compare runs on the same data"
                )
    rights = [of.right() for of in methods]
    pairs = []
    for second, first in combinations(range(len(methods)), 2):
        common = sorted(rights[first].keys() & rights[second].keys())
        if not common:
            raise ReportError(
                f"{methods[first].runs[0].folder}: no clip in common with {methods[second].runs[0].folder}; "
                "compare runs that were evaluated on the same clips"
            )
        a, b = (np.array([rights[which][name] for name in common]) for which in (first, second))
        classes = np.unique([truth[name][0] for name in common], return_inverse=True)[1]
        war, uar = (paired_difference(a, b, classes, balanced=balanced) for balanced in (False, True))
        names = methods[first].name, methods[second].name
        pairs.append(Pair(*names, war, uar, int((a > b).sum()), int((a < b).sum()), len(common)))
    return pairs


def clips_that_differ(methods: Sequence[Method]) -> list[tuple[float, ClipRow]]:
    """Clips that not all runs predict alike, with the largest difference between methods in the share of right runs.

    Largest difference first. The clip is taken from the first run that has it.
    """
    answers: dict[str, list[ClipRow]] = {}
    for run in (run for of in methods for run in of.runs):
        for clip in run.clips:
            answers.setdefault(clip.name, []).append(clip)
    rights = [of.right() for of in methods]
    found = []
    for name, rows in answers.items():
        if len({row.prediction for row in rows}) > 1:
            shares = [of[name] for of in rights if name in of]
            found.append((max(shares) - min(shares), rows[0]))
    return sorted(found, key=lambda pair: (-pair[0], pair[1].name))


def _cards(
    methods: Sequence[Method],
    runs: dict[str, RunFiles],
    differing: Sequence[tuple[float, ClipRow]],
    clip_cards: ClipCards,
) -> Iterator[ComparedClip]:
    rows = {name: {clip.name: clip for clip in run.clips} for name, run in runs.items()}
    rights = [of.right() for of in methods]
    for number, (_, clip) in enumerate(differing):
        answers = [Answer(run, of_run[clip.name]) for run, of_run in rows.items() if clip.name in of_run]
        shares = [of.get(clip.name) for of in rights]
        agreement = [None if share is None else 0 if share == 0 else 2 if share == 1 else 1 for share in shares]
        # Not every run has the weights of this clip's frames.
        seen = next((answer.clip for answer in answers if answer.clip.weights is not None), clip)
        tiles = clip_cards.tiles(seen, min(SHOWN_FRAMES, clip_cards.most))
        folder = next((run.folders[clip.name] for run in runs.values() if clip.name in run.folders), None)
        clip_cards.add_pictures(clip.name, tiles, folder)
        yield ComparedClip(number, clip, clip_cards.run.labels.index(clip.label), agreement, tiles, answers)


def _as_text(methods: Sequence[Method], pairs: Sequence[Pair], whiches: Sequence[str]) -> str:
    """The key, the table of methods and the paired differences for a terminal."""
    lines = [f"{of.name}: {of.description}" for of in methods]
    rows = [["", "runs", *(f"{name} % ({which})" for which in whiches for name in ("WAR", "UAR"))]]
    for of in methods:
        cells = [spread_text(of.spread(which, name)) for which in whiches for name in ("accuracy", "uar")]
        rows.append([of.name, str(len(of.runs)), *cells])
    widths = [max(len(row[at]) for row in rows) for at in range(len(rows[0]))]
    lines += ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    for pair in pairs:
        parts = (
            f"{name} {100 * of.value:+.2f} points ({difference_text(of)})"
            for name, of in (("WAR", pair.war), ("UAR", pair.uar))
        )
        lines.append(f"{pair.first} - {pair.second}: {', '.join(parts)}; {counted(pair.clips, 'clip')}")
    return "\n".join(lines)


def spread_text(spread: tuple[float, float, float] | None, measure: str = "accuracy") -> str:
    """Mean and range of repeated runs, `51.20 (50.10 to 52.00)`. Without a range, the mean alone."""
    if spread is None:
        return "-"
    scale, digits = (1, 3) if measure == "attention_correlation" else (100, 2)
    mean, low, high = (f"{scale * value:.{digits}f}" for value in spread)
    return mean if low == high else f"{mean} ({low} to {high})"


def _head(run: RunFiles) -> str:
    return "unknown" if run.at_type is None else HEAD_TITLES[run.at_type]


def _seed(run: RunFiles) -> int:
    seed = run.args.get("seed")
    return seed if isinstance(seed, int) else 0


def _value(run: RunFiles, key: str) -> str:
    return run.name if key == "folder" else setting(key, run.args.get(key))


def _differences(runs: Sequence[RunFiles]) -> list[str]:
    """Names of the arguments in which runs differ."""
    keys = {key for run in runs for key in run.args} - NOT_A_METHOD
    # An argument that a run does not have at all is one of another version, not a difference.
    known = [key for key in sorted(keys) if all(key in run.args for run in runs)]
    return [key for key in known if len({_value(run, key) for run in runs}) > 1]
