"""The method in one picture, for the README.

python -m tools.method docs/method.svg
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Arc, Circle, FancyArrowPatch, FancyBboxPatch, Polygon, Rectangle

from Code.common.commandline import run_script, script_parser
from Code.common.files import atomic_file, writing
from Code.results.figures import BLUE, FAINT, GRAY, INK, ORANGE, figure_bytes


def method_figure() -> Figure:
    """Frame attention in one picture: from a clip's frames to its expression, with every equation."""
    wide, high, foot = 9.0, 4.88, -0.1
    figure = Figure(figsize=(wide, high - foot), facecolor="none")
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, wide), ylim=(foot, high))
    axes.axis("off")
    # A white card, so that the picture reads the same on a light and on a dark page.
    card: dict[str, Any] = {"boxstyle": "round,pad=0,rounding_size=0.14", "fc": "white", "ec": FAINT}
    axes.add_patch(FancyBboxPatch((0.03, foot + 0.03), wide - 0.06, high - foot - 0.06, **card))

    def write(x: float, y: float, text: str, size: float = 10.5, color: str = INK, **more: Any) -> None:
        more = {"ha": "center", "va": "center", "math_fontfamily": "stix"} | more
        axes.text(x, y, text, size=size, color=color, **more)

    def arrow(x0: float, y0: float, x1: float, y1: float) -> None:
        style: dict[str, Any] = {"arrowstyle": "-|>", "mutation_scale": 8, "shrinkA": 0, "shrinkB": 0}
        axes.add_patch(FancyArrowPatch((x0, y0), (x1, y1), lw=0.9, color="#57606a", **style))

    def vector(x: float, y: float, cells: Sequence[float], hue: str) -> None:
        for at, depth in enumerate(cells):
            shade = 0.15 + 0.75 * depth
            axes.add_patch(Rectangle((x + 0.11 * at, y - 0.1), 0.11, 0.2, fc=hue, alpha=shade, lw=0))
        axes.add_patch(Rectangle((x, y - 0.1), 0.11 * len(cells), 0.2, fc="none", ec=INK, lw=0.8))

    def share(x: float, y: float, value: float, hue: str) -> None:
        axes.add_patch(Rectangle((x, y - 0.1), 0.52, 0.2, fc="#eceff2", lw=0))
        axes.add_patch(Rectangle((x, y - 0.1), 0.52 * value, 0.2, fc=hue, lw=0))

    # The smile grows, and something hides the face in the last frame. The weights follow.
    purple, middle = "#8f4b8f", 2.72
    frames = (  # y, smile, alpha, beta, cells of f_i
        (3.78, 0.05, 0.25, 0.3, (0.9, 0.2, 0.3, 0.2)),
        (3.12, 0.5, 0.6, 0.6, (0.5, 0.6, 0.4, 0.5)),
        (2.46, 1.0, 0.95, 0.95, (0.1, 0.9, 0.6, 0.9)),
        (1.62, 1.0, 0.3, 0.15, (0.6, 0.4, 0.9, 0.1)),
    )
    whole = (0.25, 0.85, 0.55, 0.7)
    corners = [(1.06, 1.2), (1.06, 4.2), (1.74, 3.98), (1.74, 1.42)]
    axes.add_patch(Polygon(corners, fc="#eef4f9", ec=INK, lw=0.9))
    write(1.4, middle, "ResNet18", 12, rotation=90)
    for y, smile, alpha, beta, cells in frames:
        _draw_face(axes, 0.5, y, 0.27, smile, hidden=y == frames[-1][0])
        arrow(0.81, y, 1.04, y)
        arrow(1.76, y, 1.98, y)
        vector(2.0, y, cells, INK)
        arrow(2.47, y, 2.69, y)
        share(2.71, y, alpha, BLUE)
        arrow(3.27, y, 3.68, middle + 0.1 * (y - middle))
        arrow(4.18, middle + 0.1 * (y - middle), 4.56, y)
        vector(4.58, y, cells, INK)
        vector(5.02, y, whole, purple)
        arrow(5.49, y, 5.71, y)
        share(5.73, y, beta, ORANGE)
        arrow(6.29, y, 6.68, middle + 0.1 * (y - middle))
    for x in (0.5, 2.22, 2.97, 5.02, 5.99):
        write(x, 2.04, r"$\vdots$", 12)
    vector(3.71, middle, whole, purple)
    vector(6.71, middle, (0.15, 0.85, 0.65, 0.9), INK)
    vector(7.15, middle, whole, purple)
    arrow(7.63, middle, 7.86, middle)
    scores = {"Happy": 0.94, "Surprise": 0.25, "Neutral": 0.14, "Sad": 0.06}
    for at, (name, value) in enumerate(scores.items()):
        y = middle + 0.51 - 0.34 * at
        write(7.93, y + 0.06, name, 8.5, ha="left", va="bottom", weight="bold" if at == 0 else "normal")
        axes.add_patch(Rectangle((7.93, y - 0.06), 0.86 * value, 0.1, fc=INK if at == 0 else GRAY, lw=0))

    # Orange letters would be too pale on white.
    brown = "#9a6700"
    for x, text, sign, hue in (
        (0.5, "frames", "", INK),
        (2.22, "features", "$f_i$", INK),
        (2.97, "weights", r"$\alpha_i$", BLUE),
        (5.02, "", r"$[\,f_i : f_v^{\prime}\,]$", INK),
        (5.99, "weights", r"$\beta_i$", brown),
        (8.36, "expression", "", INK),
    ):
        write(x, 4.52, text, 9.5, hue)
        write(x, 4.25, sign, 13, hue)
    write(3.93, middle + 0.36, r"$f_v^{\prime}$", 13, purple)
    write(7.15, middle + 0.36, r"$f_v$", 13)

    whole_is = r"$f_v^{\prime} = \frac{\Sigma_i\,\alpha_i f_i}{\Sigma_i\,\alpha_i}$"
    clip_is = r"$f_v = \frac{\Sigma_i\,\alpha_i\beta_i\,[\,f_i : f_v^{\prime}\,]}{\Sigma_i\,\alpha_i\beta_i}$"
    steps = (
        (1.38, "self-attention", r"$\alpha_i = \sigma(w_a \cdot f_i + b_a)$", BLUE),
        (3.13, "global feature", whole_is, purple),
        (4.95, "relation", r"$\beta_i = \sigma(w_b \cdot [\,f_i : f_v^{\prime}\,] + b_b)$", brown),
        (7.45, "clip feature", clip_is, INK),
    )
    axes.plot([0.25, wide - 0.25], [1.12, 1.12], color=FAINT, lw=1)
    for x, name, equation, hue in steps:
        write(x, 0.92, name, 9.5, hue, weight="bold")
        write(x, 0.5, equation, 13 if "frac" not in equation else 16.5)
    note = r"$i = 1, \ldots, n$ frames;  $[\,:\,]$ joins vectors;  $\sigma$: sigmoid.  "
    note += r"The expression is read from $f_v$, or from $f_v^{\prime}$ where there is self-attention only."
    write(wide / 2, 0.1, note, 8.5, "#57606a")
    return figure


def _draw_face(axes: Axes, x: float, y: float, r: float, smile: float, *, hidden: bool) -> None:
    """A face in a square frame with half side `r`. `smile` is in [0, 1]; `hidden` puts something in front of it."""
    axes.add_patch(Rectangle((x - r, y - r), 2 * r, 2 * r, fc="#dce6ee", ec=INK, lw=0.8))
    axes.add_patch(Circle((x, y), 0.82 * r, fc="#f2cfa5", ec=INK, lw=0.7))
    for side in (-1, 1):
        axes.add_patch(Circle((x + 0.3 * side * r, y + 0.22 * r), 0.08 * r, color=INK))
    # Only the depth of the mouth grows: flat is neutral.
    depth = 0.75 * r * smile + 0.01
    axes.add_patch(Arc((x, y - 0.3 * r), 0.85 * r, depth, theta1=180, theta2=360, color=INK, lw=1.2))
    if hidden:
        corners = [(-1, -1), (0.75, -1), (0.45, 0.05), (-0.25, 0.5), (-1, 0.3)]
        axes.add_patch(Polygon([(x + r * a, y + r * b) for a, b in corners], fc="#5b6570", ec=INK, lw=0.7))


def main(argv: Sequence[str] | None = None) -> int:
    """Draws the method; returns the exit status."""
    parser = script_parser(__doc__, prog="python -m tools.method")
    parser.add_argument("path", type=Path, metavar="FILE.svg", help="the file to write; a .png is written beside it")
    path, figure = parser.parse_args(argv).path, method_figure()
    for kind, dpi in (("svg", 100), ("png", 200)):
        target = path.with_suffix(f".{kind}")
        with writing(target), atomic_file(target) as file:
            file.write(figure_bytes(figure, kind, dpi=dpi))
    print(f"{path}  {path.with_suffix('.png')}")
    return 0


if __name__ == "__main__":
    sys.exit(run_script(main))
