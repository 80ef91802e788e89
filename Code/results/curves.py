"""How a run trained and where it fails: curves over epochs, the confusion matrix, several runs over each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from Code.results.figures import BLUE, CYCLE, DASHES, FAINT, INK, ORANGE, SOFT, dress, shorten

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
