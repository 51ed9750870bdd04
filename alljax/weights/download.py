"""One file from one URL: with progress, resumed where it broke off, and never trusted further than it was checked."""

import contextlib
import http.client
import re
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from email.message import Message
from pathlib import Path
from typing import IO, Any

from alljax import files, progress
from alljax.errors import WeightsError, WorkdirError

TRIES = 4
"""How often a transfer is begun or gone on with before the person is told."""

PAUSE = 0.5
"""Seconds before the second try; each further pause is twice as long."""

TIMEOUT = 30.0
"""Seconds without a byte after which a connection counts as broken."""

_BLOCK = 1 << 18
_PASSING = (408, 425, 429, 500, 502, 503, 504)  # answers that another try may better


class _BrokenOffError(Exception):
    """The transfer ended early; another try may go on from there."""


def download(url: str, part: Path, size: int = 0, sha256_header: str = "") -> str:
    """Downloads `url` to `part`, going on from what is there already; shows a bar.

    Args:
        url: where the file is.
        part: the file to write; kept when the transfer breaks off.
        size: how many bytes the file has; 0 where that is not known.
        sha256_header: the response header, of any redirect on the way, that states the file's SHA-256.

    Returns:
        The SHA-256 that the server states in that header, empty where it states none.

    Raises:
        WeightsError: the server does not have it, has another file, or keeps breaking off.
        WorkdirError: `part` cannot be written.
    """
    for attempt in range(TRIES):
        if attempt:
            time.sleep(PAUSE * 2 ** (attempt - 1))
        try:
            return _go_on(url, part, size, sha256_header)
        except _BrokenOffError as error:
            reason = error
    kept = _length(part)
    raise WeightsError(
        f"{url}: {reason}, {TRIES} times; "
        + (f"{kept} bytes are kept in {part}: the same command goes on from there" if kept else "try again later")
    )


@contextlib.contextmanager
def alone(target: Path) -> Iterator[None]:
    """Lets one process at a time fetch `target`; the others wait and then find it there.

    Raises:
        WorkdirError: the folder cannot be written.
    """
    lock = target.with_name(f".{target.name}.lock")
    with _writing(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        lock.touch()
    with files.file_lock(lock):
        yield


def put_in_place(part: Path, target: Path) -> None:
    """Gives the finished file its name.

    Raises:
        WorkdirError: the folder cannot be written.
    """
    with _writing(target):
        part.replace(target)


def _go_on(url: str, part: Path, size: int, sha256_header: str) -> str:
    start = _length(part)
    if size and start > size:
        part.unlink()
        start = 0
    if size and start == size:
        return ""
    redirects = _Redirects(sha256_header)
    try:
        response = _open(url, start, redirects)
    except urllib.error.HTTPError as error:
        with error:
            if error.code == 416 and start and _total(error.headers) == start:
                return redirects.stated(error.headers)  # all of it was there already
            if error.code == 416:
                part.unlink(missing_ok=True)
        raise _refused(url, error) from error
    with response:
        if start and not (response.status == 206 and _first(response.headers) == start):
            if response.status == 206:
                part.unlink()
                raise _BrokenOffError("the server went on from another place")
            start = 0  # it ignores ranges and sends all of it
        promised = _promised(response.headers, start)
        if size and promised and promised != size:
            raise WeightsError(
                f"{url}: the server offers {promised} bytes and the file has {size}: it is not the same file "
                "(a proxy's page?); download it elsewhere"
            )
        _copy(response, part, start, size or promised)
        return redirects.stated(response.headers)


def _open(url: str, start: int, redirects: "_Redirects") -> Any:
    headers = {"User-Agent": "alljax", "Accept-Encoding": "identity"}
    if start:
        headers["Range"] = f"bytes={start}-"
    opener = urllib.request.build_opener(redirects)
    try:
        return opener.open(urllib.request.Request(url, headers=headers), timeout=TIMEOUT)
    except urllib.error.HTTPError:
        raise
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", None) or error
        raise _BrokenOffError(f"the server cannot be reached ({reason})") from error


def _copy(response: Any, part: Path, start: int, total: int) -> None:
    """Appends what the server sends to `part`, which has `start` bytes already."""
    done = start
    with contextlib.ExitStack() as stack:
        with _writing(part):
            file: IO[bytes] = stack.enter_context(part.open("ab" if start else "wb"))
        advance = stack.enter_context(progress.bar(part.name.removesuffix(".part"), total, "bytes"))
        advance(start)
        while block := _read(response, done):
            done += len(block)
            if total and done > total:
                raise WeightsError(f"{response.url}: the server sends more than the {total} bytes of the file")
            with _writing(part):
                file.write(block)
                file.flush()
            advance(len(block))
    if done < total:
        raise _BrokenOffError(f"the transfer broke off after {done} of {total} bytes")


def _read(response: Any, done: int) -> bytes:
    try:
        block: bytes = response.read1(_BLOCK)
    except (OSError, http.client.HTTPException) as error:
        raise _BrokenOffError(f"the transfer broke off after {done} bytes ({type(error).__name__})") from error
    return block


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects, keeping what a header on the way states, and never from https to http."""

    def __init__(self, sha256_header: str) -> None:
        self._header = sha256_header
        self._sha256 = ""

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        self._note(headers)
        if req.full_url.startswith("https:") and not newurl.startswith("https:"):
            fp.close()
            raise WeightsError(f"{req.full_url}: the server sends us on without encryption, to {newurl}; refused")
        return super().redirect_request(req, fp, code, msg, headers, newurl)

    def stated(self, headers: Message) -> str:
        """The SHA-256 that the server stated on the way, or states at last; empty where it stated none."""
        self._note(headers)
        return self._sha256

    def _note(self, headers: Message) -> None:
        value = (headers.get(self._header) or "") if self._header else ""
        if not self._sha256 and re.fullmatch(r'(W/)?"?[0-9a-fA-F]{64}"?', value):
            self._sha256 = value.removeprefix("W/").strip('"').lower()


def _refused(url: str, error: urllib.error.HTTPError) -> Exception:
    if error.code in _PASSING or error.code == 416:
        return _BrokenOffError(f"the server answers {error.code} ({error.reason})")
    mend = {404: "it may have moved", 410: "it is gone", 403: "it, or a proxy on the way, does not let us"}
    return WeightsError(
        f"{url}: the server answers {error.code} ({error.reason}); "
        f"{mend.get(error.code, 'it does not give the file')}: download it with a browser, or choose another source"
    )


def _length(part: Path) -> int:
    return part.stat().st_size if part.is_file() else 0


def _first(headers: Message) -> int:
    match = re.match(r"bytes (\d+)-", headers.get("Content-Range") or "")
    return int(match[1]) if match else -1


def _total(headers: Message) -> int:
    match = re.search(r"/(\d+)$", headers.get("Content-Range") or "")
    return int(match[1]) if match else 0


def _promised(headers: Message, start: int) -> int:
    """The length of the whole file as the server has it, 0 where it does not say."""
    length = headers.get("Content-Length") or ""
    return _total(headers) or (start + int(length) if re.fullmatch(r"[0-9]{1,15}", length) else 0)


@contextlib.contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise WorkdirError(
            f"cannot write {path}: {error.strerror or error}; free space there, mend its permissions, "
            "or set ALLJAX_CACHE_DIR to another folder"
        ) from error
