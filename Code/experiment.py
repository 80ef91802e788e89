"""An experiment, from the flags of the main script to its report: what ties the rooms around the core together."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import torch

from . import readers
from .check import check_before_training, check_dataset, refuse_broken_images
from .common.device import choose_compute
from .common.errors import UsageError
from .common.names import ATTENTION_TITLES, counted
from .data.batches import open_stores
from .data.clips import DROPPED, ClipSet, describe, map_labels
from .data.folds import hold_out, write_fold_file
from .data.request import Request
from .network.checkpoints import read_part
from .network.fan import FAN
from .network.start import starting_file
from .network.weights import find_checkpoint, load_fan
from .readers.base import Reader
from .results.report import write_report
from .results.series import write_fold_summary, write_seed_summary
from .training import ddp
from .training.loops import EvaluationSplit, evaluate_split, summary
from .training.run import newest_best, open_run
from .training.stopping import plain_flags
from .training.train import SELECTED, Clips, Settings
from .training.train import train as train_network

SOURCES = ("train_root", "val_root", "train_list", "val_list")  # flags that say where the clips are


@dataclass
class StoredProtocol:
    """The protocol in a checkpoint, as far as `-e` takes it over."""

    data_flags: Request = field(default_factory=Request)
    fold: int | None = None
    num_folds: int | None = None


def _protocol_of(info: dict[str, Any]) -> StoredProtocol:
    return read_part(info["protocol"] or {}, StoredProtocol, f"{info['path']}: protocol")


def settings_of(flags: Mapping[str, Any], info: dict[str, Any] | None = None) -> Settings:
    """The dataset's protocol, changed by the flags, and all other flags.

    A flag that was given sets the field of `Settings` that has its name (`--lr` -> `lr`); `--frames` is `num_frames`.

    Args:
        info: the description of the checkpoint to evaluate (`-e`); None for a training. Without `--dataset`, the data
            of the checkpoint's training are read, with the same data flags.

    Raises:
        UsageError: flags contradict each other or the dataset.
    """
    dataset, request = flags["dataset"], Request.of(flags)
    if info is not None:
        dataset, request = _as_trained(info, dataset, request)
    reader = readers.find(dataset or "afew")
    if request.fold is None and reader.needs_folds(request):
        request = replace(request, fold="all")
    if info is None and request.fold is None and (request.folds or request.fold_file):
        raise UsageError("--folds, --fold-file: only have an effect with folds; add --fold all")
    reader.check(request)
    random_weights = starting_file(flags["pretrained"]) is None
    if random_weights and (flags["freeze_backbone"] or flags["keep_classifier"]):
        flag = "--freeze-backbone" if flags["freeze_backbone"] else "--keep-classifier"
        raise UsageError(f"{flag}: needs trained weights; omit --pretrained none")
    protocol, located = reader.protocol, reader.located(request)
    if flags["epochs"]:
        protocol = protocol.trained_for(flags["epochs"])
    values: dict[str, Any] = {
        **vars(protocol),
        **{each.name: flags[each.name] for each in fields(Settings) if flags.get(each.name) is not None},
        "dataset": reader.name,
        "data": request,
        "sources": {name: getattr(located, name) for name in SOURCES},
        "num_folds": reader.num_folds,
        "num_frames": flags["frames"] or reader.frames_per_sample(request) or protocol.num_frames,
        "fixed_size": protocol.fixed_size or flags["image_size"] is not None,
        "label_map": dict(pair.split("=", 1) for pair in flags["map_labels"] or ()),
        "flags": plain_flags(flags),
    }
    if random_weights:
        values["freeze_backbone"] = False
    return Settings(**values)


def _as_trained(info: dict[str, Any], dataset: str | None, request: Request) -> tuple[str | None, Request]:
    """The dataset and the data flags of a checkpoint's training, as far as no others are given now."""
    stored, given = _protocol_of(info), request.given()
    trained = stored.data_flags.given()
    if dataset is None and info["dataset"] is not None:
        dataset = info["dataset"]
        if dataset not in readers.names():
            raise UsageError(f"--checkpoint {info['path']}: was trained on {dataset}; choose the data with --dataset")
    elif dataset != info["dataset"]:
        return dataset, request
    elif all(given[name] == trained.get(name) for name in given.keys() & set(SOURCES)):
        # Without these, a fold's number means nothing.
        trained = {name: trained[name] for name in ("folds", "fold_file", "person_pattern") if name in trained}
    else:
        trained = {}
    fold = stored.fold if request.fold is None else request.fold
    return dataset, Request.of(trained | given | {"fold": fold, "seed": request.seed})


def open_reader(settings: Settings) -> Reader:
    """The reader of the data, which are generated if that is its task. Several processes wait for the one that does."""
    reader = readers.find(settings.dataset)
    reader.prepare(settings.data)
    return reader


def check_data(settings: Settings, *, as_json: bool) -> int:
    """`--check`: prints a report about the data; returns the exit status."""
    reader, workers = open_reader(settings), settings.workers or None
    return check_dataset(reader, settings.data, num_frames=settings.num_frames, as_json=as_json, workers=workers)


def write_folds(settings: Settings, path: Path) -> str:
    """`--write-folds`: writes the folds that the other flags ask for; returns a line about them."""
    folds = open_reader(settings).make_folds(settings.data)
    write_fold_file(path, folds)
    persons = "no known person in two"
    if split := folds.split_persons():
        persons = f"{counted(len(split), 'person')} in several folds, e.g. {split[0]}"
    return f"{path}: {folds.how}, {' '.join(str(len(clips)) for clips in folds.members())} clips; {persons}"


def read_clips(settings: Settings, *, check_images: bool = True) -> tuple[Clips, int | None]:
    """The clips of a training, and the number of folds; checks them and prints what they are.

    Args:
        check_images: look at every image file.
    """
    reader = open_reader(settings)
    train, val, num_folds = reader.read_pair(settings.data)
    _print_clips(settings, num_folds, {"train": train, "val": val})
    for old, new in settings.label_map.items():
        if old not in train.labels or new == DROPPED:
            labels = ", ".join(train.labels)
            raise UsageError(f"--map-labels {old}={new}: a training has all classes of the data: {labels}")
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


def _print_clips(settings: Settings, num_folds: int | None, sets: Mapping[str, ClipSet]) -> None:
    if num_folds is not None:
        print(f"fold {settings.fold} of {num_folds}")
    for name, clips in sets.items():
        print(f"{f'{name}:':<6} {describe(clips)}")
    print(f"classes: {', '.join(f'{index} {name}' for index, name in enumerate(clips.labels))}")
    for note in dict.fromkeys(note for clips in sets.values() for note in clips.notes):
        print(f"note:  {note}")


def _name_of(settings: Settings, fold: Any) -> str:
    """What a new folder is called, after the date and time."""
    name = f"{settings.dataset}_{ATTENTION_TITLES[settings.at_type]}"
    return name + ("" if fold is None else "_folds" if fold == "all" else f"_fold-{fold}")


def train(settings: Settings, folder: Path | None = None, *, check_images: bool = True) -> Path:
    """Trains one network, and writes its report; returns the folder of the run.

    Args:
        folder: the run is resumed there, or begun there if nothing is there; None makes a new one.
        check_images: look at every image file first.
    """
    fold = settings.fold
    with open_run(folder, settings.output, _name_of(settings, fold)) as run:
        clips, num_folds = read_clips(settings, check_images=check_images)
        results = train_network(replace(settings, num_folds=num_folds), clips, run)
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
        folder: as of `train`; summary.html will be in it.
    """
    folds: list[Any] = [settings.data.fold]
    if of_folds := settings.data.fold == "all":
        folds = list(range(1, open_reader(settings).count_folds(settings.data) + 1))
    name = _name_of(settings, settings.data.fold if of_folds else None) + "_seeds" * bool(seeds)
    with open_run(folder, settings.output, name) as series:
        folder = series.folder
        if not (folder / "args.json").is_file():
            resolved = settings.resolved() | {"fold": settings.data.fold, "num_folds": len(folds) if of_folds else None}
            series.write_arguments(settings.flags, resolved, choose_compute(settings.device))
        print(f"{folder}: to resume after an interruption, use --resume {folder}")
        number, total = 0, len(folds) * max(1, len(seeds))
        for seed in seeds or [settings.seed]:
            of_seed = folder / f"seed-{seed}" if seeds else folder
            parts = [of_seed / f"fold-{fold:02d}" if of_folds else of_seed for fold in folds]
            for fold, part in zip(folds, parts, strict=True):
                number += 1
                print(f"[{number}/{total}] {part.relative_to(folder)}", end="")
                if (part / "results.json").is_file() and (part / "report.html").is_file():
                    print(": already finished")
                    continue
                print()
                data = replace(settings.data, seed=seed, fold=fold)
                # So that `--resume` of this folder alone means this run.
                flags = {**settings.flags, "seed": seed, "seeds": None, "fold": fold, "resume": None}
                # All read the same files, so they are checked once.
                train(replace(settings, seed=seed, data=data, flags=flags), part, check_images=number == 1)
            if of_folds and ddp.world().is_main:
                write_fold_summary(of_seed, parts)
        if ddp.world().is_main:
            if seeds:
                write_seed_summary(folder, seeds)
            page = write_report(folder)
            print((folder / "summary.md").read_text(encoding="utf-8"))
            print(f"see {page}")
    return folder


def load_evaluated(flags: Mapping[str, Any]) -> tuple[FAN, dict[str, Any]]:
    """The network that `-e` evaluates, and the description of `load_fan`."""
    if flags["fold"] == "all" or flags["seeds"]:
        raise UsageError("-e: evaluates one network; name a fold's or seed's with --checkpoint RUN/fold-01/best.pth")
    dataset, at_type = flags["dataset"] or "afew", flags["at_type"]
    if flags["checkpoint"] is not None:
        path = find_checkpoint(flags["checkpoint"])
        fan, info = load_fan(path)
        if info["kind"] == "published":  # such a file has all heads
            return load_fan(path, at_type=at_type)
        if at_type not in (None, fan.at_type):
            raise UsageError(f"--at_type {at_type}: {path} was trained with --at_type {fan.at_type}")
        return fan, info
    newest = newest_best(flags["output"], dataset, at_type, flags["fold"])
    if newest is None:
        output = flags["output"]
        raise UsageError(f"-e: no trained network for dataset {dataset} in {output}; name one with --checkpoint")
    return load_fan(newest)


def evaluate(flags: Mapping[str, Any]) -> Path:
    """`-e`: evaluates a trained FAN on the validation set, and writes the results to a folder, which it returns."""
    fan, info = load_evaluated(flags)
    settings = replace(settings_of(flags, info), at_type=fan.at_type)
    fold, path = settings.fold, info["path"]
    compute = choose_compute(settings.device, settings.precision, trained_with=info["precision"])
    reader = open_reader(settings)
    clips, num_folds = read_evaluated(reader, settings.data, info, settings.dataset == info["dataset"])
    clips = map_labels(clips, info["labels"], settings.label_map, f"--checkpoint {path}")
    print(f"evaluating {path} ({fan.head.title}) on {compute.device}, {compute.precision}")
    _print_clips(settings, num_folds, {"val": clips})
    if ddp.world().is_main:
        refuse_broken_images(clips)
    size = flags["image_size"] or info["image_size"]
    fan.backbone.check_image_size(size)
    fan.to(compute.device, memory_format=torch.channels_last)  # type: ignore[call-overload]  # absent from the stubs
    gray = readers.crop_of(info) == "fer2013" != reader.crop and clips.in_files
    if gray:
        print(f"note:  {path} was trained on FER2013's crop, in gray; frames are read in gray: see docs/expect.md")
    (store,), loading = open_stores(
        [clips],
        size,
        compute.device,
        cache=settings.cache or "none",  # every frame is read once
        workers=settings.workers,
        gray=gray,
    )
    split = EvaluationSplit.of(clips, store, loading, compute, intensities=reader.intensities(clips))
    metrics, evaluation = evaluate_split(fan, split, compute)
    with open_run(None, settings.output, f"{_name_of(settings, fold)}_evaluation") as run:
        resolved = {"dataset": settings.dataset, "fold": fold, **settings.data.given(), "checkpoint": path}
        run.write_arguments(settings.flags, resolved | {"at_type": fan.at_type}, compute)
        about = {} if fold is None else {"fold": fold, "num_folds": num_folds}
        run.write_results(split, {"best": {"epoch": info["epoch"], **metrics}}, evaluation, about)
    print(summary(metrics))
    if ddp.world().is_main:
        print(f"see {write_report(run.folder, progress=True)}")
    return run.folder


def read_evaluated(reader: Reader, data: Request, info: dict[str, Any], same: bool) -> tuple[ClipSet, int | None]:
    """The clips that `-e` evaluates (the validation split, one fold, or all of a dataset with folds), number of folds.

    Args:
        same: the checkpoint was trained on this dataset.
    """
    labels = tuple(info["labels"]) if same else None
    if data.fold is None:
        return reader.read(data, "val", reader.labels or data.labels or labels), None
    trained, num_folds = _protocol_of(info), None
    if data.fold == "all":
        clips = reader.read_all(data, labels)
    else:
        _, clips, num_folds = reader.read_pair(data)
    if same and (data.fold, num_folds) != (trained.fold, trained.num_folds):
        fold = f"is of fold {trained.fold} of {trained.num_folds}" if trained.fold else "does not name its fold"
        print(f"warning: the checkpoint {fold}: clips that it was trained on may be evaluated, too", file=sys.stderr)
    return clips, num_folds
