"""Several trainings of one command: every fold and every seed, and their results together.

    model/<date-time>_ckplus_relation-attention_folds/
        args.json  summary.json  summary.md  results.json  predictions.csv      of all folds together
        fold-01/ ... fold-10/                                                   the folder of a run each

With several seeds there is a folder per seed around it. The files above are written after the last fold, so the result
of one fold is never taken for the whole.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..common.device import choose_compute
from ..common.names import DEFAULT_AT_TYPE
from ..common.wording import counted, percent
from ..network import attention_titles
from .intervals import interval_text
from .launch import plain, remember_folder
from .metrics import confusion_metrics
from .protocols import Protocol, count_folds
from .records import AGAIN, ReportError, as_dict, read_results
from .run import Member, train
from .run_folder import Run
from .run_places import new_run, writer_of


def train_all(args: argparse.Namespace, protocol: Protocol, after_run: Callable[[Path], Any]) -> Path:
    """Trains and evaluates every fold with every seed, one after the other, and pools the results.

    With `--resume` it skips the folds and seeds that are finished, and resumes the one that is not.

    Args:
        args: the flags.
        protocol: resolved from the flags.
        after_run: called with the folder of each finished run, to write its report.

    Returns:
        The folder of them all; summary.json and summary.md are in it.
    """
    num_folds = count_folds(protocol) if protocol.data.fold == "all" else None
    at_type = DEFAULT_AT_TYPE if args.at_type is None else args.at_type
    if args.resume:
        with writer_of(args.resume):
            return _train_members(Run(args.resume), args, protocol, num_folds, at_type, after_run)
    suffix = "_folds" * (protocol.data.fold == "all") + "_seeds" * bool(args.seeds)
    with new_run(args.output, protocol.dataset, attention_titles()[at_type], suffix) as whole:
        asked = {"dataset": protocol.dataset, "fold": protocol.data.fold}
        whole.write_arguments(
            plain(args), {**asked, "at_type": at_type, "num_folds": num_folds}, choose_compute(args.device)
        )
        return _train_members(whole, args, protocol, num_folds, at_type, after_run)


def _train_members(
    whole: Run,
    args: argparse.Namespace,
    protocol: Protocol,
    num_folds: int | None,
    at_type: int,
    after_run: Callable[[Path], Any],
) -> Path:
    """Trains those that are not finished, and writes the summary into the folder of them all."""
    remember_folder(whole.folder, outermost=True)
    print(f"{whole.folder}: to resume after an interruption, use --resume {whole.folder}")
    members = list(_members(args, protocol.fold, whole.folder, num_folds))
    for folder in {whole.folder, *(member.folder.parent for member in members)}:
        Run(folder).clear_leftovers()  # each run clears its own folder
    for number, member in enumerate(members, 1):
        run = Run(member.folder)
        what = " ".join(member.folder.relative_to(whole.folder).parts)
        if run.is_finished:
            print(f"[{number}/{len(members)}] {what}: already finished")
            continue
        print(f"[{number}/{len(members)}] {what}")
        data = replace(protocol.data, seed=member.seed)
        if member.fold is not None:
            data = data.at_fold(member.fold)
        # Every fold reads the same files, so they are checked once.
        train(args, replace(protocol, data=data), member, check_images=number == 1)
        after_run(member.folder)
        run.mark_finished()
    title = f"{attention_titles()[at_type]} on {protocol.dataset}"
    seeds = args.seeds or [args.seed]
    if num_folds:
        for seed in seeds:
            mine_only = [member for member in members if member.seed == seed]
            _pool(Run(mine_only[0].folder.parent), mine_only, f"{title}, seed {seed}")
    if args.seeds:
        results = [as_dict(read_results(_of_seed(whole.folder, seed) / "results.json")) for seed in seeds]
        try:
            summary = seed_summary(seeds, results)
        except KeyError as error:
            raise ReportError(f"{whole.folder}: the results.json of a seed lacks {error}; {AGAIN}") from None
        whole.write_summary(summary, seed_table(summary, title))
    print((whole.folder / "summary.md").read_text(encoding="utf-8"))
    return whole.folder


def _of_seed(folder: Path, seed: int) -> Path:
    return folder / f"seed-{seed}"


def _members(args: argparse.Namespace, fold: int | None, folder: Path, num_folds: int | None) -> Iterator[Member]:
    for seed in args.seeds or [args.seed]:
        above = _of_seed(folder, seed) if args.seeds else folder
        if num_folds is None:
            yield Member(above, seed, fold)
            continue
        width = max(2, len(str(num_folds)))
        for number in range(1, num_folds + 1):
            yield Member(above / f"fold-{number:0{width}d}", seed, number)


def _pool(run: Run, members: list[Member], title: str) -> None:
    """Writes the results of all folds together: each clip is evaluated in one fold, so the counts add up."""
    results: list[dict[str, Any]] = []
    rows: list[list[str]] = []
    header: list[str] = []
    for member in members:
        result = read_results(member.folder / "results.json")
        path = member.folder / "predictions.csv"
        with path.open(newline="", encoding="utf-8", errors="surrogateescape") as file:
            header, *its_rows = csv.reader(file)
        if result.shown is None or len(its_rows) != result.shown.num_clips:
            raise ReportError(f"{path}: has {counted(len(its_rows), 'row')}, not one for each clip of results.json")
        results.append(as_dict(result))
        rows += its_rows
    try:
        summary = fold_summary(results)
    except KeyError as error:
        raise ReportError(f"{run.folder}: the results.json of a fold lacks {error}; {AGAIN}") from None
    run.write_rows("predictions.csv", header, rows)
    run.write_summary(summary, fold_table(summary, title))
    pooled = {which: summary[which]["pooled"] for which in ("last", "best")}
    about = {"selected_on": summary["selected_on"], "num_folds": len(results), "pooled": True}
    run.write_results(summary["labels"], pooled, about)


MEASURES = ("accuracy", "uar")
ATTENTION_MEASURES = ("attention_correlation", "attention_auc")  # where the true intensity is known


def spread(values: Sequence[float]) -> dict[str, Any]:
    """mean, std (of the sample; None for a single value), range and values.

    There is no interval for the mean over folds: folds share their training clips, so that none is known to be right
    (Bengio & Grandvalet, JMLR 5, 2004). The pooled clips have one.
    """
    return {
        "mean": float(np.mean(values)),
        "std": float(np.std(values, ddof=1)) if len(values) > 1 else None,
        "range": [min(values), max(values)],
        "values": list(values),
    }


def fold_summary(results: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The results of all folds together.

    Args:
        results: each fold's results.json, in order.

    Returns:
        labels, selected_on, num_folds, and under "last" and "best": `pooled` (the metrics of the summed
        confusion matrices, in which each clip counts once), `mean_over_folds` (`spread` of accuracy and uar) and
        `folds` (fold, epoch, accuracy, uar, num_clips, num_skipped).

    Raises:
        ReportError: two folds have other classes, or the same in another order.
    """
    for result in results[1:]:  # each fold may have lists of its own
        if result["labels"] != results[0]["labels"]:
            first, other = (", ".join(one["labels"]) for one in (results[0], result))
            raise ReportError(
                f"fold {result['fold']}: its classes are {other}; those of fold {results[0]['fold']} are {first}: name "
                "the classes of all folds with --labels"
            )
    summary: dict[str, Any] = {
        "labels": results[0]["labels"],
        "selected_on": results[0]["selected_on"],
        "num_folds": len(results),
    }
    for which in ("last", "best"):
        metrics = [result[which] for result in results]
        confusion = torch.tensor([fold["confusion"] for fold in metrics]).sum(dim=0)
        pooled = confusion_metrics(
            confusion,
            num_listed=sum(fold["num_clips_listed"] for fold in metrics),
            num_skipped=sum(fold["num_skipped"] for fold in metrics),
        )
        # The mean over clips: folds weighted by their number of clips.
        weights = [fold["num_clips"] for fold in metrics]
        pooled["loss"] = float(np.average([fold["loss"] for fold in metrics], weights=weights))
        summary[which] = {
            "pooled": pooled,
            "mean_over_folds": {name: spread([fold[name] for fold in metrics]) for name in MEASURES},
            "folds": [
                {
                    "fold": result["fold"],
                    **{key: fold[key] for key in ("epoch", *MEASURES, "num_clips", "num_skipped")},
                }
                for result, fold in zip(results, metrics, strict=True)
            ],
        }
        for name in ATTENTION_MEASURES:
            values = [fold.get(name) for fold in metrics]
            if None not in values:
                summary[which]["mean_over_folds"][name] = spread(values)
    return summary


def fold_table(summary: dict[str, Any], title: str) -> str:
    """The summary of folds as Markdown."""
    parts = (("last epoch", summary["last"]), ("best epoch", summary["best"]))
    pooled = summary["last"]["pooled"]
    clips = pooled["num_clips"]
    lines = [
        f"# {title}: {counted(summary['num_folds'], 'fold')}, {counted(clips, 'clip')}",
        "",
        f"Best epoch means {summary['selected_on']}, in each fold. Means over folds are given with the standard "
        "deviation and the range.",
        "",
        "| fold | clips | last epoch: WAR % | UAR % | best epoch: WAR % | UAR % |",
        "|---|---|---|---|---|---|",
    ]
    for one, other in zip(*(part["folds"] for _, part in parts), strict=True):
        cells = " | ".join(percent(fold[name]) for fold in (one, other) for name in MEASURES)
        lines.append(f"| {one['fold']} | {one['num_clips']} | {cells} |")
    means = (part["mean_over_folds"][name] for _, part in parts for name in MEASURES)
    lines.append(f"| **mean over folds** | | {' | '.join(f'{mean_of(of)} ({range_of(of)})' for of in means)} |")
    cells = " | ".join(percent(part["pooled"][name]) for _, part in parts for name in MEASURES)
    lines += [f"| **pooled** | {clips} | {cells} |", ""]
    for name, part in parts:
        of = part["pooled"]
        war, uar = (interval_text(of[f"{measure}_interval"], clips) for measure in MEASURES)
        lines.append(f"Pooled, {name}: WAR {percent(of['accuracy'])} %, {war}; UAR {percent(of['uar'])} %, {uar}.")
    if pooled["num_skipped"]:
        lines += ["", f"Skipped, because they have no frames: {counted(pooled['num_skipped'], 'listed clip')}."]
    for name, part in parts:
        lines += ["", f"Pooled confusion, {name} (rows true, columns predicted):", ""]
        lines += confusion_table(summary["labels"], part["pooled"]["confusion"])
    return "\n".join(lines) + "\n"


def mean_of(values: dict[str, Any]) -> str:
    """The mean and the standard deviation of a `spread`, `97.21 ± 1.04`; the mean alone for a single value."""
    return percent(values["mean"]) + (f" ± {percent(values['std'])}" if values["std"] is not None else "")


def range_of(values: dict[str, Any]) -> str:
    """The range of a `spread`, `95.83 to 98.77`."""
    return f"{percent(values['range'][0])} to {percent(values['range'][1])}"


def seed_summary(seeds: Sequence[int], results: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The results of all seeds together: `spread` of accuracy and uar, under "last" and "best".

    Args:
        seeds: in order.
        results: each seed's results.json; with folds, that of all folds pooled.
    """
    first = results[0]
    about: dict[str, Any] = {key: first[key] for key in ("labels", "selected_on", "fold", "num_folds") if key in first}
    summary: dict[str, Any] = {**about, "seeds": list(seeds), "num_clips": first["last"]["num_clips"]}
    for which in ("last", "best"):
        metrics = [result[which] for result in results]
        summary[which] = {name: spread([one[name] for one in metrics]) for name in MEASURES}
        for name in ATTENTION_MEASURES:
            values = [one.get(name) for one in metrics]
            if None not in values:
                summary[which][name] = spread(values)
    return summary


def seed_table(summary: dict[str, Any], title: str) -> str:
    """The summary of seeds as Markdown."""
    part = f"fold {summary['fold']} of {summary['num_folds']} alone, " if "fold" in summary else ""
    if not part and "num_folds" in summary:
        part = f"{counted(summary['num_folds'], 'fold')} pooled, "
    lines = [
        f"# {title}: {part}{counted(len(summary['seeds']), 'seed')}, {counted(summary['num_clips'], 'clip')}",
        "",
        f"Best epoch means {summary['selected_on']}.",
        "",
        "| seed | last epoch: WAR % | UAR % | best epoch: WAR % | UAR % |",
        "|---|---|---|---|---|",
    ]
    columns = [summary[which][name] for which in ("last", "best") for name in MEASURES]
    for index, seed in enumerate(summary["seeds"]):
        lines.append(f"| {seed} | {' | '.join(percent(column['values'][index]) for column in columns)} |")
    lines.append(f"| **mean ± standard deviation** | {' | '.join(mean_of(column) for column in columns)} |")
    lines.append(f"| **range** | {' | '.join(range_of(column) for column in columns)} |")
    return "\n".join(lines) + "\n"


def confusion_table(labels: Sequence[str], confusion: Sequence[Sequence[int]]) -> list[str]:
    """A confusion matrix as lines of Markdown."""
    safe = [label.replace("|", "\\|") for label in labels]
    lines = [f"| | {' | '.join(safe)} |", "|---" * (len(safe) + 1) + "|"]
    return lines + [f"| {name} | {' | '.join(map(str, row))} |" for name, row in zip(safe, confusion, strict=True)]
