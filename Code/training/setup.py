"""What both training scripts need before the first epoch: which weights to start from, how big frames are."""

from __future__ import annotations

import argparse
import math
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch

from Code.data.clips import DataError
from Code.network.fan import FAN
from Code.network.heads import fitted_head
from Code.network.pretrained import MAX_SIDE, CheckpointError, load_published, read_checkpoint
from Code.results.run_files import ReportError
from Code.training import distributed, launch
from Code.training.errors import TrainingDivergedError, UsageError, WriteError
from Code.training.interruption import Interrupted

FERPLUS_FILE = Path("pretrain_model/Resnet18_FER+_pytorch.pth.tar")
SHIPPED_FILE = Path("pretrain_model/Resnet18_FER+_open.pth.tar")
PUBLISHED_SIZE = 224


def starting_file(pretrained: str | None) -> Path | None:
    """Turns `--pretrained` into a file: a path, None for "none".

    By default a `Resnet18_FER+_pytorch.pth.tar` that the user put into (or made in) `pretrain_model/`
    takes precedence over the file that comes with the project.
    """
    if pretrained is None:
        return FERPLUS_FILE if FERPLUS_FILE.exists() or not SHIPPED_FILE.exists() else SHIPPED_FILE
    return None if pretrained.lower() == "none" else Path(pretrained)


def start_from(
    model: FAN,
    path: Path | None,
    fallback_size: int,
    labels: Sequence[str] = (),
    mapping: Mapping[str, str] | None = None,
) -> tuple[int, str]:
    """Loads the starting weights and says what was done.

    Args:
        model: its backbone (and head, if the file holds one) is overwritten.
        path: None leaves the random weights.
        fallback_size: input side for random weights, pixels.
        labels: the model's class names; a FAN hands its attention over, and its classifier by name.
        mapping: class name of the model -> class name of the file, where they differ.

    Returns:
        (input side in pixels that the weights were trained at, a line for people).

    Raises:
        CheckpointError: one line, if the file is missing or does not fit.
    """
    if path is None:
        return fallback_size, "starting from random weights (--pretrained none)"
    checkpoint = read_checkpoint(path)
    try:
        weights, fresh, classifier = (
            fitted_head(model, checkpoint, labels, mapping or {}) if labels else (checkpoint, set[str](), "")
        )
        report = load_published(model, weights, fresh=fresh)
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from None
    size = int(checkpoint.get("image_size", PUBLISHED_SIZE))
    also = f"; {classifier}" if classifier else ""
    return size, f"starting from {path} ({report}{also}; trained at {size} x {size} pixels)"


def seeded_model(at_type: int, num_classes: int, seed: int, *, dropout: float | None = None) -> FAN:
    """A FAN whose random weights depend on the seed alone."""
    torch.manual_seed(seed)
    return FAN(at_type, num_classes, dropout=dropout)


def run_script(main: Callable[[], int]) -> int:
    """Runs a script's main: wrong input becomes a message on stderr and exit status 2, never a traceback."""
    rank = int(os.environ.get("RANK", 0))  # given by torchrun
    process = f"process {rank}: " if rank else ""
    try:
        return main()
    except WriteError as error:
        print(f"{process}error: {error}{_how_to_go_on('; then ')}", file=sys.stderr)
        return 2
    except (DataError, CheckpointError, UsageError) as error:
        print(f"{process}error: {error}", file=sys.stderr)
        return 2
    except MemoryError as error:
        text = f"error: not enough memory ({error}); try smaller --batch-size, --samples-per-clip or --frames"
        print(text, file=sys.stderr)
        return 1
    except (TrainingDivergedError, ReportError) as error:
        print(f"{process}error: {error}", file=sys.stderr)
        return 1
    except Interrupted as stop:
        if not rank:
            ended = _how_to_go_on("; to go on: ") or "; no run was begun, nothing is lost"
            print(f"stopped by {stop.number.name}{ended}", file=sys.stderr)
        return stop.status
    except KeyboardInterrupt:
        print("\nstopped; what was saved stays in the run's folder", file=sys.stderr)
        return 130
    except RuntimeError as error:
        if not distributed.is_lost_process(error):
            raise
        print(f"{process}error: {distributed.LOST}{_how_to_go_on('; to go on: ')}", file=sys.stderr, flush=True)
        distributed.let_torchrun_see_who_died()
        return 1
    except BrokenPipeError:  # `... --help | head`
        return 0


def _how_to_go_on(before: str) -> str:
    command = launch.resume_command()
    return f"{before}{command}" if command else ""


def positive(text: str) -> int:
    """An argparse type: a whole number above zero, of at most nine digits."""
    if not text.isdecimal() or len(text) > 9 or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 to 999999999")
    return int(text)


def side(text: str) -> int:
    """An argparse type: pixels, as many as a checkpoint may name."""
    if positive(text) > MAX_SIDE:
        raise argparse.ArgumentTypeError(f"{text!r} is more than {MAX_SIDE} pixels")
    return int(text)


def whole(text: str) -> int:
    """An argparse type: a whole number from zero, small enough to be a seed."""
    if not text.isdecimal() or int(text) >= 2**32:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 0 to 2^32 - 1")
    return int(text)


def fold(text: str) -> int | str:
    """An argparse type: a fold's number, from 1, or "all"."""
    if text == "all":
        return text
    try:
        return positive(text)
    except argparse.ArgumentTypeError:
        raise argparse.ArgumentTypeError(f"{text!r} is neither a fold's number nor all") from None


def pair(text: str) -> str:
    """An argparse type: OLD=NEW."""
    old, _, new = text.partition("=")
    if not old or not new:
        raise argparse.ArgumentTypeError(f"{text!r} is not OLD=NEW")
    return text


def rate(text: str) -> float:
    """An argparse type: a finite number that is not negative."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from zero up")
    return value


def minutes(text: str) -> float:
    """An argparse type: minutes, fractions allowed."""
    return rate(text)


def share(text: str) -> float:
    """An argparse type: a number from zero to below one."""
    value = rate(text)
    if value >= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not below one")
    return value


class HelpFormatter(argparse.RawDescriptionHelpFormatter):
    """Shows defaults where a flag has one that says something, and leaves the examples as they are."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        text = action.help
        if text and action.default not in (None, False, argparse.SUPPRESS) and "default" not in text:
            text += " (default: %(default)s)"
        return text
