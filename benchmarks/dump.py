"""Writes a dump like Goodreads' spoiler reviews in size and shape: 1.38 M reviews, 25,475 books, 600 MB of gzip."""

import argparse
import functools
import itertools
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np

from sasrec.dump import demo

NUM_USERS = 18_800  # at scale 1; 15,450 of them have 10 reviews or more, as in Goodreads
NUM_BOOKS = 25_475
USERS_PER_CHUNK = 40
SEED = 0


def write(path: Path, scale: float, num_shards: int = 1) -> None:
    """Write the reviews of `scale` x NUM_USERS users; the bytes depend on `scale` and `num_shards` alone.

    `path` is the file, or the folder of shards that concatenate to the file.
    """
    num_chunks = -(-round(NUM_USERS * scale) // USERS_PER_CHUNK)
    bounds = [num_chunks * number // num_shards for number in range(num_shards + 1)]
    files = [path] if num_shards == 1 else [path / f"{number:05}.json.gz" for number in range(1, num_shards + 1)]
    with ProcessPoolExecutor() as pool:
        for destination, (first, end) in zip(files, itertools.pairwise(bounds), strict=True):
            destination.parent.mkdir(parents=True, exist_ok=True)
            partial = destination.with_name(destination.name + ".partial")
            with partial.open("wb") as file:
                for start in range(first, end, 64):  # a bounded number in flight: memory stays flat
                    file.writelines(pool.map(_chunk, range(start, min(start + 64, end))))
            partial.replace(destination)


def _chunk(number: int) -> bytes:
    """Return one gzip member: the reviews of USERS_PER_CHUNK users, from a random stream of their own."""
    catalogue, texts = _catalogue_and_texts()
    rng = np.random.default_rng([SEED, 1, number])
    users = (demo.reviews_of_user(catalogue, texts, _draw_number(rng), rng) for _ in range(USERS_PER_CHUNK))
    return demo.compress(list(itertools.chain.from_iterable(users)))


def _draw_number(rng: np.random.Generator) -> int:
    """Return a user's number of reviews: below 10 for 18 % of users, else with a mean of 88 and a long tail."""
    if rng.integers(100) < 18:
        return int(rng.integers(1, 10))
    return 10 + int(np.prod(rng.integers(0, 1_000, size=3)) * 628 // 1_000**3)


@functools.cache
def _catalogue_and_texts() -> tuple[demo.Catalogue, list[str]]:
    """Return the books and a pool of texts that compress like English, 2.6 fold."""
    rng = np.random.default_rng([SEED, 0])
    catalogue = demo.make_catalogue(NUM_BOOKS, rng)
    words = ["".join(rng.choice(demo.SYLLABLES, size=length)) for length in rng.integers(1, 5, size=6_000)]
    texts = []
    for length in rng.integers(10, 124, size=20_000):
        # Squaring makes the first words common, as in a language.
        drawn = (rng.integers(0, 6_000, size=length) ** 2 // 6_000).tolist()
        texts.append(" ".join([words[i] for i in drawn]).capitalize() + ".")
    return catalogue, texts


def main() -> None:
    """Write the dump of the command line's size."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("path", type=Path)
    parser.add_argument("--scale", type=float, default=1.0, help="0.1 to 10; 1 is Goodreads' size")
    parser.add_argument(
        "--shards", type=int, default=1, help="with more than one, the path is a folder of so many files"
    )
    arguments = parser.parse_args()
    if not 0.1 <= arguments.scale <= 10:
        parser.error(f"argument --scale: {arguments.scale} is not between 0.1 and 10")
    write(arguments.path, arguments.scale, arguments.shards)


if __name__ == "__main__":
    main()
