"""Videos or raw frames to folders of aligned faces, with a record of each clip and a table of all faces.

Records are kept in a hidden folder of the output, so that the next call goes on with the clips that are missing.
"""

from __future__ import annotations

import csv
import io
import json
import multiprocessing
import os
import re
import shutil
import sys
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from textwrap import shorten
from typing import Any

import numpy as np
import torch
from PIL import Image

from ..common.device import choose_compute, keep_freed_memory
from ..common.errors import WorkerError
from ..common.files import atomic_text, one_writer, save_text, writing_folder
from ..common.json_files import StateError, read_json
from ..common.names import one_line
from ..common.progress import Progress, as_worker, available_cores, prefetched
from ..data.clips import DataError
from .detect import Detector
from .extract import Analysis, analyse, cut_out
from .inputs import Job, find_jobs
from .mtcnn import weights_folder
from .settings import DETECT_EVERY, FACES_TABLE, FACES_VERSION
from .track import FaceTrack, completed
from .video import FileSource

QUALITY = 95
STATE = ".prepared"  # hidden, so that dataset readers skip it
FACE_FILE = re.compile(r"[0-9]{7,}\.jpg")
COLUMNS = (
    *("clip", "frame", "time", "left", "top", "right", "bottom"),
    *(f"{point}_{axis}" for point in ("left_eye", "right_eye", "nose", "left_mouth", "right_mouth") for axis in "xy"),
    *("confidence", "track", "filled"),
)
SUMMARY = "summary.json"
_detector = lru_cache(maxsize=1)(Detector)  # that of the clip before serves again


@dataclass(frozen=True)
class Settings:
    """How clips are prepared; the same for all of an output folder."""

    faces: str = "main"  # the main person of each clip; or "all": a folder per person
    fps: float | None = None  # at most this many frames a second; None: all
    min_face: int | None = None  # smallest face in pixels; None: see `Detector`
    detect_every: int = DETECT_EVERY  # at least one frame in so many is searched in full


@dataclass
class Record:
    """The result for one clip."""

    clip: str  # its name: the path relative to the input, without suffix, with forward slashes
    source: list[int]  # size and modification time (ns) of the input; if they change, the clip is prepared again
    rows: str  # its lines of faces.csv; only in the file, since those of all clips may be many
    folders: dict[str, int] = field(default_factory=dict)  # faces written, by folder relative to the output
    frames: int = 0  # that were searched
    faces: int = 0  # frames with a face that is written
    filled: int = 0  # faces that are interpolated
    people: int = 0  # tracks that are no false alarms
    error: str = ""  # why nothing could be read
    problems: tuple[str, ...] = ()  # a line for each part that could not be read


def prepare_clip(job: Job, output: Path, settings: Settings, device: str, *, alone: bool = True) -> Record:
    """Prepares one clip: writes a folder for each person who is chosen, each of which appears whole.

    The record appears before the folders do, so a record without all of its faces means that the clip is not finished.
    A clip that cannot be read has no record, and keeps the faces that it had: a disk may be away. If no other process
    needs the cores (`alone`), it decodes, detects, warps and writes in threads of their own, and shows the progress.
    """
    record = Record(job.name, job.fingerprint(), "")
    try:
        source = FileSource(job.path, threads=0 if alone else 1)
        detector, every = _detector(device, settings.min_face), settings.detect_every
        with Progress(one_line(job.name), source.total, show=alone) as bar:
            analysis = analyse(source, detector, fps=settings.fps, detect_every=every, prefetch=alone, progress=bar)
        main = analysis.main()
        names = {} if main is None else {main: job.name}
        if settings.faces == "all":
            names = {track: f"{job.name}_{number:02d}" for number, track in enumerate(analysis.people, start=1)}
        paths = {track: completed(analysis.tracks[track], analysis.times) for track in names}
        record.folders = {names[track]: len(path) for track, path in paths.items()}
        record.frames, record.people, record.problems = len(analysis.names), len(analysis.people), analysis.problems
        record.faces = len({int(position) for path in paths.values() for position in path.positions})
        record.filled = int(sum(path.filled.sum() for path in paths.values()))
        before = load_record(output, job.name)
        earlier = set(before.folders) if before else set()
        for folder in (output / name for name in earlier | record.folders.keys()):
            if folder.is_dir() and not all(map(FACE_FILE.fullmatch, os.listdir(folder))):
                raise DataError(f"{folder}: has files that were not made by Prepare_Faces.py; move it away")
        with ExitStack() as stack:
            folders = {t: stack.enter_context(writing_folder(output / names[t], replace=True)) for t in paths}
            cutouts = cut_out(source, analysis, paths)
            for track, position, image in prefetched(cutouts, size=8) if alone else cutouts:
                number = analysis.numbers[paths[track].positions[position]]
                Image.fromarray(image).save(folders[track] / f"{number:07d}.jpg", quality=QUALITY)
            rows = rows_of({names[track]: (track, path) for track, path in paths.items()}, job.name, analysis)
            save_text(json.dumps(asdict(replace(record, rows=rows))), _record_file(output, job.name))
            for name in earlier - record.folders.keys():
                shutil.rmtree(output / name, ignore_errors=True)
    except DataError as error:
        return Record(job.name, record.source, "", error="; ".join(error.problems))
    return record


def prepare_all(jobs: Sequence[Job], output: Path, settings: Settings, device: str, workers: int) -> Iterator[Record]:
    """Prepares clips in several processes; yields each record when it is finished. WorkerError: one was killed."""
    # Spawned, not forked: a forked process could use neither torch's threads nor the GPU.
    pool = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), _start_worker)
    try:
        futures = [pool.submit(prepare_clip, job, output, settings, device, alone=False) for job in jobs]
        for future in as_completed(futures):
            yield future.result()
    except BrokenProcessPool:
        raise WorkerError(
            "a worker process was killed, perhaps because memory ran out; the same command resumes, "
            "better with fewer --workers"
        ) from None
    finally:  # also if the caller stops early: running clips are stopped at once
        for process in list((pool._processes or {}).values()):
            process.terminate()
        pool.shutdown(wait=True, cancel_futures=True)


def _start_worker() -> None:
    as_worker()
    Progress.set_lock(threading.RLock())  # tqdm's own would be left behind when the worker is stopped
    torch.set_num_threads(1)
    keep_freed_memory()


def prepare_tree(source: Path, output: Path, settings: Settings, *, device: str, workers: int | None) -> bool:
    """Prepares what is not prepared yet; writes and prints what came of all clips; returns whether each shows a face.

    `workers` is the number of processes; None: one per core, but no more than clips; 1 on a GPU.
    """
    keep_freed_memory()
    where = choose_compute(device, "fp32").device
    weights_folder()  # is facenet-pytorch installed?
    jobs, notes = find_jobs(source)
    for note in notes:
        print(f"note: {note}", file=sys.stderr)
    with one_writer(output / STATE):
        open_output(output, settings)
        records: dict[str, Record] = {}
        for job in jobs:
            record = load_record(output, job.name)
            if record is not None and record.source == job.fingerprint():  # and are its faces there?
                faces = {name: len(list((output / name).glob("*.jpg"))) for name in record.folders}
                if all(faces[name] >= count for name, count in record.folders.items()):
                    records[job.name] = replace(record, rows="")
        left = [job for job in jobs if job.name not in records]
        if records:
            print(f"{len(records)} of {len(jobs)} clips are prepared already", flush=True)
        if left:
            (output / SUMMARY).unlink(missing_ok=True)  # it says that all clips are finished
        workers = min(workers or (1 if where.type == "cuda" else available_cores()), max(1, len(left)))
        with Progress("preparing", len(left), unit="clips", show=bool(left)) as progress:
            if workers > 1:
                new = prepare_all(left, output, settings, str(where), workers)
            else:
                new = (prepare_clip(job, output, settings, str(where)) for job in left)
            for record in new:
                progress(1)
                records[record.clip] = record
                if record.error:
                    progress.say(f"skipped: {record.error}")
                elif not record.folders:
                    progress.say(f"no face: {one_line(record.clip)} ({record.frames} frames)")
                for problem in record.problems:
                    progress.say(f"note: {one_line(problem)}")
        values = write_report(output, [records[job.name] for job in jobs])
    print(
        f"{values['clips_with_faces']} of {values['clips']} clips with faces: {values['written']} faces from "
        f"{values['frames']} frames ({values['filled']} filled) in {output}"
    )
    for heading, names in values["attention"].items():
        listed = shorten(", ".join(names), 500, placeholder=f" ... (all in {output / SUMMARY})")
        print(f"{len(names)} {heading}: {listed}", flush=True)
    return all(record.folders for record in records.values())


def open_output(output: Path, settings: Settings) -> None:
    """Notes how clips are prepared. DataError: the folder has files of others, or was prepared in another way."""
    path = output / STATE / "settings.json"
    now = asdict(settings) | {"made_by": FACES_VERSION}
    if not path.exists():
        if not all(name.startswith(".") for name in os.listdir(output)):
            raise DataError(f"{output}: has files that were not made by Prepare_Faces.py; name another output folder")
        save_text(json.dumps(now), path)
    before = read_json(path, dict[str, Any], remedy="name another output folder")
    changed = [name for name, value in now.items() if before.get(name) != value]
    flags = [f"--{name.replace('_', '-')} {before.get(name) or 'unset'}" for name in changed]
    if "made_by" in changed:
        flags = ["another version of this program, which cuts out faces a little differently"]
    if flags:
        raise DataError(f"{output}: prepared with {', '.join(flags)}; use the same, or name another output folder")


def _record_file(output: Path, clip: str) -> Path:
    return output / STATE / "records" / f"{clip}.json"


def load_record(output: Path, clip: str) -> Record | None:
    """A clip's record; None if there is none, or it is damaged: then the clip is prepared again."""
    try:
        return read_json(_record_file(output, clip), Record, remedy="")
    except StateError:
        return None


def rows_of(written: dict[str, tuple[int, FaceTrack]], clip: str, analysis: Analysis) -> str:
    """A clip's lines of faces.csv, without the header: one for each frame and person, without a box where that is away.

    `written`: track and path of each person that is written, by folder name; if nobody is, rows have the clip's name.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    frames = zip(analysis.numbers.tolist(), analysis.times.tolist(), strict=True)
    starts = [[number, "" if np.isnan(time) else f"{time:.4f}"] for number, time in frames]
    for name, (track, path) in written.items():
        cells = {}
        for index, at in enumerate(path.positions.tolist()):
            values = [f"{value:.2f}" for value in (*path.boxes[index], *path.landmarks[index].ravel())]
            score = "" if np.isnan(path.scores[index]) else f"{path.scores[index]:.4f}"
            cells[at] = [*values, score, str(track), str(int(path.filled[index]))]
        writer.writerows([name, *start, *cells.get(at, [""] * 17)] for at, start in enumerate(starts))
    if not written:
        writer.writerows([clip, *start, *[""] * 17] for start in starts)
    return text.getvalue()


def write_report(output: Path, records: Sequence[Record]) -> dict[str, Any]:
    """Writes faces.csv and then summary.json, whose content it returns; `attention` names the clips to check."""
    with atomic_text(output / FACES_TABLE, newline="") as file:
        file.write(",".join(COLUMNS) + "\n")
        for clip in (record.clip for record in records if not record.error):
            file.write(read_json(_record_file(output, clip), Record, remedy="run the same command again").rows)
    shown = [record for record in records if record.folders]
    attention = {
        "could not be read": [r.clip for r in records if r.error],
        "without a face": [r.clip for r in records if not r.error and not r.folders],
        "with a face in fewer than half of their frames": [
            f"{r.clip} ({r.faces} of {r.frames})" for r in shown if 2 * r.faces < r.frames
        ],
        "with several people, or one person in several shots": [
            f"{r.clip} ({r.people})" for r in shown if r.people > 1
        ],
        "damaged, of which the rest was used": [r.clip for r in records if r.problems],
    }
    values = {
        "clips": len(records),
        "clips_with_faces": len(shown),
        "frames": sum(record.frames for record in records),
        "faces": sum(record.faces for record in records),
        "filled": sum(record.filled for record in records),
        "written": sum(sum(record.folders.values()) for record in records),
        "attention": {heading: names for heading, names in attention.items() if names},
        "problems": [line for record in records for line in (record.error, *record.problems) if line],
    }
    save_text(json.dumps(values, indent=1) + "\n", output / SUMMARY)
    return values
