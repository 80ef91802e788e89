"""Writes a trained FAN to publish: in half precision, without paths of the machine that it was trained on.

    python -m Code.training.release model/<run> --output pretrain_model/FAN_FER+_composed.pth

The file is read like any checkpoint of a run. It says its classes, head, input and precision, and how it was made:
commands, versions, device, date, and the metrics of the run's results.json.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from Code.common.commandline import run_script
from Code.common.errors import UsageError
from Code.data.readers.base import find_reader
from Code.network.checkpoints import CheckpointError, read_checkpoint, save_atomically
from Code.network.pretrained import load_fan
from Code.results.run_files import read_run
from Code.training.protocols import PROTOCOLS

INPUT = "RGB, or gray as three equal channels, in [0, 1]; no mean/std normalization"
PLACES = ("train_root", "val_root", "train_list", "val_list")  # paths of one machine


def released(checkpoint: Mapping[str, Any], about: Mapping[str, Any]) -> dict[str, Any]:
    """A checkpoint to publish.

    Args:
        checkpoint: of a run, as returned by `read_checkpoint`.
        about: plain values to add, which say how it was made.

    Raises:
        CheckpointError: a weight is not finite in half precision.
    """
    weights = {}
    for name, value in checkpoint["state_dict"].items():
        assert isinstance(value, Tensor)
        weights[name] = value.half() if value.is_floating_point() else value
        if not torch.isfinite(weights[name]).all():
            raise CheckpointError(f"{name} is not finite in half precision")
    protocol = dict(checkpoint["protocol"])
    usual = PROTOCOLS.get(checkpoint["dataset"])
    data = find_reader(usual.reader).defaults if usual else None
    for place in PLACES:
        protocol[place] = getattr(data, place, None)
    protocol["data_flags"] = {
        name: value for name, value in protocol.get("data_flags", {}).items() if name not in PLACES
    }
    kept = ["format", "at_type", "labels", "image_size", "dataset", "precision", "epoch", "metrics"]
    kept += ["backbone"] * ("backbone" in checkpoint)  # without it, a run of an earlier version: ResNet18
    return {
        **{name: checkpoint[name] for name in kept},
        "state_dict": weights,
        "protocol": protocol,
        "training": None,
        "input": INPUT,
        "about": dict(about),
    }


def release(run: Path, output: Path, which: str = "last", before: Sequence[Path] = ()) -> Path:
    """Writes `<which>.pth` of a run as a file to publish.

    Args:
        before: the runs that this one started from, oldest first. The file names their commands, too.

    Returns:
        `output`.

    Raises:
        CheckpointError, ReportError, UsageError: the run lacks a file, or one of them cannot be read.
    """
    checkpoint = read_checkpoint(run / f"{which}.pth")
    if "protocol" not in checkpoint:
        raise CheckpointError(f"{run / which}.pth: is not the checkpoint of a run; name a run's folder")
    commands = []
    for folder in (*before, run):
        command = read_run(folder).about.get("command")
        if command is None:
            raise UsageError(f"{folder}: has no args.json, which says how it was trained; name a run's folder")
        commands.append(command)
    args = read_run(run).about
    about = {
        "commands": commands,
        **{name: args[name] for name in ("versions", "device", "precision", "threads")},
        "date": run.resolve().name[:8],
        "seed": args["args"]["seed"],
        "results": read_run(run).results.get(which, {}),
    }
    save_atomically(released(checkpoint, about), output)
    load_fan(output)  # can it be read?
    return output


def main(argv: Sequence[str] | None = None) -> int:
    """Writes the file; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m Code.training.release",
        description="Write a run's network to publish, in half precision and without paths of this machine.",
    )
    parser.add_argument("run", type=Path, metavar="RUN", help="a run's folder, model/<date-time>_...")
    parser.add_argument("--output", type=Path, required=True, metavar="FILE", help="the file to write")
    parser.add_argument("--which", choices=("last", "best"), default="last", help="which epoch (default: last)")
    parser.add_argument(
        "--after",
        type=Path,
        nargs="+",
        default=[],
        metavar="RUN",
        help="runs that it started from, oldest first, to name their commands",
    )
    args = parser.parse_args(argv)
    path = release(args.run, args.output, args.which, args.after)
    print(f"{path}: {path.stat().st_size / 1e6:.1f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(run_script(main))
