"""Writes a trained FAN to publish: in half precision, without paths of the machine that it was trained on.

    python -m Code.recipes.release model/<run> --output pretrain_model/FAN_FER+_composed.pth

The file is read like any checkpoint of a run. It says its classes, head, input and precision, and how it was made:
commands, versions, device, date, and the metrics of the run's results.json. `--calibrate` fits a temperature on the
run's predictions of its validation clips, and `--balance 1` then takes the class shares of its training set out of the
answers.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..common.commandline import from_zero, run_script, script_parser, share
from ..common.errors import UsageError
from ..common.files import check_outputs
from ..network.checkpoints import CheckpointError, read_checkpoint, save_atomically
from ..network.prior import Balance
from ..network.weights import load_fan
from ..readers import find, names
from ..results.runs import read_run
from ..training.records import Arguments, as_dict, started_at
from .calibration import calibration_error, fit_temperature, with_temperature
from .change_prior import with_balance

INPUT = "RGB, or gray as three equal channels, in [0, 1]; no mean/std normalization"
PATHS = ("train_root", "val_root", "train_list", "val_list")  # of one machine
COPIED = ("format", "at_type", "labels", "image_size", "dataset", "precision", "epoch")
WHERE_KNOWN = ("backbone", "class_shares", "recipe", "metrics")


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
    reader = find(checkpoint["dataset"]) if checkpoint["dataset"] in names() else None
    protocol |= {path: getattr(reader, path, None) for path in PATHS}
    flags = protocol.get("data_flags", {})
    protocol["data_flags"] = {name: value for name, value in flags.items() if name not in PATHS}
    return {
        # A network with another prior has no metrics: its accuracy is unknown.
        **{name: checkpoint[name] for name in (*COPIED, *WHERE_KNOWN) if name in checkpoint},
        "state_dict": weights,
        "protocol": protocol,
        "training": None,
        "input": INPUT,
        "about": dict(about),
    }


def calibrated(checkpoint: Mapping[str, Any], run: Path) -> tuple[dict[str, Any], dict[str, float]]:
    """A checkpoint with the temperature of a run's predictions, and the figures before and after.

    Raises:
        CheckpointError: the run has no predictions.
        UsageError: they are those of another epoch.
    """
    read = read_run(run)
    if not read.clips or not read.clips[0].probabilities:
        raise CheckpointError(f"{run}: has no predictions with probabilities to calibrate with")
    best = read.metrics("best")
    predicted = checkpoint["epoch"] if best is None or best.epoch is None else best.epoch
    if predicted != checkpoint["epoch"]:
        raise UsageError(
            f"--calibrate: {run / 'predictions.csv'} has the answers of the best epoch, {predicted}, not of epoch "
            f"{checkpoint['epoch']}; add --which best"
        )
    labels = torch.tensor([read.labels.index(clip.label) for clip in read.clips])
    # predictions.csv has six decimals
    shares = torch.tensor([list(clip.probabilities.values()) for clip in read.clips], dtype=torch.float64)
    logits = shares.clamp(min=5e-7).log()
    temperature = fit_temperature(logits, labels)
    figures = {
        "temperature": temperature,
        "error_before": calibration_error(logits.softmax(dim=1), labels),
        "error_after": calibration_error((logits / temperature).softmax(dim=1), labels),
        "clips": len(labels),
    }
    return with_temperature(checkpoint, temperature), figures


def release(
    run: Path,
    output: Path,
    which: str = "last",
    before: Sequence[Path] = (),
    *,
    calibrate: bool = False,
    balance: Balance | None = None,
) -> dict[str, Any]:
    """Writes `<which>.pth` of a run as a file to publish.

    Args:
        before: the runs that this one started from, oldest first. The file names their commands, too.
        calibrate: divide the logits by the temperature that fits the run's predictions best.
        balance: how much of the prior of the training set to take out, after the temperature.

    Returns:
        What the file says about how it was made.

    Raises:
        CheckpointError, ReportError, UsageError: the run lacks a file, or one of them cannot be read.
    """
    checkpoint = read_checkpoint(run / f"{which}.pth")
    if "protocol" not in checkpoint:
        raise CheckpointError(f"{run / which}.pth: is not the checkpoint of a run; name a run's folder")
    arguments = [_arguments(folder) for folder in (*before, run)]
    own = arguments[-1]
    about: dict[str, Any] = {
        "commands": [each.command for each in arguments],
        "versions": own.versions,
        "device": own.device,
        "precision": own.precision,
        "threads": own.threads,
        "date": f"{started_at(run.resolve()):%Y%m%d}",
        "seed": own.args.get("seed"),
        "results": as_dict(read_run(run).metrics(which)) or {},
    }
    if calibrate:
        checkpoint, about["calibration"] = calibrated(checkpoint, run)
    if balance is not None:
        checkpoint = with_balance(checkpoint, balance, torch.tensor(checkpoint["class_shares"], dtype=torch.float32))
    save_atomically(released(checkpoint, about), output)
    load_fan(output)  # can it be read?
    return about


def _arguments(run: Path) -> Arguments:
    arguments = read_run(run).arguments
    if arguments is None or arguments.command is None:
        raise UsageError(f"{run}: has no args.json, which says how it was trained; name a run's folder")
    return arguments


def main(argv: Sequence[str] | None = None) -> int:
    """Writes the file; returns the exit status."""
    parser = script_parser(__doc__, prog="python -m Code.recipes.release")
    parser.add_argument("run", type=Path, metavar="RUN", help="a run's folder, model/<date-time>_...")
    parser.add_argument("--output", type=Path, required=True, metavar="FILE", help="the file to write")
    parser.add_argument("--which", choices=("last", "best"), default="last", help="which epoch")
    parser.add_argument(
        "--after",
        type=Path,
        nargs="+",
        default=[],
        metavar="RUN",
        help="runs that it started from, oldest first, to name their commands",
    )
    parser.add_argument(
        "--calibrate", action="store_true", help="fit a temperature on the run's predictions (of its validation clips)"
    )
    parser.add_argument(
        "--balance",
        type=from_zero,
        metavar="TAU",
        help="how much of the class shares of the training set to take out: 0 nothing, 1 all (default: leave as it is)",
    )
    parser.add_argument(
        "--floor", type=share, default=0.0, metavar="S", help="rarer classes count as this share in --balance"
    )
    args = parser.parse_args(argv)
    check_outputs([args.output], [args.run, *args.after])
    balance = None if args.balance is None else Balance(args.balance, args.floor)
    about = release(args.run, args.output, args.which, args.after, calibrate=args.calibrate, balance=balance)
    if figures := about.get("calibration"):
        print(
            f"temperature {figures['temperature']:.3f}; expected calibration error on {figures['clips']} clips: "
            f"{100 * figures['error_before']:.1f} % before, {100 * figures['error_after']:.1f} % after"
        )
    print(f"{args.output}: {args.output.stat().st_size / 1e6:.1f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(run_script(main))
