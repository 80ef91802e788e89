"""Errors with a message for the user: one base class, and the exit status of each error."""

from __future__ import annotations

import importlib
import signal
from types import ModuleType

IS_CLONE = __name__.startswith("Code.")  # else this is the installed package, emotion_fan
STOP_SIGNALS = [signal.SIGINT, signal.SIGTERM]  # stop a training in order
if hasattr(signal, "SIGHUP"):  # not on Windows
    STOP_SIGNALS.append(signal.SIGHUP)


class ProjectError(Exception):
    """Something that the user can fix. The text says which file or flag, what is wrong and what to do.

    `run_script` prints the text, without a traceback, and ends the script with `status`: 2 for wrong input, 1 for
    anything else.
    """

    status = 2


class UsageError(ProjectError, ValueError):
    """A flag asks for something that cannot be done here."""


class TrainingDivergedError(ProjectError, RuntimeError):
    """The loss or a weight became NaN or infinite; the weights are useless from there on."""

    status = 1


class WorkerError(ProjectError, RuntimeError):
    """Another process of this work is gone, killed from outside. What was finished before is kept."""

    status = 1


class MissingExtraError(UsageError):
    """A package that only some tools need is not installed."""


class Interrupted(BaseException):
    """A signal, `number`, asked the process to stop, with the exit status `status`, as shells give it."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = signal.Signals(number)
        self.status = 128 + number


def how_to_install(extra: str) -> str:
    """The command that installs the packages of `requirements-<extra>.txt`."""
    return f"pip install -r requirements-{extra}.txt" if IS_CLONE else f"pip install 'emotion-fan[{extra}]'"


def require(module: str, package: str, purpose: str, extra: str = "faces") -> ModuleType:
    """Imports a package of `requirements-<extra>.txt`.

    Raises:
        MissingExtraError: saying what needs the package and how to install it.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingExtraError(f"{purpose} needs {package} ({error}): {how_to_install(extra)}") from error
