"""The report of a run: one page with everything in it, which needs no network.

    python -m Code.results.report model/<run>
    python -m Code.results.report --compare model/<run> model/<run> ...
    python -m Code.results.report model/<run> --figures 3
    python -m Code.results.report model/<run> --clip Happy/100007 --output happy.png

The report is made from the files in the run's folder, and from the frames if they are still there, so it can be
made again at any time. Parts whose file is missing are left out: an evaluation has no curves, and the training of a
backbone no attention. The folder of several folds or seeds gets an overview of them instead, summary.html.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from ..common.commandline import check_outputs, positive, run_script, script_parser
from ..common.files import atomic_file, writing
from ..common.progress import Progress
from ..data.clips import DataError
from ..data.images import read_image
from ..data.listing import FRAME_SUFFIXES
from ..training.records import ReportError
from .compare import compare_runs
from .figures import BLUE, ORANGE, attention_figure, choose_frames, figure_bytes
from .page import Card, Pictures, curve_pictures, make_course, make_tiles, write_page
from .runs import ClipRow, RunFiles, read_run, shown_settings
from .series import result_box, write_overview

SIDE = 160  # of a frame in pixels, about what a figure shows at 150 dpi
KINDS = (".png", ".svg", ".pdf")
STYLES = {"training": (BLUE, "--"), "validation": (ORANGE, "-")}
PANELS = {
    "loss": {"training": "train_loss", "validation": "val_loss"},
    "WAR (%)": {"training": "train_war", "validation": "val_war"},
    "UAR (%)": {"validation": "val_uar"},
    "learning rate": {"training": "lr"},
}


def write_report(run_dir: Path, frames_root: Path | None = None, *, progress: bool = False) -> Path:
    """Writes `report.html` into a run's folder, or `summary.html` into that of folds or seeds; returns its path.

    `frames_root` is that of `read_run`.
    ReportError, StateError, UsageError: a file in it is missing or damaged, or the page cannot be written.
    """
    if (run_dir / "summary.json").is_file():
        return write_overview(run_dir)
    run = read_run(run_dir, frames_root)
    pictures = Pictures(len(run.clips))
    panels = {title: {name: (run.log, key) for name, key in keys.items()} for title, keys in PANELS.items()}
    weights = [clip.weights for clip in run.clips if clip.weights is not None]
    return write_page(
        run.folder / "report.html",
        "report.html.j2",
        name=run.title,
        # Pretraining has no attention, whatever its folder is called.
        folder="" if run.is_pretraining or run.title == run.name else run.name,
        settings=shown_settings(run.arguments),
        run=run,
        labels=run.results.labels,
        curves=curve_pictures(panels, STYLES) if len(run.log) > 1 else [],  # one point makes no curve
        styles=STYLES,
        boxes=[result_box(title, metrics) for title, metrics in run.epochs],
        shown=run.results.best or run.results.last,
        total=len(run.clips),
        attended=bool(weights),
        attended_longer=any(len(of.frames) > pictures.frames for of in weights),
        intensity=any(of.intensity for of in weights),
        pictures=pictures,
        cards=_cards(run, pictures, progress),
    )


def _cards(run: RunFiles, pictures: Pictures, progress: bool) -> Iterator[Card]:
    """All clips, most certain first, one by one, so that their pictures are never in memory together."""
    labels = run.results.labels
    with Progress("report", len(run.clips), unit="clips", show=progress) as bar:
        for clip in run.clips:
            truth, predicted = labels.index(clip.label), labels.index(clip.prediction)
            card = Card(
                clip.name,
                label=clip.label,
                prediction=clip.prediction,
                certainty=clip.certainty,
                probabilities=clip.probabilities,
                data={"truth": truth, "said": predicted, "right": int(clip.right), "certainty": clip.certainty},
            )
            if of := clip.weights:
                shown = choose_frames(of.weight, pictures.frames)
                card.tiles = make_tiles(of.frames, of.alpha, of.weight, shown, intensity=of.intensity)
                card.course = make_course(of.weight)
                if clip.name in run.folders:
                    pictures.read(card.tiles, run.folders[clip.name])
            yield card
            bar()


def clip_figure(run: RunFiles, clip: ClipRow) -> Figure:
    """The attention figure of one clip; ReportError if the run has no weights for it, or its frames cannot be read."""
    weights, folder = clip.weights, run.folders.get(clip.name)
    if weights is None or folder is None:
        raise ReportError(f"{run.folder}: no attention.csv or clips.csv with {clip.name!r}; evaluate the run again")
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


def write_figures(run_dir: Path, count: int, frames_root: Path | None = None) -> Path:
    """Draws up to `count` of the most and of the least certain clips of a run, right and wrong, as PNG and SVG.

    Returns the folder `figures/` in that of the run, with `wrong_most_certain_1_<clip>.png` and so on.
    """
    run = read_run(run_dir, frames_root)
    folder = run.folder / "figures"
    for kind in ("right", "wrong"):
        clips = [clip for clip in run.clips if clip.right == (kind == "right")]  # most certain first
        for end, chosen in (("most", clips[:count]), ("least", clips[count:][::-1][:count])):
            for at, clip in enumerate(chosen, start=1):
                figure = clip_figure(run, clip)
                # Clip names can contain anything; keep what every file system allows.
                slug = re.sub(r"[^A-Za-z0-9]+", "-", clip.name).strip("-")[:60]
                for suffix in (".png", ".svg"):
                    _write_figure(figure, folder / f"{kind}_{end}_certain_{at}_{slug}{suffix}", dpi=150)
    return folder


def _write_figure(figure: Figure, path: Path, dpi: int) -> None:
    with writing(path), atomic_file(path) as file:
        file.write(figure_bytes(figure, path.suffix[1:], dpi=dpi))


def main(argv: Sequence[str] | None = None) -> int:
    """Writes a report, a comparison or figures; returns the exit status."""
    parser = script_parser(__doc__, prog="python -m Code.results.report")
    parser.add_argument("run", type=Path, nargs="?", metavar="RUN", help="a run, or several folds or seeds")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--compare", type=Path, nargs="+", metavar="RUN", help="runs on the same clips, side by side")
    what.add_argument("--figures", type=positive, metavar="N", help="draw the N most and N least certain clips")
    what.add_argument("--clip", metavar="NAME", help="draw a clip of predictions.csv, such as `Happy/100007`")
    parser.add_argument("--frames", type=Path, metavar="DIR", help="has <clip>/<frame> (default: as evaluated)")
    output = "of --clip: .png, .svg or .pdf; of --compare: .html (default: comparison.html beside the first run)"
    parser.add_argument("--output", type=Path, metavar="FILE", help=output)
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
            raise ReportError(f"--clip {args.clip}: is not in {args.run / 'predictions.csv'}; name a clip of this file")
        check_outputs([args.output], [args.frames, run.folders.get(args.clip)], FRAME_SUFFIXES)
        _write_figure(clip_figure(run, clip), args.output, dpi=110)
        print(args.output)
    else:
        print(write_report(args.run, args.frames, progress=True))
    return 0


if __name__ == "__main__":
    sys.exit(run_script(main))
