"""Pages of the tests' own in headless Chromium: a folder is served, and what a page's `result` promises is returned."""

from __future__ import annotations

import json
import os
import subprocess
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

from conftest import ROOT, requires_tool, skip_or_fail

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
    done = subprocess.run(command, env=NODE_ENVIRONMENT, capture_output=True, text=True, check=False)
    if done.returncode:
        skip_or_fail(f"the npm package {package} is not in NODE_PATH (script/test puts it in build/node)")
    return Path(done.stdout.strip())


def result_of_page(folder: Path, page: str) -> Any:
    """Opens FOLDER/PAGE from a server in Chromium; what the promise `window.result` gives."""
    node, browser = requires_tool("node"), requires_tool("chromium")
    requires_npm("playwright-core")
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Handler, directory=str(folder))) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            address = f"http://localhost:{server.server_address[1]}/{page}"
            command = [node, str(ROOT / "tests" / "page.mjs"), browser, address]
            done = subprocess.run(
                command, env=NODE_ENVIRONMENT, capture_output=True, text=True, check=False, timeout=180
            )
        finally:
            server.shutdown()
            thread.join()
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout)
