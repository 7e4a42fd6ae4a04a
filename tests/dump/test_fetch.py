"""Downloads against a local server that misbehaves as Drive and mirrors do."""

import bz2
import gzip
import hashlib
import io
import lzma
import os
import random
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from email.utils import formatdate
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import pyarrow as pa
import pytest
from conftest import ROOT

import fetch
from sasrec.core.errors import UserError
from sasrec.dump import download, fetching
from sasrec.dump.params import FetchParams

DUMP = gzip.compress(random.Random(0).randbytes(3_000_000), mtime=0)
OTHER_DUMP = gzip.compress(random.Random(1).randbytes(3_000_000), mtime=0)
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


def ignores_ranges(handler: BaseHTTPRequestHandler) -> None:
    send(handler, DUMP)


def announces_more(handler: BaseHTTPRequestHandler) -> None:
    if handler.headers.get("Range"):
        send(handler, b"", status=416)
    else:
        send(handler, DUMP, Content_Length=str(len(DUMP) + 1000))


def announces_less(handler: BaseHTTPRequestHandler) -> None:
    send(handler, DUMP, Content_Length=str(len(DUMP) - 1000))


def damaged(handler: BaseHTTPRequestHandler) -> None:
    send(handler, DUMP[:1_000_000] + bytes(100) + DUMP[1_000_100:])


def other_content(handler: BaseHTTPRequestHandler) -> None:
    send(handler, OTHER_DUMP)


def stalls(handler: BaseHTTPRequestHandler) -> None:
    send(handler, DUMP[:100_000], Content_Length=str(len(DUMP)))
    threading.Event().wait(1.0)


def redirects(to: str) -> Answer:
    return lambda handler: send(handler, b"", status=302, Location=to)


def busy(status: int, retry_after: str | None = None) -> Answer:
    headers = {} if retry_after is None else {"Retry_After": retry_after}
    return lambda handler: send(handler, b"", status, **headers)


def sleep_as(monkeypatch: pytest.MonkeyPatch, sleep: Callable[[float], None]) -> None:
    """Let the downloads, but nobody else's threads, sleep like this."""
    monkeypatch.setattr(download, "time", SimpleNamespace(sleep=sleep))


def busy_for_a_minute(handler: BaseHTTPRequestHandler) -> None:
    send(handler, b"", status=429, Retry_After=formatdate(time.time() + 60, usegmt=True))


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
        threading.Thread(target=servers[-1].serve_forever, args=(0.01,), daemon=True).start()
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


def params(**changes: object) -> FetchParams:
    defaults = {
        "source": "demo",
        "file": None,
        "gdrive_id": "ID",
        "mirror_url": "",
        "sha256": None,
        "demo_users": 5,
        "demo_seed": 0,
    }
    return FetchParams(**{**defaults, **changes})


def test_a_quota_page_with_status_200_sends_us_to_the_mirror(
    folder: Path, serve: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    address, log = serve(uc=[quota], mirror=[whole])
    monkeypatch.setattr(download, "DRIVE_URL", address + "/uc?id={}")
    fetching.fetch(
        params(source="goodreads", mirror_url=f"{address}/mirror"), fetch.RAW, fetch.UNFINISHED, fetching.copy
    )
    assert (folder / fetch.RAW).read_bytes() == DUMP
    assert log == ["uc all", "mirror all"]
    assert [path.name for path in (folder / "data/raw").iterdir()] == ["reviews.json.gz"]


def test_a_dropped_download_goes_on_where_it_stopped(folder: Path, serve: Callable) -> None:
    address, log = serve(dump=[dropped, whole])
    download.download([f"{address}/dump"], folder / "dump.json.gz", folder / "unfinished")
    assert (folder / "dump.json.gz").read_bytes() == DUMP
    assert [entry.split("=")[0] for entry in log] == ["dump all", "dump bytes"]
    assert int(log[1].strip("-").split("=")[1]) > len(DUMP) // 4


def test_the_password_of_a_mirror_comes_from_netrc(
    folder: Path, serve: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    def of_a_user(handler: BaseHTTPRequestHandler) -> None:
        given = handler.headers.get("Authorization")
        (whole if given == "Basic dXNlcjpwYXNzd29yZA==" else gone)(handler)

    address, _log = serve(dump=[of_a_user])
    (folder / "netrc").write_text("machine 127.0.0.1 login user password password\n")
    monkeypatch.setenv("NETRC", str(folder / "netrc"))
    download.download([f"{address}/dump"], folder / "dump.json.gz", folder / "unfinished")
    assert (folder / "dump.json.gz").read_bytes() == DUMP


def test_the_header_of_a_dump_at_a_url_comes_from_the_environment(folder: Path, serve: Callable) -> None:
    def of_a_user(handler: BaseHTTPRequestHandler) -> None:
        is_known = handler.headers.get("Authorization") == "Bearer abc"
        send(handler, small, Accept_Ranges="none") if is_known else gone(handler)

    address, _log = serve(dump=[of_a_user])
    ask = "import pathlib, sys; from sasrec.io import storage; storage.copy(sys.argv[1], pathlib.Path('dump.json.gz'))"
    small = DUMP[:1000]
    given = {"PYTHONPATH": str(ROOT / "stages"), "FSSPEC_HTTP": '{"headers": {"Authorization": "Bearer abc"}}'}
    subprocess.run([sys.executable, "-c", ask, f"{address}/dump"], cwd=folder, env=os.environ | given, check=True)
    assert (folder / "dump.json.gz").read_bytes() == small


def test_a_download_that_an_earlier_run_began_is_resumed(
    folder: Path, serve: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    address, log = serve(dump=[dropped, whole])
    monkeypatch.setattr(download, "RETRIES", 0)
    with pytest.raises(UserError, match="could not be downloaded"):
        download.download([f"{address}/dump"], folder / "dump.json.gz", folder / "unfinished")
    download.download([f"{address}/dump"], folder / "dump.json.gz", folder / "unfinished")
    assert (folder / "dump.json.gz").read_bytes() == DUMP
    assert log[-1].startswith("dump bytes=")


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (quota, "sent a page"),
        (gone, "404"),
        (damaged, "damaged or incomplete"),
        (announces_less, "damaged or incomplete"),
        (announces_more, "did not honor the requested byte range"),
        (other_content, "correct the key, set it to null, or get the right file"),
        (stalls, "timed out"),
        (redirects("file:///etc/hostname"), "No connection adapters"),
        (redirects("ftp://127.0.0.1/dump"), "No connection adapters"),
        (busy(503), "503"),
    ],
)
def test_what_is_not_the_dump_never_gets_its_name_and_is_in_nobodys_way(
    folder: Path, serve: Callable, monkeypatch: pytest.MonkeyPatch, bad: Answer, reason: str
) -> None:
    monkeypatch.setattr(download, "RETRIES", 1 if bad == stalls else 3)
    if bad == stalls:  # the others answer, if late on a busy machine
        monkeypatch.setattr(download, "TIMEOUT_SECONDS", 0.3)
    sleep_as(monkeypatch, lambda _: None)
    answers = [bad]
    address, _ = serve(dump=answers, mirror=[whole])
    there, unfinished = folder / "dump.json.gz", folder / "unfinished"
    digest = hashlib.sha256(DUMP).hexdigest()
    with pytest.raises(UserError, match=reason):
        download.download([f"{address}/dump"], there, unfinished, digest)
    monkeypatch.setattr(download, "TIMEOUT_SECONDS", 60.0)
    assert not there.exists()
    download.download([f"{address}/dump", f"{address}/mirror"], there, unfinished, digest)
    assert there.read_bytes() == DUMP
    there.unlink()
    answers[:] = [whole]
    download.download([f"{address}/dump"], there, unfinished, digest)
    assert there.read_bytes() == DUMP
    assert [path.name for path in folder.iterdir() if path.name != "data"] == ["dump.json.gz"]


def test_a_server_that_ignores_ranges_is_asked_for_everything(
    folder: Path, serve: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    sleep_as(monkeypatch, lambda _: None)
    address, log = serve(dump=[dropped, ignores_ranges])
    download.download([f"{address}/dump"], folder / "dump.json.gz", folder / "unfinished")
    assert (folder / "dump.json.gz").read_bytes() == DUMP
    assert log[-1] == "dump all"
    assert len(log) == 5  # all, the rest; all, the rest: it cannot; all


def test_bytes_of_two_addresses_are_never_put_together(
    folder: Path, serve: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "RETRIES", 0)
    address, log = serve(drive=[dropped], mirror=[other_content])
    download.download([f"{address}/drive", f"{address}/mirror"], folder / "dump.json.gz", folder / "unfinished")
    assert (folder / "dump.json.gz").read_bytes() == OTHER_DUMP
    assert log == ["drive all", "mirror all"]


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        ([busy(503, "7"), busy(429, "3")], [7, 3]),
        ([busy_for_a_minute], [pytest.approx(60, abs=10)]),
        ([busy(503), busy(503), busy(429)], [1, 2, 4]),
        ([busy(503, "soon"), busy(503, "-1")], [1, 2]),
    ],
)
def test_a_busy_server_is_given_the_time_it_asks_for(
    folder: Path,
    serve: Callable,
    monkeypatch: pytest.MonkeyPatch,
    answers: list[Answer],
    expected: list[object],
) -> None:
    waited: list[float] = []
    sleep_as(monkeypatch, waited.append)
    address, log = serve(dump=[*answers, whole])
    download.download([f"{address}/dump"], folder / "dump.json.gz", folder / "unfinished")
    assert (folder / "dump.json.gz").read_bytes() == DUMP
    assert waited == expected
    assert log == ["dump all"] * (len(answers) + 1)


def test_a_server_that_is_busy_for_long_is_left_for_the_next(
    folder: Path, serve: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    sleep_as(monkeypatch, lambda _: pytest.fail("it waits"))
    address, log = serve(dump=[busy(503, "86400")], mirror=[whole])
    download.download([f"{address}/dump", f"{address}/mirror"], folder / "dump.json.gz", folder / "unfinished")
    assert log == ["dump all", "mirror all"]


def test_a_server_that_is_busy_while_resuming_costs_no_byte(
    folder: Path, serve: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    sleep_as(monkeypatch, lambda _: None)
    address, log = serve(dump=[dropped, busy(503), busy(503), whole])
    download.download([f"{address}/dump"], folder / "dump.json.gz", folder / "unfinished")
    assert (folder / "dump.json.gz").read_bytes() == DUMP
    assert log[-1].startswith("dump bytes=1")


def test_when_all_fails_the_message_says_how_to_do_it_by_hand(folder: Path, serve: Callable) -> None:
    address, _ = serve(drive=[quota], mirror=[gone])
    with pytest.raises(UserError) as caught:
        download.download([f"{address}/drive", f"{address}/mirror"], folder / "dump.json.gz", folder / "unfinished")
    message = str(caught.value)
    assert f"{address}/drive: sent a page" in message
    assert f"{address}/mirror: 404" in message
    assert "set fetch.source to file and fetch.file to its path" in message
    assert not (folder / "dump.json.gz").exists()


def test_what_is_nobodys_download_stays_where_the_downloads_are(folder: Path, serve: Callable) -> None:
    address, _ = serve(dump=[whole])
    (folder / "unfinished").mkdir()
    (folder / "unfinished/notes.txt").write_text("somebody's")
    download.download([f"{address}/dump"], folder / "dump.json.gz", folder / "unfinished")
    assert [path.name for path in (folder / "unfinished").iterdir()] == ["notes.txt"]


def fetch_own(file: str) -> None:
    fetching.fetch(params(source="file", file=file), fetch.RAW, fetch.UNFINISHED, fetching.copy)


def test_a_file_that_all_may_read_and_nobody_may_write_is_linked(folder: Path) -> None:
    (folder / "mine.json.gz").write_bytes(DUMP)
    (folder / "mine.json.gz").chmod(0o444)
    fetch_own("mine.json.gz")
    assert fetch.RAW.samefile("mine.json.gz")


@pytest.mark.parametrize("mode", [0o600, 0o400, 0o640, 0o644, 0o666])
def test_any_other_file_is_copied_because_dvc_would_change_its_mode(folder: Path, mode: int) -> None:
    source = folder / "mine.json.gz"
    source.write_bytes(DUMP)
    source.chmod(mode)
    fetch_own("mine.json.gz")
    assert fetch.RAW.read_bytes() == DUMP
    assert source.stat().st_nlink == 1


def test_a_file_is_copied_where_links_are_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError

    source = folder / "mine.json.gz"
    source.write_bytes(DUMP)
    source.chmod(0o444)
    monkeypatch.setattr(Path, "hardlink_to", refuse)
    fetch_own("mine.json.gz")
    assert fetch.RAW.read_bytes() == DUMP
    assert not fetch.RAW.samefile(source)


def tar(compressed: Callable[[bytes], bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("reviews.json"), io.BytesIO())
    return compressed(buffer.getvalue())


def zipped() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("ratings.csv", "1,2,3\n")
    return buffer.getvalue()


ADVICE = "set fetch.file in params.yaml to the path of a dump"
FILES = {
    b"": f"is empty; {ADVICE}",
    b"<html>": f"is neither gzip, zstd, Parquet, JSON lines nor CSV; {ADVICE}",
    zipped(): f"is zip, which is not read; unpack it, and {ADVICE} inside",
    gzip.compress(zipped()): f"is zip, which is not read; unpack it, and {ADVICE} inside",
    bz2.compress(b"{}"): f"is bzip2, which is not read; unpack it, and {ADVICE} inside",
    lzma.compress(b"{}"): f"is xz, which is not read; unpack it, and {ADVICE} inside",
    tar(bytes): f"is tar, which is not read; unpack it, and {ADVICE} inside",
    tar(gzip.compress): f"is tar, which is not read; unpack it, and {ADVICE} inside",
    tar(partial(pa.Codec("zstd").compress, asbytes=True)): f"is tar, which is not read; unpack it, and {ADVICE} inside",
}


def refusal_of(file: str) -> str:
    """What is said of a `fetch.file`, which is not fetched."""
    with pytest.raises(UserError) as caught:
        fetch_own(file)
    assert not fetch.RAW.exists()
    return str(caught.value)


@pytest.mark.parametrize("content", FILES, ids=FILES.values())
def test_a_file_that_is_no_dump_is_refused_with_what_it_is(folder: Path, content: bytes) -> None:
    (folder / "mine").write_bytes(content)
    assert refusal_of("mine") == f"mine: {FILES[content]}"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: None, f"no such file; {ADVICE}"),
        (lambda path: path.symlink_to("gone.gz"), f"is a link to gone.gz, which is missing; {ADVICE}"),
        (os.mkfifo, f"is no regular file; {ADVICE}"),
    ],
)
def test_what_is_no_file_is_refused_with_what_it_is(folder: Path, make: Callable[[Path], None], message: str) -> None:
    make(folder / "mine")
    assert refusal_of("mine") == f"mine: {message}"


def test_a_folder_is_refused_with_the_glob_that_takes_its_files(folder: Path) -> None:
    (folder / "dumps [2]").mkdir()
    (folder / "dumps [2]/a.gz").write_bytes(DUMP)
    said = refusal_of("dumps [2]/")
    assert said.startswith("dumps [2]: is a folder; set fetch.file in params.yaml to a file in it, or to a glob: ")
    fetch_own(said.partition("glob: ")[2])
    assert fetch.RAW.read_bytes() == DUMP


def test_a_path_into_an_archive_is_refused_with_the_archive(folder: Path) -> None:
    (folder / "ml.zip").write_bytes(zipped())
    expected = f"ml.zip is a file and no folder; if it is an archive, unpack it, or {ADVICE}"
    assert refusal_of("ml.zip/ml/ratings.csv") == f"ml.zip/ml/ratings.csv: {expected}"


@contextmanager
def not_as_root() -> Iterator[None]:
    """Be another user meanwhile if this one is root, who may read every file."""
    user = os.geteuid()
    os.seteuid(65534 if user == 0 else user)
    try:
        yield
    finally:
        os.seteuid(user)


def test_a_file_that_may_not_be_read_is_refused_with_how_to_read_it() -> None:
    with tempfile.TemporaryDirectory() as folder:  # pytest's own folders are closed to others
        Path(folder).chmod(0o755)
        path = Path(folder, "mine")
        path.write_bytes(DUMP)
        path.chmod(0o200)
        with (
            not_as_root(),
            pytest.raises(UserError, match=r"^mine: you may not read it; change its mode \(`chmod u\+r`\)"),
        ):
            fetching.check_kind(path, "mine")


def test_other_content_than_the_digest_says_is_refused(folder: Path) -> None:
    path = folder / "dump"
    path.write_bytes(b"some content")
    digest = hashlib.sha256(b"some content").hexdigest()
    assert download.sha256_of(path) == digest
    download.check_sha256(path, digest.upper())
    with pytest.raises(UserError, match=f"fetch.sha256 is {'0' * 64}, but the content has {digest}"):
        download.check_sha256(path, "0" * 64)


def test_source_file_without_a_file_is_refused() -> None:
    with pytest.raises(ValueError, match=r"fetch.source is file, but fetch.file is null"):
        params(source="file")
