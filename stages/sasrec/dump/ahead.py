"""Makes the next item while the one before it is used, so that reading and converting take a core each."""

from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")


def ahead(items: Iterator[Item]) -> Generator[Item, None, None]:
    """Yield `items`, none of which is None; a thread takes the next one meanwhile.

    What `items` raises is raised here, after the items before it. Close this before the file that `items` reads.
    """
    with ThreadPoolExecutor(1, "ahead") as thread:
        upcoming = thread.submit(next, items, None)
        while (item := upcoming.result()) is not None:
            upcoming = thread.submit(next, items, None)
            yield item
