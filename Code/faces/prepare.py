"""Videos or raw frames to folders of aligned faces: one clip after another, or several at a time."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from ..common.device import keep_freed_memory
from ..common.errors import WorkerError
from ..common.files import writing_folder
from ..common.progress import as_worker, prefetched
from ..data.clips import DataError
from .detect import Detector
from .extract import analyse, cut_out
from .index import (
    SUMMARY,
    Record,
    check_settings,
    faces_in,
    folder_names,
    is_done,
    load_record,
    rows_of,
    save_record,
)
from .inputs import Job
from .settings import Settings
from .track import follow
from .video import Source

QUALITY = 95
POLL_SECONDS = 0.2


def prepare_clip(
    job: Job,
    output: Path,
    settings: Settings,
    detector: Detector,
    *,
    alone: bool = True,
    progress: Callable[[int], object] | None = None,
) -> Record:
    """Prepares one clip: writes a folder for each person who is chosen, each of which appears whole.

    The record appears before the folders do. So a folder with a record was made here, and a record without all of its
    faces means that the clip is not finished. A clip that cannot be read has no record, and keeps the faces that it
    had: a disk may be away.

    Args:
        alone: no other process needs the cores: decode, detect, warp and write in threads of their own.
        progress: called with how many more frames are searched.
    """
    record = Record(job.name, job.fingerprint())
    try:
        source = Source(job.path, threads=0 if alone else 1, keep=True)
        analysis = analyse(
            source, detector, fps=settings.fps, detect_every=settings.detect_every, overlap=alone, progress=progress
        )
        main = analysis.main()
        people = analysis.people if settings.faces == "all" else [] if main is None else [main]
        paths = {track: follow(analysis.tracks[track], analysis.times) for track in people}
        names = dict(zip(people, folder_names(job.name, len(people), settings.faces), strict=True))
        record.folders = {names[track]: len(paths[track]) for track in people}
        record.frames, record.people = len(analysis.names), len(analysis.people)
        record.faces = len({int(position) for path in paths.values() for position in path.positions})
        record.filled = int(sum(path.filled.sum() for path in paths.values()))
        with ExitStack() as stack:
            folders = {track: stack.enter_context(writing_folder(output / names[track])) for track in people}
            cutouts = cut_out(source, analysis, paths)
            for track, position, image in prefetched(cutouts, size=8) if alone else cutouts:
                number = analysis.numbers[paths[track].positions[position]]
                Image.fromarray(image).save(folders[track] / f"{number:07d}.jpg", quality=QUALITY)
            _discard(output, job.name, len(people), settings)
            record.problems = list(analysis.problems)
            save_record(output, record, rows_of([(names[t], t, paths[t]) for t in people], job.name, analysis))
    except DataError as error:
        return Record(job.name, record.source, error="; ".join(error.problems))
    return record


def _discard(output: Path, clip: str, people: int, settings: Settings) -> None:
    """Makes way for the folders of some people: deletes the faces that an earlier call wrote, and nothing else."""
    before = load_record(output, clip)
    count = max(people, len(before.folders) if before else 0)
    for folder in (output / name for name in folder_names(clip, count, settings.faces)):
        if before:
            for face in faces_in(folder):
                (folder / face).unlink()
        if folder.is_dir() and not os.listdir(folder):
            folder.rmdir()
        elif folder.exists():
            raise DataError(f"{folder}: has files that were not made by Prepare_Faces.py; move it away")


def plan(jobs: Sequence[Job], output: Path, settings: Settings) -> tuple[list[Job], list[Record]]:
    """Which clips are left to prepare, and the records of those that an earlier call has finished.

    Raises:
        DataError: the output was prepared in another way, or has something that was not made by this program.
        StateError: the settings of an earlier call cannot be read.
    """
    check_settings(output, settings)
    left, done = [], []
    foreign = []
    for job in jobs:
        record = load_record(output, job.name)
        if record is not None and is_done(output, record, job.fingerprint()):
            done.append(record)
            continue
        left.append(job)
        if record is None and _has_files(output / job.name):
            foreign.append(f"{output / job.name}: exists, and was not made by Prepare_Faces.py; move it away")
    if foreign:
        raise DataError(foreign, str(output))
    if left:
        (output / SUMMARY).unlink(missing_ok=True)  # it says that all clips are finished
    return left, done


def _has_files(folder: Path) -> bool:
    """Whether a folder has more in it than folders of other clips (a clip `S005` beside clips `S005/001`)."""
    return folder.exists() and (not folder.is_dir() or not all(entry.is_dir() for entry in os.scandir(folder)))


def prepare_all(
    jobs: Sequence[Job],
    output: Path,
    settings: Settings,
    *,
    workers: int,
    device: torch.device,
    progress: Callable[[int], object],
) -> Iterator[Record]:
    """Prepares clips, in this process or in several, and yields each record when it is finished.

    Raises:
        WorkerError: a worker was killed.
    """
    if workers == 1:
        detector = Detector(device, settings.min_face)
        for job in jobs:
            yield prepare_clip(job, output, settings, detector, progress=progress)
        return
    # Spawned, not forked: a forked process could use neither torch's threads nor the GPU.
    context = multiprocessing.get_context("spawn")
    counter = context.Value("q", 0)
    pool = ProcessPoolExecutor(workers, context, _start_worker, (str(device), settings, output, counter))
    reported = 0
    try:
        waiting: set[Future[Record]] = {pool.submit(_work, job) for job in jobs}
        while waiting:
            finished, waiting = wait(waiting, POLL_SECONDS, FIRST_COMPLETED)
            now = counter.value
            progress(now - reported)
            reported = now
            for future in finished:
                yield future.result()
    except BrokenProcessPool:
        raise WorkerError(
            "a worker process was killed, perhaps because memory ran out; the same command resumes, "
            "better with fewer --workers"
        ) from None
    finally:
        # Also if the caller stops early: waiting clips are canceled, and running ones are stopped at once.
        for process in list((pool._processes or {}).values()):
            process.terminate()
        pool.shutdown(wait=True, cancel_futures=True)


_worker: dict[str, Any] = {}


def _start_worker(device: str, settings: Settings, output: Path, counter: Any) -> None:
    as_worker()
    torch.set_num_threads(1)
    keep_freed_memory()

    def count(frames: int) -> None:
        with counter.get_lock():
            counter.value += frames

    detector = Detector(device, settings.min_face)
    _worker["prepare"] = partial(
        prepare_clip, output=output, settings=settings, detector=detector, alone=False, progress=count
    )


def _work(job: Job) -> Record:
    record: Record = _worker["prepare"](job)
    return record
