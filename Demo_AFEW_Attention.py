"""Trains and evaluates Frame Attention Networks (FAN) for facial expression recognition in videos.

examples:
  learn the generated sample, no data needed       python Demo_AFEW_Attention.py --dataset sample --at_type 1
  train on AFEW from Data/Train and Data/Val       python Demo_AFEW_Attention.py --at_type 1
  evaluate the newest trained network              python Demo_AFEW_Attention.py --at_type 1 -e
  evaluate a checkpoint                            python Demo_AFEW_Attention.py -e --checkpoint model/RUN/best.pth
  train on your own <Class>/<clip>/<frame> folders python Demo_AFEW_Attention.py --dataset folders
                                                     --train-root faces/train --val-root faces/val
  go on with a run that was stopped                python Demo_AFEW_Attention.py --resume model/RUN
  start from random weights                        python Demo_AFEW_Attention.py --pretrained none
"""

from __future__ import annotations

import argparse
import os
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from Code.data.augment import FlippedClips, PlainFrames
from Code.data.clips import ClipSet, DataError, describe, quick_check, read_afew, read_folders
from Code.data.loaders import EvaluationBatches, TrainingBatches
from Code.data.sample import draw_sample, read_intensity
from Code.data.store import FileStore, FrameTable, broken_images
from Code.network.pretrained import load_fan, read_checkpoint
from Code.results.report import write_report
from Code.training.engine import Compute, choose_compute
from Code.training.errors import UsageError
from Code.training.protocols import ATTENTIONS, PROTOCOLS, Protocol
from Code.training.runs import Run, newest_best
from Code.training.setup import (
    HelpFormatter,
    positive,
    rate,
    restore_arguments,
    run_script,
    seeded_model,
    start_from,
    starting_file,
    whole,
)
from Code.training.trainer import (
    Intensities,
    Judged,
    Training,
    conclude,
    decay_at_thirds,
    judge,
    per_step,
    run_training,
    summary,
    write_outcome,
)

BATCH_FRAMES = 128  # frames the backbone sees at once in evaluation
CHECKED_FRAMES = 200_000  # up to here every frame's header is looked at first, about 10 s
SAMPLE_ROOT = Path("Data/Sample")


def build_parser() -> argparse.ArgumentParser:
    """The command line. Flags that a protocol sets have no default here."""
    usage, _, examples = (__doc__ or "").partition("\n\n")
    parser = argparse.ArgumentParser(
        description=usage + "\nDefaults that depend on the dataset come from its protocol; a flag overrides.",
        epilog=examples,
        formatter_class=HelpFormatter,
    )
    what = parser.add_argument_group("what to do")
    what.add_argument(
        "--at_type",
        "--attention",
        type=int,
        choices=sorted(ATTENTIONS),
        help="0 self-attention, 1 self + relation, 2 none: score fusion (default: 1; with -e the checkpoint's)",
    )
    what.add_argument("-e", "--evaluate", action="store_true", help="evaluate a trained network, train nothing")
    what.add_argument(
        "--checkpoint",
        type=Path,
        metavar="PATH",
        help="for -e (default: the newest best.pth of dataset and attention)",
    )
    what.add_argument("--resume", type=Path, metavar="RUN", help="go on with a run's folder after its last whole epoch")

    data = parser.add_argument_group("data")
    data.add_argument("--dataset", choices=sorted(PROTOCOLS), default="afew", help="which protocol and reader")
    data.add_argument("--train-root", metavar="DIR", help="holds <Class>/<clip>/<frame> (default: Data/Train)")
    data.add_argument("--val-root", metavar="DIR", help="likewise (default: Data/Val)")
    data.add_argument(
        "--train-list",
        metavar="FILE",
        help="lines `Class/clip Class`; `none`: scan the folders (default: Data/list_train.txt if it is there)",
    )
    data.add_argument("--val-list", metavar="FILE", help="likewise (default: Data/list_eval.txt if it is there)")
    data.add_argument("--skip-empty", action="store_true", help="leave out clips without frames, and count them")

    recipe = parser.add_argument_group("training")
    recipe.add_argument(
        "--pretrained",
        metavar="PATH|none",
        help="weights to start from (default: see pretrain_model/README.md)",
    )
    recipe.add_argument("--epochs", type=positive, metavar="N", help="(afew: 180)")
    recipe.add_argument("--lr", "--learning-rate", type=rate, metavar="RATE", help="of SGD (afew: 4e-6)")
    recipe.add_argument("--momentum", type=rate, metavar="M", help="of SGD (0.9)")
    recipe.add_argument("--weight-decay", "--wd", type=rate, metavar="W", help="of SGD (1e-4)")
    recipe.add_argument("--batch-size", type=positive, metavar="N", help="samples a step (afew: 48)")
    recipe.add_argument("--frames", type=positive, metavar="K", help="frames a training sample, one a segment (3)")
    recipe.add_argument(
        "--samples-per-clip",
        type=positive,
        metavar="N",
        help="an epoch's samples of a clip (afew: one per frame)",
    )
    recipe.add_argument(
        "--image-size", type=positive, metavar="PIXELS", help="input side (what the weights were made at)"
    )
    recipe.add_argument("--seed", type=whole, default=0, metavar="N", help="of weights, sampling, flips and dropout")

    machine = parser.add_argument_group("machine and output")
    machine.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, ...")
    machine.add_argument(
        "--precision",
        choices=("auto", "fp32", "bf16", "fp16"),
        default="auto",
        help="of the backbone; auto: bf16 where the hardware has it, else fp32",
    )
    machine.add_argument(
        "--workers", type=whole, metavar="N", help="processes that decode frames (default: by the cores)"
    )
    machine.add_argument(
        "--compile", action="store_true", help="torch.compile for training (slow start, faster steps on GPUs)"
    )
    machine.add_argument("--output", type=Path, default=Path("model"), metavar="DIR", help="where runs' folders go")
    machine.add_argument(
        "--print-freq", "-p", type=whole, default=0, metavar="N", help="print the loss every N steps; 0: never"
    )
    return parser


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
    return read_afew(root, lists, labels=labels or protocol.labels, skip_empty=args.skip_empty)


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
    refuse_broken_images(train, val)
    for warning in quick_check(train, val, frames=protocol.num_frames):
        print(f"warning: {warning}", file=sys.stderr)
    return train, val


def refuse_broken_images(*sets: ClipSet) -> None:
    """All files that are no images in one error, before hours of training; very large sets would wait too long."""
    if sum(len(clip) for clips in sets for clip in clips.clips) > CHECKED_FRAMES:
        return
    problems = [problem for clips in sets for problem in broken_images(clips, show_progress=True)]
    if problems:
        raise DataError(problems)


def prepare_sample(args: argparse.Namespace) -> None:
    """Draws the generated sample where the command asks for it and it is not there yet."""
    if args.dataset == "sample" and args.train_root is None and args.val_root is None:
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


def workers_of(args: argparse.Namespace, compute: Compute) -> int:
    """Decoding processes: a few beside a GPU; beside a CPU that computes, one, and none where cores are scarce."""
    if args.workers is not None:
        return int(args.workers)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(16, cores) if compute.device.type == "cuda" else min(4, cores // 4)


def judged_clips(args: argparse.Namespace, clips: ClipSet, size: int, compute: Compute) -> Judged:
    """A clip set to evaluate."""
    batches = EvaluationBatches(
        FrameTable.of(clips),
        FileStore(clips, size),
        batch_frames=BATCH_FRAMES,
        workers=workers_of(args, compute),
        pin_memory=compute.device.type == "cuda",
    )
    return Judged(batches, PlainFrames(), clips=clips.clips, intensities=intensities_of(args, clips))


def evaluate_checkpoint(args: argparse.Namespace) -> int:
    """`-e`: a trained FAN on the validation set; writes results beside those of training runs."""
    path = args.checkpoint or newest_best(args.output, args.dataset, args.at_type)
    if path is None:
        raise UsageError(
            f"-e: no trained network of dataset {args.dataset} in {args.output}; train one first (leave -e away), "
            "or name one with --checkpoint"
        )
    fan, info = load_fan(path)
    if args.at_type is not None and args.at_type != fan.at_type:
        raise UsageError(f"--at_type {args.at_type}: {path} was trained with --at_type {fan.at_type}")
    compute = choose_compute(args.device, args.precision, trained_with=info.get("precision"))
    prepare_sample(args)
    protocol = resolve_protocol(args)
    val = read_split(args, protocol, "val", tuple(info["labels"]) if protocol.labels is None else protocol.labels)
    if tuple(info["labels"]) != val.labels:
        raise UsageError(
            f"--checkpoint {path}: its classes are {', '.join(info['labels'])}; the data's {', '.join(val.labels)}"
        )
    print(f"evaluating {path} ({ATTENTIONS[fan.at_type]}) on {compute.device}, {compute.precision}")
    print(f"val:   {describe(val)}")
    fan.to(compute.device, memory_format=torch.channels_last)
    judged = judged_clips(args, val, args.image_size or info["image_size"], compute)
    metrics, evaluation = judge(fan, judged, compute)
    run = Run.create(args.output, args.dataset, fan.at_type, suffix="_evaluation")
    run.write_arguments(args, {"checkpoint": path, "at_type": fan.at_type}, compute)
    write_outcome(run, judged, {"best": {"epoch": info.get("epoch"), **metrics}}, evaluation)
    write_report(run.folder)
    print(f"{summary(metrics)}\nresults: {run.folder}")
    return 0


def train(args: argparse.Namespace) -> int:
    """Trains, evaluates after every epoch, and writes the run's folder."""
    at_type = 1 if args.at_type is None else args.at_type
    compute = choose_compute(args.device, args.precision)
    prepare_sample(args)
    protocol = resolve_protocol(args)
    train_clips, val_clips = read_both(args, protocol)
    labels = train_clips.labels

    model = seeded_model(at_type, len(labels), args.seed)
    start = starting_file(args.pretrained)
    if args.resume:
        made_at = read_checkpoint(args.resume / "last.pth")["image_size"]
        message = f"resuming {args.resume}"
    else:
        made_at, message = start_from(model, start, protocol.image_size)
    size = args.image_size or made_at
    protocol = replace(protocol, image_size=size)
    print(f"{message}\n{ATTENTIONS[at_type]} on {compute.device}, {compute.precision}, frames of {size} x {size}")
    model.to(compute.device, memory_format=torch.channels_last)

    workers, pin = workers_of(args, compute), compute.device.type == "cuda"
    batches = TrainingBatches(
        FrameTable.of(train_clips),
        FileStore(train_clips, size),
        num_frames=protocol.num_frames,
        batch_size=protocol.batch_size,
        seed=args.seed,
        samples_per_clip=protocol.samples_per_clip,
        workers=workers,
        pin_memory=pin,
    )
    optimizer = torch.optim.SGD(
        model.parameters(), lr=protocol.lr, momentum=protocol.momentum, weight_decay=protocol.weight_decay
    )
    schedule = per_step(decay_at_thirds(protocol.epochs, protocol.decay), len(batches))
    judged = judged_clips(args, val_clips, size, compute)
    flips = FlippedClips()
    training = Training(
        model=model,
        train=batches,
        val=judged,
        optimizer=optimizer,
        scheduler=torch.optim.lr_scheduler.LambdaLR(optimizer, schedule),
        compute=compute,
        transform=lambda epoch: flips,
        epochs=protocol.epochs,
        seed=args.seed,
        labels=labels,
        image_size=size,
        dataset=args.dataset,
        protocol=protocol.as_dict(),
        forward=torch.compile(model) if args.compile else None,
        print_freq=args.print_freq,
    )
    run = Run(args.resume) if args.resume else Run.create(args.output, args.dataset, at_type)
    if args.resume:
        training.resume(run.folder / "last.pth")
        run.cut_log(training.first_epoch - 1)
    else:
        resolved = {**protocol.as_dict(), "at_type": at_type, "pretrained": str(start or "none"), "workers": workers}
        run.write_arguments(args, resolved, compute)
    run_training(training, run)
    results = conclude(run, model, judged, compute)
    run.close()
    for which, metrics in results.items():
        note = "best on these clips" if which == "best" else "last"
        print(f"epoch {metrics['epoch']} ({note}): {summary(metrics)}")
    print(f"look at: {write_report(run.folder)}")
    return 0


def main() -> int:
    """Entry point; returns the exit status."""
    parser = build_parser()
    args = parser.parse_args()
    if args.resume:
        restore_arguments(args, parser)
    return evaluate_checkpoint(args) if args.evaluate else train(args)


if __name__ == "__main__":
    sys.exit(run_script(main))
