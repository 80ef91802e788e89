"""The page of several folds or seeds: summary.html, beside summary.json and summary.md.

It shows the numbers of summary.json, which `Code.training.series` has computed, with the curves of the folds or seeds
in their folders (`fold-01/`, `seed-0/`), and links to their reports.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..common.wording import counted, percent
from ..training.intervals import interval_text
from ..training.records import FoldSummary, SeedSummary, Spread, read_arguments, read_summary
from .figures import line_styles
from .page import Box, log_curves, write_page
from .runs import RunFiles, method_of, read_run, shown_settings

MEASURES = {"accuracy": "WAR", "uar": "UAR"}
CURVES = ("val_war", "val_uar", "val_loss", "train_loss")


@dataclass(frozen=True)
class Member:
    """A fold or a seed.

    Attributes:
        shares: its WAR and UAR for the last, then for the best epoch.
        link: to its own page, relative to the overview; empty if there is none.
        run: its folder's contents; None if the folder is gone.
    """

    number: int
    clips: int
    shares: list[float]
    link: str
    run: RunFiles | None


def write_overview(folder: Path) -> Path:
    """Writes `summary.html` into the folder of several folds or seeds, and into those of the seeds if they have folds.

    Args:
        folder: has a summary.json.

    Returns:
        The path of the page.

    Raises:
        StateError, ReportError: a file of the folder is missing or cannot be read.
        UsageError: the page cannot be written.
    """
    summary = read_summary(folder / "summary.json")
    arguments = read_arguments(folder) if (folder / "args.json").is_file() else None
    # If no epoch was chosen, best is last.
    whiches = ("last",) if summary.selected_on.startswith("last") else ("last", "best")
    if isinstance(summary, SeedSummary):
        for path in sorted(folder.glob("seed-*/summary.json")):
            write_overview(path.parent)
        kind, members = "seed", _seeds(folder, summary, whiches)
        page = _of_seeds(summary, members, whiches)
    else:
        kind, members = "fold", _folds(folder, summary, whiches)
        page = _of_folds(summary, whiches)
    # One point makes no curve.
    logs = {f"{kind} {of.number}": of.run.log for of in members if of.run is not None and len(of.run.log) > 1}
    styles = line_styles({name: name for name in logs})
    args = arguments.args if arguments else next((of.run.args for of in members if of.run is not None), {})
    return write_page(
        folder / "summary.html",
        "series.html.j2",
        name=f"{method_of(args)}: {_parts(folder, summary)}",
        folder=_shown_folder(folder),
        settings=shown_settings(arguments),
        kind=kind,
        whiches=whiches,
        labels=summary.labels,
        selected_on=summary.selected_on,
        members=members,
        styles=styles,
        curves=log_curves(logs, CURVES, styles),
        **page,
    )


def _folds(folder: Path, summary: FoldSummary, whiches: Sequence[str]) -> list[Member]:
    members = []
    for rows in zip(*(getattr(summary, which).folds for which in whiches), strict=True):
        shares = [getattr(row, key) for row in rows for key in MEASURES]
        members.append(Member(rows[0].fold, rows[0].num_clips, shares, *_run_of(folder, "fold", rows[0].fold)))
    return members


def _seeds(folder: Path, summary: SeedSummary, whiches: Sequence[str]) -> list[Member]:
    columns = [getattr(summary, which)[key].values for which in whiches for key in MEASURES]
    return [
        Member(seed, summary.num_clips, list(shares), *_run_of(folder, "seed", seed))
        for seed, *shares in zip(summary.seeds, *columns, strict=True)
    ]


def _run_of(folder: Path, kind: str, number: int) -> tuple[str, RunFiles | None]:
    """The link to the page of a fold or seed, and its folder's contents."""
    for path in folder.glob(f"{kind}-*"):
        if path.name.removeprefix(f"{kind}-").lstrip("0") == str(number).lstrip("0"):
            pages = [name for name in ("summary.html", "report.html") if (path / name).is_file()]
            return f"{path.name}/{pages[0]}" if pages else "", read_run(path)
    return "", None


def _of_folds(summary: FoldSummary, whiches: Sequence[str]) -> dict[str, Any]:
    """What the template shows of folds."""
    parts = {which: getattr(summary, which) for which in whiches}
    boxes = []
    for which, part in parts.items():
        pooled, clips = part.pooled, part.pooled.num_clips
        war, uar = (interval_text(of or (), clips) for of in (pooled.accuracy_interval, pooled.uar_interval))
        rows = [("UAR", f"{percent(pooled.uar)} %; {uar}")]
        rows += [(f"{name} over folds", _mean_and_range(part.mean_over_folds[key])) for key, name in MEASURES.items()]
        text = f"accuracy (WAR) of {counted(clips, 'clip')}; {war}"
        boxes.append(Box(f"{which} epoch", percent(pooled.accuracy), text, rows))
    last, skipped = summary.last.pooled, summary.last.pooled.num_skipped
    recalls = [[(percent(recall), "") for recall in part.pooled.per_class_recall] for part in parts.values()]
    pooled_shares = [percent(getattr(part.pooled, key)) for part in parts.values() for key in MEASURES]
    spreads = [part.mean_over_folds[key] for part in parts.values() for key in MEASURES]
    return {
        "boxes": boxes,
        "note": "Over folds: mean ± standard deviation, and the range."
        + (f" Skipped: {counted(skipped, 'listed clip')} without frames." if skipped else ""),
        "totals": [*_totals("folds", spreads), ("pooled", pooled_shares)],
        "confusions": [(which, part.pooled.confusion) for which, part in parts.items()],
        "classes": list(zip(summary.labels, map(sum, last.confusion), zip(*recalls, strict=True), strict=True)),
    }


def _of_seeds(summary: SeedSummary, members: list[Member], whiches: Sequence[str]) -> dict[str, Any]:
    """What the template shows of seeds."""
    boxes, spreads = [], []
    for which in whiches:
        part: dict[str, Spread] = getattr(summary, which)
        spreads += [part[key] for key in MEASURES]
        rows = [(name, _mean_and_range(part[key])) for key, name in MEASURES.items()]
        if "attention_correlation" in part:
            mean = part["attention_correlation"].mean
            rows.append(("attention", f"{mean:.3f} rank correlation of weights with true intensity"))
        seeds, clips = counted(len(summary.seeds), "seed"), counted(summary.num_clips, "clip")
        text = f"accuracy (WAR), mean of {seeds} on {clips}"
        boxes.append(Box(f"{which} epoch", percent(part["accuracy"].mean), text, rows))
    results = [of.run.results for of in members if of.run is not None and of.run.results is not None]
    recalls = [
        [_recall(of) for of in zip(*(getattr(result, which).per_class_recall for result in results), strict=True)]
        for which in whiches
    ]
    support = [sum(row) for row in results[0].last.confusion] if results and results[0].last else []
    return {
        "boxes": boxes,
        "note": "Mean ± standard deviation, and the range: what the seed alone changes, on the same clips.",
        "totals": _totals("seeds", spreads),
        "confusions": [],
        "classes": list(zip(summary.labels, support, zip(*recalls, strict=True), strict=True)) if support else [],
    }


def _totals(what: str, spreads: list[Spread]) -> list[tuple[str, list[str]]]:
    """Rows below the table of folds or seeds."""
    return [
        (f"mean over {what}", [percent(of.mean) for of in spreads]),
        ("standard deviation", [percent(of.std) for of in spreads]),
        ("range", [range_text(of) for of in spreads]),
    ]


def _parts(folder: Path, summary: FoldSummary | SeedSummary) -> str:
    """`10 folds, 3 seeds`"""
    parts = []
    if isinstance(summary, SeedSummary) and summary.fold is not None:
        parts.append(f"fold {summary.fold} of {summary.num_folds}")
    elif summary.num_folds is not None:
        parts.append(counted(summary.num_folds, "fold"))
    if isinstance(summary, SeedSummary):
        parts.append(counted(len(summary.seeds), "seed"))
    elif folder.name.startswith("seed-"):
        parts.append(folder.name.replace("-", " "))
    return ", ".join(parts)


def _shown_folder(folder: Path) -> str:
    """The folder's name, and that of the series if it is a seed of several."""
    folder = folder.resolve()
    return f"{folder.parent.name}/{folder.name}" if folder.name.startswith("seed-") else folder.name


def _mean_and_range(of: Spread) -> str:
    mean = percent(of.mean) + (f" ± {percent(of.std)}" if of.std is not None else "")
    return f"{mean}, {range_text(of)}"


def range_text(of: Spread) -> str:
    """`95.83 to 98.77`"""
    return f"{percent(of.range[0])} to {percent(of.range[1])}"


def _recall(values: Sequence[float | None]) -> tuple[str, str]:
    """The mean and the range of a class's recall over seeds."""
    known = [value for value in values if value is not None]
    if not known:
        return "-", ""
    mean = percent(sum(known) / len(known))
    return mean, "" if min(known) == max(known) else f"{percent(min(known))} to {percent(max(known))}"
