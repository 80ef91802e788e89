"""Videos or raw frames to folders of aligned faces: one clip after another, or several at a time."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from ..common.errors import ProjectError
from ..common.files import flush, flush_all, remove_leftovers
from ..common.json_files import NewerStateError, StateError
from ..common.machine import end_with, keep_freed_memory
from ..common.prefetch import prefetched
from ..common.wording import counted
from ..data.clips import DataError
from .detect import Detector
from .extract import BriefSource, analyse, cut_out
from .inputs import Job
from .records import (
    STATE,
    Record,
    check_settings,
    face_sizes,
    folder_names,
    is_done,
    load_record,
    place,
    record_file,
    save_record,
    save_settings,
)
from .settings import FACES_VERSION, Settings
from .summary import MARK, REPORT, csv_rows
from .track import follow

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

    The record says the size of each face, and all of them are on the disk before it is written.

    Args:
        job: the clip.
        output: folder of all clips.
        settings: the same for all clips.
        detector: finds the faces.
        alone: no other process needs the cores: decode, detect, warp and write in threads of their own.
        progress: called with how many more frames are searched.
    """
    record = Record(job.name, job.fingerprint())
    workshop = place(output, f"{STATE}/partial/{os.getpid()}")
    shutil.rmtree(workshop, ignore_errors=True)
    before, damaged = _earlier(output, job, settings)
    try:
        source = BriefSource(job.path, threads=0 if alone else 1)
        analysis = analyse(
            source, detector, fps=settings.fps, detect_every=settings.detect_every, overlap=alone, progress=progress
        )
    except DataError as error:
        record.error = "; ".join(error.problems)
        if not damaged and (
            before is None or not before.folders
        ):  # faces of an input that could be read are kept: a disk may be away
            save_record(output, record, "")
        return record
    main = analysis.main()
    chosen = [] if main is None else [main]
    if settings.faces == "all":
        chosen = analysis.people
    paths = {track: follow(analysis.tracks[track], analysis.times) for track in chosen}
    names = dict(zip(chosen, folder_names(job.name, len(chosen), settings.faces), strict=True))
    for track in chosen:
        (workshop / names[track]).mkdir(parents=True)
    cutouts = cut_out(source, analysis, paths)
    for track, position, image in prefetched(cutouts, size=8) if alone else cutouts:
        number = analysis.numbers[paths[track].positions[position]]
        Image.fromarray(image).save(workshop / names[track] / f"{number:07d}.jpg", quality=QUALITY)

    record.folders = {names[track]: len(paths[track]) for track in chosen}
    record.sizes = {name: face_sizes(workshop / name) for name in record.folders}
    record.frames, record.people, record.cuts = len(analysis.names), len(analysis.people), len(analysis.cuts)
    shown = {int(position) for path in paths.values() for position in path.positions}
    record.faces, record.filled = len(shown), int(sum(path.filled.sum() for path in paths.values()))
    record.problems = list(analysis.problems)
    rows = csv_rows([(names[t], t, paths[t]) for t in chosen], job.name, analysis)
    flush_all(workshop / name / face for name, faces in record.sizes.items() for face in faces)
    flush_all(workshop / name for name in record.sizes)
    if damaged and (strange := _strange(output, workshop, record, settings)):
        shutil.rmtree(workshop, ignore_errors=True)
        why = f"{strange}, and the record that would say who made it is damaged; move it away"
        return Record(job.name, record.source, error=why)
    # The record comes first: the next call would refuse a folder without one. A record without its folders means that
    # the clip is not finished.
    replaced = _faces_of(output, before)
    for name, faces in record.sizes.items():
        ours = faces if damaged else replaced.get(name, ())
        taken = [face for face in faces if face not in ours and (output / name / face).exists()]
        if taken:
            raise DataError(f"{output / name / taken[0]}: exists, and was not made by Prepare_Faces.py; move it away")
    _discard(output, replaced, workshop)
    save_record(output, record, rows)
    for name in record.folders:
        _put(workshop / name, place(output, name))
    shutil.rmtree(workshop, ignore_errors=True)
    return record


def _earlier(output: Path, job: Job, settings: Settings) -> tuple[Record | None, bool]:
    """The record of an earlier call, and whether there is one that is damaged."""
    try:
        return load_record(output, job.name, settings.faces), False
    except NewerStateError:
        raise
    except StateError:
        return None, True


def _strange(output: Path, workshop: Path, record: Record, settings: Settings) -> str:
    """What is there of a clip whose record is damaged, but is not what the clip has now; empty if there is nothing.

    A record that cannot be trusted must not decide what is replaced, so nothing is but equal files.
    """
    for name, faces in record.sizes.items():
        if (output / name).is_file():
            return f"{output / name}: is a file"
        for face in face_sizes(place(output, name)):
            path = output / name / face
            if face not in faces:
                return f"{path}: exists, but the clip has no such face now"
            if path.read_bytes() != (workshop / name / face).read_bytes():
                return f"{path}: is not the face that the clip has now"
    names = [record.clip] if settings.faces == "main" else folder_names(record.clip, len(record.folders) + 1, "all")
    other = next((name for name in names if name not in record.folders and face_sizes(place(output, name))), None)
    return f"{output / other}: exists, but the clip has no such person now" if other else ""


def _faces_of(output: Path, record: Record | None) -> dict[str, set[str]]:
    """The faces of a record that are there, by folder. Other clips' folders and users' files may be beside them."""
    if record is None:
        return {}
    there = {name: set(face_sizes(place(output, name))) for name in record.folders}
    return {name: faces & record.sizes.get(name, {}).keys() if record.sizes else faces for name, faces in there.items()}


def _discard(output: Path, replaced: dict[str, set[str]], workshop: Path) -> None:
    """Deletes faces. A folder with nothing else is moved away first, so that no half of a clip is left in place."""
    for count, (name, faces) in enumerate(replaced.items()):
        folder = place(output, name)
        if faces and len(faces) == len(os.listdir(folder)):
            away = workshop / f".old-{count}"
            away.parent.mkdir(parents=True, exist_ok=True)
            folder.replace(away)
            shutil.rmtree(away)
        else:
            for face in faces:
                (folder / face).unlink()


def _put(made: Path, target: Path) -> None:
    """Moves a folder of faces to its place, which may be a folder with other things in it."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.exists():
        for face in sorted(made.iterdir()):
            face.replace(target / face.name)
        flush(target)
    else:
        made.replace(target)
    flush(target.parent)


def plan(
    jobs: Sequence[Job], output: Path, settings: Settings, say: Callable[[str], object] = lambda line: None
) -> tuple[list[Job], list[Record]]:
    """Checks what an earlier call has finished. Inside of `claimed`.

    Args:
        say: called with a line for each damaged record, whose clip is prepared again.

    Returns:
        The clips that are left, and the records of the finished ones.

    Raises:
        DataError: the output was prepared with other settings or by another version, or has something that was not made
            by this project.
        StateError: the settings are damaged.
    """
    made_by = check_settings(output, settings, REPORT)
    _clear(output / STATE / "partial")
    remove_leftovers(output, REPORT.__contains__)
    remove_leftovers(output / STATE, "settings.json".__eq__)
    left, done, foreign = [], [], []
    for folder in {record_file(output, job.name).parent for job in jobs}:
        remove_leftovers(folder, lambda name: name.endswith((".json", ".csv")))
    for job in jobs:
        try:
            record = load_record(output, job.name, settings.faces)
            if record is not None and is_done(output, record, job.fingerprint()):
                done.append(replace(record, sizes={}))  # of many clips, they would need much memory
                continue
            folder = place(output, job.name)
            if record is None and folder.exists() and not _leads_to_clips(folder):
                foreign.append(f"{folder}: exists, and was not made by Prepare_Faces.py; move it away")
            left.append(job)
        except NewerStateError as error:
            foreign.append(str(error))
        except StateError as error:
            say(str(error))
            left.append(job)
        except ProjectError as error:
            foreign.append(str(error))
    if foreign:
        raise DataError(foreign, str(output))
    if left and made_by != FACES_VERSION:
        if any(record.folders for record in done):
            raise DataError(
                f"{output}: {len(done)} of {counted(len(jobs), 'clip')} prepared by another version of this program, "
                "which cuts out faces a little differently; name another output folder, or delete this one to prepare "
                "all clips again"
            )
        save_settings(output, settings)
    if left:  # the mark that all clips are finished
        (output / MARK).unlink(missing_ok=True)
    return left, done


def _clear(partial: Path) -> None:
    """Deletes what processes that were killed have left: folders that are called by the number of a process."""
    for folder in partial.glob("*"):
        if folder.name.isdecimal():
            shutil.rmtree(folder, ignore_errors=True)


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
    end_with(parent)
    torch.set_num_threads(1)
    keep_freed_memory()
    _worker.update(settings=settings, output=Path(output), counter=counter)
    _worker["detector"] = Detector(device, settings.min_face)


def _count(frames: int) -> None:
    with _worker["counter"].get_lock():
        _worker["counter"].value += frames


def _work(job: Job) -> Record:
    return prepare_clip(job, _worker["output"], _worker["settings"], _worker["detector"], alone=False, progress=_count)
