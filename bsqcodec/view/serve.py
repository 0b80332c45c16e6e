"""One page on a loopback port, for a browser that may not open files."""

from __future__ import annotations

from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from bsqcodec.errors import VideoError

HOST = "127.0.0.1"


class PageServer(ThreadingHTTPServer):
    """Serves a page to this machine and nobody else. port: 0 = any that is free. VideoError where it is taken."""

    daemon_threads = True

    def __init__(self, page: Path, port: int = 0) -> None:
        self.data = page.read_bytes()
        try:
            super().__init__((HOST, port), _Handler)
        except OSError as error:
            raise VideoError(f"port {port}: {error.strerror}; choose another --port") from error

    @property
    def url(self) -> str:
        """Where the page is."""
        return f"http://{HOST}:{self.server_port}/"


class _Handler(BaseHTTPRequestHandler):
    server: PageServer

    def do_GET(self) -> None:
        self._answer(body=True)

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def _answer(self, *, body: bool) -> None:
        # Another site's page may send requests here under its own name (DNS rebinding); it gets nothing.
        if self.headers.get("Host") not in {f"{name}:{self.server.server_port}" for name in (HOST, "localhost")}:
            self.send_error(HTTPStatus.FORBIDDEN)
            return
        if self.path != "/":
            self.send_error(HTTPStatus.NOT_FOUND)
            return
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(self.server.data)))
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.end_headers()
        if body:
            self.wfile.write(self.server.data)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: requests are not what the tool talks about."""
