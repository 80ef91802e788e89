"""Several runs on one page: the paper's table, paired differences, curves over each other, the clips they differ on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from Code.results.curves import LOG_TITLES, compare_curves
from Code.results.gallery import Gallery, Tile
from Code.results.page import inline, write_page
from Code.results.run_files import ClipRow, ReportError, RunFiles
from Code.results.units import MEASURES, Pair, Unit, clips_that_differ, group_runs, pairs_of, read_runs

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
