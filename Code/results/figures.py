"""Pictures of what the network attended to, where it fails and how it trained.

Every function returns a `matplotlib.figure.Figure` of its own (no pyplot state): it needs no display and goes
into a file, a page or TensorBoard. Names of clips, classes and runs are never read as mathtext: a `$` in the
name of a folder is a dollar sign.

    python -m Code.results.figures --method docs/method.svg
"""

from __future__ import annotations

import argparse
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Arc, Circle, FancyArrowPatch, FancyBboxPatch, Polygon, Rectangle
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike, NDArray

# Two hues of Okabe and Ito's palette: apart for every colour blindness, and dark and light in grey print.
BLUE, ORANGE, INK, GREY, FAINT = "#0072B2", "#E69F00", "#1b1f24", "#8b949e", "#d8dee4"
CYCLE = (BLUE, ORANGE, "#009E73", "#CC79A7", "#56B4E9", "#D55E00", INK)
DASHES = ("-", "--", "-.", ":")

LogLine = Mapping[str, Any]
LOG_TITLES = {
    "train_loss": "training loss",
    "val_loss": "validation loss",
    "train_war": "training WAR (%)",
    "val_war": "validation WAR (%)",
    "val_uar": "validation UAR (%)",
    "lr": "learning rate",
    "seconds": "seconds",
    "frames_per_second": "frames per second",
}


def figure_bytes(figure: Figure, kind: str = "svg", *, dpi: int = 150) -> bytes:
    """A figure as the bytes of an `svg`, `png` or `pdf` file; the same figure gives the same bytes."""
    buffer = io.BytesIO()
    stamp = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}.get(kind)
    with matplotlib.rc_context({"svg.hashsalt": "emotion-fan"}):
        figure.savefig(buffer, format=kind, dpi=dpi, metadata=stamp)
    return buffer.getvalue()


def choose_frames(weights: ArrayLike, max_frames: int = 12) -> list[int]:
    """Frames that stand for a clip in a picture: evenly chosen ones, the highest and the lowest weighted.

    Args:
        weights: [T], any scale.
        max_frames: how many there may be, at least 2.

    Returns:
        Ascending indices, at most `max_frames`; all of them where the clip is no longer than that.
    """
    values = np.asarray(weights, dtype=np.float64)
    if max_frames < 2:
        raise ValueError(f"max_frames is {max_frames}; the highest and the lowest weighted frame need 2")
    extremes = {int(values.argmax()), int(values.argmin())}
    for evenly in range(min(max_frames, len(values)), 0, -1):
        chosen = extremes | {round(float(i)) for i in np.linspace(0, len(values) - 1, evenly)}
        if len(chosen) <= max_frames:
            return sorted(chosen)
    return sorted(extremes)


def attention_figure(
    frames: NDArray[np.uint8],
    alpha: ArrayLike,
    weights: ArrayLike,
    *,
    title: str,
    label: int | str | None = None,
    prediction: int | str | None = None,
    probabilities: ArrayLike | None = None,
    labels: Sequence[str] | None = None,
    intensity: ArrayLike | None = None,
    max_frames: int = 12,
) -> Figure:
    """The frames of one clip in a row and over each what the network made of it.

    The blue bar is the self-attention alpha as it is, the orange bar the final weight as a share of the
    clip's highest one: final weights sum to 1 over a clip, their height alone would only tell how long it is.

    Args:
        frames: uint8 [T, H, W, 3], RGB.
        alpha: [T] in [0, 1].
        weights: [T], not negative.
        title: the clip's name.
        label, prediction: class names, or indices into `labels`.
        probabilities: [C], drawn beside the frames; needs `labels`.
        labels: C class names.
        intensity: [T] in [0, 1], the true intensity of the expression, drawn as a third line.
        max_frames: longer clips show this many frames, see `choose_frames`.

    Raises:
        ValueError: sizes that do not belong together.
    """
    pictures = np.asarray(frames)
    if pictures.dtype != np.uint8 or pictures.ndim != 4 or pictures.shape[3] != 3 or not len(pictures):
        shape = list(pictures.shape)
        raise ValueError(f"frames are {pictures.dtype} {shape}, expected uint8 [T, H, W, 3] with T > 0")
    total, height, width, _ = pictures.shape
    alphas, shares = _per_frame("alpha", alpha, total), _per_frame("weights", weights, total)
    chosen = choose_frames(shares, max_frames)
    highest, lowest = int(shares.argmax()), int(shares.argmin())
    uneven = bool(shares[highest] - shares[lowest] > 1e-6 * shares[highest])
    shares = shares / shares.max() if shares.max() > 0 else shares

    # Everything is placed in inches: only then do bars stand exactly above their frame at every clip length.
    shown, slot, left, bars_high, below = len(chosen), 0.92, 0.6, 1.15, 0.52
    if probabilities is not None and labels is None:
        raise ValueError("probabilities need labels, the names of their classes")
    full = list(labels or ())
    names = [_shorten(name, 18) for name in full]
    beside = 0.75 + 0.085 * max(map(len, names), default=0) + 1.2 if probabilities is not None else 0.15
    strip_high = slot * 0.94 * height / width
    size = max(left + shown * slot + beside, 5.2), below + strip_high + 0.06 + bars_high + 0.85
    figure = Figure(figsize=size, facecolor="white")

    def place(x: float, y: float, wide: float, high: float) -> Axes:
        return figure.add_axes((x / size[0], y / size[1], wide / size[0], high / size[1]))

    bars = place(left, below + strip_high + 0.06, shown * slot, bars_high)
    strip = place(left, below, shown * slot, strip_high)
    places = np.arange(shown)
    bars.bar(places - 0.19, alphas[chosen], 0.34, color=BLUE, label="self-attention alpha")
    bars.bar(places + 0.19, shares[chosen], 0.34, color=ORANGE, label="final weight, share of the highest")
    if intensity is not None:
        truth = _per_frame("intensity", intensity, total)[chosen]
        bars.plot(places, truth, "o--", color=INK, mfc="white", ms=4, lw=1, label="true intensity", clip_on=False)
    bars.set(xlim=(-0.5, shown - 0.5), ylim=(0, 1.04), xticks=[], yticks=[0, 0.5, 1])
    bars.tick_params(labelsize=8, colors=INK)
    bars.spines[["top", "right"]].set_visible(False)
    anchor = (left - 0.1) / size[0], 1 - 0.5 / size[1]
    spaced: dict[str, Any] = {"borderaxespad": 0, "columnspacing": 1.2, "handlelength": 1.4}
    figure.legend(loc="upper left", bbox_to_anchor=anchor, ncols=3, fontsize=8, frameon=False, **spaced)

    for at, index in enumerate(chosen):
        strip.imshow(pictures[index], extent=(at - 0.47, at + 0.47, 0, 1), aspect="auto")
    ends = {highest: "highest", lowest: "lowest"} if uneven else {}
    strip.set(xlim=(-0.5, shown - 0.5), ylim=(0, 1), yticks=[])
    below_frames = [f"{index + 1}\n{ends.get(index, ' ')}" for index in chosen]
    strip.set_xticks(places, below_frames, fontsize=8, color=INK)
    strip.tick_params(length=0)
    strip.spines[:].set_visible(False)
    part = f"frame\nof {total}" if shown < total else "frame\n "
    strip.text(-0.52, -0.04, part, ha="right", va="top", fontsize=8, color=GREY, clip_on=False)

    true, said = _class_name(label, labels), _class_name(prediction, labels)
    verdict = [f"true {true}"] if true is not None else []
    verdict += [f"predicted {said}"] if said is not None else []
    line = ", ".join(verdict) + (f"  ({'right' if true == said else 'wrong'})" if len(verdict) == 2 else "")
    room = int((size[0] - 0.3) / 0.088) - len(line)
    top = 1 - 0.14 / size[1]
    name = _shorten(title, max(room, 16))
    figure.text(0.15 / size[0], top, name, size=10.5, va="top", color=INK, weight="bold", parse_math=False)
    figure.text(1 - 0.15 / size[0], top, line, size=10, va="top", ha="right", color=INK, parse_math=False)
    if probabilities is not None:
        high = strip_high + 0.06 + bars_high
        panel = place(size[0] - 0.6 - 1.2, below, 1.2, high)
        row_of_true = full.index(true) if true in full else None
        _draw_probabilities(panel, np.asarray(probabilities, dtype=np.float64), names, row_of_true)
    return figure


def _draw_probabilities(panel: Axes, values: NDArray[np.float64], names: list[str], true: int | None) -> None:
    if values.shape != (len(names),):
        raise ValueError(f"probabilities have shape {list(values.shape)}, but there are {len(names)} labels")
    rows = np.arange(len(names))
    panel.barh(rows, values, 0.62, color=[INK if row == values.argmax() else GREY for row in rows])
    marks = [f"{name} *" if row == true else name for row, name in enumerate(names)]
    panel.set_yticks(rows, marks, fontsize=8.5, color=INK, parse_math=False)
    panel.set(xlim=(0, 1), ylim=(len(names) - 0.4, -0.6), xticks=[])
    for row, value in enumerate(values):
        panel.text(value + 0.03, row, f"{100 * value:.0f} %", va="center", fontsize=8, color=INK)
    panel.tick_params(length=0)
    panel.spines[["top", "right", "bottom"]].set_visible(False)
    title = "probability" if true is None else "probability (* true)"
    panel.set_xlabel(title, fontsize=8, color=GREY, loc="left")


def confusion_figure(confusion: ArrayLike, labels: Sequence[str]) -> Figure:
    """A confusion matrix: counts, with the share of the true class below each and as the shade.

    Args:
        confusion: int [C, C], a row per true class, a column per predicted one.
        labels: C class names.
    """
    counts = np.asarray(confusion)
    classes = len(labels)
    if counts.shape != (classes, classes):
        raise ValueError(f"the confusion matrix is {list(counts.shape)}, but there are {classes} labels")
    of_class = counts.sum(axis=1, keepdims=True)
    rates = np.divide(counts, of_class, out=np.zeros(counts.shape), where=of_class > 0)
    side = max(3.6, 0.66 * classes)
    figure = Figure(figsize=(side + 1.9, side + 1.2), facecolor="white", layout="constrained")
    axes = figure.add_subplot()
    axes.imshow(rates, cmap="Blues", vmin=0, vmax=1)
    for row, column in np.ndindex(classes, classes):
        if counts[row, column]:
            text = f"{counts[row, column]}\n{100 * rates[row, column]:.0f} %"
            shade = "white" if rates[row, column] > 0.55 else INK
            axes.text(column, row, text, ha="center", va="center", fontsize=9, color=shade, linespacing=1.3)
    rows = [f"{_shorten(name, 24)} ({count})" for name, count in zip(labels, of_class[:, 0], strict=True)]
    columns = [_shorten(name, 24) for name in labels]
    axes.set_yticks(range(classes), rows, fontsize=9, parse_math=False)
    turned: dict[str, Any] = {"rotation": 40, "ha": "right", "rotation_mode": "anchor"}
    axes.set_xticks(range(classes), columns, fontsize=9, parse_math=False, **turned)
    axes.set_xlabel("predicted", color=GREY)
    axes.set_ylabel("true (clips)", color=GREY)
    axes.set_xticks(np.arange(classes + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(classes + 1) - 0.5, minor=True)
    axes.grid(which="minor", color="white", linewidth=2)
    axes.tick_params(which="both", length=0)
    axes.spines[:].set_color(FAINT)
    return figure


def curves_figure(log_lines: Sequence[LogLine]) -> Figure:
    """Loss, WAR, UAR and learning rate of one run over its epochs.

    Args:
        log_lines: the lines of its `log.jsonl`; a value that a line lacks (or that is null) leaves a gap.
    """
    if not log_lines:
        raise ValueError("no epochs to draw: the log has no line")
    figure = Figure(figsize=(8.4, 5.2), facecolor="white", layout="constrained")
    panels = figure.subplots(2, 2, sharex=True)
    wanted = {
        "loss": ("train_loss", "val_loss"),
        "WAR (%)": ("train_war", "val_war"),
        "UAR (%)": ("val_uar",),
        "learning rate": ("lr",),
    }
    for axes, (title, keys) in zip(panels.flat, wanted.items(), strict=True):
        for key in keys:
            style = (BLUE, "--", "training") if key.startswith("train_") else (ORANGE, "-", "validation")
            _draw_series(axes, log_lines, key, *style)
        if len(keys) > 1 and axes.lines:
            axes.legend(fontsize=8, frameon=False)
        _dress(axes, title)
    if panels[1, 1].lines:
        panels[1, 1].set_yscale("log")
    for axes in panels[1]:
        axes.set_xlabel("epoch", fontsize=9)
    return figure


def compare_curves(runs: Mapping[str, Sequence[LogLine]], key: str) -> Figure:
    """One value of several runs over their epochs.

    Args:
        runs: for each run's name the lines of its `log.jsonl`.
        key: which value, for example `val_war`.

    Raises:
        ValueError: no run has that value.
    """
    figure = Figure(figsize=(7.2, 4.2), facecolor="white", layout="constrained")
    axes = figure.add_subplot()
    for at, (name, lines) in enumerate(runs.items()):
        dash = DASHES[(at + at // len(CYCLE)) % len(DASHES)]
        _draw_series(axes, lines, key, CYCLE[at % len(CYCLE)], dash, name)
    if not axes.lines:
        raise ValueError(f"none of {len(runs)} runs has a value for {key!r} in its log")
    for text in axes.legend(fontsize=8, frameon=False).get_texts():
        text.set_parse_math(False)
    _dress(axes, LOG_TITLES.get(key, key))
    axes.set_xlabel("epoch", fontsize=9)
    return figure


def _draw_series(axes: Axes, lines: Sequence[LogLine], key: str, hue: str, dash: str, name: str) -> None:
    scale = 100 if key.endswith(("_war", "_uar")) else 1
    values = [scale * line[key] if line.get(key) is not None else float("nan") for line in lines]
    if np.isfinite(values).any():
        epochs = [line["epoch"] for line in lines]
        marker = "o" if len(lines) < 25 else None
        axes.plot(epochs, values, dash, color=hue, lw=1.7, label=name, marker=marker, ms=3)


def _dress(axes: Axes, title: str) -> None:
    axes.set_title(title, fontsize=10, loc="left", color=INK)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(color=FAINT, linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8)


def _per_frame(name: str, values: ArrayLike, frames: int) -> NDArray[np.float64]:
    array = np.asarray(values, dtype=np.float64)
    if array.shape != (frames,) or not np.isfinite(array).all():
        shape = list(array.shape)
        raise ValueError(f"{name} has shape {shape}, expected {frames} finite values, one per frame")
    return array


def _class_name(which: int | str | None, labels: Sequence[str] | None) -> str | None:
    if which is None or isinstance(which, str):
        return which
    return labels[which] if labels is not None else f"class {which}"


def _shorten(text: str, room: int) -> str:
    return text if len(text) <= room else f"{text[: room // 2 - 2]}...{text[-(room - room // 2 - 1) :]}"


def method_figure() -> Figure:
    """Frame attention in one picture: from a clip's frames to its expression, with every equation."""
    wide, high, foot = 9.0, 4.88, -0.1
    figure = Figure(figsize=(wide, high - foot), facecolor="none")
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, wide), ylim=(foot, high))
    axes.axis("off")
    # A white card of its own: the picture then reads the same on a light and on a dark page.
    card = "round,pad=0,rounding_size=0.14"
    sides = wide - 0.06, high - foot - 0.06
    axes.add_patch(FancyBboxPatch((0.03, foot + 0.03), *sides, boxstyle=card, fc="white", ec=FAINT))

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

    # The smile grows, and something hides the face in the last frame: the weights follow.
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
        axes.add_patch(Rectangle((7.93, y - 0.06), 0.86 * value, 0.1, fc=INK if at == 0 else GREY, lw=0))

    # Orange on white is too pale for letters.
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
    """A face in a square frame of half side `r`; `smile` in [0, 1]; `hidden`: something is in front of it."""
    axes.add_patch(Rectangle((x - r, y - r), 2 * r, 2 * r, fc="#dce6ee", ec=INK, lw=0.8))
    axes.add_patch(Circle((x, y), 0.82 * r, fc="#f2cfa5", ec=INK, lw=0.7))
    for side in (-1, 1):
        axes.add_patch(Circle((x + 0.3 * side * r, y + 0.22 * r), 0.08 * r, color=INK))
    # Only the depth of the mouth's arc grows, so that a flat one is a neutral face.
    depth = 0.75 * r * smile + 0.01
    axes.add_patch(Arc((x, y - 0.3 * r), 0.85 * r, depth, theta1=180, theta2=360, color=INK, lw=1.2))
    if hidden:
        corners = [(-1, -1), (0.75, -1), (0.45, 0.05), (-0.25, 0.5), (-1, 0.3)]
        axes.add_patch(Polygon([(x + r * a, y + r * b) for a, b in corners], fc="#5b6570", ec=INK, lw=0.7))


def main(argv: Sequence[str] | None = None) -> int:
    """Draw the figure of the method for the README, as SVG and as PNG beside it."""
    parser = argparse.ArgumentParser(prog="python -m Code.results.figures", description=main.__doc__)
    parser.add_argument("--method", type=Path, required=True, metavar="FILE.svg", help="where the figure goes")
    path = parser.parse_args(argv).method
    if path.suffix != ".svg":
        parser.error(f"--method {path}: the name has to end in .svg (a .png is written beside it)")
    figure = method_figure()
    path.parent.mkdir(parents=True, exist_ok=True)
    for kind, dpi in (("svg", 100), ("png", 200)):
        path.with_suffix(f".{kind}").write_bytes(figure_bytes(figure, kind, dpi=dpi))
    print(f"{path}  {path.with_suffix('.png')}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
