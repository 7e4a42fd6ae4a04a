"""Stands before the interface: counts requests, bounds their bodies, and tells browsers what the page may do."""

import time
from collections import Counter, defaultdict

from fastapi import HTTPException
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

MAX_BODY_BYTES = 1 << 20  # more than the longest history needs
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}
BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)  # seconds


class Metrics:
    """The number of requests and their seconds, by path."""

    def __init__(self) -> None:
        self.requests = Counter[tuple[str, int]]()  # by path and status
        self.buckets = Counter[tuple[str, float]]()  # by path and the end of the bucket
        self.seconds = defaultdict[str, float](float)
        self.count = Counter[str]()

    def add(self, path: str, status: int, seconds: float) -> None:
        """Count a request."""
        self.requests[path, status] += 1
        self.buckets.update((path, end) for end in BUCKETS if seconds <= end)
        self.seconds[path] += seconds
        self.count[path] += 1

    async def as_text(self) -> str:
        """Return the metrics in Prometheus' text format."""
        lines = ["# TYPE sasrec_requests_total counter"]
        for (path, status), number in sorted(self.requests.items()):
            lines.append(f'sasrec_requests_total{{path="{path}",status="{status}"}} {number}')
        lines.append("# TYPE sasrec_request_seconds histogram")
        for path, number in sorted(self.count.items()):
            numbers = {str(end): self.buckets[path, end] for end in BUCKETS} | {"+Inf": number}
            name, label = "sasrec_request_seconds", f'path="{path}"'
            lines += [f'{name}_bucket{{{label},le="{end}"}} {each}' for end, each in numbers.items()]
            lines += [f"{name}_sum{{{label}}} {self.seconds[path]:.6f}", f"{name}_count{{{label}}} {number}"]
        return "\n".join(lines) + "\n"


class Guard:
    """The middleware; it is the outermost one, so that it sees every answer."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self.app = app
        self.metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, and its answer back."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started, status = time.perf_counter(), 500

        async def send_on(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        try:
            await self.app(scope, _bounded(receive), send_on)
        finally:
            route = scope.get("route")  # a path that no route has is none of ours, and there may be any number of them
            self.metrics.add(getattr(route, "path", "other"), status, time.perf_counter() - started)


def _bounded(receive: Receive) -> Receive:
    num_bytes = 0

    async def receive_on() -> Message:
        nonlocal num_bytes
        message = await receive()
        num_bytes += len(message.get("body", b""))
        if num_bytes > MAX_BODY_BYTES:
            raise HTTPException(413, f"the body has more than {MAX_BODY_BYTES} bytes")
        return message

    return receive_on
