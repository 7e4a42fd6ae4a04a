"""Downloads against a local server that misbehaves as Drive and mirrors do."""

import gzip
import hashlib
import random
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

import fetch
from sasrec import download
from sasrec.errors import UserError

DUMP = gzip.compress(random.Random(0).randbytes(3_000_000), mtime=0)
QUOTA_PAGE = b"<html><title>Google Drive - Quota exceeded</title></html>"
Answer = Callable[[BaseHTTPRequestHandler], None]


def send(handler: BaseHTTPRequestHandler, body: bytes, status: int = 200, **headers: str) -> None:
    handler.send_response(status)
    for name, value in {"Content_Length": str(len(body)), **headers}.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.end_headers()
    handler.wfile.write(body)


def whole(handler: BaseHTTPRequestHandler) -> None:
    start = handler.headers.get("Range", "").removeprefix("bytes=").removesuffix("-")
    if not start:
        return send(handler, DUMP)
    place = f"bytes {start}-{len(DUMP) - 1}/{len(DUMP)}"
    return send(handler, DUMP[int(start) :], status=206, Content_Range=place)


def quota(handler: BaseHTTPRequestHandler) -> None:
    send(handler, QUOTA_PAGE, Content_Type="text/html")


def gone(handler: BaseHTTPRequestHandler) -> None:
    send(handler, b"", status=404)


def dropped(handler: BaseHTTPRequestHandler) -> None:
    send(handler, DUMP[: len(DUMP) // 2], Content_Length=str(len(DUMP)))


@pytest.fixture
def serve() -> Iterator[Callable[..., tuple[str, list[str]]]]:
    """Serve a list of answers for every path, the last one again and again; return the address and the log."""
    servers = []

    def start(**answers: list[Answer]) -> tuple[str, list[str]]:
        log: list[str] = []

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                name = self.path.strip("/").partition("?")[0]
                log.append(f"{name} {self.headers.get('Range', 'all')}")
                queue = answers[name]
                (queue.pop(0) if len(queue) > 1 else queue[0])(self)

            def log_message(self, *_: object) -> None:
                pass

        servers.append(ThreadingHTTPServer(("127.0.0.1", 0), Handler))
        threading.Thread(target=servers[-1].serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{servers[-1].server_port}", log

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data/raw").mkdir(parents=True)
    return tmp_path


def params(**changes: object) -> fetch.FetchParams:
    defaults = {
        "source": "demo",
        "file": None,
        "gdrive_id": "ID",
        "mirror_url": "",
        "sha256": None,
        "demo_users": 5,
        "demo_seed": 0,
    }
    return fetch.FetchParams(**{**defaults, **changes})


def test_a_quota_page_with_status_200_sends_us_to_the_mirror(
    folder: Path, serve: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    address, log = serve(uc=[quota], mirror=[whole])
    monkeypatch.setattr(download, "DRIVE_URL", address + "/uc?id={}")
    fetch.fetch(params(source="goodreads", mirror_url=f"{address}/mirror"), fetch.RAW)
    assert (folder / fetch.RAW).read_bytes() == DUMP
    assert log == ["uc all", "mirror all"]
    assert [path.name for path in (folder / "data/raw").iterdir()] == ["reviews.json.gz"]


def test_a_dropped_download_goes_on_where_it_stopped(folder: Path, serve: Callable) -> None:
    address, log = serve(dump=[dropped, whole])
    download.download([f"{address}/dump"], folder / "dump.json.gz")
    assert (folder / "dump.json.gz").read_bytes() == DUMP
    assert [entry.split("=")[0] for entry in log] == ["dump all", "dump bytes"]
    assert int(log[1].strip("-").split("=")[1]) > len(DUMP) // 4


def test_a_download_that_an_earlier_run_began_is_resumed(
    folder: Path, serve: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    address, log = serve(dump=[dropped, whole])
    monkeypatch.setattr(download, "RETRIES", 0)
    with pytest.raises(UserError, match="could not be downloaded"):
        download.download([f"{address}/dump"], folder / "dump.json.gz")
    download.download([f"{address}/dump"], folder / "dump.json.gz")
    assert (folder / "dump.json.gz").read_bytes() == DUMP
    assert log[-1].startswith("dump bytes=")


def test_when_all_fails_the_message_says_how_to_do_it_by_hand(folder: Path, serve: Callable) -> None:
    address, _ = serve(drive=[quota], mirror=[gone])
    with pytest.raises(UserError) as caught:
        download.download([f"{address}/drive", f"{address}/mirror"], folder / "dump.json.gz")
    message = str(caught.value)
    assert f"{address}/drive: sent a page" in message
    assert f"{address}/mirror: 404" in message
    assert "set fetch.source to file and fetch.file to its path" in message
    assert not (folder / "dump.json.gz").exists()


def test_a_file_is_linked_and_not_copied(folder: Path) -> None:
    source = folder / "mine.json.gz"
    source.write_bytes(DUMP)
    fetch.fetch(params(source="file", file=str(source)), fetch.RAW)
    assert fetch.RAW.samefile(source)


def test_a_file_is_copied_where_links_are_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError

    source = folder / "mine.json.gz"
    source.write_bytes(DUMP)
    monkeypatch.setattr(Path, "hardlink_to", refuse)
    fetch.fetch(params(source="file", file=str(source)), fetch.RAW)
    assert fetch.RAW.read_bytes() == DUMP
    assert not fetch.RAW.samefile(source)


def test_other_content_than_the_digest_says_is_refused(folder: Path) -> None:
    path = folder / "dump"
    path.write_bytes(b"some content")
    digest = hashlib.sha256(b"some content").hexdigest()
    assert download.check_sha256(path, None) == download.check_sha256(path, digest.upper()) == digest
    with pytest.raises(UserError, match=f"fetch.sha256 is {'0' * 64}, but the content has {digest}"):
        download.check_sha256(path, "0" * 64)


def test_source_file_without_a_file_is_refused() -> None:
    with pytest.raises(ValueError, match=r"fetch.source is file, but fetch.file is null"):
        params(source="file")
