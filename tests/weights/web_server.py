"""A local HTTP server that serves one file, faithfully or not."""

import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Web:
    """How the server behaves, and what it has done.

    Attributes:
        content: the file.
        breaks_after: bytes of each answer after which the connection is closed; None: never.
        claims: what it says the length is in place of the truth; 0: it says nothing.
        ranges: whether it knows ranges; ``"wrong"``: it answers with another part.
        status: what it answers in place of the file.
        statuses: the same for the first answers, one after the other.
        sha256: what a redirect states in X-Linked-ETag; None: there is no redirect.
        silent: seconds before it answers.
        requests: the Range header of each request for the file, empty where there was none.
        served: bytes of the file sent so far.
    """

    content: bytes
    breaks_after: int | None = None
    claims: int | None = None
    ranges: bool | str = True
    status: int = 200
    statuses: list[int] = field(default_factory=list)
    sha256: str | None = None
    silent: float = 0.0
    requests: list[str] = field(default_factory=list)
    served: int = 0
    url: str = ""


@contextmanager
def serve(content: bytes) -> Iterator[Web]:
    web = Web(content)

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *ignored: object) -> None:
            pass

        def do_GET(self) -> None:
            time.sleep(web.silent)
            if web.sha256 is not None and not self.path.startswith("/cdn/"):
                self.send_response(302)
                self.send_header("Location", f"/cdn{self.path}")
                self.send_header("X-Linked-ETag", f'"{web.sha256}"')
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            web.requests.append(self.headers.get("Range") or "")
            status = web.statuses.pop(0) if web.statuses else web.status
            if status != 200:
                self.send_error(status)
                return
            self._answer()

        def _answer(self) -> None:
            start = 0
            if (asked := re.fullmatch(r"bytes=(\d+)-", web.requests[-1])) and web.ranges:
                start = int(asked[1])
                if start >= len(web.content):
                    self.send_response(416)
                    self.send_header("Content-Range", f"bytes */{len(web.content)}")
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                    return
                start -= 1 if web.ranges == "wrong" else 0
                self.send_response(206)
                total = len(web.content)
                self.send_header("Content-Range", f"bytes {start}-{total - 1}/{total}")
            else:
                self.send_response(200)
            body = web.content[start:]
            length = len(body) if web.claims is None else web.claims
            if length:
                self.send_header("Content-Length", str(length))
            self.end_headers()
            body = body[: web.breaks_after]
            web.served += len(body)
            self.wfile.write(body)

    class Server(ThreadingHTTPServer):
        def handle_error(self, *ignored: object) -> None:
            """The other side may go whenever it likes."""

    with Server(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        web.url = f"http://127.0.0.1:{server.server_port}/weights.pth"
        try:
            yield web
        finally:
            server.shutdown()
            thread.join()
