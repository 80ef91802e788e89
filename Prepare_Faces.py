"""Turns videos, or raw frames, into folders of aligned faces to train the main script on.

examples:
  one video                          python Prepare_Faces.py clip.mp4 faces
  AFEW's <Class>/<clip>.avi          python Prepare_Faces.py AFEW/Train Data/Train
  CK+'s raw frames S005/001/*.png    python Prepare_Faces.py Data/CKPlus/cohn-kanade-images Data/CKPlus/faces
  five frames a second, everybody    python Prepare_Faces.py talks faces --fps 5 --faces all

The output is the same tree: for each clip a folder of 224 x 224 JPEG faces, numbered by source frame. Beside them are
faces.csv with a line per frame, summary.json, and list files for <Class>/<clip> trees. After an interruption, the same
command resumes. Needs `pip install -r requirements-faces.txt`.
exit status: 0 a face in every clip, 1 clips without a face or unreadable, 2 a wrong input, flag or installation
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))  # also with `python -P` and `python -I`

from Code.common.commandline import above_zero, add_device, positive, run_script, script_parser, whole_number
from Code.common.files import one_writer, writing
from Code.common.names import MAX_IMAGE_SIZE, counted, one_line
from Code.common.progress import Progress, available_cores
from Code.data.clips import DataError
from Code.faces.settings import DETECT_EVERY, MIN_FACE

if TYPE_CHECKING:
    from Code.faces.inputs import Job

SHOWN = 10  # clips of a group that the last lines name


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = script_parser(__doc__)
    parser.add_argument("input", metavar="INPUT", type=Path, help="a video, or a folder of videos or of raw frames")
    parser.add_argument("output", metavar="OUTPUT", type=Path, help="folder for the faces; created if it is missing")
    parser.add_argument("--fps", type=above_zero, metavar="N", help="read at most N frames a second (default: all)")
    parser.add_argument(
        "--faces",
        choices=("main", "all"),
        default="main",
        help="main: the person that is largest for longest; all: a folder per person, <clip>_01, <clip>_02, ...",
    )
    parser.add_argument(
        "--min-face",
        type=whole_number(MIN_FACE, MAX_IMAGE_SIZE, "of pixels"),
        metavar="PIXELS",
        help=f"smallest face (default: 1/24 of the picture's shorter side, at least {MIN_FACE})",
    )
    parser.add_argument(
        "--detect-every",
        type=positive,
        default=DETECT_EVERY,
        metavar="N",
        help="search at least one frame in N in full, and follow known faces in the others; 1 searches every frame",
    )
    parser.add_argument(
        "--workers",
        type=positive,
        metavar="N",
        help="processes, each on one core (default: one per core, but no more than clips; 1 on a GPU)",
    )
    add_device(parser)
    return parser


def prepare(args: argparse.Namespace) -> int:
    """Prepares the clips that are not prepared yet, then reports on all of them; returns the exit status."""
    from Code.common.device import choose_compute, keep_freed_memory
    from Code.faces.inputs import find_jobs
    from Code.faces.mtcnn import weights_folder
    from Code.faces.prepare import (
        STATE,
        SUMMARY,
        Settings,
        is_done,
        load_record,
        open_output,
        prepare_all,
        write_report,
    )

    keep_freed_memory()
    device = choose_compute(args.device, "fp32").device
    weights_folder()  # is facenet-pytorch installed?
    jobs, notes = find_jobs(args.input)
    for note in notes:
        print(f"note: {note}", file=sys.stderr)
    settings = Settings(args.faces, args.fps, args.min_face, args.detect_every)
    with one_writer(args.output / STATE):
        open_output(args.output, settings)
        before = {job.name: load_record(args.output, job.name) for job in jobs}
        records = {
            job.name: record
            for job in jobs
            if (record := before[job.name]) and is_done(args.output, record, job.fingerprint())
        }
        left = [job for job in jobs if job.name not in records]
        if records:
            print(f"{len(records)} of {len(jobs)} clips are prepared already", flush=True)
        if left:
            (args.output / SUMMARY).unlink(missing_ok=True)  # it says that all clips are finished
        workers = min(args.workers or (1 if device.type == "cuda" else available_cores()), max(1, len(left)))
        start, frames = time.monotonic(), 0
        total, unit = (count_frames(left), "frames") if workers == 1 else (len(left), "clips")
        with Progress(counted(len(left), "clip"), total, unit=unit, show=bool(left)) as progress:
            for record in prepare_all(
                left, args.output, settings, workers=workers, device=str(device), progress=progress
            ):
                records[record.clip] = record
                frames += record.frames
                if record.error:
                    progress.say(f"skipped: {record.error}")
                elif not record.folders:
                    progress.say(f"no face: {one_line(record.clip)} ({record.frames} frames)")
                for problem in record.problems:
                    progress.say(f"note: {one_line(problem)}")
        seconds = time.monotonic() - start
        values = write_report(args.output, [records[job.name] for job in jobs])
    if left:
        print(f"{frames} frames in {seconds:.1f} s: {frames / seconds:.1f} frames/s with {counted(workers, 'worker')}")
    print(
        f"{values['clips_with_faces']} of {values['clips']} clips with faces: {values['written']} faces from "
        f"{values['frames']} frames ({values['filled']} filled) in {args.output}"
    )
    for heading, names in values["attention"].items():
        more = "" if len(names) <= SHOWN else f", and {len(names) - SHOWN} more in {args.output / SUMMARY}"
        print(f"{len(names)} {heading}: {', '.join(names[:SHOWN])}{more}", flush=True)
    return 0 if all(record.folders for record in records.values()) else 1


def count_frames(jobs: list[Job]) -> int | None:
    """The number of frames of all clips according to their headers; None if these do not say."""
    from Code.faces.video import Source

    total = 0
    for job in jobs:
        with suppress(DataError):  # reported when its turn comes
            total += Source(job.path, threads=1).total or 0
    return total or None


def main(words: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit status.

    Args:
        words: the command line; None: that of this process.
    """
    args = build_parser().parse_args(words)
    inside = args.output.resolve()
    if args.input.is_dir() and args.input.resolve() in (inside, *inside.parents):  # it would be the next call's input
        raise DataError(f"{args.output}: lies inside the input {args.input}; name a folder outside of it")
    try:
        with writing(args.output):
            return prepare(args)
    except KeyboardInterrupt:
        print("\nstopped; the same command resumes", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(run_script(main))
