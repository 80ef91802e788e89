"""All figures: a clip's frames with their attention, the confusion matrix, and curves over epochs.

Each function returns a new `matplotlib.figure.Figure`. None uses pyplot, so none needs a display, and a figure can
go into a file, a page or TensorBoard. Names of clips, classes and runs are never parsed as mathtext: a `$` in a
folder's name stays a dollar sign.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontEntry, findfont, fontManager, get_font
from matplotlib.text import Text
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator
from numpy.typing import ArrayLike, NDArray

from ..common.wording import counted

# From Okabe and Ito's palette, which people with any color blindness can tell apart, also in gray print.
BLUE, ORANGE, INK, GRAY, FAINT = "#0072b2", "#e69f00", "#1b1f24", "#8b949e", "#d8dee4"
SOFT = "#57606a"  # for small text, for which GRAY is too pale
CYCLE = (BLUE, ORANGE, "#009e73", "#cc79a7", "#56b4e9", "#d55e00", INK)
DASHES = ("-", "--", "-.", ":")
LogLine = Mapping[str, Any]  # of log.jsonl
Style = tuple[str, str]  # color and dash of a line


def figure_bytes(figure: Figure, kind: str = "svg", *, dpi: int = 150) -> bytes:
    """A figure as an `svg`, `png` or `pdf` file. Equal figures give equal bytes.

    Letters that the default font lacks are drawn with installed fonts that have them, or else as boxes.
    """
    buffer = io.BytesIO()
    stamp = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}.get(kind)
    for text in figure.findobj(Text):
        assert isinstance(text, Text)
        others = [entry.name for entry in fonts_for(text.get_text(), findfont(text.get_fontproperties()))]
        if others:
            text.set_fontfamily([*text.get_fontfamily(), *others])
    with matplotlib.rc_context({"svg.hashsalt": "emotion-fan"}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"Glyph .* missing from")
        figure.savefig(buffer, format=kind, dpi=dpi, metadata=stamp)
    return buffer.getvalue()


def fonts_for(text: str, usual: str) -> list[FontEntry]:
    """Installed fonts that have the letters which the font file `usual` lacks."""
    if text.isascii():
        return []
    font = get_font(usual)
    lacking = [letter for letter in text if letter.isprintable() and not font.get_char_index(ord(letter))]
    entries = {letter: _font_with(letter) for letter in lacking}
    return list({entry.name: entry for entry in entries.values() if entry is not None}.values())


def font_file(text: str) -> str:
    """The font file to draw a text with: the default one, or an installed one that has a letter which it lacks."""
    usual = findfont("DejaVu Sans")  # comes with matplotlib
    others = fonts_for(text, usual)
    return others[0].fname if others else usual


@lru_cache(maxsize=4096)
def _font_with(letter: str) -> FontEntry | None:
    """An installed font that has a letter, of regular style if possible."""

    def plainness(entry: FontEntry) -> tuple[bool, bool, str]:
        return entry.style != "normal", str(entry.weight) not in ("400", "normal", "regular"), entry.name

    for entry in sorted(fontManager.ttflist, key=plainness):
        try:
            # "Last Resort", which comes with matplotlib, has every letter, but only as a box.
            if not entry.name.startswith("Last Resort") and get_font(entry.fname).get_char_index(ord(letter)):
                return entry
        except (OSError, RuntimeError):  # removed since matplotlib listed it, or damaged
            continue
    return None


def shorten(text: str, width: int) -> str:
    """The text, or its start and end if it has more than `width` characters."""
    return text if len(text) <= width else f"{text[: width // 2 - 2]}...{text[-(width - width // 2 - 1) :]}"


def choose_frames(weights: ArrayLike, max_frames: int = 12) -> list[int]:
    """Frames that represent a clip: evenly spaced ones, and those with the highest and the lowest weight.

    Args:
        weights: [T], any scale.
        max_frames: how many to choose at most; 2 or more.

    Returns:
        Ascending indices, at most `max_frames`; all frames of a shorter clip.
    """
    values = np.asarray(weights, dtype=np.float64)
    if max_frames < 2:
        raise ValueError(f"max_frames is {max_frames}; it must be at least 2, for the highest and the lowest weight")
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
    """The frames of one clip in a row, with bars for their attention above.

    Blue bars are the self-attention alpha. Orange bars are the final weight relative to the clip's highest weight:
    final weights sum to 1 over a clip, so that their absolute size depends on its length.

    Args:
        frames: uint8 [T, H, W, 3], RGB.
        alpha: [T] in [0, 1].
        weights: [T], not negative.
        title: the clip's name.
        label, prediction: class names, or indices into `labels`.
        probabilities: [C], drawn beside the frames; requires `labels`.
        labels: C class names.
        intensity: [T] in [0, 1], the true intensity of the expression, drawn as a line.
        max_frames: how many frames of a longer clip are drawn, see `choose_frames`.
        shown: indices of the frames to draw, ascending, for callers that have not loaded the whole clip. `frames` is
            then [len(shown), H, W, 3]; the other arguments still cover all T frames.
        times: [T], seconds of a video's frames, written below them instead of their numbers.

    Raises:
        ValueError: sizes do not match.
    """
    pictures = np.asarray(frames)
    if pictures.dtype != np.uint8 or pictures.ndim != 4 or pictures.shape[3] != 3 or not len(pictures):
        shape = list(pictures.shape)
        raise ValueError(f"frames are {pictures.dtype} {shape}, expected uint8 [T, H, W, 3] with T > 0")
    count, height, width, _ = pictures.shape
    total = count if shown is None else int(np.size(alpha))
    if shown is not None and (len(shown) != count or min(shown) < 0 or max(shown) >= total):
        raise ValueError(f"shown has {len(shown)} indices into {total} frames, but frames has {count} pictures")
    alphas, shares = _per_frame("alpha", alpha, total), _per_frame("weights", weights, total)
    chosen = choose_frames(shares, max_frames) if shown is None else list(shown)
    highest, lowest = int(shares.argmax()), int(shares.argmin())
    uneven = bool(shares[highest] - shares[lowest] > 1e-6 * shares[highest])
    shares = shares / shares.max() if shares.max() > 0 else shares

    # Placed in inches, so that bars are exactly above their frame whatever the clip's length.
    columns, slot, left, bars_high, below = len(chosen), 0.92, 0.6 if times is None else 0.8, 1.15, 0.52
    if probabilities is not None and labels is None:
        raise ValueError("probabilities need labels, the class names")
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
    bars.bar(places + 0.19, shares[chosen], 0.34, color=ORANGE, label="final weight, relative to the highest")
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
    width_left = int((size[0] - 0.3) / 0.088) - len(line)
    top = 1 - 0.14 / size[1]
    name = shorten(title, max(width_left, 16))
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
    panel.barh(rows, values, 0.62, color=[INK if row == values.argmax() else GRAY for row in rows])
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
    """A confusion matrix: counts, and below each its percentage of the true class, which is also the shade.

    Args:
        confusion: int [C, C], a row per true class and a column per predicted class.
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


PANELS = {
    "loss": ("train_loss", "val_loss"),
    "WAR (%)": ("train_war", "val_war"),
    "UAR (%)": ("val_uar",),
    "learning rate": ("lr",),
}


def run_curves(log: Sequence[LogLine]) -> dict[str, Figure]:
    """The curves of one run, for each title of `PANELS` that the log has values for.

    Args:
        log: the lines of its `log.jsonl`. A missing value, or null, leaves a gap.

    Returns:
        Figures without a legend: training is dashed blue, validation solid orange.
    """
    figures = {}
    for title, keys in PANELS.items():
        figure, axes = _panel(title, log_scale=title == "learning rate")
        for key in keys:
            _draw_series(axes, log, key, (BLUE, "--") if key.startswith("train_") else (ORANGE, "-"), key)
        if axes.lines:
            figures[title] = figure
    return figures


def line_styles(methods: Mapping[str, str]) -> dict[str, Style]:
    """A style for each run's line: a color for each method, and a dash for each run of a method.

    Args:
        methods: for each run's name the name of its method.
    """
    names = list(dict.fromkeys(methods.values()))
    drawn = dict.fromkeys(names, 0)
    styles = {}
    for run, method in methods.items():
        at = names.index(method)
        dash = drawn[method] + at // len(CYCLE)  # the eighth method has the color of the first, but another dash
        styles[run] = CYCLE[at % len(CYCLE)], DASHES[dash % len(DASHES)]
        drawn[method] += 1
    return styles


def compare_curves(
    runs: Mapping[str, Sequence[LogLine]], key: str, styles: Mapping[str, Style] | None = None, *, legend: bool = True
) -> Figure:
    """One value of several runs over their epochs.

    Args:
        runs: for each run's name the lines of its `log.jsonl`.
        key: which value, for example `val_war`.
        styles: for each run's name the style of its line (default: a color each).
        legend: name the lines below the plot.

    Raises:
        ValueError: no run has this value.
    """
    styles = styles or line_styles({name: name for name in runs})
    figure, axes = _panel(LOG_TITLES.get(key, key), log_scale=key == "lr")
    for name, log in runs.items():
        _draw_series(axes, log, key, styles[name], name)
    if not axes.lines:
        raise ValueError(f"no value for {key!r} in the logs of {counted(len(runs), 'run')}")
    if legend:
        columns = 2 if max(map(len, runs)) < 36 else 1
        figure.set_figheight(figure.get_figheight() + 0.2 * -(-len(axes.lines) // columns))
        for text in figure.legend(loc="outside lower left", ncols=columns, fontsize=8, frameon=False).get_texts():
            text.set_parse_math(False)
    return figure


def _panel(title: str, *, log_scale: bool = False) -> tuple[Figure, Axes]:
    """An empty plot over epochs, of a size that stays readable on a phone."""
    figure = Figure(figsize=(4.8, 2.7), facecolor="white", layout="constrained")
    axes = figure.add_subplot(facecolor="white")
    axes.set_title(title, fontsize=10, loc="left", color=INK)
    axes.set_xlabel("epoch", fontsize=9, color=SOFT)
    axes.grid(color=FAINT, linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(GRAY)
    if log_scale:
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.tick_params(which="both", labelsize=8, color=GRAY, labelcolor=SOFT)
    return figure, axes


def _draw_series(axes: Axes, lines: Sequence[LogLine], key: str, style: Style, name: str) -> None:
    scale = 100 if key.endswith(("_war", "_uar")) else 1
    values = [scale * line[key] if line.get(key) is not None else float("nan") for line in lines]
    if np.isfinite(values).any():
        epochs = [line["epoch"] for line in lines]
        marker = "o" if len(lines) < 25 else None
        axes.plot(epochs, values, linestyle=style[1], color=style[0], lw=1.7, label=name, marker=marker, ms=3)
