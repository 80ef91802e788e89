"""Figures: a clip's frames with their attention, and curves over epochs.

None uses pyplot, so none needs a display. `plain_style` gives all of them one look, whatever the matplotlibrc says.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import lru_cache
from typing import Any

import numpy as np
from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontEntry, fontManager, get_font
from matplotlib.text import Text
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator
from numpy.typing import ArrayLike, NDArray

# From Okabe and Ito's palette, which people with any color blindness can tell apart, also in gray print.
BLUE, ORANGE, INK, GRAY, FAINT = "#0072b2", "#e69f00", "#1b1f24", "#8b949e", "#d8dee4"
SOFT = "#57606a"  # for small text, for which GRAY is too pale
CYCLE = (BLUE, ORANGE, "#009e73", "#cc79a7", "#56b4e9", "#d55e00", INK)
DASHES = ("-", "--", "-.", ":")
Style = tuple[str, str]  # color and dash of a line
Line = tuple[Sequence[Mapping[str, Any]], str]  # the log of a run, and which of its values
LOOK: dict[str, Any] = {
    "text.parse_math": False,  # a `$` in the name of a clip, a class or a run stays a dollar sign
    "text.color": INK,
    "axes.edgecolor": GRAY,
    "axes.labelcolor": SOFT,
    "axes.labelsize": 8,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 10,
    "grid.color": FAINT,
    "grid.linewidth": 0.6,
    "legend.fontsize": 8,
    "legend.frameon": False,
    "svg.hashsalt": "emotion-fan",
    **{
        f"{axis}tick.{key}": value
        for axis in "xy"
        for key, value in (("color", SOFT), ("labelsize", 8), ("major.size", 0))
    },
}
plain_style = style.context(["default", LOOK])  # a decorator


def figure_bytes(figure: Figure, kind: str = "svg", *, dpi: int = 150, transparent: bool = False) -> bytes:
    """A figure as an `svg`, `png` or `pdf` file. Equal figures give equal bytes."""
    buffer = io.BytesIO()
    stamp = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}.get(kind)
    for text in figure.findobj(Text):
        assert isinstance(text, Text)
        if not text.get_text().isascii():
            text.set_fontfamily([*text.get_fontfamily(), font_for(text.get_text()).name])
    with style.context(["default", LOOK]), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"Glyph .* missing from")  # a letter that no font has is a box
        figure.savefig(buffer, format=kind, dpi=dpi, metadata=stamp, transparent=transparent)
    return buffer.getvalue()


@lru_cache(maxsize=1024)
def font_for(text: str) -> FontEntry:
    """An installed font that has all letters of a text, or else DejaVu Sans, which comes with matplotlib."""

    def preference(font: FontEntry) -> tuple[bool, bool, bool, str]:
        bold = str(font.weight) not in ("400", "normal", "regular")
        return font.name != "DejaVu Sans", font.style != "normal", bold, font.name

    # "Last Resort", which comes with matplotlib, has every letter, but only as a box.
    fonts = sorted((font for font in fontManager.ttflist if not font.name.startswith("Last Resort")), key=preference)
    letters = [ord(letter) for letter in text if letter.isprintable()]
    for font in fonts:
        with suppress(OSError, RuntimeError):  # removed since matplotlib listed it, or damaged
            if all(map(get_font(font.fname).get_char_index, letters)):
                return font
    return fonts[0]


def shorten(text: str, width: int) -> str:
    """The text, or its start and end if it has more than `width` characters."""
    return text if len(text) <= width else f"{text[: width // 2 - 2]}...{text[-(width - width // 2 - 1) :]}"


def choose_frames(weights: ArrayLike, max_frames: int = 12) -> list[int]:
    """Frames that represent a clip: evenly spaced ones, and those with the highest and the lowest of the weights [T].

    Returns ascending indices, at most `max_frames` (2 or more); all frames of a shorter clip.
    """
    values = np.asarray(weights, dtype=np.float64)
    ends = {int(values.argmax()), int(values.argmin())}
    even = min(max_frames, len(values))
    while len(chosen := ends | {round(float(i)) for i in np.linspace(0, len(values) - 1, even)}) > max_frames:
        even -= 1
    return sorted(chosen)


def relative(weights: ArrayLike) -> NDArray[np.float64]:
    """Weights [T] relative to the highest: final weights sum to 1 over a clip, so their size depends on its length."""
    values = np.asarray(weights, dtype=np.float64)
    return values / values.max() if values.max() > 0 else values


def extremes(shares: NDArray[np.float64]) -> dict[int, str]:
    """ "highest" and "lowest", by their frame; empty if all frames have the same weight."""
    uneven = shares.max() - shares.min() > 1e-6
    return {int(shares.argmax()): "highest", int(shares.argmin()): "lowest"} if uneven else {}


@plain_style
def attention_figure(
    frames: NDArray[np.uint8],
    alpha: ArrayLike,
    weights: ArrayLike,
    *,
    shown: Sequence[int],
    title: str,
    label: str = "",
    prediction: str = "",
    probabilities: Mapping[str, float],
    intensity: ArrayLike | None = None,
    times: ArrayLike | None = None,
) -> Figure:
    """Some frames of one clip in a row, with bars for their attention above, and class probabilities beside them.

    Blue bars are the self-attention alpha. Orange bars are the final weight relative to the clip's highest weight. A
    single picture has no bars.

    Args:
        frames: uint8 [len(shown), H, W, 3], RGB, of the indices `shown`, see `choose_frames`.
        alpha, weights: [T], not negative.
        intensity: [T] in [0, 1], the true intensity of the expression, drawn as a line.
        times: [T], seconds of a video's frames, written below them instead of their numbers.
    """
    count, height, width, _ = frames.shape
    shares, chosen = relative(weights), list(shown)
    weighed = len(shares) > 1
    # Placed in inches, so that bars are exactly above their frame whatever the clip's length.
    slot, left, bars_high, below = (0.92, 0.8, 1.15, 0.52) if weighed else (2.2, 0.1, -0.3, 0.2)
    beside = 0.75 + 0.085 * max(len(shorten(name, 18)) for name in probabilities) + 1.2
    strip_high = slot * 0.94 * height / width
    size = max(left + count * slot + beside, 5.2), below + strip_high + 0.06 + bars_high + 0.85
    figure = Figure(figsize=size)

    def add_axes(x: float, y: float, wide: float, high: float) -> Axes:
        return figure.add_axes((x / size[0], y / size[1], wide / size[0], high / size[1]))

    strip = add_axes(left, below, count * slot, strip_high)
    for at, picture in enumerate(frames):
        strip.imshow(picture, extent=(at - 0.47, at + 0.47, 0, 1), aspect="auto")
    strip.set(xlim=(-0.5, count - 0.5), ylim=(0, 1), xticks=[], yticks=[], frame_on=False)
    if weighed:
        centers = np.arange(count)
        bars = add_axes(left, below + strip_high + 0.06, count * slot, bars_high)
        alphas = np.asarray(alpha, dtype=np.float64)[chosen]
        bars.bar(centers - 0.19, alphas, 0.34, color=BLUE, label="self-attention alpha")
        bars.bar(centers + 0.19, shares[chosen], 0.34, color=ORANGE, label="final weight, relative to the highest")
        if intensity is not None:
            truth = np.asarray(intensity, dtype=np.float64)[chosen]
            bars.plot(centers, truth, "o--", color=INK, mfc="white", ms=4, lw=1, label="true intensity", clip_on=False)
        bars.set(xlim=(-0.5, count - 0.5), ylim=(0, 1.04), xticks=[], yticks=[0, 0.5, 1])
        corner = (left / size[0], 1 - 0.5 / size[1])
        figure.legend(loc="upper left", bbox_to_anchor=corner, ncols=3, borderaxespad=0, columnspacing=1.2)
        marks = range(1, len(shares) + 1) if times is None else [f"{second:.2f}" for second in np.asarray(times)]
        ends = extremes(shares)
        strip.set_xticks(centers, [f"{marks[index]}\n{ends.get(index, ' ')}" for index in chosen])
        unit = "frame" if times is None else "seconds"
        of = f"{count} of {len(shares)}" if count < len(shares) else " "
        strip.text(-0.52, -0.04, f"{unit}\n{of}", ha="right", va="top", fontsize=8, color=SOFT)

    verdict = ", ".join(f"{what} {name}" for what, name in (("true", label), ("predicted", prediction)) if name)
    if label and prediction:
        verdict += f"  ({'right' if label == prediction else 'wrong'})"
    name = shorten(title, max(int((size[0] - 0.3) / 0.088) - len(verdict), 16))
    top = 1 - 0.14 / size[1]
    figure.text(0.15 / size[0], top, name, va="top", size=10.5, weight="bold")
    figure.text(1 - 0.15 / size[0], top, verdict, va="top", ha="right", size=10)
    panel = add_axes(size[0] - 0.6 - 1.2, below, 1.2, strip_high + 0.06 + bars_high)
    values = list(probabilities.values())
    panel.barh(range(len(values)), values, 0.62, color=[INK if value == max(values) else GRAY for value in values])
    names = [shorten(name, 18) + " *" * (name == label) for name in probabilities]
    panel.set_yticks(range(len(values)), names, fontsize=8.5, color=INK)
    panel.set(xlim=(0, 1), ylim=(len(names) - 0.4, -0.6), xticks=[], frame_on=False)
    for row, value in enumerate(values):
        panel.text(value + 0.03, row, f"{100 * value:.0f} %", va="center", fontsize=8)
    panel.set_xlabel("probability (* true)" if label in probabilities else "probability", loc="left")
    return figure


def line_styles(methods: Mapping[str, str]) -> dict[str, Style]:
    """A style for each run's line: a color for each method, the value of `methods`, and a dash for each of its runs."""
    drawn: dict[str, list[str]] = {}
    for run, method in methods.items():
        drawn.setdefault(method, []).append(run)
    # The eighth method has the color of the first, but another dash.
    return {
        run: (CYCLE[number % len(CYCLE)], DASHES[(number // len(CYCLE) + repeat) % len(DASHES)])
        for number, runs in enumerate(drawn.values())
        for repeat, run in enumerate(runs)
    }


@plain_style
def curve_figure(title: str, lines: Mapping[str, Line], styles: Mapping[str, Style]) -> Figure:
    """Values of `log.jsonl` over the epochs, a line for each name. A missing value, or null, leaves a gap.

    The title "learning rate" has a logarithmic axis. There is no legend: pages have one for several plots.
    """
    figure = Figure(figsize=(4.8, 2.7), layout="constrained")  # readable on a phone
    axes = figure.add_subplot()
    axes.set(title=title, xlabel="epoch")
    axes.grid()
    if title == "learning rate":
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    for name, (log, key) in lines.items():
        scale = 100 if key.endswith(("_war", "_uar")) else 1
        values = [np.nan if line.get(key) is None else scale * line[key] for line in log]
        if np.isfinite(values).any():
            color, dash = styles[name]
            marker = "o" if len(log) < 25 else None
            epochs = [line["epoch"] for line in log]
            axes.plot(epochs, values, linestyle=dash, color=color, lw=1.7, label=name, marker=marker, ms=3)
    return figure
