"""What all figures share: colours, text and the way to a file.

The picture that the method lives from: a clip's frames in a row, over each what the network made of it.

Every function of `Code.results` that draws returns a `matplotlib.figure.Figure` of its own (no pyplot state): it
needs no display and goes into a file, a page or TensorBoard. Names of clips, classes and runs are never read as
mathtext: a `$` in the name of a folder is a dollar sign.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike, NDArray

from Code.results.fonts import fonts_for

# Two hues of Okabe and Ito's palette: apart for every colour blindness, and dark and light in grey print.
BLUE, ORANGE, INK, GREY, FAINT = "#0072B2", "#E69F00", "#1b1f24", "#8b949e", "#d8dee4"
SOFT = "#57606a"  # for small text, where GREY is too pale
CYCLE = (BLUE, ORANGE, "#009E73", "#CC79A7", "#56B4E9", "#D55E00", INK)
DASHES = ("-", "--", "-.", ":")


def figure_bytes(figure: Figure, kind: str = "svg", *, dpi: int = 150) -> bytes:
    """A figure as the bytes of an `svg`, `png` or `pdf` file; the same figure gives the same bytes."""
    buffer = io.BytesIO()
    stamp = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}.get(kind)
    with matplotlib.rc_context({"svg.hashsalt": "emotion-fan"}), fonts_for(figure):
        figure.savefig(buffer, format=kind, dpi=dpi, metadata=stamp)
    return buffer.getvalue()


def dress(axes: Axes, title: str) -> None:
    axes.set_title(title, fontsize=10, loc="left", color=INK)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(color=FAINT, linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8)


def shorten(text: str, room: int) -> str:
    return text if len(text) <= room else f"{text[: room // 2 - 2]}...{text[-(room - room // 2 - 1) :]}"


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
    shown: Sequence[int] | None = None,
    times: ArrayLike | None = None,
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
        shown: which frames of the clip `frames` holds, ascending, for callers that do not have all of a long
            clip in memory: then `frames` is [len(shown), H, W, 3], all of them are drawn, and everything else
            still covers all T frames.
        times: [T], seconds of a video's frames, written below them instead of their numbers.

    Raises:
        ValueError: sizes that do not belong together.
    """
    pictures = np.asarray(frames)
    if pictures.dtype != np.uint8 or pictures.ndim != 4 or pictures.shape[3] != 3 or not len(pictures):
        shape = list(pictures.shape)
        raise ValueError(f"frames are {pictures.dtype} {shape}, expected uint8 [T, H, W, 3] with T > 0")
    count, height, width, _ = pictures.shape
    total = count if shown is None else int(np.size(alpha))
    if shown is not None and (len(shown) != count or min(shown) < 0 or max(shown) >= total):
        raise ValueError(f"shown names {len(shown)} of {total} frames, but there are {count} pictures")
    alphas, shares = _per_frame("alpha", alpha, total), _per_frame("weights", weights, total)
    chosen = choose_frames(shares, max_frames) if shown is None else list(shown)
    highest, lowest = int(shares.argmax()), int(shares.argmin())
    uneven = bool(shares[highest] - shares[lowest] > 1e-6 * shares[highest])
    shares = shares / shares.max() if shares.max() > 0 else shares

    # Everything is placed in inches: only then do bars stand exactly above their frame at every clip length.
    columns, slot, left, bars_high, below = len(chosen), 0.92, 0.6 if times is None else 0.8, 1.15, 0.52
    if probabilities is not None and labels is None:
        raise ValueError("probabilities need labels, the names of their classes")
    full = list(labels or ())
    names = [shorten(name, 18) for name in full]
    beside = 0.75 + 0.085 * max(map(len, names), default=0) + 1.2 if probabilities is not None else 0.15
    strip_high = slot * 0.94 * height / width
    size = max(left + columns * slot + beside, 5.2), below + strip_high + 0.06 + bars_high + 0.85
    figure = Figure(figsize=size, facecolor="white")

    def place(x: float, y: float, wide: float, high: float) -> Axes:
        return figure.add_axes((x / size[0], y / size[1], wide / size[0], high / size[1]))

    bars = place(left, below + strip_high + 0.06, columns * slot, bars_high)
    strip = place(left, below, columns * slot, strip_high)
    places = np.arange(columns)
    bars.bar(places - 0.19, alphas[chosen], 0.34, color=BLUE, label="self-attention alpha")
    bars.bar(places + 0.19, shares[chosen], 0.34, color=ORANGE, label="final weight, share of the highest")
    if intensity is not None:
        truth = _per_frame("intensity", intensity, total)[chosen]
        bars.plot(places, truth, "o--", color=INK, mfc="white", ms=4, lw=1, label="true intensity", clip_on=False)
    bars.set(xlim=(-0.5, columns - 0.5), ylim=(0, 1.04), xticks=[], yticks=[0, 0.5, 1])
    bars.tick_params(labelsize=8, colors=INK)
    bars.spines[["top", "right"]].set_visible(False)
    anchor = (left - 0.1) / size[0], 1 - 0.5 / size[1]
    spaced: dict[str, Any] = {"borderaxespad": 0, "columnspacing": 1.2, "handlelength": 1.4}
    figure.legend(loc="upper left", bbox_to_anchor=anchor, ncols=3, fontsize=8, frameon=False, **spaced)

    for at, index in enumerate(chosen):
        picture = pictures[index if shown is None else at]
        strip.imshow(picture, extent=(at - 0.47, at + 0.47, 0, 1), aspect="auto")
    ends = {highest: "highest", lowest: "lowest"} if uneven else {}
    strip.set(xlim=(-0.5, columns - 0.5), ylim=(0, 1), yticks=[])
    if times is None:
        marks = [str(index + 1) for index in chosen]
        part = f"frame\nof {total}" if columns < total else "frame\n "
    else:
        marks = [f"{second:.2f}" for second in _per_frame("times", times, total)[chosen]]
        part = f"seconds\n{columns} of {total}" if columns < total else "seconds\n "
    below_frames = [f"{mark}\n{ends.get(index, ' ')}" for mark, index in zip(marks, chosen, strict=True)]
    strip.set_xticks(places, below_frames, fontsize=8, color=INK)
    strip.tick_params(length=0)
    strip.spines[:].set_visible(False)
    strip.text(-0.52, -0.04, part, ha="right", va="top", fontsize=8, color=SOFT, clip_on=False)

    true, said = _class_name(label, labels), _class_name(prediction, labels)
    verdict = [f"true {true}"] if true is not None else []
    verdict += [f"predicted {said}"] if said is not None else []
    line = ", ".join(verdict) + (f"  ({'right' if true == said else 'wrong'})" if len(verdict) == 2 else "")
    room = int((size[0] - 0.3) / 0.088) - len(line)
    top = 1 - 0.14 / size[1]
    name = shorten(title, max(room, 16))
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
    panel.set_xlabel(title, fontsize=8, color=SOFT, loc="left")


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
            shade = "white" if rates[row, column] > 0.72 else INK
            axes.text(column, row, text, ha="center", va="center", fontsize=9, color=shade, linespacing=1.3)
    rows = [f"{shorten(name, 24)} ({count})" for name, count in zip(labels, of_class[:, 0], strict=True)]
    columns = [shorten(name, 24) for name in labels]
    axes.set_yticks(range(classes), rows, fontsize=9, parse_math=False)
    turned: dict[str, Any] = {"rotation": 40, "ha": "right", "rotation_mode": "anchor"}
    axes.set_xticks(range(classes), columns, fontsize=9, parse_math=False, **turned)
    axes.set_xlabel("predicted", color=SOFT)
    axes.set_ylabel("true (clips)", color=SOFT)
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
        dress(axes, title)
    if panels[1, 1].lines:
        panels[1, 1].set_yscale("log")
    for axes in panels[1]:
        axes.set_xlabel("epoch", fontsize=9)
    return figure


def compare_curves(runs: Mapping[str, Sequence[LogLine]], key: str, methods: Mapping[str, str] | None = None) -> Figure:
    """One value of several runs over their epochs.

    Args:
        runs: for each run's name the lines of its `log.jsonl`.
        key: which value, for example `val_war`.
        methods: for each run's name its method: runs of one have one colour, and a dash each.

    Raises:
        ValueError: no run has that value.
    """
    figure = Figure(figsize=(7.2, 4.2), facecolor="white", layout="constrained")
    axes = figure.add_subplot()
    drawn: dict[str, int] = {}  # per method, how many of its runs have been drawn
    for at, (name, lines) in enumerate(runs.items()):
        if methods is None:
            colour, dash = at, at + at // len(CYCLE)
        else:
            dash = drawn.get(methods[name], 0)
            drawn[methods[name]] = dash + 1
            colour = list(drawn).index(methods[name])
        _draw_series(axes, lines, key, CYCLE[colour % len(CYCLE)], DASHES[dash % len(DASHES)], name)
    if not axes.lines:
        raise ValueError(f"none of {len(runs)} runs has a value for {key!r} in its log")
    for text in axes.legend(fontsize=8, frameon=False).get_texts():
        text.set_parse_math(False)
    dress(axes, LOG_TITLES.get(key, key))
    axes.set_xlabel("epoch", fontsize=9)
    return figure


def _draw_series(axes: Axes, lines: Sequence[LogLine], key: str, hue: str, dash: str, name: str) -> None:
    scale = 100 if key.endswith(("_war", "_uar")) else 1
    values = [scale * line[key] if line.get(key) is not None else float("nan") for line in lines]
    if np.isfinite(values).any():
        epochs = [line["epoch"] for line in lines]
        marker = "o" if len(lines) < 25 else None
        axes.plot(epochs, values, dash, color=hue, lw=1.7, label=name, marker=marker, ms=3)
