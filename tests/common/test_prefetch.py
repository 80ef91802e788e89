"""Items made in a thread: the same, in order, with their errors, and no thread left behind."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from Code.common.progress import prefetched


def numbers(count: int, made: list[int], error: Exception | None = None) -> Iterator[int]:
    for number in range(count):
        made.append(number)
        yield number
    if error:
        raise error


def test_items_come_in_order_and_no_more_than_the_room_is_made_ahead() -> None:
    made: list[int] = []
    items = prefetched(numbers(50, made), size=3)
    for expected in range(50):
        assert next(items) == expected
        assert len(made) <= expected + 5  # the queue, one that waits for it, one that was taken
    assert next(items, None) is None


def test_an_error_comes_where_it_would_have_come() -> None:
    items = prefetched(numbers(2, [], ValueError("broken")), size=5)
    assert [next(items), next(items)] == [0, 1]
    with pytest.raises(ValueError, match="broken"):
        next(items)


def test_a_consumer_that_stops_early_leaves_no_thread() -> None:
    before = threading.active_count()
    items = prefetched(numbers(1000, []), size=2)
    assert next(items) == 0
    assert threading.active_count() == before + 1
    items.close()
    assert threading.active_count() == before
