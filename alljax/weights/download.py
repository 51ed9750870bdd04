"""Resumable download of one file."""

import http.client
import time
import urllib.error
import urllib.request
from pathlib import Path

from alljax import files, progress
from alljax.errors import WeightsError

TRIES = 4
RETRY_SECONDS = 0.5  # pause before the second try; doubled before each further one
TIMEOUT_SECONDS = 30.0
BLOCK = 1 << 18
TEMPORARY = (408, 429, 500, 502, 503, 504)  # HTTP statuses after which the request is repeated


def download(url: str, part: Path, size: int) -> None:
    """Downloads `url` to `part`, continuing what an earlier call wrote.

    Raises:
        WeightsError: the server does not have the file, or does not answer.
        WorkdirError: `part` cannot be written.
    """
    reason: Exception | None = None
    for attempt in range(TRIES):
        time.sleep(RETRY_SECONDS * 2 ** (attempt - 1) if attempt else 0)
        try:
            return _continue_download(url, part, size)
        except urllib.error.HTTPError as error:
            error.close()
            if error.code == 416:  # the server has no more bytes: the file is complete, or it is another one
                return None
            if error.code not in TEMPORARY:
                raise WeightsError(f"{url}: HTTP {error.code} {error.reason}; try another source") from error
            reason = error
        except (OSError, http.client.HTTPException) as error:
            reason = error
    resumed = f"; {part} is kept and the same command resumes it" if part.is_file() else ""
    raise WeightsError(f"{url}: {getattr(reason, 'reason', None) or reason} ({TRIES} times){resumed}") from reason


def _continue_download(url: str, part: Path, size: int) -> None:
    start = part.stat().st_size if part.is_file() else 0
    headers = {"User-Agent": "alljax"} | ({"Range": f"bytes={start}-"} if start else {})
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=TIMEOUT_SECONDS) as response:
        start = start if response.status == 206 else 0  # a server without ranges sends the complete file
        total = start + int(response.headers.get("Content-Length") or 0)
        bar = progress.bar(part.name.removesuffix(".part"), total or size, "bytes")
        with part.open("ab" if start else "wb") as file, bar as update:
            update(start)
            while block := response.read1(BLOCK):
                try:
                    file.write(block)
                    file.flush()
                except OSError as error:  # not an error of the connection
                    raise files.write_error(part, error) from error
                update(len(block))
        if part.stat().st_size < total:
            raise http.client.IncompleteRead(b"", total - part.stat().st_size)
