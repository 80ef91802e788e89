"""The report of a run: one page with everything in it, which needs no network.

    python -m Code.results.report model/<run>
    python -m Code.results.report --compare model/<run> model/<run> ...

The report is made from the files in the run's folder, and from the frames if they are still there, so it can be
made again at any time. Parts whose file is missing are left out: an evaluation has no curves, and the training of a
backbone no attention. Without JavaScript the page shows everything, but filters do not work.

The folder of several folds or seeds gets an overview of them instead, summary.html.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..common.commandline import run_script, script_parser
from ..common.wording import counted
from .compare import compare_runs
from .figures import run_curves
from .overview import write_overview
from .page import ClipCards, picture, settings_of, with_progress, write_page
from .run_files import ReportError, RunFiles, read_run

__all__ = ["ReportError", "main", "write_report"]


def write_report(run_dir: Path, frames_root: Path | None = None, *, progress: bool = False) -> Path:
    """Writes `report.html` into a run's folder, or `summary.html` into the folder of several folds or seeds.

    Args:
        run_dir: a run's folder, with at least one of `run_files.FILES` in it, or a folder with a summary.json.
        frames_root: where the clips' frames are now, `<frames_root>/<clip>/<frame>` (default: where they were when
            the run was evaluated).
        progress: show a progress bar.

    Returns:
        The path of the page.

    Raises:
        ReportError: the folder does not exist or has none of these files, one of them cannot be read, or the page
            cannot be written.
    """
    if (Path(run_dir) / "summary.json").is_file():
        return write_overview(Path(run_dir))
    run = read_run(run_dir)
    if frames_root is not None and not frames_root.is_dir():
        raise ReportError(f"--frames {frames_root}: no such folder; name the folder that has <clip>/<frame>")
    clip_cards = ClipCards(run, frames_root)
    lengths = [len(clip.weights.frames) for clip in run.clips if clip.weights is not None]
    try:
        return write_page(
            run.folder / "report.html",
            "report.html.j2",
            name=run.title,
            # Pretraining has no attention, whatever its folder is called.
            folder="" if run.is_pretraining or run.title == run.name else run.name,
            missing=run.missing,
            about=run.about,
            settings=settings_of(run.args),
            log=run.log,
            # One point makes no curve.
            curves=[(title, picture(of)) for title, of in run_curves(run.log).items()] if len(run.log) > 1 else [],
            results=run.shown_results,
            chosen_here=run.chosen_here,
            classes=_class_rows(run),
            labels=run.labels,
            clips=run.clips,
            wrong=sum(not clip.right for clip in run.clips),
            attended=bool(lengths),
            attended_longer=max(lengths, default=0) > clip_cards.most,
            intensity=any(clip.weights is not None and clip.weights.intensity for clip in run.clips),
            # The cells are links only if the matrix counts these clips.
            shown_of_clips=_is_of_these_clips(run),
            without_pictures=_without_pictures(clip_cards),
            clip_cards=clip_cards,
            cards=with_progress(clip_cards.cards(), "report", len(run.clips), show=progress),
            side=clip_cards.side,
        )
    except KeyError as error:
        raise ReportError(f"{run_dir}: results.json lacks {error}; was it written by this project?") from error


def _without_pictures(clip_cards: ClipCards) -> str:
    """Why clips have no pictures, as a sentence; empty if all have."""
    clips = [clip.name for clip in clip_cards.run.clips if clip.weights is not None]
    folders = [clip_cards.folder(name) for name in clips]
    lost = [str(folder) for folder in folders if folder is not None and not folder.is_dir()]
    if not clips or (None not in folders and not lost):
        return ""
    if lost:
        why = f"The frames of {len(lost)} of {counted(len(clips), 'clip')} are no longer there, such as {lost[0]}"
    else:
        why = "This run does not say where its frames are"
    return f"{why}. For pictures, run `python -m Code.results.report RUN --frames FOLDER`, with FOLDER/<clip>/<frame>."


def _is_of_these_clips(run: RunFiles) -> bool:
    shown = run.results.get("best", run.results.get("last"))
    if shown is None:
        return False
    counts = Counter((clip.label, clip.prediction) for clip in run.clips)
    return [[counts[true, said] for said in run.labels] for true in run.labels] == shown["confusion"]


def _class_rows(run: RunFiles) -> list[dict[str, Any]]:
    """For each class of the shown result: counts, recall, precision and the most frequent wrong prediction."""
    shown = run.results.get("best", run.results.get("last"))
    if shown is None or not shown["confusion"]:
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


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = script_parser(__doc__, prog="python -m Code.results.report")
    parser.add_argument(
        "run", type=Path, nargs="?", metavar="RUN", help="a run's folder, or that of several folds or seeds"
    )
    parser.add_argument(
        "--compare", type=Path, nargs="+", metavar="RUN", help="two or more runs on the same clips, side by side"
    )
    parser.add_argument(
        "--frames", type=Path, metavar="DIR", help="has <clip>/<frame> (default: where they were at the evaluation)"
    )
    parser.add_argument(
        "--output", type=Path, metavar="FILE", help="for --compare (default: comparison.html beside the first run)"
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Writes a report or a comparison; returns the exit status."""
    parser = build_parser()
    args = parser.parse_args(argv)
    if (args.run is None) == (args.compare is None):
        parser.error("name one RUN, or several after --compare")
    if args.output and not args.compare:
        parser.error("--output is for --compare; the report of a run goes into its folder")
    if args.compare:
        output = args.output or args.compare[0].resolve().parent / "comparison.html"
        page, table = compare_runs(args.compare, output, args.frames, progress=True)
        print(f"{table}\n{page}")
    else:
        print(write_report(args.run, args.frames, progress=True))
    return 0


if __name__ == "__main__":
    sys.exit(run_script(main))
