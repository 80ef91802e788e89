"""Attention figures of a run's clips, as files.

    python -m Code.results.run_figures model/<run> --clip Happy/100007 --output happy.png
    python -m Code.results.run_figures model/<run> --figures 3

The second command draws the three most certain and the three least certain clips, right and wrong, into `figures/` in
the run's folder, as `--figures 3` of the main script does.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from ..common.commandline import positive, run_script, script_parser
from ..common.files import atomic_file, writing
from ..data.clips import DataError
from ..data.images import read_image
from .figures import attention_figure, choose_frames, figure_bytes
from .run_files import ClipRow, ReportError, RunFiles, read_run

SIDE = 160  # of a frame in pixels, about what a figure shows at 150 dpi
KINDS = (".png", ".svg", ".pdf")


def clip_figure(run: RunFiles, clip: ClipRow, frames_root: Path | None = None, *, max_frames: int = 12) -> Figure:
    """The attention figure of one clip. Reads only the frames that it shows.

    Args:
        frames_root: where the frames are now, `<frames_root>/<clip>/<frame>` (default: where they were when the run
            was evaluated).

    Raises:
        ReportError: the run has no weights for the clip, or its frames cannot be read.
    """
    weights = clip.weights
    if weights is None:
        raise ReportError(
            f"{run.folder / 'attention.csv'}: has no frames of clip {clip.name!r}; evaluate the run again"
        )
    folder = frames_root / clip.name if frames_root is not None else run.folders.get(clip.name)
    if folder is None:
        raise ReportError(
            f"{run.folder / 'clips.csv'}: lacks clip {clip.name!r}; name the folder of the frames with --frames"
        )
    shown = choose_frames(weights.weight, max_frames)
    try:
        frames = np.stack([read_image(str(folder / weights.frames[at]), SIDE) for at in shown])
    except DataError as error:
        raise ReportError(f"{error.problems[0]} (if the frames were moved, name their folder with --frames)") from error
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


def notable_clips(clips: Sequence[ClipRow], count: int) -> dict[str, ClipRow]:
    """Up to `count` of the most certain and of the least certain clips, right and wrong; each clip once.

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
    """Draws the notable clips of a run as PNG and SVG into `figures/` in its folder.

    Returns:
        The folder of the figures.

    Raises:
        ReportError: as `clip_figure`, or a file cannot be written.
    """
    run = read_run(run_dir)
    folder = run.folder / "figures"
    try:
        for name, clip in notable_clips(run.clips, count).items():
            figure = clip_figure(run, clip, frames_root)
            # Clip names can contain anything; keep what every file system allows.
            slug = re.sub(r"[^A-Za-z0-9]+", "-", clip.name).strip("-")[:60]
            for kind in ("png", "svg"):
                with atomic_file(folder / f"{name}_{slug}.{kind}") as file:
                    file.write(figure_bytes(figure, kind))
    except OSError as error:
        raise ReportError(f"{folder}: cannot be written ({error.strerror})") from error
    return folder


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = script_parser(__doc__, prog="python -m Code.results.run_figures")
    parser.add_argument("run", type=Path, metavar="RUN", help="a run's folder, model/<date-time>_...")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--clip", metavar="NAME", help="a clip of predictions.csv, such as `Happy/100007`")
    what.add_argument(
        "--figures", type=positive, metavar="N", help="the N most certain and N least certain clips, right and wrong"
    )
    parser.add_argument("--output", type=Path, metavar="FILE", help="for --clip: .png, .svg or .pdf")
    parser.add_argument(
        "--frames", type=Path, metavar="DIR", help="has <clip>/<frame> (default: where they were at the evaluation)"
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Draws the figures; returns the exit status."""
    parser = build_parser()
    args = parser.parse_args(argv)
    if args.clip is None:
        print(write_figures(args.run, args.figures, args.frames))
        return 0
    if args.output is None or args.output.suffix not in KINDS:
        parser.error(f"--clip needs --output with a name that ends in {', '.join(KINDS)}")
    run = read_run(args.run)
    clip = next((clip for clip in run.clips if clip.name == args.clip), None)
    if clip is None:
        some = ", ".join(clip.name for clip in run.clips[:3])
        raise ReportError(f"--clip {args.clip}: is not in {args.run / 'predictions.csv'}, which has {some}, ...")
    with writing(args.output), atomic_file(args.output) as file:
        file.write(figure_bytes(clip_figure(run, clip, args.frames), args.output.suffix[1:], dpi=110))
    print(args.output)
    return 0


if __name__ == "__main__":
    sys.exit(run_script(main))
