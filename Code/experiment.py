"""An experiment, from the flags of the main script to its report: what ties the rooms around the core together."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from . import readers
from .check import check_before_training, check_dataset, refuse_broken_images
from .common.device import choose_compute
from .common.errors import UsageError
from .common.names import ATTENTION_TITLES, DEFAULT_AT_TYPE, counted
from .data.batches import open_stores
from .data.clips import ClipSet, describe
from .data.folds import hold_out, persons_in_two_folds, write_fold_file
from .data.labels import DROPPED, map_labels
from .data.request import Request
from .network.checkpoints import read_part
from .network.weights import find_checkpoint, load_fan
from .readers.base import Reader
from .results.report import write_report
from .training import ddp
from .training.loops import EvaluationSplit, evaluate_split, summary
from .training.resume import plain_flags
from .training.run import fold_suffix, newest_best, open_run
from .training.series import Part, parts_of, write_fold_summary, write_seed_summary
from .training.settings import Settings
from .training.train import SELECTED, Clips, write_results
from .training.train import train as train_network

# Flags that replace a value of the dataset's protocol, and all others that settings have as they are given.
GIVEN: tuple[str, ...] = ("image_size", "lr", "momentum", "weight_decay", "batch_size", "samples_per_clip")
OTHERS: tuple[str, ...] = ("seed", "select_on", "pretrained", "backbone", "keep_classifier", "augmentation", "loss")
OTHERS += ("device", "precision", "workers", "cache", "compile", "deterministic", "print_freq", "output")
SOURCES = ("train_root", "val_root", "train_list", "val_list")  # flags that say where the clips are


@dataclass
class StoredProtocol:
    """The protocol in a checkpoint, as far as `-e` takes it over."""

    data_flags: Request = field(default_factory=Request)
    fold: int | None = None
    num_folds: int | None = None

    @classmethod
    def of(cls, info: dict[str, Any]) -> StoredProtocol:
        """That of a description of `load_fan`. Raises CheckpointError if it has another shape."""
        return read_part(info["protocol"] or {}, cls, f"{info['path']}: protocol")


def settings_of(args: argparse.Namespace, info: dict[str, Any] | None = None) -> Settings:
    """The dataset's protocol, changed by the flags, and all other flags.

    Args:
        args: the flags of the main script.
        info: the description of the checkpoint to evaluate (`-e`); None for a training. Without `--dataset`, the data
            of the checkpoint's training are read, with the same data flags.

    Raises:
        UsageError: flags contradict each other or the dataset.
    """
    request, dataset = Request.of(vars(args)), args.dataset
    if info is not None:
        dataset, request = _as_trained(info, dataset, request)
    dataset = dataset or "afew"
    reader = readers.find(dataset)
    if request.fold is None and reader.needs_folds(request):
        request = replace(request, fold="all")
    if info is None and request.fold is None and (request.folds or request.fold_file):
        flag = "--folds" if request.folds else "--fold-file"
        raise UsageError(f"{flag}: only has an effect with folds; add --fold all")
    if args.seeds and len(set(args.seeds)) < len(args.seeds):
        raise UsageError(f"--seeds {' '.join(map(str, args.seeds))}: give each seed once")
    reader.check(request)

    random_weights = (args.pretrained or "").lower() == "none"
    for name in ("freeze_backbone", "keep_classifier"):
        if getattr(args, name) and random_weights:
            raise UsageError(f"--{name.replace('_', '-')}: needs trained weights; omit --pretrained none")
    located = reader.located(request)
    protocol = reader.protocol if args.epochs is None else reader.protocol.trained_for(args.epochs)
    given = {name: getattr(args, name) for name in GIVEN}
    given |= {
        "num_frames": args.frames or reader.frames_per_sample(request),
        "fixed_size": args.image_size is not None or None,
        "freeze_backbone": False if random_weights else args.freeze_backbone,
    }
    return Settings(
        **asdict(protocol) | {name: value for name, value in given.items() if value is not None},
        **{name: getattr(args, name) for name in OTHERS},
        dataset=dataset,
        data=request,
        sources={name: getattr(located, name) for name in SOURCES},
        num_folds=reader.num_folds,
        at_type=DEFAULT_AT_TYPE if args.at_type is None else args.at_type,
        label_map=dict(pair.split("=", 1) for pair in args.map_labels or ()),
        flags=plain_flags(vars(args)),
    )


def _as_trained(info: dict[str, Any], dataset: str | None, request: Request) -> tuple[str | None, Request]:
    """The dataset and the data flags of a checkpoint's training, as far as no others are given now."""
    stored, given, fold = StoredProtocol.of(info), request.given(), request.fold
    flags = stored.data_flags.given()
    kept: set[str] = set()
    if dataset is None and info["dataset"] is not None:
        dataset, kept = info["dataset"], set(flags)
        if dataset not in readers.names():
            raise UsageError(
                f"--checkpoint {info['path']}: was trained on {dataset}, which has no protocol here; choose the "
                "data with --dataset"
            )
    if dataset == info["dataset"]:
        fold = stored.fold if fold is None else fold
        sources = given.keys() & set(SOURCES)
        if isinstance(fold, int) and all(given[name] == flags.get(name) for name in sources):
            kept |= {"folds", "fold_file", "person_pattern"}  # without them a fold's number means nothing
    flags = {name: flags[name] for name in kept & flags.keys()}
    return dataset, Request.of(flags | given | {"fold": fold, "seed": request.seed})


@contextmanager
def opened(settings: Settings) -> Iterator[Reader]:
    """The reader of the data. It may write files, so the first process of a machine runs the block first."""
    with ddp.local_main_first():
        reader = readers.find(settings.dataset)
        reader.prepare(settings.data)
        yield reader


def check_data(settings: Settings, *, as_json: bool) -> int:
    """`--check`: prints a report about the data; returns the exit status."""
    with opened(settings) as reader:
        workers = settings.workers or None
        return check_dataset(reader, settings.data, num_frames=settings.num_frames, as_json=as_json, workers=workers)


def write_folds(settings: Settings, path: Path) -> str:
    """`--write-folds`: writes the folds that the other flags ask for; returns a line about them."""
    with opened(settings) as reader:
        folds = reader.make_folds(settings.data)
    members = folds.members()
    write_fold_file(path, members, folds.clips.labels)
    split = persons_in_two_folds(folds)
    persons = (
        f"{counted(len(split), 'person')} in several folds, e.g. {split[0]}" if split else "no known person in two"
    )
    return f"{path}: {folds.how}, {' '.join(str(len(clips)) for clips in members)} clips; {persons}"


def read_clips(settings: Settings, *, check_images: bool = True) -> tuple[Clips, int | None]:
    """Reads and checks the clips of a training, and prints what they are.

    Args:
        check_images: look at every image file.

    Returns:
        The clips, and the number of folds.
    """
    with opened(settings) as reader:
        train, val, num_folds = reader.read_pair(settings.data)
    if num_folds is not None:
        print(f"fold {settings.data.fold} of {num_folds}")
    print(f"train: {describe(train)}\nval:   {describe(val)}")
    _print_labels(train.labels)
    for note in dict.fromkeys([*train.notes, *val.notes]):
        print(f"note:  {note}")
    for old, new in settings.label_map.items():
        if old not in train.labels:
            raise UsageError(
                f"--map-labels {old}={new}: {old} is not a class of the data; its classes are {', '.join(train.labels)}"
            )
        if new == DROPPED:
            raise UsageError(
                f"--map-labels {old}={new}: drops a class in an evaluation (-e) only; train on data without {old}"
            )
    if ddp.world().is_main:
        for warning in check_before_training(
            train, val, num_frames=settings.num_frames, known_labels=reader.labels, headers=check_images
        ):
            print(f"warning: {warning}", file=sys.stderr)
    held_out = None
    if settings.select_on == "heldout":
        train, held_out, how = hold_out(train, settings.seed)
        print(f"held out of training, to choose the epoch: {describe(held_out)} ({how})")
    return Clips(train, val, held_out, reader.intensities), num_folds


def _print_labels(labels: Sequence[str]) -> None:
    print(f"classes: {', '.join(f'{index} {name}' for index, name in enumerate(labels))}")


def train(settings: Settings, folder: Path | None = None, *, check_images: bool = True) -> Path:
    """Trains one network, and writes its report.

    Args:
        folder: of the run: it is resumed, or begun there if nothing is there; None makes a new one.
        check_images: look at every image file first.

    Returns:
        The folder of the run.
    """
    fold = settings.fold
    name = f"{settings.dataset}_{ATTENTION_TITLES[settings.at_type]}{fold_suffix(fold)}"
    with open_run(folder, settings.output, name) as run:
        clips, num_folds = read_clips(settings, check_images=check_images)
        settings = replace(settings, num_folds=num_folds)
        results = train_network(settings, clips, run)
    which_fold = "" if fold is None else f" of fold {fold} of {num_folds} alone"
    if settings.select_on == "last":
        results = {"best": results["best"]}  # the last epoch, too
    for which, metrics in results.items():
        note = SELECTED[settings.select_on] if which == "best" else "last"
        print(f"epoch {metrics['epoch']} ({note}){which_fold}: {summary(metrics)}")
    if ddp.world().is_main:
        print(f"see {write_report(run.folder, progress=True)}")
    return run.folder


def train_series(settings: Settings, seeds: Sequence[int], folder: Path | None = None) -> Path:
    """Trains every fold (`settings.data.fold` is "all") with every seed, one after the other, and pools the results.

    Those that are finished are skipped, and the one that is not is resumed.

    Args:
        seeds: those of `--seeds`; empty without.
        folder: of the series: it is resumed, or begun there if nothing is there; None makes a new one.

    Returns:
        The folder; summary.html is in it.
    """
    folds: list[Any] = [settings.data.fold]
    if settings.data.fold == "all":
        with opened(settings) as reader:
            folds = list(range(1, reader.count_folds(settings.data) + 1))
    title = ATTENTION_TITLES[settings.at_type]
    of_folds = settings.data.fold == "all"
    name = f"{settings.dataset}_{title}{'_folds' * of_folds}{'_seeds' * bool(seeds)}"
    with open_run(folder, settings.output, name) as whole:
        if not (whole.folder / "args.json").is_file():
            resolved = settings.resolved() | {"fold": settings.data.fold, "num_folds": len(folds) if of_folds else None}
            whole.write_arguments(settings.flags, resolved, choose_compute(settings.device))
        print(f"{whole.folder}: to resume after an interruption, use --resume {whole.folder}")
        parts = parts_of(whole.folder, seeds or [settings.seed], folds, by_seed=bool(seeds))
        for number, part in enumerate(parts, start=1):
            _train_part(settings, part, f"[{number}/{len(parts)}] {part.folder.relative_to(whole.folder)}", number == 1)
        if ddp.world().is_main:
            for seed in (seeds or [settings.seed]) if of_folds else ():
                of_seed = [part.folder for part in parts if part.seed == seed]
                write_fold_summary(of_seed[0].parent, of_seed)
            if seeds:
                write_seed_summary(whole.folder, seeds)
            page = write_report(whole.folder)
            print((whole.folder / "summary.md").read_text(encoding="utf-8"))
            print(f"see {page}")
    return whole.folder


def _train_part(settings: Settings, part: Part, title: str, first: bool) -> None:
    """Trains one fold or seed if it is not finished. Every fold reads the same files, so they are checked once."""
    if (part.folder / "results.json").is_file() and (part.folder / "report.html").is_file():
        print(f"{title}: already finished")
        return
    print(title)
    data = replace(settings.data, seed=part.seed, fold=part.fold)
    # So that `--resume` of this folder alone means this run.
    flags = {**settings.flags, "seed": part.seed, "seeds": None, "fold": part.fold, "resume": None}
    train(replace(settings, seed=part.seed, data=data, flags=flags), part.folder, check_images=first)


def evaluate(args: argparse.Namespace) -> Path:
    """`-e`: evaluates a trained FAN on the validation set, and writes the results to a folder of their own.

    Returns:
        The folder of the results.
    """
    if args.fold == "all" or args.seeds:
        raise UsageError("-e: evaluates one network; name a fold's or seed's with --checkpoint RUN/fold-01/best.pth")
    path = newest_best(args.output, args.dataset or "afew", args.at_type, args.fold)
    if args.checkpoint is not None:
        path = find_checkpoint(args.checkpoint)
    elif path is None:
        raise UsageError(
            f"-e: no trained network for dataset {args.dataset or 'afew'} in {args.output}; train one first "
            "(without -e), or name one with --checkpoint"
        )
    fan, info = load_fan(path)
    if info["kind"] == "published" and args.at_type not in (None, fan.at_type):  # such a file has all heads
        fan, info = load_fan(path, at_type=args.at_type)
    if args.at_type is not None and args.at_type != fan.at_type:
        raise UsageError(f"--at_type {args.at_type}: {path} was trained with --at_type {fan.at_type}")
    settings = settings_of(args, info)
    compute = choose_compute(settings.device, settings.precision, trained_with=info["precision"])
    with opened(settings) as reader:
        clips, num_folds = read_evaluated(reader, settings.data, info, settings.dataset == info["dataset"])
    fold = settings.fold
    clips = map_labels(clips, info["labels"], settings.label_map, f"--checkpoint {path}")
    print(f"evaluating {path} ({fan.head.title}) on {compute.device}, {compute.precision}")
    print(f"val:   {describe(clips)}" + ("" if fold is None else f" (fold {fold} of {num_folds} alone)"))
    _print_labels(clips.labels)
    for note in clips.notes:
        print(f"note:  {note}")
    if ddp.world().is_main:
        refuse_broken_images(clips)
    size = settings.image_size if settings.fixed_size and args.image_size else info["image_size"]
    fan.backbone.check_image_size(size)
    fan.to(compute.device, memory_format=torch.channels_last)  # type: ignore[call-overload]  # absent from the stubs
    gray = readers.crop_of(info) == "fer2013" != reader.crop and clips.in_files
    if gray:
        print(
            f"note:  {path} was trained on FER2013's crop, in gray; frames are read in gray, but the crop of "
            "Prepare_Faces.py is another one: see docs/expect.md"
        )
    (store,), loading, cache = open_stores(
        [clips],
        size,
        compute.device,
        cache=settings.cache or "none",  # every frame is read once
        workers=settings.workers,
        gray=gray,
        world=ddp.world(),
    )
    split = EvaluationSplit.of(clips, store, loading, compute, intensities=reader.intensities(clips))
    metrics, evaluation = evaluate_split(fan, split, compute)
    title = f"{settings.dataset}_{ATTENTION_TITLES[fan.at_type]}{fold_suffix(fold)}_evaluation"
    with open_run(None, settings.output, title) as run:
        resolved = {"dataset": settings.dataset, "fold": fold, **settings.data.given(), "checkpoint": path}
        run.write_arguments(settings.flags, resolved | {"at_type": fan.at_type, "cache": cache}, compute)
        about = {} if fold is None else {"fold": fold, "num_folds": num_folds}
        write_results(run, split, {"best": {"epoch": info["epoch"], **metrics}}, evaluation, about)
    print(summary(metrics))
    if ddp.world().is_main:
        print(f"see {write_report(run.folder, progress=True)}")
    return run.folder


def read_evaluated(reader: Reader, data: Request, info: dict[str, Any], same: bool) -> tuple[ClipSet, int | None]:
    """Reads the clips that `-e` evaluates: the validation split, one fold, or all clips of a dataset with folds.

    Args:
        info: the description in the checkpoint.
        same: the checkpoint was trained on this dataset.

    Returns:
        The clips, and the number of folds.
    """
    labels = tuple(info["labels"]) if same else None
    if data.fold is None:
        return reader.read(data, "val", reader.labels or data.labels or labels), None
    warning, num_folds = "", None
    if data.fold == "all":
        clips = reader.read_all(data, labels)
        warning = "the checkpoint does not name its fold, so all clips are evaluated, including those that it was "
        warning += "trained on; --fold N evaluates one fold"
    else:
        _, clips, num_folds = reader.read_pair(data)
        trained = StoredProtocol.of(info)
        if trained.fold is not None and (data.fold, num_folds) != (trained.fold, trained.num_folds):
            warning = f"the checkpoint is of fold {trained.fold} of {trained.num_folds}, so fold {data.fold} of "
            warning += f"{num_folds} has clips that it was trained on"
    if warning and same:
        print(f"warning: {warning}", file=sys.stderr)
    return clips, num_folds
