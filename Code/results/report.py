"""The report of a run: one page that holds everything, needs no network and no script, and opens from disk.

    python -m Code.results.report model/<run>

It is made of the files of the run's folder alone and can be made again at any time. Whatever is missing there
(an evaluation has no log, a backbone's training no attention) is left out of the page.
"""

from __future__ import annotations

import argparse
import base64
import csv
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, UndefinedError
from matplotlib.figure import Figure

from Code.results.figures import curves_figure, figure_bytes

TEMPLATES = Path(__file__).parent / "templates"
FILES = ("args.json", "log.jsonl", "results.json", "predictions.csv", "attention.csv")


class ReportError(ValueError):
    """A run's folder that no report can be made of; the text names the file and line."""


@dataclass
class FrameWeights:
    """What the network made of one clip's frames: names, alpha and weight, each [T]."""

    frames: list[str] = field(default_factory=list)
    alpha: list[float] = field(default_factory=list)
    weight: list[float] = field(default_factory=list)

    @property
    def shares(self) -> list[float]:
        """Weights as a share of the clip's highest one."""
        highest = max(self.weight)
        return [value / highest if highest > 0 else 0.0 for value in self.weight]

    @property
    def peak(self) -> str:
        """The highest weighted frame's name."""
        return self.frames[max(range(len(self.frames)), key=self.weight.__getitem__)]


@dataclass
class ClipRow:
    """One clip of the list: what it is, what the network says and how surely (probabilities in [0, 1])."""

    name: str
    label: str
    prediction: str
    certainty: float
    of_label: float
    weights: FrameWeights | None

    @property
    def right(self) -> bool:
        return self.label == self.prediction


def write_report(run_dir: Path) -> Path:
    """Writes `report.html` of a run into its folder.

    Args:
        run_dir: a run's folder, with any of `FILES` in it.

    Returns:
        The path of the report.

    Raises:
        ReportError: no such folder, none of these files in it, or one of them unreadable.
    """
    run_dir = Path(run_dir)
    if not run_dir.is_dir():
        raise ReportError(f"{run_dir}: no such folder; name a run's folder, for example model/<date-time>_...")
    missing = [name for name in FILES if not (run_dir / name).is_file()]
    if len(missing) == len(FILES):
        raise ReportError(f"{run_dir}: not a run's folder, it has none of {', '.join(FILES)}")

    log = _read_log(run_dir / "log.jsonl")
    results = _read_json(run_dir / "results.json")
    clips = _read_clips(run_dir)
    try:
        page = _environment().get_template("report.html.j2").render(
            name=run_dir.resolve().name,
            missing=missing,
            about=_read_json(run_dir / "args.json"),
            log=log,
            curves=_inline(curves_figure(log)) if log else None,
            results=[(which, results[which]) for which in ("best", "last") if which in results],
            classes=_class_rows(results),
            labels=results.get("labels", []),
            clips=clips,
            wrong=sum(not clip.right for clip in clips),
        )  # fmt: skip
    except (KeyError, UndefinedError) as error:
        raise ReportError(
            f"{run_dir}: results.json or log.jsonl lacks {error}; was it written by this project?"
        ) from error
    path = run_dir / "report.html"
    path.write_text(page, encoding="utf-8")
    return path


def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["percent"] = lambda share, digits=1: "-" if share is None else f"{100 * share:.{digits}f}"
    environment.filters["plain"] = lambda value: (
        value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    )
    environment.filters["bars"] = bars_path
    return environment


def bars_path(values: Sequence[float]) -> str:
    """Bars as the data of one SVG path, for a viewBox of `0 0 T 100`; values outside [0, 1] are cut off.

    One path per clip instead of an element per frame keeps the page of a large dataset small enough to open.
    """
    heights = ((at, round(100 * min(max(value, 0.0), 1.0))) for at, value in enumerate(values))
    return "".join(f"M{at} 100v-{height}h.85v{height}z" for at, height in heights if height)


def _inline(figure: Figure) -> str:
    """A figure as a data URI: nothing to fetch, and nothing in it can reach the page around it."""
    return "data:image/svg+xml;base64," + base64.b64encode(figure_bytes(figure, "svg")).decode("ascii")


def _class_rows(results: dict[str, Any]) -> list[dict[str, Any]]:
    """Per class of the shown result: counts, recall, precision and what it is mistaken for most."""
    shown = results.get("best", results.get("last"))
    if shown is None:
        return []
    labels, confusion = results["labels"], shown["confusion"]
    rows = []
    for index, (label, counts) in enumerate(zip(labels, confusion, strict=True)):
        predicted = sum(row[index] for row in confusion)
        others = [(count, labels[at]) for at, count in enumerate(counts) if at != index and count]
        count, mistaken = max(others, key=lambda other: other[0], default=(0, ""))
        rows.append(
            {
                "label": label,
                "counts": counts,
                "clips": sum(counts),
                "right": counts[index],
                "recall": shown["per_class_recall"][index],
                "precision": counts[index] / predicted if predicted else None,
                "mistaken": f"{mistaken} ({count})" if count else "",
            }
        )
    return rows


def _read_json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ReportError(f"{path}: is not JSON ({error}); run the evaluation again to write it anew") from error
    if not isinstance(content, dict):
        raise ReportError(f"{path}: holds a {type(content).__name__}, expected an object")
    return content


def _read_log(path: Path) -> list[dict[str, Any]]:
    if not path.is_file():
        return []
    lines = []
    for number, text in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            lines.append(json.loads(text))
        except ValueError as error:
            raise ReportError(f"{path}:{number}: is not JSON ({error}); remove the line") from error
    return lines


def _read_table(path: Path, header: Sequence[str]) -> Iterator[list[str]]:
    """The header of a CSV file, which has to start with `header`, then its rows, each as wide."""
    if not path.is_file():
        return
    with path.open(newline="", encoding="utf-8") as file:
        rows = csv.reader(file)
        columns = next(rows, [])
        if columns[: len(header)] != list(header):
            raise ReportError(f"{path}:1: the columns are {','.join(columns)!r}, expected {','.join(header)!r}")
        yield columns
        for row in rows:
            if len(row) != len(columns):
                raise ReportError(f"{path}:{rows.line_num}: {len(row)} values, expected {len(columns)}")
            yield row


def _read_clips(run_dir: Path) -> list[ClipRow]:
    """The clips of predictions.csv: wrong ones from the surest, then right ones from the least sure."""
    weights: dict[str, FrameWeights] = {}
    path = run_dir / "attention.csv"
    table = _read_table(path, ("clip", "frame", "alpha", "beta", "weight"))
    next(table, None)
    for clip, frame, alpha, _, weight in table:
        of_clip = weights.setdefault(clip, FrameWeights())
        of_clip.frames.append(frame)
        of_clip.alpha.append(_number(alpha, path, clip))
        of_clip.weight.append(_number(weight, path, clip))

    path = run_dir / "predictions.csv"
    table = _read_table(path, ("clip", "label", "prediction"))
    # By position, not by name: a class may well be called "label".
    classes = next(table, [])[3:]
    clips = []
    for name, label, prediction, *values in table:
        unknown = {label, prediction} - set(classes)
        if unknown:
            raise ReportError(f"{path}: clip {name!r}: no column for class {unknown.pop()!r}")
        probabilities = dict(zip(classes, (_number(value, path, name) for value in values), strict=True))
        sure, of_label = probabilities[prediction], probabilities[label]
        clips.append(ClipRow(name, label, prediction, sure, of_label, weights.get(name)))
    return sorted(clips, key=lambda clip: (clip.right, clip.certainty if clip.right else -clip.certainty, clip.name))


def _number(text: str, path: Path, clip: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ReportError(f"{path}: clip {clip!r}: {text!r} is not a number") from None


def main(argv: Sequence[str] | None = None) -> int:
    """Write report.html of a run anew, from the files in the run's folder."""
    parser = argparse.ArgumentParser(prog="python -m Code.results.report", description=main.__doc__)
    parser.add_argument("run", type=Path, metavar="RUN", help="folder of the run, for example model/<date-time>_...")
    try:
        print(write_report(parser.parse_args(argv).run))
    except ReportError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
