"""Numbers in sentences."""

from __future__ import annotations


def counted(count: int, noun: str, plural: str | None = None) -> str:
    """`1 clip`, `2 clips`, `0 clips`.

    Args:
        plural: the noun's plural, if it is not formed with an s.
    """
    return f"{count} {noun if count == 1 else plural or noun + 's'}"


def percent(share: float | None, digits: int = 2) -> str:
    """0.98765 -> `98.77`; None -> `-`."""
    return "-" if share is None else f"{100 * share:.{digits}f}"
