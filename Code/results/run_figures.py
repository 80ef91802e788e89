"""Attention figures of a run's clips, as files.

    python -m Code.results.run_figures model/<run> --clip Happy/100007 --output happy.png
    python -m Code.results.run_figures model/<run> --figures 3

The second command, like `--figures 3` of the main script, draws the three most and the three least certain clips, right
and wrong, into `figures/` of the run's folder.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from Code.common.commandline import run_script
from Code.data.clips import DataError
from Code.data.images import read_image
from Code.results.figures import attention_figure, choose_frames, figure_bytes
from Code.results.run_files import ClipRow, ReportError, RunFiles, read_run

SIDE = 160  # of a frame in pixels: what a figure shows at 150 dpi
KINDS = (".png", ".svg", ".pdf")


def clip_figure(run: RunFiles, clip: ClipRow, frames_root: Path | None = None, *, max_frames: int = 12) -> Figure:
    """The attention figure of one clip of a run; only the frames that it shows are read.

    Args:
        frames_root: where the frames are now, `<frames_root>/<clip>/<frame>`; None: where they were.

    Raises:
        ReportError: the run has no weights of the clip, or its frames cannot be read.
    """
    weights = clip.weights
    if weights is None:
        raise ReportError(f"{run.folder / 'attention.csv'}: no frames of clip {clip.name!r}; evaluate the run again")
    folder = frames_root / clip.name if frames_root is not None else run.folders.get(clip.name)
    if folder is None:
        raise ReportError(f"{run.folder / 'clips.csv'}: lacks clip {clip.name!r}; say where frames are with --frames")
    shown = choose_frames(weights.weight, max_frames)
    try:
        frames = np.stack([read_image(str(folder / weights.frames[at]), SIDE) for at in shown])
    except DataError as error:
        raise ReportError(f"{error.problems[0]} (frames that were moved: say where they are with --frames)") from error
    return attention_figure(
        frames,
        weights.alpha,
        weights.weight,
        title=clip.name,
        label=clip.label,
        prediction=clip.prediction,
        probabilities=clip.probabilities,
        labels=run.labels,
        intensity=weights.intensity or None,
        shown=shown,
    )


def telling_clips(clips: Sequence[ClipRow], count: int) -> dict[str, ClipRow]:
    """Up to `count` of the most and of the least certain clips, right and wrong; each clip once.

    Returns:
        `wrong_most_certain_1` and so on -> clip.
    """
    found: dict[str, ClipRow] = {}
    for right in (True, False):
        of_kind = sorted((clip for clip in clips if clip.right == right), key=lambda clip: (-clip.certainty, clip.name))
        most = of_kind[:count]
        least = of_kind[::-1][: max(min(count, len(of_kind) - len(most)), 0)]
        kind = "right" if right else "wrong"
        found |= {f"{kind}_most_certain_{place}": clip for place, clip in enumerate(most, start=1)}
        found |= {f"{kind}_least_certain_{place}": clip for place, clip in enumerate(least, start=1)}
    return found


def write_figures(run_dir: Path, count: int, frames_root: Path | None = None) -> Path:
    """Draws the telling clips of a run as PNG and SVG into `figures/` of its folder; returns that folder.

    Raises:
        ReportError: as `clip_figure`, or a file cannot be written.
    """
    run = read_run(run_dir)
    folder = run.folder / "figures"
    try:
        folder.mkdir(exist_ok=True)
        for name, clip in telling_clips(run.clips, count).items():
            figure = clip_figure(run, clip, frames_root)
            # Names of clips come from strangers' folders: only what every file system takes is kept.
            slug = re.sub(r"[^A-Za-z0-9]+", "-", clip.name).strip("-")[:60]
            for kind in ("png", "svg"):
                (folder / f"{name}_{slug}.{kind}").write_bytes(figure_bytes(figure, kind))
    except OSError as error:
        raise ReportError(f"{folder}: cannot be written ({error.strerror})") from error
    return folder


def main(argv: Sequence[str] | None = None) -> int:
    """Draw what a run's network attended to: one clip by its name, or the most and least certain ones."""
    parser = argparse.ArgumentParser(prog="python -m Code.results.run_figures", description=main.__doc__)
    parser.add_argument("run", type=Path, metavar="RUN", help="a run's folder, model/<date-time>_...")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--clip", metavar="NAME", help="as in predictions.csv, `Happy/100007`")
    what.add_argument("--figures", type=int, metavar="N", help="the N most and least certain, right and wrong")
    parser.add_argument("--output", type=Path, metavar="FILE", help="for --clip: .png, .svg or .pdf")
    parser.add_argument("--frames", type=Path, metavar="DIR", help="holds <clip>/<frame> (default: where they were)")
    args = parser.parse_args(argv)
    if args.clip is None and args.figures < 1:
        parser.error("--figures: at least 1")
    if args.clip is not None and (args.output is None or args.output.suffix not in KINDS):
        parser.error(f"--clip needs --output with a name that ends in {', '.join(KINDS)}")
    try:
        if args.clip is None:
            print(write_figures(args.run, args.figures, args.frames))
            return 0
        run = read_run(args.run)
        clip = next((clip for clip in run.clips if clip.name == args.clip), None)
        if clip is None:
            some = ", ".join(clip.name for clip in run.clips[:3])
            raise ReportError(f"--clip {args.clip}: not in {args.run / 'predictions.csv'}, which has {some}, ...")
        data = figure_bytes(clip_figure(run, clip, args.frames), args.output.suffix[1:], dpi=110)
        try:
            args.output.write_bytes(data)
        except OSError as error:
            raise ReportError(f"--output {args.output}: cannot be written ({error.strerror})") from error
    except ReportError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(args.output)
    return 0


if __name__ == "__main__":
    raise SystemExit(run_script(main))
