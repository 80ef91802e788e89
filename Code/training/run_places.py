"""Where runs are: a new folder, locked and marked until it has a checkpoint, and the newest of earlier ones.

A run that ends before its first checkpoint is of no use. Its folder has a file that says so, `no-checkpoint.txt`, and
is removed: at once if the run ends in an error, by the next start of the same command if it was killed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime
from itertools import count
from pathlib import Path

from ..common.errors import ProjectError, UsageError
from ..common.files import regular, save_text
from ..common.lock import LOCK, one_writer
from ..network import attention_titles
from . import distributed
from .launch import command_line, forget_folder
from .records import started_at
from .run_folder import MARK, ONE_OF_SEVERAL, TEMPORARY, Run

# All that a folder without a checkpoint may hold to be removed; in folders of several runs, also those of the runs.
OWN_FILES = re.compile(
    "|".join(map(re.escape, (MARK, "args.json", "log.jsonl", LOCK)))
    + rf"|events\.out\.tfevents\..*|{TEMPORARY.pattern}"
)


@contextmanager
def writer_of(folder: Path) -> Iterator[None]:
    """Inside the block, only the processes of this training write to the folder.

    Raises:
        FolderInUseError: in all of them: another training writes there.
    """
    with ExitStack() as stack:
        distributed.agree_on_error(lambda: stack.enter_context(one_writer(folder)))
        yield


@contextmanager
def new_run(parent: Path, dataset: str, kind: str, suffix: str = "") -> Iterator[Run]:
    """A new folder under `parent`, named by the current time; it is never one that exists.

    If the block fails before the run has a checkpoint or results, the folder is removed.

    Args:
        kind: "relation-attention", ..., or what else is trained.
    """
    with ExitStack() as stack:

        def begin() -> Path:
            remove_own_empty(parent)
            folder = _make(parent, f"{datetime.now():%Y%m%d-%H%M%S}_{dataset}_{kind}{suffix}")
            stack.enter_context(one_writer(folder))
            save_text(f"This run has no checkpoint yet. It may be deleted.\n{command_line()}\n", folder / MARK)
            return folder

        run = Run(_from_main(begin, parent))
        try:
            yield run
        except BaseException:
            run.close()
            if distributed.world().is_main and remove_empty(run.folder):
                forget_folder(run.folder)
            raise


def _from_main(begin: Callable[[], Path], parent: Path) -> Path:
    """The folder that the main process makes; all processes get its error."""
    made: list[Path] = []

    def make() -> None:
        try:
            made.append(begin())
        except OSError as error:
            where = error.filename or parent
            raise UsageError(
                f"--output {where}: cannot be made ({error.strerror}); name a folder to write to"
            ) from None

    distributed.agree_on_error(make)
    return distributed.from_main(lambda: made[0])


def _make(parent: Path, name: str) -> Path:
    parent.mkdir(parents=True, exist_ok=True)
    for number in count(1):
        folder = parent / (name if number == 1 else f"{name}-{number}")
        try:
            folder.mkdir()
        except FileExistsError:
            continue
        return folder
    raise AssertionError


def remove_own_empty(parent: Path) -> None:
    """Removes the folders of runs that the same command began, and that were killed before their first checkpoint."""
    for mark in sorted(parent.glob(f"*/{MARK}")):
        folder = mark.parent
        try:
            with open(mark, encoding="utf-8", opener=regular) as file:
                mine = not folder.is_symlink() and file.read().splitlines()[1:] == [command_line()]
        except (OSError, ValueError):
            continue
        if mine:
            try:
                with one_writer(folder):
                    remove_empty(folder)
            except ProjectError:  # it is being written to, or removed by another process
                continue


def remove_empty(folder: Path) -> bool:
    """Removes the folder of a run without a checkpoint, if it holds nothing but what such a run writes.

    Returns:
        Whether it did.
    """
    if not (folder / MARK).is_file() or not _is_empty(folder):
        return False
    _remove(folder)
    return True


def _is_empty(folder: Path, depth: int = 0) -> bool:
    return all(
        depth < 2 and ONE_OF_SEVERAL.fullmatch(path.name) is not None and _is_empty(path, depth + 1)
        if path.is_dir() and not path.is_symlink()
        else OWN_FILES.fullmatch(path.name) is not None
        for path in folder.iterdir()
    )


def _remove(folder: Path) -> None:
    """Removes a folder that `_is_empty`. The mark goes last: if this is killed, the next start removes the rest."""
    for path in sorted(folder.iterdir(), key=lambda path: path.name == MARK):
        if path.is_dir() and not path.is_symlink():
            _remove(path)
        else:
            path.unlink(missing_ok=True)
    folder.rmdir()


def newest_best(parent: Path, dataset: str, at_type: int | None = None, fold: int | None = None) -> Path | None:
    """The newest best.pth below `parent` of a dataset, and of an attention if one is given; None if there is none.

    The newest is of the run that was started last, as its args.json says.

    Args:
        fold: look for the networks of this fold. None skips networks of single folds.
    """
    attention = "*" if at_type is None else attention_titles()[at_type]
    name = f"*_{dataset}_{attention}"
    if fold is None:
        words = attention_titles().values() if at_type is None else [attention_titles()[at_type]]
        patterns = [f"*_{dataset}_{word}{end}" for word in words for end in ("", "-[0-9]*")]
    else:
        patterns = [f"{name}{fold_suffix(fold)}", f"{name}{fold_suffix(fold)}-[0-9]*", f"{name}_folds*/fold-{fold:02d}"]
    found = [path for pattern in patterns for path in parent.glob(f"{pattern}/best.pth")]
    begun = [path for path in found if not (path.parent / MARK).exists()]

    def age(path: Path) -> tuple[datetime, datetime, str]:
        whole = parent / path.relative_to(parent).parts[0]  # of several folds
        return started_at(whole), started_at(path.parent), str(path)

    return max(begun, key=age, default=None)


def fold_suffix(fold: int | None) -> str:
    """The end of the folder's name if a run is of one fold only."""
    return "" if fold is None else f"_fold-{fold}"
