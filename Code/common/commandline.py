"""What every script's command line shares."""

from __future__ import annotations

import argparse
import math
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from Code.common.errors import TrainingDivergedError, UsageError, WriteError
from Code.data.clips import DataError
from Code.network.pretrained import MAX_SIDE, CheckpointError
from Code.results.run_files import ReportError
from Code.training import distributed, launch
from Code.training.stopping import Interrupted


def script_parser(doc: str | None, note: str = "") -> argparse.ArgumentParser:
    """A parser whose help is a script's docstring: its first paragraph, a note, the flags, the examples."""
    usage, _, examples = (doc or "").partition("\n\n")
    return argparse.ArgumentParser(description=usage + note, epilog=examples, formatter_class=HelpFormatter)


def add_device(place: argparse._ActionsContainer) -> None:
    """Adds `--device`; `choose_compute` reads it."""
    place.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, ...")


def above_zero(text: str) -> float:
    """An argparse type: a finite number above zero, of seconds or of frames a second."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above zero")
    return value


@contextmanager
def writing(place: Path) -> Iterator[None]:
    """Turns what the system says against writing into a line for people; `place` is named if it names nothing."""
    try:
        yield
    except BrokenPipeError:  # `... | head`, no matter of files
        raise
    except OSError as error:
        raise UsageError(f"{error.filename or place}: cannot be written ({error.strerror})") from error


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
