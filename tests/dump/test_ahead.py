"""The next item is made while this one is used, and nothing else differs from going through the items."""

import threading
from collections.abc import Iterator

import pytest

from sasrec.dump.ahead import ahead


def test_items_come_in_order() -> None:
    assert list(ahead(iter(range(1, 100)))) == list(range(1, 100))
    assert list(ahead(iter(()))) == []


def test_the_next_item_is_made_while_this_one_is_used() -> None:
    is_made = threading.Event()

    def items() -> Iterator[int]:
        yield 1
        is_made.set()
        yield 2

    for item in ahead(items()):
        assert item == 2 or is_made.wait(timeout=60)


def test_an_error_comes_after_the_items_before_it() -> None:
    def items() -> Iterator[int]:
        yield 1
        raise OSError("the file is gone")

    found = ahead(items())
    assert next(found) == 1
    with pytest.raises(OSError, match="the file is gone"):
        next(found)


def test_nothing_takes_items_after_it_is_closed() -> None:
    rest = iter(range(1, 100))
    found = ahead(rest)
    next(found)
    found.close()
    taken = 99 - len(list(rest))
    assert taken == 2  # the one that was used, and the one that was made meanwhile
