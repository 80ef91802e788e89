"""The generated sample: a small dataset in AFEW's layout, drawn from a seed, with the true intensity of every frame.

Each clip shows one synthetic person, whose face goes from neutral to the apex of an expression and back, with
distractor frames in between. Unlike in recorded datasets, it is known how much of the clip's expression each frame
shows. `draw_sample` makes the dataset, `clip` one of its clips, `face` a frame.

The same seed gives the same sample on every machine. Random numbers come from
`numpy.random.default_rng([seed, split, clip])`, so that no clip depends on another or on the order of drawing. Pixels
come from arithmetic that IEEE 754 defines to the last bit (see `canvas`). Pillow's steps (moving, blur, JPEG) are
identical on all x86-64 machines; on some arm64 builds, whose compilers fuse multiplications and additions, pixels
may differ by one gray level.
"""

from __future__ import annotations

import json
import multiprocessing
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..common.files import one_writer, writing_folder
from ..common.json_files import StateError, read_json
from ..common.names import AFEW_LABELS
from ..common.progress import Progress, as_worker
from ..data.clips import DataError
from ..data.intensity import INTENSITY_FILE, Row, write_intensity
from .clip import SampleSpec, draw_clip

VERSION = 1  # increase when any pixel changes; samples of other versions are drawn again
SPLITS, LISTS = ("Train", "Val"), ("list_train.txt", "list_eval.txt")
MARKER, FACTS = "README.txt", "sample.json"
README = "Synthetic faces, drawn by `python -m Code.sample`. Safe to delete.\n"
JPEG_QUALITY = 92
Task = tuple[Path, int, int, int, SampleSpec]


def draw_sample(
    root: str | Path, *, seed: int = 0, workers: int = 1, progress: bool = False, spec: SampleSpec | None = None
) -> Path:
    """Draws the sample into the folder `root`, and returns `root`.

    The same sample (version, seed and spec) is left as it is; another one is replaced. The number of processes that
    draw, `workers`, does not change the result.

    Raises:
        DataError: `root` contains something that is not of a generated sample.
    """
    folder, spec = Path(root).resolve(), spec or SampleSpec()
    settings = {"version": VERSION, "seed": seed, "spec": asdict(spec)}
    if _is_drawn(folder, settings):
        return Path(root)
    with one_writer(folder.parent, f".{folder.name}.lock", doing=f"draws {root}"):
        if not _is_drawn(folder, settings):  # the process that this one waited for may have drawn it
            names = {path.name for path in folder.glob("*")}
            is_sample = MARKER in names and (folder / MARKER).read_bytes().startswith(README[:16].encode())
            if names and not (is_sample and names <= {MARKER, FACTS, INTENSITY_FILE, *SPLITS, *LISTS}):
                # Perhaps the user's data in the same layout.
                raise DataError(f"{root}: not empty and not a generated sample; choose another folder, or delete it")
            with writing_folder(folder, replace=True) as draft:
                _draw_into(draft, settings, workers, progress, spec)
    return Path(root)


def _is_drawn(folder: Path, settings: dict[str, Any]) -> bool:
    """Whether there is a sample of these settings. It is whole: the folder gets its name when all is drawn."""
    try:
        facts = read_json(folder / FACTS, dict[str, Any], remedy="draw the sample again")
    except StateError:
        return False
    return json.loads(json.dumps(settings)).items() <= facts.items()


def _draw_into(folder: Path, settings: dict[str, Any], workers: int, progress: bool, spec: SampleSpec) -> None:
    (folder / MARKER).write_text(README)
    totals = (spec.num_train_clips, spec.num_val_clips)
    tasks: list[Task] = [
        (folder, settings["seed"], split, clip, spec) for split, total in enumerate(totals) for clip in range(total)
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
    (folder / FACTS).write_text(json.dumps({**settings, **counts}, indent=2) + "\n")


def clip_name(split: int, clip: int) -> str:
    """Class and folder of a clip, `Fear/100003` for clip 3 of split 1; unique in both splits."""
    return f"{AFEW_LABELS[clip % len(AFEW_LABELS)]}/{split}{clip:05d}"


def _drawn(tasks: list[Task], workers: int) -> Iterator[list[Row]]:
    if workers <= 1:
        yield from map(_write_clip, tasks)
        return
    # spawn: a process that is forked while other threads run (torch's, for example) may hang.
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), initializer=as_worker) as pool:
        yield from pool.map(_write_clip, tasks, chunksize=4)


def _write_clip(task: Task) -> list[Row]:
    """Draws one clip into its folder; returns its lines of intensity.csv."""
    root, seed, split, clip, spec = task
    name = clip_name(split, clip)
    folder = root / SPLITS[split] / name
    folder.mkdir(parents=True)
    rows: list[Row] = []
    for number, (picture, truth) in enumerate(draw_clip(name.split("/")[0], seed, split, clip, spec), start=1):
        frame = f"{number:03d}.jpg"
        picture.save(folder / frame, quality=JPEG_QUALITY)
        rows.append((SPLITS[split], name, frame, truth.intensity, truth.distractor))
    return rows
