"""The report of a run: one page that holds everything, needs no network, and opens from disk.

    python -m Code.results.report model/<run>
    python -m Code.results.report --compare model/<run> model/<run> ...

It is made of the files of the run's folder, and of the frames where they still lie, and can be made again at any
time. Whatever is missing there (an evaluation has no log, a backbone's training no attention) is left out of the
page. With JavaScript off it shows everything but the filters.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from Code.common.commandline import run_script
from Code.results.compare import compare_runs
from Code.results.figures import curves_figure
from Code.results.page import Gallery, inline, write_page
from Code.results.run_files import ReportError, RunFiles, read_run

__all__ = ["ReportError", "main", "write_report"]


def write_report(run_dir: Path, frames_root: Path | None = None, *, progress: bool = False) -> Path:
    """Writes `report.html` of a run into its folder.

    Args:
        run_dir: a run's folder, with any of `run_files.FILES` in it.
        frames_root: where the clips' frames are now, `<frames_root>/<clip>/<frame>`; by default where they were
            when the clips were evaluated.
        progress: show a bar on stderr if that is a terminal.

    Returns:
        The path of the report.

    Raises:
        ReportError: no such folder, none of these files in it, one of them unreadable, or the page cannot be written.
    """
    run = read_run(run_dir)
    if frames_root is not None and not frames_root.is_dir():
        raise ReportError(f"--frames {frames_root}: no such folder; name the one that holds <clip>/<frame>")
    gallery = Gallery(run, frames_root)
    lengths = [len(clip.weights.frames) for clip in run.clips if clip.weights is not None]
    bar = tqdm(gallery.cards(), "report", len(run.clips), leave=False, disable=None if progress else True)
    try:
        return write_page(
            run.folder / "report.html",
            "report.html.j2",
            name=run.name,
            missing=run.missing,
            about=run.about,
            log=run.log,
            curves=inline(curves_figure(run.log)) if run.log else None,
            results=[(which, run.results[which]) for which in ("best", "last") if which in run.results],
            classes=_class_rows(run),
            labels=run.labels,
            clips=run.clips,
            wrong=sum(not clip.right for clip in run.clips),
            attended=bool(lengths),
            attended_longer=max(lengths, default=0) > gallery.most,
            intensity=any(clip.weights is not None and clip.weights.intensity for clip in run.clips),
            # Cells lead to clips only where the matrix is the one of these clips.
            shown_of_clips=_is_of_these_clips(run),
            scattered=_without_pictures(gallery),
            gallery=gallery,
            cards=bar,
            side=gallery.side,
        )  # fmt: skip
    except KeyError as error:
        raise ReportError(f"{run_dir}: results.json lacks {error}; was it written by this project?") from error


def _without_pictures(gallery: Gallery) -> str:
    """Why clips have no pictures, as a sentence; empty where all can have them."""
    clips = [clip.name for clip in gallery.run.clips if clip.weights is not None]
    folders = [gallery.folder(name) for name in clips]
    lost = [str(folder) for folder in folders if folder is not None and not folder.is_dir()]
    if not clips or (None not in folders and not lost):
        return ""
    if lost:
        why = f"The frames of {len(lost)} of {len(clips)} clips are not where they were, {lost[0]} for one"
    else:
        why = "This run does not say where its frames are"
    return f"{why}: pictures need `python -m Code.results.report RUN --frames FOLDER`, which holds <clip>/<frame>."


def _is_of_these_clips(run: RunFiles) -> bool:
    shown = run.results.get("best", run.results.get("last"))
    if shown is None:
        return False
    counts = Counter((clip.label, clip.prediction) for clip in run.clips)
    return [[counts[true, said] for said in run.labels] for true in run.labels] == shown["confusion"]


def _class_rows(run: RunFiles) -> list[dict[str, Any]]:
    """Per class of the shown result: counts, recall, precision and what it is mistaken for most."""
    shown = run.results.get("best", run.results.get("last"))
    if shown is None:
        return []
    labels, confusion = run.results["labels"], shown["confusion"]
    rows = []
    for index, (label, counts) in enumerate(zip(labels, confusion, strict=True)):
        predicted = sum(row[index] for row in confusion)
        others = [(count, labels[at]) for at, count in enumerate(counts) if at != index and count]
        count, mistaken = max(others, key=lambda other: other[0], default=(0, ""))
        rows.append(
            {
                "label": label,
                "counts": counts,
                "clips": sum(counts),
                "right": counts[index],
                "recall": shown["per_class_recall"][index],
                "precision": counts[index] / predicted if predicted else None,
                "mistaken": f"{mistaken} ({count})" if count else "",
            }
        )
    return rows


def main(argv: Sequence[str] | None = None) -> int:
    """Write report.html of a run anew, from the files in the run's folder; or compare several runs on one page."""
    parser = argparse.ArgumentParser(prog="python -m Code.results.report", description=main.__doc__)
    parser.add_argument("run", type=Path, nargs="?", metavar="RUN", help="a run's folder, model/<date-time>_...")
    parser.add_argument(
        "--compare", type=Path, nargs="+", metavar="RUN", help="two runs or more of the same clips, side by side"
    )
    parser.add_argument(
        "--frames", type=Path, metavar="DIR", help="holds <clip>/<frame> (default: where they were at the evaluation)"
    )
    parser.add_argument(
        "--output", type=Path, metavar="FILE", help="of --compare (default: comparison.html beside the first run)"
    )
    args = parser.parse_args(argv)
    if (args.run is None) == (args.compare is None):
        parser.error("name one RUN, or several after --compare")
    if args.output and not args.compare:
        parser.error("--output belongs to --compare; a run's report goes into its folder")
    try:
        if args.compare:
            output = args.output or args.compare[0].resolve().parent / "comparison.html"
            page, table = compare_runs(args.compare, output, args.frames, progress=True)
            print(f"{table}\n{page}")
        else:
            print(write_report(args.run, args.frames, progress=True))
    except ReportError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    raise SystemExit(run_script(main))
