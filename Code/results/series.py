"""Several trainings of one command: the results of every fold and every seed together, and the page that shows them.

    model/<date-time>_ckplus_relation-attention_folds/
        args.json  summary.json  summary.md  results.json  predictions.csv      of all folds together
        fold-01/ ... fold-10/                                                   the folder of a run each

With several seeds there is a folder per seed around it. The files above are written after the last fold, so the result
of one fold is never taken for the whole.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..common.files import save_text, writing
from ..common.names import counted, natural_key, percent
from ..training.intervals import interval_text
from ..training.metrics import confusion_metrics
from ..training.records import AGAIN, Metrics, ReportError, Results, read_arguments, read_results
from ..training.run import Run
from .figures import line_styles
from .page import Box, curve_pictures, write_page
from .runs import RunFiles, method_of, read_run, shown_settings

MEASURES = ("accuracy", "uar", "attention_correlation", "attention_auc")  # the last two where they are known
CURVES = {
    "val_war": "validation WAR (%)",
    "val_uar": "validation UAR (%)",
    "val_loss": "validation loss",
    "train_loss": "training loss",
}
COLUMNS = {"accuracy": "WAR %", "uar": "UAR %"}
CORRELATION = "rank correlation of weights with true intensity"


@dataclass
class Spread:
    """A measure over several folds or seeds; `std` is of the sample, None for a single value."""

    mean: float
    range: tuple[float, float]
    values: list[float]
    std: float | None = None

    @property
    def mean_text(self) -> str:
        """The mean and the standard deviation in %, `97.21 ± 1.04`; the mean alone for a single value."""
        return percent(self.mean) + ("" if self.std is None else f" ± {percent(self.std)}")

    @property
    def range_text(self) -> str:
        """`95.83 to 98.77`"""
        return f"{percent(self.range[0])} to {percent(self.range[1])}"


def spread(values: Sequence[float]) -> Spread:
    """The pooled clips have an interval, the mean over folds has none: folds share their training clips, so none is
    known to be right (Bengio & Grandvalet, JMLR 5, 2004).
    """
    std = float(np.std(values, ddof=1)) if len(values) > 1 else None
    return Spread(float(np.mean(values)), (min(values), max(values)), list(values), std)


def spreads(metrics: Sequence[Metrics]) -> dict[str, Spread]:
    """The spread of each measure that all of them have."""
    values = {name: [getattr(of, name) for of in metrics] for name in MEASURES}
    return {name: spread(of) for name, of in values.items() if None not in of}


def write_fold_summary(folder: Path, folds: Sequence[Path]) -> None:
    """Writes the results of all folds together: each clip is evaluated in one fold, so the counts add up.

    `folds` are the folders of their runs, in order. StateError, ReportError: results are missing, or of other classes.
    """
    results = {fold: read_results(fold / "results.json") for fold in folds}
    first = results[folds[0]]
    for result in results.values():  # each fold may have lists of its own
        if result.labels != first.labels:
            raise ReportError(
                f"fold {result.fold}: its classes are {', '.join(result.labels)}; those of fold {first.fold} are "
                f"{', '.join(first.labels)}: name the classes of all folds with --labels"
            )
    rows: list[list[str]] = []
    for fold in folds:
        with open(fold / "predictions.csv", newline="", encoding="utf-8", errors="surrogateescape") as file:
            header, *of_fold = csv.reader(file)
        rows += of_fold
    parts = {which: _pooled(of) for which, of in _metrics_of(results).items()}
    about = {"labels": first.labels, "selected_on": first.selected_on, "num_folds": len(folds)}
    run = Run(folder)
    run.write_rows("predictions.csv", header, rows)
    run.write_json("summary.json", about | parts)
    run.write_json("results.json", about | {which: part["pooled"] for which, part in parts.items()} | {"pooled": True})


def _metrics_of(results: Mapping[Path, Results]) -> dict[str, list[Metrics]]:
    """The metrics of the last and of the best epoch of runs, by their folders; ReportError if one has none."""
    for folder, of in results.items():
        if not of.last or not of.best:
            raise ReportError(f"{folder / 'results.json'}: lacks the last or the best epoch; {AGAIN}")
    return {which: [getattr(of, which) for of in results.values()] for which in ("last", "best")}


def _pooled(metrics: Sequence[Metrics]) -> dict[str, Any]:
    """All folds together, for one epoch of each: their confusion matrices summed, their mean, and each."""
    pooled = confusion_metrics(
        torch.tensor([of.confusion for of in metrics]).sum(dim=0),
        num_listed=sum(of.num_clips_listed or of.num_clips for of in metrics),
        num_skipped=sum(of.num_skipped for of in metrics),
    )
    # The mean over clips: folds weighted by their number of clips.
    pooled["loss"] = float(np.average([of.loss or 0.0 for of in metrics], weights=[of.num_clips for of in metrics]))
    names = ("epoch", "accuracy", "uar", "num_clips", "num_skipped")
    return {
        "pooled": pooled,
        "mean_over_folds": {name: asdict(of) for name, of in spreads(metrics).items()},
        "folds": [{"fold": fold} | {name: getattr(of, name) for name in names} for fold, of in enumerate(metrics, 1)],
    }


def write_seed_summary(folder: Path, seeds: Sequence[int]) -> None:
    """Writes the results of all seeds together; with folds, each seed's are those of its folds pooled."""
    folders = [folder / f"seed-{seed}" for seed in seeds]
    results = {of_seed: read_results(of_seed / "results.json") for of_seed in folders}
    first, metrics = results[folders[0]], _metrics_of(results)
    summary: dict[str, Any] = {"labels": first.labels, "selected_on": first.selected_on, "seeds": list(seeds)}
    summary |= {"fold": first.fold, "num_folds": first.num_folds, "num_clips": metrics["last"][0].num_clips}
    measures = {which: {name: asdict(of) for name, of in spreads(each).items()} for which, each in metrics.items()}
    Run(folder).write_json("summary.json", summary | measures)


def curves_of_runs(runs: Mapping[str, RunFiles], methods: Mapping[str, str]) -> dict[str, Any]:
    """The curves of several runs as templates show them: pictures, and the styles of the lines.

    `methods` has for each run the name of its method. Runs of one method have the same color.
    """
    logs = {name: run.log for name, run in runs.items() if len(run.log) > 1}  # one point makes no curve
    styles = {name: style for name, style in line_styles(methods).items() if name in logs}
    panels = {title: {name: (log, key) for name, log in logs.items()} for key, title in CURVES.items()}
    return {"curves": curve_pictures(panels, styles), "styles": styles}


def result_box(title: str, metrics: Metrics) -> Box:
    """The metrics of an epoch as a page shows them."""
    clips = metrics.num_clips
    if metrics.epoch is not None:
        title += f" {metrics.epoch:.0f}" if title.endswith("epoch") else f" of epoch {metrics.epoch:.0f}"
    counts = str(clips)
    if metrics.num_skipped:
        counts += f" of {metrics.num_clips_listed} listed; {metrics.num_skipped} without frames skipped, "
        counts += f"{percent(metrics.accuracy_listed)} % of those listed"
    rows = [("UAR", f"{percent(metrics.uar)} %, {interval_text(metrics.uar_interval, clips)}"), ("clips", counts)]
    if metrics.attention_correlation is not None:
        text = f"{metrics.attention_correlation:.3f} {CORRELATION}"
        if metrics.attention_auc is not None:
            text += f"; {metrics.attention_auc:.3f} AUC of weights for the frames that show the expression"
        rows.append(("attention", text))
    text = f"accuracy (WAR), {interval_text(metrics.accuracy_interval, clips)}"
    return Box(title, percent(metrics.accuracy), text, rows)


def write_overview(folder: Path) -> Path:
    """Writes `summary.html` and `summary.md` into a folder of folds or seeds, and into its seeds if they have folds.

    StateError, ReportError, UsageError: a file is missing or cannot be read, or the page cannot be written.
    """
    for path in sorted(folder.glob("seed-*/summary.json")):
        write_overview(path.parent)
    kind = "seed" if any(folder.glob("seed-*")) else "fold"
    numbered = [path for path in folder.glob(f"{kind}-*") if path.name.removeprefix(f"{kind}-").isdecimal()]
    paths = sorted(numbered, key=lambda path: natural_key(path.name))
    whole = read_results(folder / "results.json") if kind == "fold" else None
    if whole and len(paths) != whole.num_folds:
        raise ReportError(f"{folder}: has {len(paths)} of {whole.num_folds} folds; put the others back")
    runs = {f"{kind} {int(path.name.removeprefix(f'{kind}-'))}": read_run(path) for path in paths}
    first = next(iter(runs.values()))
    arguments = read_arguments(folder) if (folder / "args.json").is_file() else first.arguments
    selected_on = first.results.selected_on or ""
    metrics = _metrics_of({run.folder: run.results for run in runs.values()})
    if selected_on.startswith("last"):  # no epoch was chosen: best is last
        del metrics["best"]
    rows = _table_rows(kind, list(runs), metrics)
    title = counted(len(runs), kind)
    if whole:
        of_all = _metrics_of({folder: whole})
        pooled = [of_all[which][0] for which in metrics]
        rows.append(["pooled", "", *(percent(getattr(of, measure)) for of in pooled for measure in COLUMNS)])
        boxes = [result_box(f"{which} epoch", of) for which, of in zip(metrics, pooled, strict=True)]
        total = sum(of.num_clips for of in metrics["last"])
    else:
        boxes = [_box_of_seeds(f"{which} epoch", of) for which, of in metrics.items()]
        total = metrics["last"][0].num_clips
        if folds := first.results.num_folds:
            title = (f"fold {first.results.fold} of " if first.results.fold else "") + f"{folds} folds, {title}"
    shown: dict[str, Any] = {
        "name": f"{method_of(arguments.args if arguments else {})}: {title}",
        "boxes": boxes,
        "note": f"Best epoch means {selected_on}." if "best" in metrics else "",
        "header": [kind, "clips", *(f"{measure}, {which}" for which in metrics for measure in COLUMNS.values())],
        "rows": rows,
    }
    with writing(folder / "summary.md"):
        save_text(_as_markdown(shown, total), folder / "summary.md")
    pages = [path / ("summary.html" if (path / "summary.json").is_file() else "report.html") for path in paths]
    return write_page(
        folder / "summary.html",
        "series.html.j2",
        kind=kind,
        labels=first.results.labels,
        # With very many classes a confusion matrix is empty.
        confusions={
            name: np.sum([of.confusion for of in each], axis=0) for name, each in metrics.items() if each[0].confusion
        },
        folder=folder.resolve().name,
        settings=shown_settings(arguments),
        links={name: page.relative_to(folder) for name, page in zip(runs, pages, strict=True)},
        **shown,
        **curves_of_runs(runs, {name: name for name in runs}),
    )


def _table_rows(kind: str, names: Sequence[str], metrics: Mapping[str, Sequence[Metrics]]) -> list[list[str]]:
    """A row for each run, and below them their mean, standard deviation and range."""
    columns = [spreads(of)[measure] for of in metrics.values() for measure in COLUMNS]
    rows = [
        [name, str(metrics["last"][at].num_clips), *(percent(of.values[at]) for of in columns)]
        for at, name in enumerate(names)
    ]
    rows.append([f"mean over {kind}s", "", *(percent(of.mean) for of in columns)])
    rows.append(["standard deviation", "", *(percent(of.std) for of in columns)])
    rows.append(["range", "", *(of.range_text for of in columns)])
    return rows


def _as_markdown(shown: dict[str, Any], clips: int) -> str:
    """The table and the boxes of an overview."""
    header, *rows = (" | ".join(row) for row in (shown["header"], *shown["rows"]))
    lines = [f"# {shown['name']}, {counted(clips, 'clip')}", "", shown["note"], ""]
    lines += [f"| {header} |", "|---" * len(shown["header"]) + "|", *(f"| {row} |" for row in rows), ""]
    lines += [f"{of.title}: {of.value} % {of.text}; {'; '.join(map(' '.join, of.rows))}." for of in shown["boxes"]]
    return "\n".join(lines) + "\n"


def _box_of_seeds(title: str, metrics: Sequence[Metrics]) -> Box:
    of = spreads(metrics)
    rows = [("UAR", f"{percent(of['uar'].mean)} %")]
    if "attention_correlation" in of:
        rows.append(("attention", f"{of['attention_correlation'].mean:.3f} {CORRELATION}"))
    text = f"accuracy (WAR), mean of {counted(len(metrics), 'seed')} on {counted(metrics[0].num_clips, 'clip')}"
    return Box(title, percent(of["accuracy"].mean), text, rows)
