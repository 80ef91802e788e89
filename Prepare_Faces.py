"""Turns videos, or raw frames, into folders of aligned faces that the main script can be trained on.

examples:
  one video                          python Prepare_Faces.py clip.mp4 faces
  AFEW's <Class>/<clip>.avi          python Prepare_Faces.py AFEW/Train Data/Train
  CK+'s raw frames S005/001/*.png    python Prepare_Faces.py Data/CKPlus/cohn-kanade-images Data/CKPlus/faces
  five frames a second, everybody    python Prepare_Faces.py talks faces --fps 5 --faces all

The output is the same tree: a folder of 224 x 224 JPEG faces, numbered by source frame, per clip; faces.csv with
a line per frame, summary.json, and lists for <Class>/<clip> trees. Interrupted, the same command goes on where it was.
Needs `pip install -r requirements-faces.txt`.
exit status: 0 a face in every clip, 1 clips without one (or unreadable), 2 an input, a flag or an installation is wrong
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

from Code.common.commandline import above_zero, add_device, positive, run_script, script_parser, whole_number
from Code.common.conventions import MAX_IMAGE_SIZE
from Code.common.errors import require
from Code.common.files import writing
from Code.common.machine import keep_freed_memory
from Code.common.progress import Progress
from Code.data.clips import DataError
from Code.faces.detect import MIN_FACE
from Code.faces.inputs import Job, find_jobs
from Code.faces.prepare import Settings, plan, prepare_all
from Code.faces.records import Record, Summary, write_report
from Code.faces.video import Source
from Code.training.compute import choose_compute

SHOWN = 10


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = script_parser(__doc__)
    parser.add_argument("input", metavar="INPUT", type=Path, help="a video, or a folder of videos or of raw frames")
    parser.add_argument("output", metavar="OUTPUT", type=Path, help="folder for the faces; made if it is not there")
    parser.add_argument("--fps", type=above_zero, metavar="N", help="at most N frames a second (default: all)")
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
        "--workers",
        type=positive,
        metavar="N",
        help="processes, each on one core (default: a core each, as many as there are clips; 1 on a GPU)",
    )
    add_device(parser)
    return parser


def check_places(source: Path, output: Path) -> None:
    """An output inside the input would be read as input the next time."""
    if output.exists() and not output.is_dir():
        raise DataError(f"{output}: is a file; name a folder for the faces")
    inside = output.resolve()
    if source.is_dir() and (source.resolve() == inside or source.resolve() in inside.parents):
        raise DataError(f"{output}: lies inside the input {source}; name a folder outside of it")


def count_frames(jobs: list[Job]) -> int | None:
    """Frames of all clips as their headers tell; None if one that can be opened does not."""
    total = 0
    for job in jobs:
        try:
            frames = Source(job.path, threads=1).total
        except DataError:
            continue  # it is named when its turn comes
        if frames is None:
            return None
        total += frames
    return total


def tell(record: Record, progress: Progress) -> None:
    """What is wrong with a clip, as soon as it is known."""
    if record.error:
        progress.say(f"skipped: {record.error}")
    elif not record.folders:
        progress.say(f"no face: {record.clip} ({record.frames} frames)")
    for problem in record.problems:
        progress.say(f"damaged: {problem}")


def describe(summary: Summary, output: Path) -> str:
    """The summary for people."""
    values = summary.as_dict()
    lines = [
        f"{values['clips_with_faces']} of {values['clips']} clips with faces: {values['written']} faces from "
        f"{values['frames']} frames ({values['filled']} filled) in {output}"
    ]
    for heading, names in summary.groups:
        more = "" if len(names) <= SHOWN else f", and {len(names) - SHOWN} more in {output / 'summary.json'}"
        lines.append(f"{len(names)} {heading}: {', '.join(names[:SHOWN])}{more}")
    return "\n".join(lines)


def prepare(args: argparse.Namespace) -> int:
    """Prepares what is not prepared yet, then reports on all of it; returns the exit status."""
    device = choose_compute(args.device, "fp32").device
    require("facenet_pytorch", "facenet-pytorch", "face detection")
    check_places(args.input, args.output)
    jobs, remarks = find_jobs(args.input)
    for remark in remarks:
        print(f"note: {remark}", file=sys.stderr)
    settings = Settings(args.faces, args.fps, args.min_face)
    left, done = plan(jobs, args.output, settings)
    if done:
        print(f"{len(done)} of {len(jobs)} clips are there already", flush=True)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    workers = min(args.workers or (1 if device.type == "cuda" else cores), max(1, len(left)))
    records = {record.clip: record for record in done}
    start = time.monotonic()
    with Progress(f"{len(left)} clips", count_frames(left), show=bool(left)) as progress:
        for record in prepare_all(left, args.output, settings, workers=workers, device=device, progress=progress):
            records[record.clip] = record
            tell(record, progress)
        frames = progress.done
    seconds = time.monotonic() - start
    summary = Summary([records[job.name] for job in jobs])
    write_report(args.output, summary)
    if left:
        print(f"{frames} frames in {seconds:.1f} s: {frames / seconds:.1f} frames/s with {workers} worker(s)")
    print(describe(summary, args.output))
    return 1 if summary.broken or summary.without_face else 0


def main() -> int:
    """Entry point; returns the exit status."""
    args = build_parser().parse_args()
    keep_freed_memory()
    try:
        with writing(args.output):
            return prepare(args)
    except KeyboardInterrupt:
        print("\nstopped; the same command goes on where it was", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(run_script(main))
