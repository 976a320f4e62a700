"""Browsers of the tests: pages of their own in headless Chromium, and the driver of scenarios, tests/browser.mjs."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest
from conftest import ROOT, requires_tool, skip_or_fail
from processes import Lines, end, run, started

from dlpack.bundle.serve import bundle_server

NODE_ENVIRONMENT = {"NODE_PATH": str(ROOT / "build" / "node" / "node_modules"), **os.environ}


class _Handler(SimpleHTTPRequestHandler):
    extensions_map: ClassVar[dict[str, str]] = {
        **SimpleHTTPRequestHandler.extensions_map,
        ".wasm": "application/wasm",
        ".js": "text/javascript",
        ".mjs": "text/javascript",
    }

    def log_message(self, format: str, *args: object) -> None:
        pass


def requires_npm(package: str) -> Path:
    """The folder of an npm package; without it the running test is skipped (with CI=true: fails)."""
    script = f'console.log(require("node:path").dirname(require.resolve("{package}")))'
    command = [requires_tool("node"), "-e", script]
    done = run(command, env=NODE_ENVIRONMENT)
    if done.returncode:
        skip_or_fail(f"the npm package {package} is not in NODE_PATH (script/test puts it in build/node)")
    return Path(done.stdout.strip())


def result_of_page(folder: Path, page: str, *flags: str) -> Any:
    """Opens FOLDER/PAGE from a server in Chromium with `flags`; what the promise `window.result` gives."""
    node, browser = requires_tool("node"), requires_tool("chromium")
    requires_npm("playwright-core")
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Handler, directory=str(folder))) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            address = f"http://localhost:{server.server_address[1]}/{page}"
            command = [node, str(ROOT / "tests" / "page.mjs"), browser, address, *flags]
            done = run(command, step=f"chromium: {page}", limit_s=180, env=NODE_ENVIRONMENT)
        finally:
            server.shutdown()
            thread.join()
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout)


@contextmanager
def served(bundle: Path) -> Iterator[str]:
    """The address of a bundle's page, as `dlpack serve` has it."""
    with bundle_server(bundle, 0) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://localhost:{server.server_address[1]}/"
        finally:
            server.shutdown()
            thread.join()


def played(scenario: str, bundle: Path, *files: str) -> dict[str, Any]:
    """What a scenario sees in a Chromium of its own on a bundle's page, which has no errors and fits a phone."""
    requires_tool("node"), requires_tool("chromium"), requires_npm("playwright-core")
    driver = Driver("chromium")
    try:
        with served(bundle) as address:
            seen = driver.play(scenario, address, list(files))
    finally:
        driver.close()
    assert "failed" not in seen, seen["failed"]
    assert (seen["errors"], seen["foreign"], seen["wide"]) == ([], [], False)
    return seen


class Driver:
    """tests/browser.mjs and its headless browser. `alive` tells whether it can play another scenario."""

    READY_S, SCENARIO_S, CLOSE_S = 130, 150, 25

    def __init__(self, browser: str) -> None:
        """Starts a browser, "chromium" or "firefox-esr"; fails the test where that takes over READY_S seconds."""
        self._name = browser
        self._ends = ExitStack()
        self._errors = self._ends.enter_context(tempfile.TemporaryFile("w+", errors="replace"))  # noqa: SIM115 - `_ends` closes it
        folder = self._ends.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True))  # for its profile
        environment = {**NODE_ENVIRONMENT, "TMPDIR": folder}
        command = [requires_tool("node"), ROOT / "tests" / "browser.mjs", requires_tool(browser)]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "env": environment}
        self.process = self._ends.enter_context(started(command, stderr=self._errors, **pipes))
        self._lines = Lines(self.process.stdout)
        self._step = f"{browser}: starting its driver"
        self._answer("ready", self.READY_S)

    @property
    def alive(self) -> bool:
        return self.process.poll() is None

    def play(self, scenario: str, address: str, files: list[str], limit_s: float = SCENARIO_S) -> dict[str, Any]:
        """What a scenario saw; fails the test, and ends the browser, where it takes over `limit_s` seconds."""
        assert self.process.stdin
        self._step = f"{self._name}: {scenario}"
        self.process.stdin.write(json.dumps({"scenario": scenario, "address": address, "files": files}) + "\n")
        self.process.stdin.flush()
        return self._answer("seen", limit_s)

    def _answer(self, key: str, limit_s: float) -> Any:
        deadline = time.monotonic() + limit_s
        try:
            while line := self._lines.next(deadline - time.monotonic()):
                message = json.loads(line)
                if key in message:
                    return message[key]
                self._step = message["step"]
        except BaseException:
            end(self.process)  # else its answer would be taken for the next scenario's
            raise
        end(self.process)
        self._errors.seek(0)
        why = "the driver ended" if line == "" else f"took over {limit_s:g} s and was ended"
        pytest.fail(f"{self._step}: {why}\n{self._errors.read()[-3000:]}")

    def close(self, patience_s: float = CLOSE_S) -> None:
        """Ends driver and browser; that they close by themselves is waited for `patience_s` seconds."""
        with self._ends:
            assert self.process.stdin
            with suppress(OSError):
                self.process.stdin.close()  # which lets it close the browser
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(patience_s)
