"""Serves a page to try the model, and its JSON interface."""

import argparse
import ipaddress
import json
import signal
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from sasrec.commands import options
from sasrec.core import errors, interrupts, visible

if TYPE_CHECKING:
    from sasrec.serving.recommender import Recommender
    from sasrec.serving.web.app import Run
    from sasrec.serving.web.readers import Readers

# What the pipeline wrote beside the model, to show how it ranks the held-out users.
MODEL = Path("models/sasrec")
METRICS = Path("metrics/eval.json")
USERS = Path("data/processed/users.parquet")
BOOKS = Path("data/processed/books.parquet")
TRAIN = Path("data/split/train.safetensors")
EVALUATION = Path("data/split/evaluation.safetensors")
RANKS = Path("data/evaluation/ranks.parquet")
PORTS = range(1 << 16)
LOOPBACK = ["127.0.0.1", "localhost", "[::1]"]  # as a browser names it
GRACE_SECONDS = 2  # for the requests under way when the server ends


def parse(words: Sequence[str]) -> argparse.Namespace:
    """Return the arguments; print the usage and exit with status 2 if they are invalid."""
    parser = argparse.ArgumentParser(
        prog="sasrec serve",
        description="Serves a page to try the model, and its JSON interface, until Ctrl-C.",
    )
    options.add_model(parser)
    options.add_titles(parser)
    parser.add_argument("--host", default="127.0.0.1", help="the address to listen on (127.0.0.1: this machine alone)")
    parser.add_argument("--port", type=int, default=8000, help="the port (8000); 0 takes a free one")
    parser.set_defaults(k=1)  # which `options.load` checks
    asked = parser.parse_args(words)
    if asked.port not in PORTS:
        parser.error(f"--port is {asked.port}; choose one of 0 to {PORTS[-1]}")
    return asked


def main(words: Sequence[str]) -> None:
    """Serve until Ctrl-C or SIGTERM; raise UserError if the model or the address cannot be used."""
    asked = parse(words)

    import uvicorn

    from sasrec.serving.web import app

    with listen(asked.host, asked.port) as listener:
        recommender = options.load(asked)
        one_thread()
        served = app.create(recommender, read_run(asked.model, recommender), hosts(listener))
        config = uvicorn.Config(served, access_log=False, log_level="warning", timeout_graceful_shutdown=GRACE_SECONDS)
        print(f"{address(listener)}: model {recommender.model.version}; Ctrl-C ends it", flush=True)
        for number in interrupts.SIGNALS:
            signal.signal(number, signal.SIG_IGN)  # uvicorn ends at these signals, and then raises them again
        uvicorn.Server(config).run(sockets=[listener])


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens; raise UserError if the address is unknown or taken."""
    try:
        family = socket.getaddrinfo(host, port)[0][0]
        listener = socket.create_server((host, port), family=family, backlog=2048)
    except OSError as error:
        reason = str(error.strerror or error).partition(" (")[0]  # without the address, which Python repeats
        raise errors.UserError(
            f"--host {host} --port {port}: {reason}; choose another, or port 0, which takes a free one"
        ) from None
    # Else an answer waits 40 ms for an acknowledgement: asyncio sets this on sockets with an explicit protocol alone.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


def hosts(listener: socket.socket) -> list[str]:
    """Return the names of this machine that requests may use; print a warning where other machines may ask."""
    name = listener.getsockname()[0]
    if ipaddress.ip_address(name).is_loopback:
        return LOOPBACK
    print(
        f"warning: listening on {name}: whoever reaches this machine sees the page and the held-out users, without a "
        "password and without encryption; leave --host out to serve this machine alone",
        file=sys.stderr,
    )
    return ["*"]


def address(listener: socket.socket) -> str:
    """Return the address for a browser on this machine."""
    host, port = listener.getsockname()[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}/"


def one_thread() -> None:
    """Make torch compute in one thread: a request is too small to divide."""
    import torch

    torch.set_num_threads(1)


def read_run(model: Path, recommender: "Recommender") -> "Run":
    """Return the model's card and, for the pipeline's own model, its metrics and held-out users if they are here."""
    from sasrec.serving import model_folder
    from sasrec.serving.web.app import Run

    folder = model_folder.find(model)
    card = folder / model_folder.CARD
    text = card.read_text(encoding="utf-8", errors="replace") if card.is_file() else ""
    if folder.resolve() != MODEL.resolve():
        return Run(text)
    try:
        metrics = json.loads(METRICS.read_bytes()) if METRICS.is_file() else None
        return Run(text, metrics, read_readers(recommender))
    except (errors.UserError, ValueError) as error:
        print(visible.text(f"the page does not show the pipeline's run: {error}"), file=sys.stderr)
        return Run(text)


def read_readers(recommender: "Recommender") -> "Readers":
    """Return the held-out users, with the ranks of their true books.

    Raises:
        UserError: a file is missing or damaged, or the files are not of one run.

    """
    from sasrec.evaluation import rank_table
    from sasrec.serving import vocabulary
    from sasrec.serving.vocabulary import Vocabulary
    from sasrec.serving.web.readers import Readers
    from sasrec.split import datasets

    errors.require(USERS, BOOKS, TRAIN, EVALUATION, RANKS)
    train = datasets.load_training_set(TRAIN)
    held_out, table = datasets.load_held_out(EVALUATION, train), rank_table.read(RANKS)
    users = vocabulary.users(USERS, train.num_users).ids_of(held_out.users)
    if not (users.equals(table.user_ids) and vocabulary.books(BOOKS).ids.equals(recommender.model.books.ids)):
        raise errors.UserError(f"{RANKS}: is not of the model's run; run `dvc repro`, which makes both")
    return Readers(Vocabulary(users, first=0), held_out.histories, held_out.true_books, table.ranks)
