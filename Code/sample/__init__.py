"""The generated sample: a small dataset in AFEW's layout, drawn from a seed, with the true intensity of every frame.

Each clip shows one synthetic person, whose face goes from neutral to the apex of an expression and back, with
distractor frames in between. Unlike in recorded datasets, it is known how much of the clip's expression each frame
shows.

    python -m Code.sample --output Data/Sample --seed 0
    python -m Code.sample --contact-sheet docs/sample.png

The same seed gives the same sample on every machine. Random numbers come from
`numpy.random.default_rng([seed, split, clip])`, so that no clip depends on another or on the order of drawing. Pixels
come from arithmetic that IEEE 754 defines to the last bit (see `drawing.canvas`). Pillow's steps (moving, blur, JPEG)
are identical on all x86-64 machines; on some arm64 builds, whose compilers fuse multiplications and additions, single
pixels may differ by one gray level.
"""

from __future__ import annotations

import contextlib
import glob
import json
import multiprocessing
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..common.commandline import positive, run_script, script_parser, whole_number
from ..common.commandline import seed as any_seed
from ..common.errors import ProjectError, UsageError
from ..common.files import check_own, is_alive, remove_own, writing
from ..common.json_files import NewerStateError, StateError, read_state
from ..common.lock import one_after_another
from ..common.machine import available_cores, end_with, without_signals
from ..common.names import AFEW_LABELS, MAX_IMAGE_SIZE
from ..common.progress import Progress
from ..data.clips import DataError
from ..data.intensity import INTENSITY_FILE, Row, row, write_intensity
from .clip import SampleSpec, draw_clip

VERSION = 1  # increase when any pixel changes; samples of other versions are drawn again
SPLITS = ("Train", "Val")
LISTS = ("list_train.txt", "list_eval.txt")
MARKER = "README.txt"
JPEG_QUALITY = 92
# All that a sample consists of. A folder with anything else in it is never replaced.
OWN = re.compile(
    r"README\.txt|sample\.json|intensity\.csv|list_(train|eval)\.txt|"
    rf"(Train|Val)/(({'|'.join(AFEW_LABELS)})/([01]\d{{5,}}/(\d{{3,}}\.jpg)?)?)?"
)
Task = tuple[str, int, int, int, SampleSpec]


class WorkerError(ProjectError, RuntimeError):
    """A process that draws was killed from outside. Nothing of the sample is left."""

    status = 1


@dataclass
class SampleFile:
    """sample.json: what was drawn, written last."""

    version: int
    seed: int
    spec: dict[str, Any]
    frames: int


def draw_sample(
    root: str | Path,
    *,
    seed: int = 0,
    workers: int = 1,
    progress: bool = False,
    spec: SampleSpec | None = None,
) -> Path:
    """Draws the sample into `root`, unless the same sample (version, seed and spec) is there already.

    Args:
        root: folder to make. A sample of another seed or version, or an incomplete one, is replaced.
        seed: of all random numbers, 0 or above.
        workers: processes that draw. The result does not depend on their number.
        progress: show the progress.
        spec: size and difficulty; default `SampleSpec()`.

    Returns:
        `root`, which then contains Train/, Val/, list_train.txt, list_eval.txt, intensity.csv and sample.json.

    Raises:
        DataError, UsageError: `root` contains something that is not of a generated sample.
        WorkerError: a process that draws was killed.
        NewerStateError: a newer version of this program drew it.
    """
    named, root, spec = Path(root), Path(root).resolve(), spec or SampleSpec()
    # Converted to JSON and back, so that it is comparable with the content of a file.
    stamp = json.loads(json.dumps({"version": VERSION, "seed": seed, "spec": asdict(spec)}))
    _remove_drafts(root)
    if _is_complete(root, stamp):
        return named
    root.parent.mkdir(parents=True, exist_ok=True)
    with one_after_another(root.parent / f".{root.name}.lock", f"draws {named}"):
        if not _is_complete(root, stamp):  # the process that this one waited for may have drawn it
            _replace(root, named, seed, workers, progress, spec, stamp)
    return named


def _replace(
    root: Path, named: Path, seed: int, workers: int, progress: bool, spec: SampleSpec, stamp: dict[str, object]
) -> None:
    """Draws the sample beside `root`, then moves it there."""
    if root.exists() and not (root / MARKER).is_file() and (not root.is_dir() or any(root.iterdir())):
        # Perhaps the user's own data in the same layout, which must not be deleted.
        raise DataError(f"{named}: not empty and not a generated sample; choose another folder, or delete it yourself")
    if root.exists():
        check_own(root, OWN)
    draft = Path(tempfile.mkdtemp(prefix=f".{root.name}-{os.getpid()}-", dir=root.parent))
    try:
        _draw_into(draft, seed, workers, progress, spec, stamp)
        if not _is_complete(root, stamp):  # on a file system without locks, another process may have finished first
            if root.exists():
                remove_own(root, OWN)
            draft.rename(root)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _remove_drafts(root: Path) -> None:
    """Removes what processes that were killed have drawn beside `root`."""
    for folder in root.parent.glob(f".{glob.escape(root.name)}-*"):
        process = re.fullmatch(r"(\d+)-\w+", folder.name.removeprefix(f".{root.name}-"))
        if process and not is_alive(int(process[1])) and folder.is_dir() and not folder.is_symlink():
            with contextlib.suppress(UsageError):  # something else is in it
                remove_own(folder, OWN)


def clip_name(split: int, clip: int) -> str:
    """Class and folder of a clip, `Fear/100003` for clip 3 of split 1; unique in both splits."""
    return f"{AFEW_LABELS[clip % len(AFEW_LABELS)]}/{split}{clip:05d}"


def _is_complete(root: Path, stamp: dict[str, object]) -> bool:
    """Whether `root` contains the complete sample that `stamp` describes."""
    try:
        found = read_state(root / "sample.json", SampleFile, remedy="draw the sample again", newest=VERSION)
    except NewerStateError:
        raise
    except StateError:
        return False
    if {"version": found.version, "seed": found.seed, "spec": found.spec} != stamp:
        return False
    frames = sum(1 for split in SPLITS for _ in (root / split).glob("*/*/*.jpg"))
    return frames == found.frames and all((root / name).is_file() for name in (*LISTS, INTENSITY_FILE))


def _draw_into(
    folder: Path, seed: int, workers: int, progress: bool, spec: SampleSpec, stamp: dict[str, object]
) -> None:
    folder.chmod(0o755)  # mkdtemp makes it private
    (folder / MARKER).write_text("Synthetic faces, drawn by `python -m Code.sample`. Safe to delete.\n")
    totals = (spec.num_train_clips, spec.num_val_clips)
    tasks: list[Task] = [
        (str(folder), seed, split, clip, spec) for split, total in enumerate(totals) for clip in range(total)
    ]
    rows: list[Row] = []
    with Progress("drawing the sample", len(tasks), unit="clips", show=progress) as bar:
        for clip_rows in _drawn(tasks, workers):
            rows += clip_rows
            bar()
    for split, name in enumerate(LISTS):
        names = [clip_name(split, clip) for clip in range(totals[split])]
        (folder / name).write_text("".join(f"{clip} {clip.split('/')[0]}\n" for clip in names))
    write_intensity(folder, rows)
    counts = {"clips": len(tasks), "frames": len(rows), "distractors": sum(row[4] != "" for row in rows)}
    (folder / "sample.json").write_text(json.dumps({**stamp, **counts}, indent=2) + "\n")


def _drawn(tasks: list[Task], workers: int) -> Iterator[list[Row]]:
    if workers <= 1:
        yield from map(_write_clip, tasks)
        return
    # spawn: a process that is forked while other threads run (torch's, for example) may hang.
    spawn = multiprocessing.get_context("spawn")
    try:
        with ProcessPoolExecutor(workers, spawn, initializer=end_with, initargs=(os.getpid(),)) as pool:
            with without_signals():  # this starts the processes
                rows = pool.map(_write_clip, tasks, chunksize=4)
            yield from rows
    except BrokenProcessPool:
        raise WorkerError(
            "a process that draws the sample was killed, perhaps because memory ran out; start the command again"
        ) from None


def _write_clip(task: Task) -> list[Row]:
    """Draws one clip into its folder; returns its lines of intensity.csv."""
    root, seed, split, clip, spec = task
    name = clip_name(split, clip)
    folder = Path(root) / SPLITS[split] / name
    folder.mkdir(parents=True)
    rows: list[Row] = []
    for number, (picture, truth) in enumerate(draw_clip(name.split("/")[0], seed, split, clip, spec), start=1):
        frame = f"{number:03d}.jpg"
        picture.save(folder / frame, quality=JPEG_QUALITY)
        rows.append(row(SPLITS[split], name, frame, truth.intensity, truth.distractor))
    return rows


def main(argv: list[str] | None = None) -> int:
    """Command line; returns the exit status: 0 done, 2 wrong input."""
    spec = SampleSpec()
    parser = script_parser(__doc__, prog="python -m Code.sample")

    def number(flag: str, default: int, help: str, kind: Callable[[str], int] = positive) -> None:
        parser.add_argument(flag, type=kind, metavar="N", default=default, help=help)

    parser.add_argument("--output", type=Path, default=Path("Data/Sample"), help="folder to make")
    number("--seed", 0, "of the random numbers; another seed draws other people", any_seed)
    number("--train-clips", spec.num_train_clips, "training clips")
    number("--val-clips", spec.num_val_clips, "validation clips")
    number("--size", spec.size, "width and height of a frame in pixels", whole_number(32, MAX_IMAGE_SIZE))
    number("--workers", available_cores(), "processes that draw")
    parser.add_argument(
        "--contact-sheet", type=Path, metavar="PNG", help="only draw an overview of the sample into this file"
    )
    args = parser.parse_args(argv)
    spec = SampleSpec(num_train_clips=args.train_clips, num_val_clips=args.val_clips, size=args.size)

    def draw() -> int:
        if args.contact_sheet:
            from tools.sheet import draw_sheet

            with writing(args.contact_sheet):
                print(draw_sheet(args.contact_sheet, seed=args.seed))
            return 0
        with writing(args.output):
            root = draw_sample(args.output, seed=args.seed, workers=args.workers, progress=True, spec=spec)
        print(f"{root}: {spec.num_train_clips} training and {spec.num_val_clips} validation clips, seed {args.seed}")
        return 0

    return run_script(draw)
