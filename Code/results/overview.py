"""The overview of several folds or seeds: summary.html, beside summary.json and summary.md.

It is made from summary.json, and from the folders of the folds or seeds (`fold-01/`, `seed-0/`) for their curves and
links to their reports.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..common.json_files import StateError
from ..common.wording import counted, percent
from ..training.intervals import interval_text
from ..training.records import AGAIN, as_dict, read_arguments, read_summary
from .figures import line_styles
from .page import log_curves, settings_of, write_page
from .run_files import DATASETS, HEAD_TITLES, ROUNDED, ReportError, RunFiles, read_run

MEASURES = {"accuracy": "WAR", "uar": "UAR"}
CURVES = ("val_war", "val_uar", "val_loss", "train_loss")


@dataclass(frozen=True)
class Member:
    """A fold or a seed.

    Attributes:
        values: its WAR and UAR for the last, then for the best epoch.
        link: to its own page, relative to the overview; empty if there is none.
        run: its folder's contents; None if the folder is gone.
    """

    number: int
    clips: int
    values: list[float]
    link: str
    run: RunFiles | None


def write_overview(folder: Path) -> Path:
    """Writes `summary.html` into the folder of several folds or seeds, and into those of the seeds if they have folds.

    Args:
        folder: has a summary.json.

    Returns:
        The path of the page.

    Raises:
        ReportError: summary.json is missing or cannot be read, or the page cannot be written.
    """
    try:
        summary = as_dict(read_summary(folder / "summary.json"))
        about = as_dict(read_arguments(folder)) if (folder / "args.json").is_file() else {}
    except StateError as error:
        raise ReportError(str(error)) from None
    try:
        seeds = "seeds" in summary
        for path in sorted(folder.glob("seed-*/summary.json")) if seeds else ():
            write_overview(path.parent)
        # If no epoch was chosen, best is last.
        whiches = ("last",) if summary["selected_on"].startswith("last") else ("last", "best")
        members = _members(folder, summary, "seed" if seeds else "fold", whiches)
        page = _of_seeds(summary, members, whiches) if seeds else _of_folds(summary, whiches)
    except (KeyError, TypeError, IndexError) as error:
        raise ReportError(f"{folder / 'summary.json'}: lacks {error}; was it written by this project?") from error
    kind = "seed" if seeds else "fold"
    # One point makes no curve.
    logs = {f"{kind} {of.number}": of.run.log for of in members if of.run is not None and len(of.run.log) > 1}
    styles = line_styles({name: name for name in logs})
    return write_page(
        folder / "summary.html",
        "overview.html.j2",
        name=_title(folder, summary, members, about),
        folder=_place(folder),
        about=about,
        settings=settings_of(about.get("args", {})),
        kind=kind,
        whiches=whiches,
        labels=summary["labels"],
        selected_on=summary["selected_on"],
        members=members,
        styles=styles,
        curves=log_curves(logs, CURVES, styles),
        **page,
    )


def _of_folds(summary: dict[str, Any], whiches: Sequence[str]) -> dict[str, Any]:
    """What the template shows of folds."""
    cards, confusions = [], []
    totals: dict[str, list[str]] = {"mean over folds": [], "standard deviation": [], "range": [], "pooled": []}
    for which in whiches:
        pooled, means = summary[which]["pooled"], summary[which]["mean_over_folds"]
        clips = pooled["num_clips"]
        rows = [("UAR", f"{percent(pooled['uar'])} %" + _interval(pooled, "uar"))]
        rows += [
            (f"{name} over folds", f"{mean_of(means[key])}, {range_of(means[key])}") for key, name in MEASURES.items()
        ]
        cards.append(
            {
                "which": which,
                "big": percent(pooled["accuracy"]),
                "lines": [f"accuracy (WAR) of {counted(clips, 'clip')}{_interval(pooled, 'accuracy')}"],
                "rows": rows,
            }
        )
        confusions.append((which, pooled["confusion"]))
        for key in MEASURES:
            _add_totals(totals, "mean over folds", means[key])
            totals["pooled"].append(percent(pooled[key]))
    skipped = summary["last"]["pooled"]["num_skipped"]
    recalls = [[(percent(recall), "") for recall in summary[which]["pooled"]["per_class_recall"]] for which in whiches]
    support = [sum(row) for row in summary["last"]["pooled"]["confusion"]]
    return {
        "cards": cards,
        "note": "Over folds: mean ± standard deviation, and the range."
        + (f" Skipped: {counted(skipped, 'listed clip')} without frames." if skipped else ""),
        "totals": list(totals.items()),
        "confusions": confusions,
        "classes": _class_rows(summary["labels"], support, recalls),
    }


def _of_seeds(summary: dict[str, Any], members: list[Member], whiches: Sequence[str]) -> dict[str, Any]:
    """What the template shows of seeds."""
    cards = []
    totals: dict[str, list[str]] = {"mean over seeds": [], "standard deviation": [], "range": []}
    for which in whiches:
        war, uar = summary[which]["accuracy"], summary[which]["uar"]
        seeds, clips = counted(len(summary["seeds"]), "seed"), counted(summary["num_clips"], "clip")
        text = f"accuracy (WAR), mean of {seeds} on {clips}"
        rows = [("WAR", f"{mean_of(war)}, {range_of(war)}"), ("UAR", f"{mean_of(uar)}, {range_of(uar)}")]
        if "attention_correlation" in summary[which]:
            correlation = summary[which]["attention_correlation"]["mean"]
            rows.append(("attention", f"{correlation:.3f} rank correlation of weights with true intensity"))
        cards.append({"which": which, "big": percent(war["mean"]), "lines": [text], "rows": rows})
        for of in (war, uar):
            _add_totals(totals, "mean over seeds", of)
    results = [member.run.results for member in members if member.run is not None and member.run.results]
    recalls: list[list[tuple[str, str]]] = []
    for which in whiches:
        table = [result[which]["per_class_recall"] for result in results]
        recalls.append([_mean_and_range(list(of)) for of in zip(*table, strict=True)])
    support = [sum(row) for row in results[0]["last"]["confusion"]] if results else []
    return {
        "cards": cards,
        "note": "Mean ± standard deviation, and the range: what the seed alone changes, on the same clips.",
        "totals": list(totals.items()),
        "confusions": [],
        "classes": _class_rows(summary["labels"], support, recalls) if results else [],
    }


def _add_totals(totals: dict[str, list[str]], mean: str, of: dict[str, Any]) -> None:
    totals[mean].append(percent(of["mean"]))
    totals["standard deviation"].append("-" if of["std"] is None else percent(of["std"]))
    totals["range"].append(range_of(of))


def _class_rows(labels: list[str], support: list[int], recalls: list[list[tuple[str, str]]]) -> list[dict[str, Any]]:
    return [
        {"label": label, "clips": count, "recalls": list(of)}
        for label, count, *of in zip(labels, support, *recalls, strict=True)
    ]


def _members(folder: Path, summary: dict[str, Any], kind: str, whiches: Sequence[str]) -> list[Member]:
    """The folds or seeds, in order."""
    numbers = summary["seeds"] if kind == "seed" else [of["fold"] for of in summary["last"]["folds"]]
    places = {path.name.split("-")[1].lstrip("0") or "0": path for path in folder.glob(f"{kind}-*")}
    members = []
    for at, number in enumerate(numbers):
        if kind == "seed":
            values = [summary[which][key]["values"][at] for which in whiches for key in MEASURES]
            clips = summary["num_clips"]
        else:
            values = [summary[which]["folds"][at][key] for which in whiches for key in MEASURES]
            clips = summary["last"]["folds"][at]["num_clips"]
        place = places.get(str(number))
        pages = [name for name in ("summary.html", "report.html") if place is not None and (place / name).is_file()]
        link = f"{place.name}/{pages[0]}" if place is not None and pages else ""
        run = None if place is None else read_run(place)
        if run is not None:
            if run.labels != summary["labels"]:
                raise ReportError(f"{run.folder}: its classes are not those of {folder / 'summary.json'}; {AGAIN}")
            _compare(folder, run, whiches, values)
        members.append(Member(number, clips, values, link, run))
    return members


def _title(folder: Path, summary: dict[str, Any], members: list[Member], about: dict[str, Any]) -> str:
    """`Relation-attention on CK+: 10 folds, 3 seeds`"""
    args = about.get("args") or next((of.run.args for of in members if of.run is not None and of.run.args), {})
    title = HEAD_TITLES.get(args.get("at_type", -1), "runs").capitalize()
    if args.get("dataset"):
        title += f" on {DATASETS.get(args['dataset'], args['dataset'])}"
    parts = []
    if "fold" in summary:
        parts.append(f"fold {summary['fold']} of {summary['num_folds']}")
    elif "num_folds" in summary:
        parts.append(counted(summary["num_folds"], "fold"))
    if "seeds" in summary:
        parts.append(counted(len(summary["seeds"]), "seed"))
    elif folder.name.startswith("seed-"):
        parts.append(folder.name.replace("-", " "))
    return f"{title}: {', '.join(parts)}"


def _place(folder: Path) -> str:
    """The folder's name, and that of the series if it is a seed of several."""
    folder = folder.resolve()
    return f"{folder.parent.name}/{folder.name}" if folder.name.startswith("seed-") else folder.name


def _compare(folder: Path, run: RunFiles, whiches: Sequence[str], values: Sequence[float]) -> None:
    """Makes sure that the results of a fold or seed are those of the summary."""
    wanted = iter(values)
    for which in whiches:
        for key in MEASURES:
            mine, value = run.results.get(which, {}).get(key), next(wanted)
            if mine is not None and abs(mine - value) > ROUNDED:
                raise ReportError(
                    f"{run.folder / 'results.json'}: {which}.{key} is {mine}, but {folder / 'summary.json'} says "
                    f"{value}; {AGAIN}"
                )


def _interval(pooled: dict[str, Any], measure: str) -> str:
    interval = pooled.get(f"{measure}_interval")  # summaries of earlier versions have none of the UAR
    return "" if interval is None else f"; {interval_text(interval, pooled['num_clips'])}"


def mean_of(values: dict[str, Any]) -> str:
    """The mean and the standard deviation of a `spread`, `97.21 ± 1.04`; the mean alone for a single value."""
    return percent(values["mean"]) + (f" ± {percent(values['std'])}" if values.get("std") is not None else "")


def range_of(values: dict[str, Any]) -> str:
    """The range of a `spread`, `95.83 to 98.77`."""
    return f"{percent(values['range'][0])} to {percent(values['range'][1])}"


def _mean_and_range(recalls: Sequence[float | None]) -> tuple[str, str]:
    values = [recall for recall in recalls if recall is not None]
    if not values:
        return "-", ""
    mean = percent(sum(values) / len(values))
    return mean, "" if min(values) == max(values) else f"{percent(min(values))} to {percent(max(values))}"
