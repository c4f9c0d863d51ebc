"""A headless chromium, steered by its own protocol: no driver, no package but `websockets`."""

import base64
import itertools
import json
import shutil
import subprocess
import time
import urllib.request
from contextlib import ExitStack

import pytest
from websockets.sync.client import connect

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--remote-debugging-port=0",
)
START_SECONDS = 60
SECONDS = 30


class Browser:
    """One chromium with a folder of its own; `open` gives a new tab."""

    def __init__(self, folder):
        program = shutil.which("chromium") or shutil.which("chromium-browser")
        if program is None:
            pytest.skip("no chromium: apt-get install chromium")
        self._process = subprocess.Popen(
            [program, *FLAGS, f"--user-data-dir={folder}", "about:blank"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        noted = folder / "DevToolsActivePort"
        wait_for(lambda: noted.exists() and noted.read_text().count("\n"), START_SECONDS)
        self._port = int(noted.read_text().split()[0])

    def open(self, url, size=(1280, 800), mobile=False, dark=False):
        request = urllib.request.Request(
            f"http://127.0.0.1:{self._port}/json/new?about:blank", method="PUT"
        )
        with urllib.request.urlopen(request, timeout=SECONDS) as answer:
            address = json.load(answer)["webSocketDebuggerUrl"]
        return Tab(address, url, size, mobile, dark)

    def close(self):
        self._process.terminate()
        try:
            self._process.wait(SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


class PageChanged(AssertionError):
    """The page went elsewhere before it answered."""


class Tab:
    """One page; what it logs as an error is kept in `errors`."""

    def __init__(self, address, url, size, mobile, dark):
        self._stack = ExitStack()
        self._line = self._stack.enter_context(connect(address, max_size=None, ping_interval=None))
        self._numbers = itertools.count(1)
        self.errors = []
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.send(f"{domain}.enable")
        self.send(
            "Emulation.setDeviceMetricsOverride",
            width=size[0],
            height=size[1],
            deviceScaleFactor=2 if mobile else 1,
            mobile=mobile,
        )
        self.send("Emulation.setTouchEmulationEnabled", enabled=mobile)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.send("Emulation.setEmulatedMedia", features=[scheme])
        self.go(url)

    def send(self, method, **parameters):
        number = next(self._numbers)
        self._line.send(json.dumps({"id": number, "method": method, "params": parameters}))
        while True:
            message = json.loads(self._line.recv(SECONDS))
            if message.get("id") == number:
                if "navigated" in message.get("error", {}).get("message", ""):
                    raise PageChanged(method)
                assert "error" not in message, (method, message["error"])
                return message["result"]
            self._note(message)

    def _note(self, message):
        if message.get("method") == "Runtime.exceptionThrown":
            self.errors.append(message["params"]["exceptionDetails"]["exception"]["description"])
        entry = message.get("params", {}).get("entry", {})
        if message.get("method") == "Log.entryAdded" and entry["level"] == "error":
            self.errors.append(entry["text"])

    def go(self, url):
        self.send("Page.navigate", url=url)
        self.until("document.readyState === 'complete'")

    def reload(self):
        self.send("Page.reload")
        time.sleep(0.2)
        self.until("document.readyState === 'complete'")

    def ask(self, code):
        """The value of an expression in the page."""
        result = self.send(
            "Runtime.evaluate", expression=code, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in result, result["exceptionDetails"]
        return result["result"].get("value")

    def until(self, code, seconds=SECONDS):
        """Wait for an expression to be true, if need be on the page that comes next."""

        def holds():
            try:
                return self.ask(code)
            except PageChanged:
                return False

        return wait_for(holds, seconds, code)

    def text(self, name):
        return self.ask(f"document.getElementById({name!r}).textContent")

    def click(self, name):
        self.until(f"!document.getElementById({name!r}).disabled")
        self.ask(f"document.getElementById({name!r}).click()")

    def find_picture(self):
        """Left, top, width and height of the picture on the screen."""
        self.send("Page.bringToFront")  # a tab behind another waits long for its mouse
        self.ask("document.getElementById('overlay').scrollIntoView({block: 'center'})")
        code = "(r => [r.left, r.top, r.width, r.height])"
        return self.ask(f"{code}(document.getElementById('overlay').getBoundingClientRect())")

    def drag(self, start, end, touch=False, release=True):
        """Draw from one place to another, given as shares of the picture."""
        left, top, width, height = self.find_picture()
        places = [
            (left + width * (a + (b - a) * step / 4), top + height * (c + (d - c) * step / 4))
            for step in range(5)
            for (a, c), (b, d) in [(start, end)]
        ]
        (self._touch if touch else self._press)(places, release)

    def _press(self, places, release):
        for index, (x, y) in enumerate(places):
            kind = "mouseMoved" if index else "mousePressed"
            self.mouse(kind, x, y)
        if release:
            self.mouse("mouseReleased", *places[-1])

    def mouse(self, kind, x, y):
        self.send(
            "Input.dispatchMouseEvent",
            type=kind,
            x=x,
            y=y,
            button="left",
            buttons=1,
            clickCount=0 if kind == "mouseMoved" else 1,
        )

    def _touch(self, places, release):
        for index, (x, y) in enumerate(places):
            kind = "touchMove" if index else "touchStart"
            self.send("Input.dispatchTouchEvent", type=kind, touchPoints=[{"x": x, "y": y}])
        if release:
            self.send("Input.dispatchTouchEvent", type="touchEnd", touchPoints=[])

    def shoot(self, path):
        """A picture of the whole page."""
        data = self.send("Page.captureScreenshot", captureBeyondViewport=True)["data"]
        path.write_bytes(base64.b64decode(data))

    def close(self):
        self.send("Page.close")
        self._stack.close()


def wait_for(ready, seconds=SECONDS, what="it"):
    deadline = time.monotonic() + seconds
    while not (value := ready()):
        assert time.monotonic() < deadline, f"waited {seconds} s for {what}"
        time.sleep(0.05)
    return value
