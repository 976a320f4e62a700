"""What the pages load, on localhost and cross-origin isolated; nothing comes from elsewhere."""

from __future__ import annotations

import contextlib
import gzip
import io
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from functools import cache, partial
from http import HTTPStatus
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import unquote, urlsplit

import onnx
from onnx import helper

from bench.web.sizes import CODE

HERE = Path(__file__).parent

HEADERS = {
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
"""COOP and COEP make the pages cross-origin isolated: threads, and clocks of 5 µs."""


class _Handler(SimpleHTTPRequestHandler):
    extensions_map: ClassVar[dict[str, str]] = {
        **SimpleHTTPRequestHandler.extensions_map,
        ".wasm": "application/wasm",
        ".js": "text/javascript",
        ".mjs": "text/javascript",
    }

    def __init__(self, *args: object, places: Mapping[str, Path], compressed: bool = False) -> None:
        self._places, self._compressed = places, compressed
        super().__init__(*args)  # type: ignore[arg-type]

    def translate_path(self, path: str) -> str:
        return str(place_of(path, self._places) or HERE / "no such file")

    def send_head(self) -> Any:
        """The answer's headers and its file; code goes out compressed, where that is wanted."""
        file = place_of(self.path, self._places)
        if not self._compressed or file is None or file.suffix not in CODE or not file.is_file():
            return super().send_head()
        data = _gzipped(file)
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", self.guess_type(str(file)))
        self.send_header("Content-Encoding", "gzip")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        return io.BytesIO(data)

    def end_headers(self) -> None:
        for name, value in HEADERS.items():
            self.send_header(name, value)
        super().end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


@cache
def _gzipped(file: Path) -> bytes:
    return gzip.compress(file.read_bytes(), 9)


def place_of(url: str, places: Mapping[str, Path]) -> Path | None:
    """The file behind an address: `/NAME/rest` lies in `places[NAME]`, and never outside of it."""
    name, _, rest = unquote(urlsplit(url).path).lstrip("/").partition("/")
    if name not in places:
        return None
    root = places[name].resolve()
    file = (root / rest).resolve()
    return file if file.is_relative_to(root) else None


@contextlib.contextmanager
def serve(places: Mapping[str, Path], compressed: bool = False) -> Iterator[str]:
    """Serves the folders of `places` under their names while the context lasts; gives the address. `compressed`: code
    goes out as gzip."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Handler, places=places, compressed=compressed)) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://localhost:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


def make_site(folder: Path) -> None:
    """Writes what the pages need beside the models: ceiling.wasm, and identity.onnx, the smallest model there is.

    Raises CalledProcessError where ceiling.c does not compile.
    """
    folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "ziglang", "cc", "-target", "wasm32-freestanding", "-O2", "-nostdlib"]
    command += ["-mcpu=generic+simd128+bulk_memory+relaxed_simd", "-Wl,--no-entry"]
    subprocess.run(
        [*command, str(HERE / "ceiling.c"), "-o", str(folder / "ceiling.wasm")],
        check=True,
        capture_output=True,
        text=True,
    )
    values = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1]) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "identity", values[:1], values[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, str(folder / "identity.onnx"))
