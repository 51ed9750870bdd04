import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from alljax.errors import WeightsError, WorkdirError
from alljax.weights import store as module
from alljax.weights.store import download

CONTENT = bytes(range(256)) * 2000


@dataclass
class Server:
    """A local server of one file."""

    break_after: int | None = None  # bytes of each answer after which the connection is closed
    ranges: bool = True
    statuses: list[int] = field(default_factory=list)  # of the first answers, instead of the file
    requests: list[str] = field(default_factory=list)  # Range header of each request
    url: str = ""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(module, "RETRY_SECONDS", 0.0)
    for proxy in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(proxy, raising=False)
    state = Server()

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *ignored: object) -> None:
            pass

        def do_GET(self) -> None:
            state.requests.append(self.headers.get("Range") or "")
            if state.statuses:
                self.send_error(state.statuses.pop(0))
                return
            match = re.fullmatch(r"bytes=(\d+)-", state.requests[-1]) if state.ranges else None
            start = int(match[1]) if match else 0
            if start >= len(CONTENT):
                self.send_error(416)
                return
            self.send_response(206 if match else 200)
            self.send_header("Content-Length", str(len(CONTENT) - start))
            self.end_headers()
            self.wfile.write(CONTENT[start:][: state.break_after])

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        state.url = f"http://127.0.0.1:{http.server_port}/weights.pth"
        yield state
        http.shutdown()
        thread.join()


@pytest.fixture
def part(tmp_path: Path) -> Path:
    return tmp_path / "weights.pth.part"


def test_interrupted_download_is_resumed(server: Server, part: Path) -> None:
    server.break_after = 200_000
    download(server.url, part, len(CONTENT))
    assert part.read_bytes() == CONTENT
    assert server.requests == ["", "bytes=200000-", "bytes=400000-"]


def test_later_call_resumes(server: Server, part: Path) -> None:
    server.break_after = 100_000
    with pytest.raises(WeightsError, match=r"4 times.*weights.pth.part is kept and the same command resumes it"):
        download(server.url, part, len(CONTENT))
    server.break_after = None
    for _ in range(2):  # a complete file stays as it is
        download(server.url, part, len(CONTENT))
        assert part.read_bytes() == CONTENT


def test_server_without_ranges_and_with_a_temporary_error(server: Server, part: Path) -> None:
    part.write_bytes(b"x" * 1000)
    server.ranges, server.statuses = False, [503]
    download(server.url, part, 0)
    assert part.read_bytes() == CONTENT


def test_missing_file_is_not_retried(server: Server, part: Path) -> None:
    server.statuses = [404, 404]
    with pytest.raises(WeightsError, match="HTTP 404"):
        download(server.url, part, 0)
    assert len(server.requests) == 1


def test_disk_full(server: Server, part: Path) -> None:
    part.symlink_to("/dev/full")
    with pytest.raises(WorkdirError, match=r"No space left on device"):
        download(server.url, part, 0)
    assert len(server.requests) == 1
