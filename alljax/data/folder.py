"""Reads folders with one folder per class, or a zip of them.

The layout is ``root/[subset]/class/[subject]/file``.  Folders named like a subset (`names.recognize_subset`) and
``fold_0`` … are not classes.  Where other folders are above the classes, `data.classes` tells which are the classes.
"""

import os
import re
import shlex
from collections import Counter, defaultdict
from collections.abc import Collection, Sequence
from itertools import chain, pairwise, takewhile
from pathlib import Path

from alljax.config import compile_pattern
from alljax.data.archive import Archive, is_image, natural_sort, path_parts
from alljax.data.dataset import Dataset
from alljax.data.names import join_spellings, make_records, normalize, recognize_subset, subset_names
from alljax.errors import ConfigError, DataError, first_few, plural

_FOLD = re.compile(r"fold_?([0-9]+)", re.IGNORECASE)
_RANGE = re.compile(r"([0-9]+) ?[-–_] ?([0-9]+)")
_NAMED = ("subject", "field", "cell")
_SUBJECT_ABOVE = "if they are subjects, set --config.data.name_pattern='^(?P<subject>[^/]+)/'"
_SUBJECT_BELOW = "if they are subjects, set --config.data.name_pattern='(?P<subject>[^/]+)/[^/]+$'"


def read_folder(archive: Archive, name_pattern: str = "", classes: Sequence[str] = ()) -> Dataset:
    """Reads folders, with the classes sorted by name: those on the uppermost level with one of `classes`, if given."""
    pattern = compile_pattern("data.name_pattern", name_pattern, repeats=6)
    if name_pattern and not {*_NAMED}.intersection(pattern.groupindex):
        example = r"'^(?P<subject>\d+)_'"
        raise ConfigError(f"data.name_pattern {name_pattern!r} has no group subject, field or cell, as in {example}")
    notes: list[str] = []
    paths = [path for path in archive.paths if ".zip/" not in path.lower()]
    if not any(map(is_image, paths)):
        paths = [*archive.paths]
    elif zipped := len(archive.images) - sum(map(is_image, paths)):
        notes.append(f"skipped {plural(zipped, 'image')} in zips, because there are unpacked images")
    keys = {*map(normalize, classes)}
    places = _locate(archive, paths, keys, notes)
    images = {path: place for path, place in places.items() if is_image(path)}
    if not classes:
        _check_tree({place[2:] for place in images.values()}, archive.root)
    levels = (n for place in images.values() for n, name in enumerate(place[2:], 2) if normalize(name) in keys)
    level = min(levels, default=2)
    # A folder without images beside the classes is probably a class whose images are missing: `check` reports it.
    found = {place[level] for place in places.values()} - {""}
    used = {name for name in found if normalize(name) in keys or not classes}
    inside = {path: place for path, place in images.items() if place[level] in used}
    subjects, subject_notes = _find_subjects(inside.values(), level)
    notes += [] if "subject" in pattern.groupindex else subject_notes
    unmatched, rows = [], []
    for (path, place), subject in zip(inside.items(), subjects, strict=True):
        row = {"path": path, "label": place[level], "subject": subject, "subset": place[0], "fold": place[1]}
        name = path.rpartition("/")[2]
        if match := pattern.search("/".join(filter(None, (*place[2:], name))) if "/" in name_pattern else name):
            row |= {key: value for key, value in match.groupdict("").items() if key in _NAMED}
        else:
            unmatched.append(path)
        rows.append(row)
    if unmatched:
        notes.append(f"data.name_pattern does not match {plural(len(unmatched), 'name')}: {first_few(unmatched)}")
    names, records, joined = make_records(rows, found)
    return Dataset(
        "folder",
        names,
        records,
        read=lambda record: archive.read(record.path),
        notes=(*notes, *joined),
        stamp=lambda record: archive.stamp(record.path),
        skipped={"outside": [path for path in images if path not in inside]},
    )


def _locate(archive: Archive, paths: Sequence[str], keys: set[str], notes: list[str]) -> dict[str, tuple[str, ...]]:
    """Returns subset, fold, and the other folders of each path, padded; folders named `keys` are not subsets."""
    folders = {path: path_parts(path)[:-1] for path in paths}
    images = [path for path in paths if is_image(path)]
    if not archive.root.is_dir() or all(".zip/" in path.lower() for path in images):
        # ``photos.zip`` usually holds ``photos/cats/1.png``.
        shared: Sequence[str] = os.path.commonprefix([folders[path][:-1] for path in images])  # noqa: RUF071 - of tuples
        outer = [*takewhile(lambda name: not (recognize_subset(name) or _FOLD.fullmatch(name)), shared)]
        folders = {path: names[len(outer) :] for path, names in folders.items()}
    spelling, joined = join_spellings(chain(*folders.values()), "folder")
    subsets = subset_names(name for name in spelling.values() if normalize(name) not in keys)
    places = {}
    for path, names in folders.items():
        subset, fold, others = "train", "", []
        for name in map(spelling.__getitem__, names):
            if match := _FOLD.fullmatch(name):
                fold = match[1]
            elif subsets.get(name):
                subset = subsets[name]
            else:
                others.append(name)
        places[path] = (subset, fold, *others)
    renamed = [name for name in sorted(subsets) if subsets[name] and name.lower() not in ("train", "val", "test")]
    if listed := [name if subsets[name] == name else f"{name} as {subsets[name]}" for name in renamed]:
        notes.append(f"folders read as subsets: {first_few(listed)}; a class of such a name must be in data.classes")
    notes += joined
    length = 2 + max(map(len, places.values()), default=2)
    return {path: (*place, *[""] * (length - len(place))) for path, place in places.items()}


def _check_tree(trees: Collection[tuple[str, ...]], source: Path) -> None:
    """Refuses folders of which names recur (more than half if with digits) in several upper folders."""
    top = {folders[0] for folders in trees} - {""}
    for level in range(1, max(map(len, trees), default=0)):
        pairs = {(folders[level], folders[0]) for folders in trees if folders[level]}
        above = Counter(name for name, upper in pairs if name != upper and not _RANGE.fullmatch(name))
        recurring = [name for name, count in above.items() if count > 1 or name in top]
        if all(re.search(r"\d", name) for name in recurring) and 2 * len(recurring) <= len(above):
            continue
        choices = sorted((shlex.quote(",".join(natural_sort(names))) for names in (above, top)), key=len)
        either = choices[0] if len(choices[1]) > 200 else " or ".join(choices)
        raise DataError(
            f"{source}: folder names recur ({first_few(natural_sort(recurring))}), so it is unclear which folders are "
            f"the classes; set --config.data.classes={either}, in label order, or data.source to one of these folders; "
            f"folders above the classes are read together ({_SUBJECT_ABOVE})"
        )


def _find_subjects(places: Collection[tuple[str, ...]], level: int) -> tuple[list[str], list[str]]:
    """Returns the subject of each image, by the folders below the class, which is on `level`, and notes."""
    notes = []
    if above := {"/".join(place[2:level]) for place in places} - {""}:
        notes.append(
            f"folders above the classes are read together: {first_few(natural_sort(above))}; where they show the same "
            f"cells, set data.source to one of them; {_SUBJECT_ABOVE}"
        )
    below = defaultdict[tuple[str, ...], set[str]](set)
    for place in places:
        below[*place[:2], place[level]].add(place[level + 1])
    everywhere = set().union(*below.values())
    recur = len(below) > 1 and all(names == everywhere for names in below.values())
    others = {group for group, names in below.items() if recur or names == {group[-1]} or _are_ranges(names)}
    if listed := natural_sort({name for group in others for name in below[group] - {"", group[-1]}}):
        notes.append(f"not subjects, as they are ranges or in every class: {first_few(listed)}; {_SUBJECT_BELOW}")
    return [place[level + 1 + ((*place[:2], place[level]) in others)] for place in places], notes


def _are_ranges(names: Collection[str]) -> bool:
    """Returns whether all names are ranges of numbers that do not overlap."""
    found = [match for name in names if (match := _RANGE.fullmatch(name))]
    bounds = chain(*sorted((int(match[1]), int(match[2])) for match in found))
    return len(found) == len(names) and all(first <= second for first, second in pairwise(bounds))
