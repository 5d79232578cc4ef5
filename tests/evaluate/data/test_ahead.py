"""Work a step ahead: the same items in the same order, errors where they belong, and never more than one in advance."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from an8flower.evaluate.data.ahead import make_ahead


def recorded(made: list[int], count: int) -> Iterator[int]:
    for number in range(count):
        made.append(number)
        yield number


@pytest.mark.parametrize("count", [0, 1, 5])
def test_items_come_in_their_order_and_one_at_most_is_made_ahead(count: int) -> None:
    made: list[int] = []
    for taken, item in enumerate(make_ahead(recorded(made, count))):
        assert item == taken
        assert len(made) <= item + 2
    assert made == list(range(count))


def test_the_next_item_is_made_while_this_one_is_used() -> None:
    begun = threading.Event()

    def items() -> Iterator[int]:
        yield 0
        begun.set()
        yield 1

    first = next(ahead := make_ahead(items()))
    assert first == 0
    assert begun.wait(10)  # nobody has asked for the second one yet
    assert list(ahead) == [1]


def test_an_error_is_raised_where_its_item_would_have_come() -> None:
    def items() -> Iterator[int]:
        yield 0
        raise ValueError("no second scene")

    ahead = make_ahead(items())
    assert next(ahead) == 0
    with pytest.raises(ValueError, match="no second scene"):
        next(ahead)


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_who_stops_leaves_no_thread_and_no_further_item(error: type[BaseException]) -> None:
    made: list[int] = []
    before = threading.active_count()
    with pytest.raises(error):
        for _ in make_ahead(recorded(made, 100)):
            raise error
    assert threading.active_count() == before
    assert len(made) <= 2
