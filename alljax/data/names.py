"""Names as users write them: spellings of the same class or subject, and words for the subsets of a data set."""

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

from alljax.data.archive import natural_sort
from alljax.data.dataset import Record
from alljax.errors import first_few, plural

_SUBSETS = {
    "train": "train|training",
    "val": "val|valid|validation|dev",
    "test": "test|testing|eval|evaluation|hold ?out",
}
_AFFIX = "(data|images?|imgs?)?(sets?)?[abs]?"


def normalize(name: str) -> str:
    """Returns a key without case, surrounding spaces, Unicode normal form, and a trailing ``.0`` (of spreadsheets)."""
    return re.sub(r"(?<=\w)\.0$", "", unicodedata.normalize("NFC", name.strip().casefold()))


def join_spellings(names: Iterable[str], kind: str) -> tuple[dict[str, str], list[str]]:
    """Returns the spelling to use for each name, the first of those equal after `normalize`, and a note on these."""
    spellings = defaultdict[str, list[str]](list)
    for name in natural_sort(set(names)):
        spellings[normalize(name)].append(name)
    chosen = {name: unicodedata.normalize("NFC", group[0].strip()) for group in spellings.values() for name in group}
    several = [group for name, group in spellings.items() if name and len(group) > 1]
    joined = [" and ".join(f'"{name}"' for name in group) for group in several]
    note = f"joined spellings of {plural(len(joined), f'{kind} name')}: {first_few(joined)}"
    return chosen, [note] if joined else []


def make_records(
    rows: Sequence[dict[str, Any]], empty_classes: Iterable[str] = ()
) -> tuple[tuple[str, ...], tuple[Record, ...], list[str]]:
    """Returns the classes, sorted, the records of rows whose ``label`` is the name of a class, and notes."""
    labels, label_notes = join_spellings((*(row["label"] for row in rows), *empty_classes), "class")
    subjects, subject_notes = join_spellings((row["subject"] for row in rows), "subject")
    classes = sorted(set(labels.values()))
    records = (
        Record(**row | {"label": classes.index(labels[row["label"]]), "subject": subjects[row["subject"]]})
        for row in rows
    )
    return tuple(classes), tuple(records), label_notes + subject_notes


def recognize_subset(name: str) -> str:
    """Returns ``train``, ``val`` or ``test`` if a word of a name says so, else an empty text.

    Words end at separators, digits, and capitals inside (``TestA``, ``val2017``); ``train+val`` is train.
    """
    parts = re.findall(r"[^\W\d_]+", re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", " ", name))
    words = " ".join(parts).lower().replace("trainval", "train")
    found = {subset for subset, word in _SUBSETS.items() if re.search(rf"\b({word}){_AFFIX}\b", words)}
    if found == {"train", "val"}:
        return "train"
    return found.pop() if len(found) == 1 else ""


def subset_names(names: Iterable[str]) -> dict[str, str]:
    """Returns the subset of each name; several for val, or for test, remain distinct: ``TestA`` and ``TestB``."""
    spelling, _ = join_spellings(names, "subset")
    subsets = {name: recognize_subset(name) for name in set(spelling.values())}
    counts = Counter(subsets.values())
    own = {name: name for name, subset in subsets.items() if subset in ("val", "test") and counts[subset] > 1}
    return {name: (subsets | own)[chosen] for name, chosen in spelling.items()}
