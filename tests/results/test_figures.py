"""Figures show what they are given, in any script, and equal figures are equal files."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure
from matplotlib.font_manager import get_font

from Code.results.figures import attention_figure, choose_frames, curve_figure, figure_bytes, font_for, line_styles

LOG = [{"epoch": epoch, "lr": 0.1 / epoch, "train_loss": 2 / epoch, "train_war": 1 - 0.5 / epoch, "val_loss": 1.5,
        "val_war": 0.25 * epoch, "val_uar": 0.2 * epoch} for epoch in (1, 2, 3)]  # fmt: skip


def clip(frames: int, height: int = 20, width: int = 16) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (frames, height, width, 3), dtype=np.uint8)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=200), st.integers(2, 20))
def test_chosen_frames_are_few_spread_and_hold_both_ends(weights: list[float], most: int) -> None:
    chosen = choose_frames(weights, most)
    assert chosen == sorted(set(chosen)) and chosen[0] >= 0 and chosen[-1] < len(weights)
    assert len(chosen) <= most
    assert {int(np.argmax(weights)), int(np.argmin(weights))} <= set(chosen)
    if len(weights) <= most:
        assert chosen == list(range(len(weights)))


def draw(frames: np.ndarray, alpha: Any, weights: Any, **options: Any) -> Figure:
    options = {"shown": range(len(frames)), "title": "a", "probabilities": {"Happy": 0.25, "Angry": 0.75}} | options
    return attention_figure(frames, alpha, weights, **options)


def test_attention_figure_has_two_bars_over_each_frame_and_a_line_of_intensity() -> None:
    alpha, weights = [0.2, 0.4, 0.8, 0.6], [0.1, 0.2, 0.4, 0.3]
    figure = draw(clip(4), alpha, weights, label="Happy", prediction="Angry", intensity=[0, 0.5, 1, 0.5])
    strip, bars, panel = figure.axes
    blue, orange = bars.containers
    assert [bar.get_height() for bar in blue] == pytest.approx(alpha)
    assert [bar.get_height() for bar in orange] == pytest.approx([0.25, 0.5, 1, 0.75])
    (line,) = bars.lines
    assert list(np.asarray(line.get_ydata())) == [0, 0.5, 1, 0.5] and len(strip.images) == 4
    assert [bar.get_width() for bar in panel.containers[0]] == pytest.approx([0.25, 0.75])
    assert [tick.get_text() for tick in panel.get_yticklabels()] == ["Happy *", "Angry"]
    assert "true Happy, predicted Angry  (wrong)" in [text.get_text() for text in figure.texts]
    # Bars stand over their frames only if both axes have the same extent; frames keep their shape (20 x 16).
    assert bars.get_position().x0 == strip.get_position().x0 and bars.get_xlim() == strip.get_xlim()
    wide, high = figure.get_size_inches()
    frame = strip.get_position().width * wide / 4 * 0.94, strip.get_position().height * high
    assert frame[1] / frame[0] == pytest.approx(20 / 16)


def test_attention_figure_of_a_long_clip_marks_its_highest_and_lowest_frame() -> None:
    weights = np.full(90, 1.0)
    weights[[17, 71]] = 3.0, 0.1
    frames, shown = clip(90), choose_frames(weights)
    figure = draw(frames[shown], np.full(90, 0.5), weights, shown=shown)
    ticks = [tick.get_text() for tick in figure.axes[0].get_xticklabels()]
    assert len(ticks) <= 12 and "18\nhighest" in ticks and "72\nlowest" in ticks
    assert np.array_equal(np.asarray(figure.axes[0].images[ticks.index("18\nhighest")].get_array()), frames[17])


def test_a_single_frame_has_no_bars_and_equal_weights_no_highest() -> None:
    strip, panel = draw(clip(1), [1.0], [1.0]).axes
    assert len(strip.images) == 1 and not strip.containers and len(panel.containers) == 1
    figure = draw(clip(3), [0.3] * 3, [1 / 3] * 3)
    assert not any("highest" in tick.get_text() for tick in figure.axes[0].get_xticklabels())


def test_names_are_text_and_not_mathtext() -> None:
    odd = "$\\frac{$_^"
    drawn = draw(clip(2), [0.1, 0.2], [0.4, 0.6], title=odd, label=odd, probabilities={odd: 0.5, "b": 0.5})
    for figure in (drawn, curve_figure("WAR (%)", {odd: (LOG, "val_war")}, line_styles({odd: odd}))):
        assert figure_bytes(figure, "png")[:4] == b"\x89PNG"


def test_curves_have_the_values_of_the_log_and_gaps_where_it_has_none() -> None:
    lines = [*LOG, {"epoch": 4, "train_loss": None}]
    styles = line_styles({name: name for name in ("training", "validation", "run")})
    curves = {"training": (lines, "train_war"), "validation": (lines, "val_war")}
    (axes,) = curve_figure("WAR (%)", curves, styles).axes
    values = np.asarray(axes.lines[1].get_ydata(), dtype=float)
    assert values[:3] == pytest.approx([25, 50, 75]) and np.isnan(values[3])
    (axes,) = curve_figure("learning rate", {"run": (lines, "lr"), "none": (lines, "seconds")}, styles).axes
    assert len(axes.lines) == 1 and axes.get_yscale() == "log"


def test_runs_are_compared_by_line_and_dash_without_pyplot() -> None:
    from matplotlib import pyplot

    lines = {"self": (LOG, "val_uar"), "relation": (LOG[:2], "val_uar")}
    styles = line_styles({name: name for name in lines})
    figure = curve_figure("validation UAR (%)", lines, styles)
    (axes,) = figure.axes
    assert [len(np.asarray(line.get_xdata())) for line in axes.lines] == [3, 2]
    assert len({(line.get_color(), line.get_linestyle()) for line in axes.lines}) == 2
    assert figure_bytes(figure) == figure_bytes(curve_figure("validation UAR (%)", lines, styles))
    assert pyplot.get_fignums() == []


def test_figures_do_not_follow_the_settings_of_the_user(tmp_path: Path) -> None:
    """A matplotlibrc with a dark style and TeX, and a backend that does not exist, change no byte."""
    (tmp_path / "matplotlibrc").write_text("text.usetex: true\naxes.facecolor: black\nlines.linewidth: 9\n")
    code = "import sys; from Code.results.figures import curve_figure as draw, figure_bytes as file; "
    code += "log = [{'epoch': 1, 'x': 1}, {'epoch': 2, 'x': 2}]; "
    code += "sys.stdout.buffer.write(file(draw('loss', {'a': (log, 'x')}, {'a': ('red', '-')})))"
    settings = {"MATPLOTLIBRC": str(tmp_path / "matplotlibrc"), "MPLBACKEND": "nonsense"}
    command = [sys.executable, "-c", code]
    one, other = (subprocess.check_output(command, env={**os.environ, **more}) for more in ({}, settings))
    assert one == other and b"<svg" in one


def test_a_font_that_has_the_letters_is_found_and_used_without_a_warning() -> None:
    other = font_for("\u24b6")  # a letter in a circle, which DejaVu Sans lacks and STIX has, also of matplotlib
    assert other.name != "DejaVu Sans" and font_for("happy \u00e9").name == "DejaVu Sans"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for letter, font in (("\u24b6", get_font(other.fname).postscript_name), ("\U00017002", "")):  # no font has it
            figure = Figure(figsize=(3, 1))
            figure.text(0.1, 0.4, letter)
            figure.add_subplot().set_xticks([0], [letter])
            assert figure_bytes(figure).count(f'xlink:href="#{font}'.encode()) >= 2
