"""Node with onnxruntime-web, and a browser; each skips its tests where it is missing.

The browser is driven over a pipe that it opens for that (`--remote-debugging-pipe`): messages of
the DevTools protocol, each ended by a zero byte. It needs no package, neither of Python nor of
Node, and no port.
"""

import contextlib
import functools
import http.server
import json
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

WEB = Path(__file__).resolve().parent.parent.parent / "examples" / "web"
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
_NPM = "npm install --ignore-scripts --no-audit --no-fund --no-package-lock --fetch-retries 0"
# The protocol is spoken on the descriptors 3 and 4.
_ON_3_AND_4 = 'exec 3<&"$1" 4>&"$2"; shift 2; exec "$@"'
_FLAGS = ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage")


@dataclass(frozen=True)
class Site:
    """A served folder and its address."""

    folder: Path
    address: str


class Browser:
    """A headless browser with one page."""

    def __init__(self, program: str, profile: Path) -> None:
        theirs_in, self._to = os.pipe()
        self._from, theirs_out = os.pipe()
        command = ["bash", "-c", _ON_3_AND_4, "bash", str(theirs_in), str(theirs_out), program]
        options = [f"--user-data-dir={profile}", "--remote-debugging-pipe", "about:blank"]
        self._process = subprocess.Popen(
            [*command, *_FLAGS, *options],
            pass_fds=(theirs_in, theirs_out),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(theirs_in)
        os.close(theirs_out)
        self._number, self._rest, self._session = 0, b"", ""
        targets = self.call("Target.getTargets")["targetInfos"]
        page = next(target["targetId"] for target in targets if target["type"] == "page")
        attached = self.call("Target.attachToTarget", targetId=page, flatten=True)
        self._session = attached["sessionId"]

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Call a method of the DevTools protocol and return its result."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._to, json.dumps(message).encode() + b"\0")
        while (answer := self._read()).get("id") != self._number:
            pass
        assert "error" not in answer, answer
        return answer["result"]

    def _read(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            part = os.read(self._from, 65536)
            assert part, "the browser has ended"
            self._rest += part
        message, _, self._rest = self._rest.partition(b"\0")
        return json.loads(message)

    def evaluate(self, script: str) -> Any:
        """Run a script in the page, await its promise, and return its value."""
        found = self.call(
            "Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True
        )
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def open(self, address: str) -> None:
        """Open a page and wait until its model is there, or it says why not."""
        self.call("Page.navigate", url=address)
        self.wait("document.querySelector('#model')?.textContent.startsWith('opening') === false")

    def choose(self, *files: Path) -> None:
        """Choose files in the page's own input, as a user does."""
        element = self.call("Runtime.evaluate", expression="document.querySelector('input')")
        names = [str(file) for file in files]
        self.call("DOM.setFileInputFiles", files=names, objectId=element["result"]["objectId"])

    def wait(self, condition: str) -> None:
        """Wait until a script's value is true."""
        end = time.monotonic() + 60
        while not self.evaluate(condition):
            assert time.monotonic() < end, self.evaluate("document.body.innerText")
            time.sleep(0.02)

    def close(self) -> None:
        """End it."""
        self._session = ""
        with contextlib.suppress(AssertionError, OSError):
            self.call("Browser.close")
        self._process.wait(timeout=60)
        os.close(self._to)
        os.close(self._from)


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture(scope="session")
def node_modules(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a node_modules with onnxruntime-web and sharp, installed once into pytest's cache."""
    if not shutil.which("node") or not shutil.which("npm"):
        pytest.skip("needs node and npm on the path")
    package = json.loads((WEB / "package.json").read_text(encoding="utf-8"))
    wanted = json.dumps({"dependencies": {**package["dependencies"], "sharp": ">=0.34 <0.36"}})
    cache = request.config.cache  # None with -p no:cacheprovider
    folder = cache.mkdir("gclf-node") if cache else tmp_path_factory.mktemp("gclf-node")
    installed = folder / "installed.json"
    if not installed.is_file() or installed.read_text(encoding="utf-8") != wanted:
        (folder / "package.json").write_text(wanted, encoding="utf-8")
        try:
            subprocess.run(_NPM.split(), cwd=folder, capture_output=True, check=True, timeout=300)
        except (subprocess.CalledProcessError, subprocess.TimeoutExpired):
            pytest.skip("needs onnxruntime-web, and npm could not install it here")
        installed.write_text(wanted, encoding="utf-8")
    return folder / "node_modules"


@pytest.fixture(scope="session")
def site(node_modules: Path, tmp_path_factory: pytest.TempPathFactory) -> Generator[Site]:
    """Serve a copy of the example; a test may put a model beside the page."""
    folder = tmp_path_factory.mktemp("site")
    for path in WEB.iterdir():
        if path.suffix in (".html", ".js"):
            shutil.copy(path, folder)
    (folder / "node_modules").symlink_to(node_modules, target_is_directory=True)
    handler = functools.partial(_Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield Site(folder, f"http://127.0.0.1:{server.server_address[1]}")
        server.shutdown()


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Generator[Browser]:
    """Start a headless Chromium with one page."""
    program = next((found for name in BROWSERS if (found := shutil.which(name))), None)
    if not program:
        pytest.skip(f"needs one of {', '.join(BROWSERS)} on the path")
    started = Browser(program, tmp_path_factory.mktemp("profile"))
    yield started
    started.close()
