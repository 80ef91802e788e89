"""The doctor's report as a table for people, and as plain values for programs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from Code.data.check import Report
from Code.data.findings import BOTH
from Code.data.lists import printable

_SHOWN = 5


def as_table(report: Report) -> str:
    """The report in lines of text: classes, every check with its counts, the findings, the sum."""
    splits = list(report.classes)
    head = ["class", *(f"{split} {column}" for split in splits for column in ("clips", "frames", "length"))]
    rows = [head]
    for index, label in enumerate(report.labels):
        row = [f"{index} {printable(label)}"]
        for split in splits:
            part = report.classes[split][index]
            length = f"{part.shortest} - {part.median:g} - {part.longest}" if part.clips else "-"
            row += [_number(part.clips), _number(part.frames), length]
        rows.append(row)
    total = ["all"]
    for split in splits:
        parts = report.classes[split]
        total += [_number(sum(part.clips for part in parts)), _number(sum(part.frames for part in parts)), ""]
    rows.append(total)

    columns = [*splits, BOTH]
    found = [["looked for", *columns, ""]]
    for check in report.checks:
        cells = [_number(check.counts[column]) if column in check.counts else "" for column in columns]
        found.append([check.name, *cells, check.level if check.found else ""])

    lines = [*_aligned(rows), "(length: frames of the shortest, the median and the longest clip)", "", *_aligned(found)]
    for level in ("error", "warning", "note"):
        for check in report.found(level):
            lines += ["", f"{level}: {check.name}: {_number(check.found)}"]
            lines += [f"  {item}" for item in check.items[:_SHOWN]]
            if len(check.items) > _SHOWN:
                lines.append(f"  and {len(check.items) - _SHOWN} more; --json names them all")
    if report.advice:
        lines += ["", *report.advice]
    return "\n".join([*lines, "", conclusion(report)])


def conclusion(report: Report) -> str:
    """The last line: how it stands, and how thoroughly that is known."""
    errors, warnings = len(report.found("error")), len(report.found("warning"))
    verdict = {0: "clean", 1: f"usable, {warnings} kinds of warnings", 2: f"not usable, {errors} kinds of errors"}
    how = "decoded" if report.decoded else "opened, not decoded"
    speed = f", {report.frames / report.seconds:.0f} frames/s" if report.seconds > 1 else ""
    return f"{verdict[report.status]}; {_number(report.frames)} frames {how} in {report.seconds:.0f} s{speed}"


def as_json(report: Report) -> dict[str, Any]:
    """Everything in the report as plain values; each check with all of its items."""
    return {
        "status": report.status,
        "labels": list(report.labels),
        "classes": {
            split: [{"label": label, **vars(row)} for label, row in zip(report.labels, rows, strict=True)]
            for split, rows in report.classes.items()
        },
        "checks": [
            {
                "name": check.name,
                "level": check.level,
                "found": check.found,
                "counts": check.counts,
                "items": check.items,
            }
            for check in report.checks
        ],
        "advice": report.advice,
        "decoded": report.decoded,
        "frames": report.frames,
        "seconds": round(report.seconds, 3),
    }


def _number(value: int) -> str:
    return f"{value:,}".replace(",", " ")


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Columns side by side, the first one to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for first, *others in rows:
        cells = [cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True)]
        lines.append("  ".join([first.ljust(widths[0]), *cells]).rstrip())
    return lines
