"""From flags to data: which protocol, which lists, which clips."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from Code.data.clips import ClipSet, DataError, describe, quick_check, read_afew, read_folders
from Code.data.sample import draw_sample, read_intensity
from Code.data.store import broken_images
from Code.training.distributed import local_main_first, world
from Code.training.errors import UsageError
from Code.training.protocols import PROTOCOLS, Protocol
from Code.training.trainer import Intensities

CHECKED_FRAMES = 200_000  # up to here every frame's header is looked at first, about 10 s
SAMPLE_ROOT = Path("Data/Sample")


def resolve_protocol(args: argparse.Namespace) -> Protocol:
    """The dataset's protocol with the flags that were given on top, and the lists that will be read."""
    flags = {
        "train_root": args.train_root,
        "val_root": args.val_root,
        "num_frames": args.frames,
        "epochs": args.epochs,
        "lr": args.lr,
        "momentum": args.momentum,
        "weight_decay": args.weight_decay,
        "batch_size": args.batch_size,
        "samples_per_clip": args.samples_per_clip,
    }
    protocol = replace(PROTOCOLS[args.dataset], **{name: value for name, value in flags.items() if value is not None})
    return replace(
        protocol,
        train_list=list_file(args.train_list, protocol.train_list, args.train_root is not None),
        val_list=list_file(args.val_list, protocol.val_list, args.val_root is not None),
    )


def list_file(given: str | None, default: str | None, root_given: bool) -> str | None:
    """Which list to read: the one named, else the default one if it exists and belongs to the default root."""
    if given is not None:
        return None if given.lower() == "none" else given
    return default if default and not root_given and Path(default).is_file() else None


def read_split(args: argparse.Namespace, protocol: Protocol, split: str, labels: tuple[str, ...] | None) -> ClipSet:
    """Reads "train" or "val" of the dataset that the flags name."""
    root = getattr(protocol, f"{split}_root")
    if args.dataset == "folders":
        if (getattr(args, f"{split}_list") or "none").lower() != "none":
            raise UsageError(
                f"--{split}-list: --dataset folders reads whole folders; leave it away, or use --dataset afew"
            )
        return read_folders(root, labels=labels, skip_empty=args.skip_empty)
    lists = getattr(protocol, f"{split}_list")
    known = labels or protocol.labels
    assert known is not None  # only `folders` takes its classes from the data
    return read_afew(root, lists, labels=known, skip_empty=args.skip_empty)


def read_both(args: argparse.Namespace, protocol: Protocol) -> tuple[ClipSet, ClipSet]:
    """Training and validation set; the problems of both in one error."""
    train, errors = None, []
    try:
        train = read_split(args, protocol, "train", protocol.labels)
    except DataError as error:
        errors.append(error)
    try:
        val = read_split(args, protocol, "val", train.labels if train else protocol.labels)
    except DataError as error:
        errors.append(error)
    if errors:
        raise DataError.joined(errors)
    assert train is not None
    print(f"train: {describe(train)}\nval:   {describe(val)}")
    if world().is_main:
        for warning in quick_check(train, val, frames=protocol.num_frames):
            print(f"warning: {warning}", file=sys.stderr)
    return train, val


def refuse_broken_images(sets: Sequence[ClipSet]) -> None:
    """All files that are no images in one error, before hours of training; very large sets would wait too long.

    For frames that are decoded on demand: a cache decodes them all before the first step.
    """
    if sum(len(clip) for clips in sets for clip in clips.clips) > CHECKED_FRAMES:
        return
    problems = [problem for clips in sets for problem in broken_images(clips, show_progress=True)]
    if problems:
        raise DataError(problems)


def prepare_sample(args: argparse.Namespace) -> None:
    """Draws the generated sample where the command asks for it and it is not there yet."""
    if args.dataset == "sample" and args.train_root is None and args.val_root is None:
        with local_main_first():
            draw_sample(SAMPLE_ROOT, workers=os.cpu_count() or 1, progress=sys.stderr.isatty())


def intensities_of(args: argparse.Namespace, val: ClipSet) -> Intensities | None:
    """True importance of every validation frame, where an intensity.csv lies beside the validation folder."""
    path = Path(val.root).parent / "intensity.csv"
    if args.dataset != "sample" or not path.is_file():
        return None
    truth = read_intensity(path)
    absent = [clip.name for clip in val.clips if any((clip.name, frame) not in truth for frame in clip.frames)]
    if absent:
        raise DataError([f"{path}: lacks frames of {len(absent)} clips, {absent[0]} for one; draw the sample again"])
    return {clip.name: np.array([truth[clip.name, frame][0] for frame in clip.frames]) for clip in val.clips}
