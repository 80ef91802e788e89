"""Several trainings of one command: every fold, every seed, and what they come to together.

    model/<date-time>_ckplus_relation-attention_folds/
        args.json  summary.json  summary.md  results.json  predictions.csv      of all folds together
        fold-01/ ... fold-10/                                                   a run's folder each

With several seeds there is a folder per seed around it. A fold's result is never given as the whole's: the
files above are written when the last fold is finished.
"""

from __future__ import annotations

import argparse
import csv
import json
from collections.abc import Callable, Iterator
from copy import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from Code.training.compute import choose_compute
from Code.training.datasets import count_folds
from Code.training.inputs import prepare_sample, resolve_protocol
from Code.training.launch import remember_folder
from Code.training.protocols import ATTENTIONS
from Code.training.runs import Run
from Code.training.session import train
from Code.training.summaries import fold_summary, fold_table, seed_summary, seed_table


@dataclass
class Member:
    """One training of several: its folder, and its fold and seed."""

    folder: Path
    fold: int | None
    seed: int


def is_series(args: argparse.Namespace) -> bool:
    """Whether the flags ask for several trainings."""
    return args.fold == "all" or bool(args.seeds)


def train_all(args: argparse.Namespace, after_run: Callable[[Path], Any]) -> Path:
    """Trains and evaluates every fold with every seed, one after the other, and pools the results.

    Started again with `--resume` it leaves out what is finished and goes on with what was begun.

    Args:
        args: the flags, with `fold` "all" or `seeds` given.
        after_run: called with each finished run's folder (its report).

    Returns:
        The folder of them all; summary.json and summary.md are in it.
    """
    prepare_sample(args)
    num_folds = count_folds(args, resolve_protocol(args)) if args.fold == "all" else None
    at_type = 1 if args.at_type is None else args.at_type
    if args.resume:
        whole = Run(args.resume)
    else:
        suffix = "_folds" * (args.fold == "all") + "_seeds" * bool(args.seeds)
        whole = Run.create(args.output, args.dataset, at_type, suffix=suffix)
        whole.write_arguments(args, {"at_type": at_type, "num_folds": num_folds}, choose_compute(args.device))
    remember_folder(whole.folder, outermost=True)
    print(f"{whole.folder}: to go on after an interruption, --resume {whole.folder}")
    members = list(_members(args, whole.folder, num_folds))
    for number, member in enumerate(members, 1):
        run = Run(member.folder)
        what = " ".join(member.folder.relative_to(whole.folder).parts)
        if run.is_finished:
            print(f"[{number}/{len(members)}] {what}: finished before")
            continue
        print(f"[{number}/{len(members)}] {what}")
        mine = copy(args)
        mine.resume, mine.seeds, mine.seed = None, None, member.seed
        mine.fold = args.fold if member.fold is None else member.fold
        # Every fold reads the same files: to look at them once will do.
        train(mine, member.folder, check_images=number == 1)
        after_run(member.folder)
        run.mark_finished()
    title = f"{ATTENTIONS[at_type]} on {args.dataset}"
    seeds = args.seeds or [args.seed]
    if num_folds:
        for seed in seeds:
            mine_only = [member for member in members if member.seed == seed]
            _pool(Run(mine_only[0].folder.parent), mine_only, f"{title}, seed {seed}")
    if args.seeds:
        results = [_read(_of_seed(whole.folder, seed) / "results.json") for seed in seeds]
        summary = seed_summary(seeds, results)
        whole.write_summary(summary, seed_table(summary, title))
    print((whole.folder / "summary.md").read_text(encoding="utf-8"))
    return whole.folder


def _of_seed(folder: Path, seed: int) -> Path:
    return folder / f"seed-{seed}"


def _members(args: argparse.Namespace, folder: Path, num_folds: int | None) -> Iterator[Member]:
    for seed in args.seeds or [args.seed]:
        above = _of_seed(folder, seed) if args.seeds else folder
        if num_folds is None:
            single = args.fold if isinstance(args.fold, int) else None
            yield Member(above, single, seed)
            continue
        width = max(2, len(str(num_folds)))
        for fold in range(1, num_folds + 1):
            yield Member(above / f"fold-{fold:0{width}d}", fold, seed)


def _pool(run: Run, members: list[Member], title: str) -> None:
    """Writes what all folds come to: each clip is evaluated in one of them, so that counts add up."""
    results = [_read(member.folder / "results.json") for member in members]
    summary = fold_summary(results)
    run.write_summary(summary, fold_table(summary, title))
    pooled = {which: summary[which]["pooled"] for which in ("last", "best")}
    about = {"selected_on": summary["selected_on"], "num_folds": len(results), "pooled": True}
    run.write_results(summary["labels"], pooled, about)
    rows: list[list[str]] = []
    header: list[str] = []
    for member in members:
        with (member.folder / "predictions.csv").open(newline="", encoding="utf-8") as file:
            header, *its_rows = list(csv.reader(file))
            rows += its_rows
    run.write_rows("predictions.csv", header, rows)


def _read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))
