"""Asks `sasrec serve` for recommendations from many clients at once; prints requests per second and latencies."""

import argparse
import http.client
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pyarrow as pa

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "stages"))
NUM_USERS, MEAN_LENGTH = 15_000, 88  # as in the filtered Goodreads reviews
SKEW = 0.8  # of the popularity of the books: the n-th is read 1 / n ** SKEW times as often as the first
HISTORY_LENGTHS = (5, 100)
HEADERS = {"Content-Type": "application/json"}


def write_model(folder: Path, num_books: int) -> None:
    """Write a model with random weights, and with the transitions of made-up users."""
    import torch

    from sasrec.model.params import SasrecParams
    from sasrec.model.sasrec import HybridWeights, build_model
    from sasrec.serving import model_folder
    from sasrec.serving.vocabulary import Vocabulary
    from sasrec.split import transitions
    from sasrec.split.sequences import Sequences

    rng = np.random.default_rng(0)
    offsets = np.concatenate([[0], np.cumsum(rng.geometric(1 / MEAN_LENGTH, size=NUM_USERS))])
    popularity = 1 / np.arange(1, num_books + 1) ** SKEW
    items = (rng.choice(num_books, size=offsets[-1], p=popularity / popularity.sum()) + 1).astype(np.int32)
    ratings = np.bincount(items, minlength=num_books + 1)
    network = build_model(SasrecParams(50, 50, 1, 2, 0.2, False, 0.02), num_books, torch.Generator().manual_seed(0))
    counted = transitions.count(Sequences(items, offsets), num_books)
    books = Vocabulary(pa.array([str(10**7 + book) for book in range(num_books)]), first=1)
    model = model_folder.Model(network, HybridWeights(0.5), True, books, ratings, ratings, counted)
    model_folder.write(folder, model, "Random weights.\n")


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """Serve the model of a folder at the address that is yielded."""
    program = f"import sys; sys.path.insert(0, {str(ROOT / 'stages')!r}); from sasrec.commands import main; main.main()"
    command = [sys.executable, "-c", program, "serve", "--model", str(folder), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            yield server.stdout.readline().partition(": ")[0]
        finally:
            server.terminate()


def ask(address: str, num_books: int, until: float, seed: int) -> list[float]:
    """Ask for recommendations until a time; return the seconds of each answer, infinite where there was none."""
    rng, connection = np.random.default_rng(seed), http.client.HTTPConnection(urlsplit(address).netloc, timeout=60)
    seconds = []
    while time.monotonic() < until:
        history = rng.integers(num_books, size=rng.integers(*HISTORY_LENGTHS))
        body = json.dumps({"history": [str(10**7 + book) for book in history]})
        started = time.perf_counter()
        try:
            connection.request("POST", "/recommend", body, HEADERS)
            answer = connection.getresponse()
            is_whole = len(json.loads(answer.read()).get("books", [])) == 10
        except (OSError, http.client.HTTPException, ValueError):
            connection.close()
            is_whole = False
        seconds.append(time.perf_counter() - started if is_whole else np.inf)
    return seconds


def measure(address: str, num_books: int, num_clients: int, num_seconds: float) -> str:
    """Return what the clients saw, in words."""
    ask(address, num_books, time.monotonic() + 1, seed=num_clients)  # what the first requests load
    until = time.monotonic() + num_seconds
    with ThreadPoolExecutor(num_clients) as clients:
        each = clients.map(lambda seed: ask(address, num_books, until, seed), range(num_clients))
        seconds = np.concatenate(list(each))
    answered = seconds[np.isfinite(seconds)]
    middle, late = np.quantile(answered, [0.5, 0.99])
    return (
        f"{num_clients} clients: {len(answered) / num_seconds:.0f} requests a second, median {middle * 1e3:.0f} ms, "
        f"99th percentile {late * 1e3:.0f} ms, {len(seconds) - len(answered)} errors"
    )


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--books", type=int, default=25_000, help="of the model (%(default)s)")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 50], help="at a time (1 and then 50)")
    parser.add_argument("--seconds", type=float, default=20, help="of each (%(default)s)")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        write_model(Path(folder), asked.books)
        with served(Path(folder)) as address:
            for num_clients in asked.clients:
                print(measure(address, asked.books, num_clients, asked.seconds), flush=True)


if __name__ == "__main__":
    main()
