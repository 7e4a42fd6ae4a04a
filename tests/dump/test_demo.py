import gzip
import io
import itertools
import json
from collections import Counter

import pytest

from sasrec.dump import demo

Dump = list[dict]


def write(num_users: int, seed: int = 0) -> bytes:
    file = io.BytesIO()
    demo.write_dump(file, num_users, num_books=300, seed=seed)
    return file.getvalue()


@pytest.fixture(scope="module")
def dump() -> Dump:
    return [json.loads(line) for line in gzip.decompress(write(num_users=600)).splitlines()]


def by_user(dump: Dump) -> dict[str, Dump]:
    """Each user's reviews in reading order."""
    blocks = {user: list(block)[::-1] for user, block in itertools.groupby(dump, key=lambda review: review["user_id"])}
    assert len(blocks) == 600  # one block a user
    return blocks


def test_the_seed_decides_every_byte() -> None:
    once = write(20)
    assert write(20) == once
    assert write(20, seed=1) != once


def test_lines_have_the_fields_of_the_goodreads_dump(dump: Dump) -> None:
    fields = ["user_id", "timestamp", "review_sentences", "rating", "has_spoiler", "book_id", "review_id"]
    assert all(list(review) == fields for review in dump)
    assert {review["rating"] for review in dump} == set(range(6))


def test_users_list_newest_first_with_same_day_ties_and_rereads(dump: Dump) -> None:
    users = by_user(dump).values()
    days = [[review["timestamp"] for review in user] for user in users]
    assert all(each == sorted(each) for each in days)
    assert sum(a == b for each in days for a, b in itertools.pairwise(each)) > 1000
    assert any(len({review["book_id"] for review in user}) < len(user) for user in users)


def test_some_users_are_below_the_filter_and_most_are_not(dump: Dump) -> None:
    lengths = [len(user) for user in by_user(dump).values()]
    assert 0.2 < sum(length < 10 for length in lengths) / 600 < 0.5


def test_text_has_quotes_backslashes_and_other_alphabets(dump: Dump) -> None:
    text = " ".join(sentence for review in dump for _, sentence in review["review_sentences"])
    assert all(sign in text for sign in ('"', "\\", "ü", "章", "📚"))


def test_the_last_book_says_more_about_the_next_than_popularity_does(dump: Dump) -> None:
    pairs = [(a["book_id"], b["book_id"]) for user in by_user(dump).values() for a, b in itertools.pairwise(user)]
    followers: dict[str, Counter[str]] = {}
    for book, following in pairs:
        followers.setdefault(book, Counter())[following] += 1
    most_popular = Counter(following for _, following in pairs).most_common(1)[0][1]
    assert sum(each.most_common(1)[0][1] for each in followers.values()) / len(pairs) > 0.4
    assert most_popular / len(pairs) < 0.05
