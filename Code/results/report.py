"""The report of a run: one page with everything in it, which needs no network.

    python -m Code.results.report model/<run>
    python -m Code.results.report --compare model/<run> model/<run> ...
    python -m Code.results.report model/<run> --figures 3
    python -m Code.results.report model/<run> --clip Happy/100007 --output happy.png

The report is made from the files in the run's folder, and from the frames if they are still there, so it can be
made again at any time. Parts whose file is missing are left out: an evaluation has no curves, and the training of a
backbone no attention. The folder of several folds or seeds gets an overview of them instead, summary.html.

`--figures 3` draws the three most certain and the three least certain clips, right and wrong, into `figures/`.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from ..common.commandline import check_outputs, positive, run_script, script_parser
from ..common.files import atomic_file, writing
from ..common.names import counted, percent
from ..data.clips import DataError
from ..data.images import read_image
from ..data.listing import FRAME_SUFFIXES
from ..training.intervals import interval_text
from ..training.records import Metrics, ReportError
from .compare import compare_runs
from .figures import BLUE, ORANGE, attention_figure, choose_frames, figure_bytes
from .page import Box, Card, Pictures, curve_pictures, make_course, make_tiles, with_progress, write_page
from .runs import ClipRow, RunFiles, read_run, shown_settings
from .series import write_overview

SIDE = 160  # of a frame in pixels, about what a figure shows at 150 dpi
KINDS = (".png", ".svg", ".pdf")
STYLES = {"training": (BLUE, "--"), "validation": (ORANGE, "-")}
PANELS = {
    "loss": ("train_loss", "val_loss"),
    "WAR (%)": ("train_war", "val_war"),
    "UAR (%)": ("val_uar",),
    "learning rate": ("lr",),
}


def write_report(run_dir: Path, frames_root: Path | None = None, *, progress: bool = False) -> Path:
    """Writes `report.html` into a run's folder, or `summary.html` into the folder of several folds or seeds.

    Args:
        run_dir: a run's folder, with at least one of `runs.FILES` in it, or a folder with a summary.json.
        frames_root: see `read_run`.
        progress: show a progress bar.

    Returns:
        The path of the page.

    Raises:
        ReportError, StateError: the folder does not exist or has none of these files, or one of them cannot be read.
        UsageError: the page cannot be written.
    """
    if (Path(run_dir) / "summary.json").is_file():
        return write_overview(Path(run_dir))
    run = read_run(run_dir, frames_root)
    pictures, shown = Pictures(len(run.clips)), run.metrics("best") or run.metrics("last")
    panels = {
        title: {"training" if key.startswith("train_") else "validation": (run.log, key) for key in keys}
        for title, keys in PANELS.items()
    }
    lengths = [len(clip.weights.frames) for clip in run.clips if clip.weights is not None]
    return write_page(
        run.folder / "report.html",
        "report.html.j2",
        name=run.title,
        # Pretraining has no attention, whatever its folder is called.
        folder="" if run.is_pretraining or run.title == run.name else run.name,
        missing=run.missing,
        settings=shown_settings(run.arguments),
        log=run.log,
        curves=curve_pictures(panels, STYLES) if len(run.log) > 1 else [],  # one point makes no curve
        styles=STYLES,
        boxes=[result_box(title, metrics) for title, metrics in run.epochs],
        chosen_here=run.chosen_here,
        epochs=[title for title, _ in run.epochs],
        matrix=shown.confusion if shown else [],
        classes=_class_rows(run, shown),
        labels=run.labels,
        total=len(run.clips),
        wrong=sum(not clip.right for clip in run.clips),
        attended=bool(lengths),
        attended_longer=max(lengths, default=0) > pictures.frames,
        intensity=any(clip.weights is not None and clip.weights.intensity for clip in run.clips),
        without_pictures=_without_pictures(run),
        pictures=pictures,
        cards=with_progress(_cards(run, pictures), "report", len(run.clips), show=progress),
    )


def result_box(title: str, metrics: Metrics) -> Box:
    """The metrics of an epoch as a page shows them."""
    epoch, clips = metrics.epoch, metrics.num_clips
    if epoch is not None:
        title += f" {epoch:.0f}" if title.endswith("epoch") else f" of epoch {epoch:.0f}"
    counts = str(clips)
    if metrics.num_skipped:
        counts += (
            f" of {metrics.num_clips_listed} listed; {metrics.num_skipped} without frames skipped, "
            f"{percent(metrics.accuracy_listed)} % of those listed"
        )
    uar_range = interval_text(metrics.uar_interval, clips)
    rows = [("UAR", f"{percent(metrics.uar)} %, {uar_range}"), ("clips", counts)]
    if metrics.attention_correlation is not None:
        text = f"{metrics.attention_correlation:.3f} rank correlation of weights with true intensity"
        if metrics.attention_auc is not None:
            text += f"; {metrics.attention_auc:.3f} AUC of weights for the frames that show the expression"
        rows.append(("attention", text))
    text = f"accuracy (WAR), {interval_text(metrics.accuracy_interval, clips)}"
    return Box(title, percent(metrics.accuracy), text, rows)


def _cards(run: RunFiles, pictures: Pictures) -> Iterator[Card]:
    """All clips, most certain first, one by one, so that their pictures are never in memory together."""
    for clip in run.clips:
        truth, said = run.labels.index(clip.label), run.labels.index(clip.prediction)
        card = Card(
            clip.name,
            label=clip.label,
            prediction=clip.prediction,
            certainty=clip.certainty,
            probabilities=clip.probabilities,
            data={"truth": truth, "said": said, "right": int(clip.right), "certainty": clip.certainty},
        )
        if clip.weights is not None:
            of = clip.weights
            shown = choose_frames(of.weight, pictures.frames)
            card.tiles = make_tiles(of.frames, of.alpha, of.weight, shown, intensity=of.intensity)
            card.course = make_course(of.frames, of.weight)
            if clip.name in run.folders:
                pictures.read(card.tiles, run.folders[clip.name])
        yield card


def _without_pictures(run: RunFiles) -> str:
    """Why clips have no pictures, as a sentence; empty if all have."""
    attended = [run.folders.get(clip.name) for clip in run.clips if clip.weights is not None]
    lost = [folder for folder in attended if folder is None or not folder.is_dir()]
    if not lost:
        return ""
    why = f"The frames of {len(lost)} of {counted(len(attended), 'clip')} are no longer there, such as {lost[0]}"
    why = "This run does not say where its frames are" if lost[0] is None else why
    return f"{why}. For pictures, run `python -m Code.results.report RUN --frames FOLDER`, with FOLDER/<clip>/<frame>."


def _class_rows(run: RunFiles, shown: Metrics | None) -> list[dict[str, Any]]:
    """For each class of the shown result: counts, recall, precision and the most frequent wrong prediction."""
    if shown is None or not shown.confusion:
        return []
    rows, predicted = [], [sum(column) for column in zip(*shown.confusion, strict=True)]
    for label, counts, recall, named in zip(
        run.labels, shown.confusion, shown.per_class_recall, predicted, strict=True
    ):
        others = dict(zip(run.labels, counts, strict=True))
        right = others.pop(label)
        mistaken = max(others, key=others.__getitem__, default=label)
        rows.append(
            {
                "label": label,
                "right": right,
                "clips": sum(counts),
                "recall": recall,
                "precision": right / named if named else None,
                "mistaken": f"{mistaken} ({others[mistaken]})" if others.get(mistaken) else "",
            }
        )
    return rows


def clip_figure(run: RunFiles, clip: ClipRow) -> Figure:
    """The attention figure of one clip; ReportError if the run has no weights for it, or its frames cannot be read."""
    weights, folder = clip.weights, run.folders.get(clip.name)
    if weights is None:
        raise ReportError(f"{run.folder / 'attention.csv'}: lacks clip {clip.name!r}; evaluate the run again")
    if folder is None:
        raise ReportError(f"{run.folder / 'clips.csv'}: lacks clip {clip.name!r}; name the frames' folder by --frames")
    shown = choose_frames(weights.weight)
    try:
        frames = np.stack([read_image(str(folder / weights.frames[at]), SIDE) for at in shown])
    except DataError as error:
        raise ReportError(f"{error.problems[0]} (if the frames were moved, name their folder with --frames)") from error
    return attention_figure(
        frames,
        weights.alpha,
        weights.weight,
        shown=shown,
        title=clip.name,
        label=clip.label,
        prediction=clip.prediction,
        probabilities=clip.probabilities,
        intensity=weights.intensity or None,
    )


def notable_clips(clips: Sequence[ClipRow], count: int) -> dict[str, ClipRow]:
    """Up to `count` of the most and of the least certain clips, right and wrong: `wrong_most_certain_1` and so on."""
    notable: dict[str, ClipRow] = {}
    for kind in ("right", "wrong"):
        of_kind = [clip for clip in clips if clip.right == (kind == "right")]  # most certain first
        ends = {"most": of_kind[:count], "least": of_kind[count:][::-1][:count]}
        for end, chosen in ends.items():
            notable |= {f"{kind}_{end}_certain_{at}": clip for at, clip in enumerate(chosen, start=1)}
    return notable


def write_figures(run_dir: Path, count: int, frames_root: Path | None = None) -> Path:
    """Draws the notable clips of a run as PNG and SVG into `figures/` in its folder, which is returned.

    Raises:
        ReportError, UsageError: as `clip_figure`; a file cannot be written.
    """
    run = read_run(run_dir, frames_root)
    folder = run.folder / "figures"
    for name, clip in notable_clips(run.clips, count).items():
        figure = clip_figure(run, clip)
        # Clip names can contain anything; keep what every file system allows.
        slug = re.sub(r"[^A-Za-z0-9]+", "-", clip.name).strip("-")[:60]
        for kind in ("png", "svg"):
            path = folder / f"{name}_{slug}.{kind}"
            with writing(path), atomic_file(path) as file:
                file.write(figure_bytes(figure, kind))
    return folder


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = script_parser(__doc__, prog="python -m Code.results.report")
    parser.add_argument("run", type=Path, nargs="?", metavar="RUN", help="a run, or several folds or seeds")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--compare", type=Path, nargs="+", metavar="RUN", help="runs on the same clips, side by side")
    what.add_argument("--figures", type=positive, metavar="N", help="draw the N most and N least certain clips")
    what.add_argument("--clip", metavar="NAME", help="draw a clip of predictions.csv, such as `Happy/100007`")
    parser.add_argument("--frames", type=Path, metavar="DIR", help="has <clip>/<frame> (default: as evaluated)")
    output = "of --clip: .png, .svg or .pdf; of --compare: .html (default: comparison.html beside the first run)"
    parser.add_argument("--output", type=Path, metavar="FILE", help=output)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Writes a report, a comparison or figures; returns the exit status."""
    parser = build_parser()
    args = parser.parse_args(argv)
    if (args.run is None) == (args.compare is None):
        parser.error("name one RUN, or several after --compare")
    if args.output and not (args.compare or args.clip):
        parser.error("--output is for --compare and --clip; everything else goes into the run's folder")
    if args.compare:
        output = args.output or args.compare[0].resolve().parent / "comparison.html"
        page, table = compare_runs(args.compare, output, args.frames, progress=True)
        print(f"{table}\n{page}")
    elif args.figures:
        print(write_figures(args.run, args.figures, args.frames))
    elif args.clip is not None:
        if args.output is None or args.output.suffix not in KINDS:
            parser.error(f"--clip needs --output with a name that ends in {', '.join(KINDS)}")
        run = read_run(args.run, args.frames)
        clip = next((clip for clip in run.clips if clip.name == args.clip), None)
        if clip is None:
            some = ", ".join(clip.name for clip in run.clips[:3])
            raise ReportError(f"--clip {args.clip}: is not in {args.run / 'predictions.csv'}, which has {some}, ...")
        check_outputs([args.output], [args.frames, run.folders.get(args.clip)], FRAME_SUFFIXES)
        with writing(args.output), atomic_file(args.output) as file:
            file.write(figure_bytes(clip_figure(run, clip), args.output.suffix[1:], dpi=110))
        print(args.output)
    else:
        print(write_report(args.run, args.frames, progress=True))
    return 0


if __name__ == "__main__":
    sys.exit(run_script(main))
