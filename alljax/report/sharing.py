"""Names and texts as a report shows them, so that it can be shared: no absolute paths, and hashed names if wanted."""

import hashlib
import re

from alljax import files
from alljax.study.results import Study

FOLDERS = re.compile(r"(?<![^\s='\"(,\[])(~?/|[A-Za-z]:\\+)(([\w.+@-]| (?![-/~]))+[/\\]+)*(?=[\w.])")
"""The folders of an absolute path; the slashes in ``data.name_pattern`` and in numbers are not followed by names."""


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
    hashed = study.config["report.subjects"] == "hashed"
    return without_folders(re.sub(r":(?! [\d,]+ of ).*", "", note) if hashed else note)


def without_folders(text: str) -> str:
    """Returns a text with absolute paths reduced to their last part."""
    return FOLDERS.sub("", text)
