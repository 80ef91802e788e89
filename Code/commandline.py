"""What every script's command line shares."""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from Code.training.errors import UsageError
from Code.training.setup import HelpFormatter


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
