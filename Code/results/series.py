"""The pages of several folds or seeds: summary.html and summary.md, beside summary.json.

They show the numbers of summary.json, which `Code.training.series` has computed, with the curves of the folds or seeds
in their folders (`fold-01/`, `seed-0/`), and links to their reports.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..common.files import save_text, writing
from ..common.names import counted, percent
from ..training.intervals import interval_text
from ..training.records import FoldPart, FoldSummary, Metrics, SeedSummary, Spread, read_arguments, read_summary
from .figures import line_styles
from .page import Box, curve_pictures, panels_of_runs, write_page
from .runs import RunFiles, method_of, read_run, shown_settings

MEASURES = {"accuracy": "WAR", "uar": "UAR"}
CURVES = ("val_war", "val_uar", "val_loss", "train_loss")
ClassRow = tuple[str, int, list[tuple[str, str]]]  # name, clips, and mean and range of the recall for each epoch


def write_overview(folder: Path) -> Path:
    """Writes `summary.html` and `summary.md` into the folder of a series, and of its seeds if they have folds.

    Args:
        folder: has a summary.json.

    Returns:
        The path of summary.html.

    Raises:
        StateError, ReportError: a file of the folder is missing or cannot be read.
        UsageError: the page cannot be written.
    """
    for path in sorted(folder.glob("seed-*/summary.json")):
        write_overview(path.parent)
    summary = read_summary(folder / "summary.json")
    arguments = read_arguments(folder) if (folder / "args.json").is_file() else None
    # If no epoch was chosen, best is last.
    whiches = ("last",) if summary.selected_on.startswith("last") else ("last", "best")
    parts = {which: getattr(summary, which) for which in whiches}
    spreads: dict[str, dict[str, Spread]]
    if isinstance(summary, SeedSummary):
        kind, pooled, spreads = "seed", {}, parts
        sizes = dict.fromkeys(summary.seeds, summary.num_clips)
        boxes = [_box_of_seeds(which, of, summary) for which, of in spreads.items()]
        note = "Mean ± standard deviation, and the range: what the seed alone changes, on the same clips."
    else:
        kind, pooled = "fold", {which: part.pooled for which, part in parts.items()}
        spreads = {which: part.mean_over_folds for which, part in parts.items()}
        sizes = {row.fold: row.num_clips for row in summary.last.folds}
        boxes = [_box_of_folds(which, part) for which, part in parts.items()]
        note, skipped = "Over folds: mean ± standard deviation, and the range.", summary.last.pooled.num_skipped
        note += f" Skipped: {counted(skipped, 'listed clip')} without frames." if skipped else ""
    columns = [spreads[which][key] for which in whiches for key in MEASURES]
    totals = [
        (f"mean over {kind}s", [percent(of.mean) for of in columns]),
        ("standard deviation", [percent(of.std) for of in columns]),
        ("range", [of.range_text for of in columns]),
    ]
    if pooled:
        totals.append(("pooled", [percent(getattr(of, key)) for of in pooled.values() for key in MEASURES]))
    members: list[dict[str, Any]] = []
    runs: dict[str, RunFiles] = {}
    for at, (number, clips) in enumerate(sizes.items()):
        link, run = _run_of(folder, kind, number)
        members.append({"number": number, "clips": clips, "shares": [of.values[at] for of in columns], "link": link})
        runs |= {} if run is None else {f"{kind} {number}": run}
    logs = {name: run.log for name, run in runs.items() if len(run.log) > 1}  # one point makes no curve
    styles = line_styles({name: name for name in logs})
    args = arguments.args if arguments else next((run.args for run in runs.values()), {})
    name = f"{method_of(args)}: {_parts(folder, summary)}"
    confusions = {which: of.confusion for which, of in pooled.items()}
    best = f"Best epoch means {summary.selected_on}. " if len(whiches) > 1 else ""
    header = [kind, "clips", *(f"{measure} %, {which}" for which in whiches for measure in MEASURES.values())]
    rows = [[f"{of['number']}", f"{of['clips']}", *map(percent, of["shares"])] for of in members]
    rows += [[title, "", *values] for title, values in totals]
    total = sum(sizes.values()) if pooled else max(sizes.values())
    lines = [f"# {name}, {counted(total, 'clip')}", "", best + note, *_table(header, rows)]
    lines += ["", *(f"{of.title}: {of.value} % {of.text}; {'; '.join(map(' '.join, of.rows))}." for of in boxes)]
    for which, matrix in confusions.items():
        lines += ["", f"Pooled confusion, {which} epoch (rows true, columns predicted):"]
        cells = [[label, *map(str, row)] for label, row in zip(summary.labels, matrix, strict=True)]
        lines += _table(["", *summary.labels], cells)
    with writing(folder / "summary.md"):
        save_text("\n".join(lines) + "\n", folder / "summary.md")
    return write_page(
        folder / "summary.html",
        "series.html.j2",
        name=name,
        folder=_shown_folder(folder),
        settings=shown_settings(arguments),
        kind=kind,
        whiches=whiches,
        boxes=boxes,
        note=note,
        labels=summary.labels,
        selected_on=summary.selected_on,
        members=members,
        totals=totals,
        styles=styles,
        curves=curve_pictures(panels_of_runs(logs, CURVES), styles),
        confusions=confusions,
        classes=_classes(summary.labels, [[pooled[of]] if pooled else _metrics(runs, of) for of in whiches]),
    )


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """A table as lines of Markdown, after an empty one."""
    lines = [" | ".join(cell.replace("|", "\\|") for cell in row) for row in (header, *rows)]
    return ["", f"| {lines[0]} |", "|---" * len(header) + "|", *(f"| {line} |" for line in lines[1:])]


def _box_of_folds(which: str, part: FoldPart) -> Box:
    pooled, clips = part.pooled, part.pooled.num_clips
    war, uar = (interval_text(of, clips) for of in (pooled.accuracy_interval, pooled.uar_interval))
    rows = [("UAR", f"{percent(pooled.uar)} %; {uar}")]
    rows += [(f"{name} over folds", _spread_text(part.mean_over_folds[key])) for key, name in MEASURES.items()]
    text = f"accuracy (WAR) of {counted(clips, 'clip')}; {war}"
    return Box(f"{which} epoch", percent(pooled.accuracy), text, rows)


def _box_of_seeds(which: str, spreads: dict[str, Spread], summary: SeedSummary) -> Box:
    rows = [(name, _spread_text(spreads[key])) for key, name in MEASURES.items()]
    if "attention_correlation" in spreads:
        mean = spreads["attention_correlation"].mean
        rows.append(("attention", f"{mean:.3f} rank correlation of weights with true intensity"))
    seeds, clips = counted(len(summary.seeds), "seed"), counted(summary.num_clips, "clip")
    return Box(f"{which} epoch", percent(spreads["accuracy"].mean), f"accuracy (WAR), mean of {seeds} on {clips}", rows)


def _spread_text(of: Spread) -> str:
    return f"{of.mean_text}, {of.range_text}"


def _run_of(folder: Path, kind: str, number: int) -> tuple[str, RunFiles | None]:
    """The link to the page of a fold or seed, "" without a page, and its folder's contents."""
    for path in folder.glob(f"{kind}-*"):
        if int(path.name.removeprefix(f"{kind}-")) == number:
            pages = [f"{path.name}/{name}" for name in ("summary.html", "report.html") if (path / name).is_file()]
            return pages[0] if pages else "", read_run(path)
    return "", None


def _metrics(runs: Mapping[str, RunFiles], which: str) -> list[Metrics]:
    return [metrics for run in runs.values() if (metrics := run.metrics(which)) is not None]


def _classes(
    labels: Sequence[str], epochs: Sequence[Sequence[Metrics]]
) -> list[tuple[str, int, list[tuple[str, str]]]]:
    """Name and clips of each class, and the mean and the range of its recall in each epoch's metrics."""
    if not all(epochs):
        return []
    support = [sum(row) for row in epochs[0][0].confusion]
    recalls = [[_recall(of) for of in zip(*(one.per_class_recall for one in epoch), strict=True)] for epoch in epochs]
    return [(label, clips, list(of)) for label, clips, *of in zip(labels, support, *recalls, strict=True)]


def _recall(values: Sequence[float | None]) -> tuple[str, str]:
    known = [value for value in values if value is not None]
    if not known:
        return "-", ""
    spread = "" if min(known) == max(known) else f"{percent(min(known))} to {percent(max(known))}"
    return percent(sum(known) / len(known)), spread


def _parts(folder: Path, summary: FoldSummary | SeedSummary) -> str:
    """`10 folds, 3 seeds`"""
    parts = [] if summary.num_folds is None else [counted(summary.num_folds, "fold")]
    if isinstance(summary, SeedSummary) and summary.fold is not None:
        parts = [f"fold {summary.fold} of {summary.num_folds}"]
    if isinstance(summary, SeedSummary):
        parts.append(counted(len(summary.seeds), "seed"))
    elif folder.name.startswith("seed-"):
        parts.append(folder.name.replace("-", " "))
    return ", ".join(parts)


def _shown_folder(folder: Path) -> str:
    """The folder's name, and that of the series if it is a seed of several."""
    folder = folder.resolve()
    return f"{folder.parent.name}/{folder.name}" if folder.name.startswith("seed-") else folder.name
