"""What all figures share: colours, text and the way to a file."""

from __future__ import annotations

import io

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

# Two hues of Okabe and Ito's palette: apart for every colour blindness, and dark and light in grey print.
BLUE, ORANGE, INK, GREY, FAINT = "#0072B2", "#E69F00", "#1b1f24", "#8b949e", "#d8dee4"
SOFT = "#57606a"  # for small text, where GREY is too pale
CYCLE = (BLUE, ORANGE, "#009E73", "#CC79A7", "#56B4E9", "#D55E00", INK)
DASHES = ("-", "--", "-.", ":")


def figure_bytes(figure: Figure, kind: str = "svg", *, dpi: int = 150) -> bytes:
    """A figure as the bytes of an `svg`, `png` or `pdf` file; the same figure gives the same bytes."""
    buffer = io.BytesIO()
    stamp = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}.get(kind)
    with matplotlib.rc_context({"svg.hashsalt": "emotion-fan"}):
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
