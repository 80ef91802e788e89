"""Progress without a terminal; and items made in a thread: the same, in order, with their errors."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from Code.common import progress
from Code.common.progress import prefetched


def test_progress_without_a_terminal_is_a_line_now_and_then(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "LINE_SECONDS", 0.0)
    with progress.Progress("drawing", 4, unit="clips") as bar:
        bar(2)
        bar.say("skipped: a clip")
    first, second = capsys.readouterr().err.splitlines()
    assert first.startswith("drawing: 2 of 4 clips, ") and second == "skipped: a clip"
    with progress.Progress("drawing", 4, show=False) as bar:
        bar(2)
    assert capsys.readouterr().err == ""


def numbers(count: int, made: list[int]) -> Iterator[int]:
    for number in range(count):
        made.append(number)
        yield number
    raise ValueError("broken")


def test_items_come_in_order_and_few_are_made_ahead_until_an_error() -> None:
    made: list[int] = []
    items = prefetched(numbers(50, made), size=3)
    for expected in range(50):
        assert next(items) == expected
        assert len(made) <= expected + 5  # the queue, one that waits for it, one that was taken
    with pytest.raises(ValueError, match="broken"):
        next(items)


def test_a_consumer_that_stops_early_leaves_no_thread() -> None:
    before = threading.active_count()
    items = prefetched(numbers(1000, []), size=2)
    assert next(items) == 0
    assert threading.active_count() == before + 1
    items.close()
    assert threading.active_count() == before
