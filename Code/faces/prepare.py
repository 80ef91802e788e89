"""Videos or raw frames to folders of aligned faces: one clip after another, or several at a time."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from Code.common.errors import ProjectError
from Code.common.machine import keep_freed_memory
from Code.common.prefetch import ahead
from Code.data.clips import DataError
from Code.faces.detect import Detector
from Code.faces.extract import BriefSource, analyse, cut_out
from Code.faces.inputs import Job
from Code.faces.records import STATE, Record, check_settings, is_done, load_record, save_record
from Code.faces.settings import Settings
from Code.faces.summary import csv_rows
from Code.faces.track import follow

QUALITY = 95
POLL_SECONDS = 0.2


class WorkerError(ProjectError, RuntimeError):
    """A worker process was killed from outside. Finished clips are kept."""

    status = 1


def prepare_clip(
    job: Job,
    output: Path,
    settings: Settings,
    detector: Detector,
    *,
    alone: bool = True,
    progress: Callable[[int], object] | None = None,
) -> Record:
    """Prepares one clip. Its record appears in `output` first, then its folders, each of them complete.

    Args:
        job: the clip.
        output: folder of all clips.
        settings: the same for all clips.
        detector: finds the faces.
        alone: no other process needs the cores: decode, detect, warp and write in threads of their own.
        progress: called with how many more frames are searched.
    """
    record = Record(job.name, job.fingerprint())
    workshop = output / STATE / "partial" / f"{os.getpid()}"
    shutil.rmtree(workshop, ignore_errors=True)
    before = load_record(output, job.name)
    try:
        source = BriefSource(job.path, threads=0 if alone else 1)
        analysis = analyse(
            source, detector, fps=settings.fps, detect_every=settings.detect_every, overlap=alone, progress=progress
        )
    except DataError as error:
        record.error = "; ".join(error.problems)
        _discard(output, before, workshop)
        save_record(output, record, "")
        return record
    main = analysis.main()
    chosen = [] if main is None else [main]
    if settings.faces == "all":
        chosen = analysis.people
    paths = {track: follow(analysis.tracks[track], analysis.times) for track in chosen}
    names = {
        track: job.name if settings.faces == "main" else f"{job.name}_{count:02d}"
        for count, track in enumerate(chosen, start=1)
    }
    for track in chosen:
        (workshop / names[track]).mkdir(parents=True)
    cutouts = cut_out(source, analysis, paths)
    for track, place, image in ahead(cutouts, room=8) if alone else cutouts:
        number = analysis.numbers[paths[track].positions[place]]
        Image.fromarray(image).save(workshop / names[track] / f"{number:07d}.jpg", quality=QUALITY)

    record.folders = {names[track]: len(paths[track]) for track in chosen}
    record.frames, record.people, record.cuts = len(analysis.names), len(analysis.people), len(analysis.cuts)
    shown = {int(position) for path in paths.values() for position in path.positions}
    record.faces, record.filled = len(shown), int(sum(path.filled.sum() for path in paths.values()))
    record.problems = list(analysis.problems)
    # The record comes first: the next call would refuse a folder without one. A record without its folders means that
    # the clip is not finished.
    _discard(output, before, workshop)
    save_record(output, record, csv_rows([(names[t], t, paths[t]) for t in chosen], job.name, analysis))
    for name in record.folders:
        (output / name).parent.mkdir(parents=True, exist_ok=True)
        (workshop / name).replace(output / name)
    shutil.rmtree(workshop, ignore_errors=True)
    return record


def _discard(output: Path, before: Record | None, workshop: Path) -> None:
    """Deletes the folders of an earlier record. Each is moved away first, so that none is half deleted in place."""
    for count, name in enumerate(before.folders if before else ()):
        if (output / name).exists():
            away = workshop / f".old-{count}"
            away.parent.mkdir(parents=True, exist_ok=True)
            (output / name).replace(away)
            shutil.rmtree(away)


def plan(jobs: Sequence[Job], output: Path, settings: Settings) -> tuple[list[Job], list[Record]]:
    """Checks what an earlier call has finished.

    Returns:
        The clips that are left, and the records of the finished ones.

    Raises:
        DataError: the output was prepared with other settings, or has a folder that was not made by this project.
    """
    try:
        (output / STATE).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"{output}: cannot be created ({error.strerror}); name another output folder") from None
    check_settings(output, asdict(settings))
    shutil.rmtree(output / STATE / "partial", ignore_errors=True)
    left, done, foreign = [], [], []
    for job in jobs:
        record = load_record(output, job.name)
        if record is not None and is_done(output, record, job.fingerprint()):
            done.append(record)
        else:
            left.append(job)
            if record is None and (output / job.name).exists() and not _leads_to_clips(output / job.name):
                foreign.append(f"{output / job.name}: exists, and was not made by Prepare_Faces.py; move it away")
    if foreign:
        raise DataError(foreign, str(output))
    return left, done


def _leads_to_clips(folder: Path) -> bool:
    """Whether a folder only contains the folders of other clips (a clip `S005` beside clips `S005/001`)."""
    return folder.is_dir() and all(entry.is_dir() for entry in os.scandir(folder))


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
    pool = ProcessPoolExecutor(
        workers, context, _start_worker, (str(device), settings, str(output), counter, os.getpid())
    )
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


def _start_worker(device: str, settings: Settings, output: str, counter: Any, parent: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes; the parent stops its workers
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    torch.set_num_threads(1)
    keep_freed_memory()
    _worker.update(settings=settings, output=Path(output), counter=counter)
    _worker["detector"] = Detector(device, settings.min_face)


def _end_with(parent: int) -> None:
    """Ends this worker when its parent is gone, for whatever reason."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


def _count(frames: int) -> None:
    with _worker["counter"].get_lock():
        _worker["counter"].value += frames


def _work(job: Job) -> Record:
    return prepare_clip(job, _worker["output"], _worker["settings"], _worker["detector"], alone=False, progress=_count)
