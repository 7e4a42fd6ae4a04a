"""A headless Chromium, told what to do through the DevTools protocol."""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

CHROMIUM = next(filter(None, map(shutil.which, ["chromium", "chromium-browser", "google-chrome"])), None)
OPTIONS = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--remote-debugging-pipe"]
COMPLAINTS = ("Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Log.entryAdded")


class Tab:
    """A tab; it notes the addresses that it asked for and what its console says."""

    def __init__(self, commands: IO[bytes], answers: IO[bytes]) -> None:
        self._commands, self._answers = commands, answers
        self._number = 0
        self._session: dict[str, str] = {}
        self.requests: list[str] = []
        self.complaints: list[dict[str, Any]] = []
        target = self.send("Target.createTarget", url="about:blank")
        session = self.send("Target.attachToTarget", targetId=target["targetId"], flatten=True)
        self._session = {"sessionId": session["sessionId"]}
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.send(f"{domain}.enable")

    def send(self, method: str, **params: object) -> dict[str, Any]:
        """Call a method of the protocol; return its result."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": params, **self._session}
        self._commands.write(json.dumps(message).encode() + b"\0")
        while (message := self._receive()).get("id") != self._number:
            if message["method"] == "Network.requestWillBeSent":
                self.requests.append(message["params"]["request"]["url"])
            if message["method"] in COMPLAINTS:
                self.complaints.append(message["params"])
        return message["result"]

    def _receive(self) -> dict[str, Any]:
        octets = bytearray()
        while (octet := self._answers.read(1)) != b"\0":
            assert octet, "the browser has ended"
            octets += octet
        return json.loads(octets)

    def open(self, address: str, width: int, height: int = 900) -> None:
        """Open an address in a window of this size."""
        self.send(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 500
        )
        self.send("Page.navigate", url=address)

    def run(self, expression: str) -> object:
        """Return the value of a JavaScript expression; a promise is waited for."""
        found = self.send("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def wait(self, condition: str) -> None:
        """Wait until an expression is true."""
        self.run(
            "new Promise((resolve) => { const look = () => "
            f"{{ if ({condition}) resolve(); else setTimeout(look, 20); }}; look(); }})"
        )

    def press(self, key: str) -> None:
        """Press a key, with what the browser does by itself."""
        text = {"Enter": "\r", " ": " "}.get(key, "")
        self.send("Input.dispatchKeyEvent", type="keyDown", key=key, text=text)
        self.send("Input.dispatchKeyEvent", type="keyUp", key=key)


@contextmanager
def tab(folder: Path) -> Iterator[Tab]:
    """Start a browser whose profile is in `folder`, with pipes for the protocol; end it afterwards."""
    assert CHROMIUM is not None
    (commands, to_browser), (from_browser, answers) = os.pipe(), os.pipe()
    pipes = f'exec "$@" 3<&{commands} 4>&{answers}'  # the descriptors that Chromium takes; not every sh knows numbers above 9
    command = ["bash", "-c", pipes, "bash", CHROMIUM, *OPTIONS, f"--user-data-dir={folder / 'profile'}"]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL, pass_fds=(commands, answers)) as browser:
        os.close(commands)
        os.close(answers)
        try:
            with os.fdopen(to_browser, "wb", buffering=0) as sink, os.fdopen(from_browser, "rb") as source:
                yield Tab(sink, source)
        finally:
            browser.terminate()
