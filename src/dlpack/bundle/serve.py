"""Serves the demo page of a wasm bundle on localhost, cross-origin isolated and under a strict policy."""

from __future__ import annotations

import re
from functools import partial
from http import HTTPStatus
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from dlpack.bundle.loader import read_manifest
from dlpack.errors import UsageError

HEADERS = {
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Content-Security-Policy": "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; style-src 'self'; "
    "connect-src 'self'; worker-src 'self'; img-src 'self'; base-uri 'none'; form-action 'none'",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-cache",
}
"""What the page needs. COOP and COEP make it cross-origin isolated."""


_HOSTS = ("localhost", "127.0.0.1", "[::1]")
"""What a browser on this computer calls the server; with DNS rebinding, a stranger's page calls it something else."""


class _Handler(SimpleHTTPRequestHandler):
    extensions_map = SimpleHTTPRequestHandler.extensions_map | {
        ".wasm": "application/wasm",
        ".js": "text/javascript",
        ".mjs": "text/javascript",
        ".json": "application/json",
        ".weights": "application/octet-stream",
    }

    def end_headers(self) -> None:
        for name, value in HEADERS.items():
            self.send_header(name, value)
        super().end_headers()

    def send_head(self) -> Any:
        """The answer's headers, and its file or None; refuses other hosts' names, and paths that no file can have."""
        name = re.sub(r":\d*$", "", self.headers.get("Host", "localhost")).lower()
        if name not in _HOSTS:
            self.send_error(HTTPStatus.FORBIDDEN, "This server answers for localhost only")
            return None
        if "\0" in unquote(self.path):
            self.send_error(HTTPStatus.NOT_FOUND)
            return None
        return super().send_head()

    def do_GET(self) -> None:
        if self.path == "/favicon.ico":
            self.send_response(204)
            self.end_headers()
            return
        super().do_GET()

    def log_message(self, format: str, *args: object) -> None:
        pass


def bundle_server(bundle: Path, port: int) -> ThreadingHTTPServer:
    """A server for a bundle's folder on localhost; port 0 picks a free port.

    Raises UsageError if it is not a wasm bundle or the port is in use.
    """
    manifest = read_manifest(bundle)
    if "wasm" not in manifest:
        raise UsageError(f"{bundle} is built for {manifest['target']}: build the model with --target wasm to serve it")
    try:
        return ThreadingHTTPServer(("127.0.0.1", port), partial(_Handler, directory=str(bundle.resolve())))
    except (OSError, OverflowError) as e:
        raise UsageError(f"port {port} cannot be used: {e}; choose another with --port") from e
