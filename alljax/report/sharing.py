"""Names and texts as a report shows them, so that it can be shared: no absolute paths, and hashed names if wanted."""

import hashlib
import re
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any

from alljax import files
from alljax.study.results import Study

FOLDERS = re.compile(r"(?<![^\s='\"(,\[])(~?/|[A-Za-z]:[\\/])([\w.+@-]+[\\/])*(?=[\w.])")
"""The folders of an absolute path; regular expressions of ``data.name_pattern`` contain other slashes."""


def display_name(study: Study, name: str) -> str:
    """Returns the name of a subject or file, or 10 digits of its salted SHA-256 with ``report.subjects=hashed``.

    The salt is the hash of images.csv, which is not shared: short names cannot be found by trying all.
    """
    if study.config["report.subjects"] == "names" or name == "–":
        return name
    salted = files.sha256(study.folder / "images.csv") + name
    return hashlib.sha256(salted.encode(errors="surrogateescape")).hexdigest()[:10]


def display_note(study: Study, note: str) -> str:
    """Returns a note about the data, without the list of names at its end if names are hashed."""
    listed = r":(?! [\d,]+ of ).*" if study.config["report.subjects"] == "hashed" else "$^"
    return str(without_folders(re.sub(listed, "", note)))


def without_folders(value: Any) -> Any:
    """Returns a JSON value whose absolute paths are reduced to their last part."""
    if isinstance(value, dict):
        return {key: without_folders(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [without_folders(entry) for entry in value]
    if not isinstance(value, str):
        return value
    start, equals, path = value.rpartition("=")
    for kind in (PurePosixPath, PureWindowsPath):
        if kind(path).is_absolute():
            return f"{start}{equals}{kind(path).name}"
    return FOLDERS.sub("", value)
