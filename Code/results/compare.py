"""Several runs of the same clips: which of them belong together, and how much better one is than another.

Several runs on one page.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from Code.results.figures import LOG_TITLES, compare_curves
from Code.results.intervals import Difference, paired_difference
from Code.results.page import Gallery, Tile, inline, write_page
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


CURVES = ("val_war", "val_uar", "val_loss", "train_loss", "train_war", "lr")
SHOWN_FRAMES = 8


@dataclass
class Opinion:
    """What one run says of a clip."""

    run: str
    clip: ClipRow


@dataclass
class ComparedClip:
    """A clip that runs differ on; `agreement` has, per method, 0 none of its runs right, 1 some, 2 all, or None."""

    number: int
    clip: ClipRow
    truth: int
    difference: float
    agreement: list[int | None]
    tiles: list[Tile]
    opinions: list[Opinion]


def compare_runs(
    folders: Sequence[Path], output: Path, frames_root: Path | None = None, *, progress: bool = False
) -> tuple[Path, str]:
    """Writes the page that compares runs.

    Args:
        folders: of two runs or more.
        output: the page to write, `.html`.
        frames_root: where the clips' frames are now; by default where they were.
        progress: show a bar on stderr if that is a terminal.

    Returns:
        (the page, the table of methods and their differences as plain text).

    Raises:
        ReportError: runs that cannot be compared, or a page that cannot be written.
    """
    if output.suffix != ".html" or not output.parent.is_dir():
        raise ReportError(f"--output {output}: name a .html file in a folder that exists")
    units = group_runs(read_runs(folders))
    pairs, differing = pairs_of(units), clips_that_differ(units)
    whiches = [which for which in ("best", "last") if any(which in run.results for unit in units for run in unit.runs)]
    runs = {name: run for unit in units for name, run in zip(unit.names, unit.runs, strict=True)}
    of_unit = {name: unit.name for unit in units for name in unit.names}
    logs = {name: run.log for name, run in runs.items() if run.log}
    curves = [
        (LOG_TITLES[key], inline(compare_curves(logs, key, of_unit)))
        for key in CURVES
        if any(line.get(key) is not None for log in logs.values() for line in log)
    ]
    gallery = Gallery(next(iter(runs.values())), frames_root, clips=max(len(differing), 1))
    cards = tqdm(
        _cards(units, runs, differing, gallery),
        "compare",
        len(differing),
        leave=False,
        disable=None if progress else True,
    )
    page = write_page(
        output,
        "compare.html.j2",
        name=f"{len(runs)} runs compared",
        units=units,
        whiches=whiches,
        measure_text=measure_text,
        measures=[measure for measure in MEASURES if any(unit.spread(w, measure) for unit in units for w in whiches)],
        runs=runs,
        pairs=pairs,
        curves=curves,
        labels=next(iter(runs.values())).labels,
        num_differing=len(differing),
        num_clips=len({clip.name for run in runs.values() for clip in run.clips}),
        cards=cards,
        side=gallery.side,
        gallery=gallery,
    )  # fmt: skip
    return page, _as_text(units, pairs, whiches)


def _cards(
    units: Sequence[Unit], runs: dict[str, RunFiles], differing: Sequence[tuple[float, ClipRow]], gallery: Gallery
) -> Iterator[ComparedClip]:
    rows = {name: {clip.name: clip for clip in run.clips} for name, run in runs.items()}
    rights = [unit.right() for unit in units]
    for number, (difference, clip) in enumerate(differing):
        opinions = [Opinion(run, said[clip.name]) for run, said in rows.items() if clip.name in said]
        shares = [of.get(clip.name) for of in rights]
        agreement = [None if share is None else 0 if share == 0 else 2 if share == 1 else 1 for share in shares]
        # A run with no frames' weights (or of another fold) leaves them to the next.
        seen = next((said.clip for said in opinions if said.clip.weights is not None), clip)
        tiles = gallery.tiles(seen, min(SHOWN_FRAMES, gallery.most))
        folder = next((run.folders[clip.name] for run in runs.values() if clip.name in run.folders), None)
        gallery.add_pictures(clip.name, tiles, folder)
        truth = gallery.run.labels.index(clip.label)
        yield ComparedClip(number, clip, truth, difference, agreement, tiles, opinions)


def _as_text(units: Sequence[Unit], pairs: Sequence[Pair], whiches: Sequence[str]) -> str:
    """The table of methods and the paired differences for a terminal."""
    rows = [["method", "runs", *(f"{name} of {which} %" for which in whiches for name in ("WAR", "UAR"))]]
    for unit in units:
        cells = [spread_text(unit.spread(which, name)) for which in whiches for name in ("accuracy", "uar")]
        rows.append([unit.name, str(len(unit.runs)), *cells])
    widths = [max(len(row[at]) for row in rows) for at in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    for pair in pairs:
        lines.append(
            f"{pair.first} - {pair.second}: WAR {100 * pair.war.value:+.2f} points "
            f"[{100 * pair.war.low:+.2f}, {100 * pair.war.high:+.2f}], {pair.clips} clips"
        )
    return "\n".join(lines)


def spread_text(spread: tuple[float, float, float] | None, scale: float = 100, digits: int = 2) -> str:
    """Mean and range of repeated runs, `51.20 (50.10 - 52.00)`; the mean alone where there is no range."""
    if spread is None:
        return "-"
    mean, low, high = (f"{scale * value:.{digits}f}" for value in spread)
    return mean if low == high else f"{mean} ({low} - {high})"


def measure_text(unit: Unit, which: str, measure: str) -> Any:
    """A cell of the page's table."""
    spread = unit.spread(which, measure)
    return spread_text(spread, 1, 3) if measure == "attention_correlation" else spread_text(spread)
