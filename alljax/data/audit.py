"""What a set hides: images that stand more than once, subjects that are one person, and what a protocol then leaks."""

import json
import sys
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from ml_collections import ConfigDict
from rich.console import Console
from rich.table import Table

from alljax import config as configs
from alljax.data import duplicates, splits
from alljax.data.archive import natural
from alljax.data.dataset import UNLABELED, Dataset, check
from alljax.data.readers import open_all
from alljax.data.subjects import unite
from alljax.errors import LeakError, UserError, first_few, plural
from alljax.files import write_text
from alljax.progress import bar


@dataclass(frozen=True)
class Person:
    """Subject names that are one person.

    Attributes:
        subjects: those that are in the source.
        known: whether it is known of the set that they are.
        found: which of them share images in the files at hand, in groups.
        images: how many images they share, each counted once.
    """

    subjects: tuple[str, ...]
    known: bool
    found: tuple[tuple[str, ...], ...]
    images: int


@dataclass(frozen=True)
class Leaks:
    """What a protocol leaks, summed over its splits.

    Attributes:
        protocol: its name.
        declared: whether it is known to leak.
        splits: how many splits it draws.
        test_cells: how many cells they test.
        person: how many of these have their person in train; None where no subject is known.
        field: how many have a cell of the same photograph in train; None where none is known.
        duplicate: how many have the same image in train.
        near: how many have the same or a nearly the same image in train.
        refused: why it is not drawn; empty where it is.
    """

    protocol: str
    declared: bool
    splits: int = 0
    test_cells: int = 0
    person: int | None = None
    field: int | None = None
    duplicate: int | None = None
    near: int | None = None
    refused: str = ""


@dataclass(frozen=True)
class Audit:
    """What an audit found.

    Attributes:
        source: as the person wrote it.
        images: how many were compared.
        subjects: how many subject names they have.
        exact: images that are the same pixel for pixel, in whatever format.
        near: see `duplicates`.
        people: subjects that are one person.
        protocols: what leaks under each.
        unreadable: why an image was left out, by its path.
        error: what the person who asked is to be told in the end, if anything.
    """

    source: str
    images: int
    subjects: int
    exact: duplicates.Copies
    near: duplicates.Copies
    people: tuple[Person, ...]
    protocols: tuple[Leaks, ...]
    unreadable: Mapping[str, str]
    error: UserError | None


def audit(source: str, protocol: str = "", overrides: Sequence[str] = ()) -> Audit:
    """Compares all images of a source, of all parts, labeled or not, and counts what leaks; shows bars.

    Subjects that share an image (the same pixels), or are known to be one
    person, are united.  Near duplicates unite nobody: they are reported.

    Args:
        source: as `data.source`.
        protocol: one of `splits.PROTOCOLS`; empty for all, those that draw in one way with one repeat.
        overrides: words of the command line, for example ``--config.split.folds=3``.

    Returns:
        What was found.  Its `error` is a `LeakError` where a protocol leaks that is not declared to, or
        what refuses the one that was asked for.

    Raises:
        DataError: the source cannot be opened, or has no images.
        ConfigError: no such protocol, or an override that its setting does not allow.
    """
    config = _config(source, protocol, overrides)
    data = config.data
    dataset = open_all(source, data.classes, data.name_pattern)
    if not dataset.records:
        check(dataset, source)
    with bar("look at the images", len(dataset.records), "images") as advance:
        prints = duplicates.take_prints(dataset, advance)
    dataset = replace(dataset, records=tuple(r for r in dataset.records if r.path not in prints.unreadable))
    records, groups = dataset.records, duplicates.exact(prints.pixels)
    distinct = np.setdiff1d(np.arange(len(records)), [row for group in groups for row in group[1:]])
    with bar("compare them", len(distinct), "images") as advance:
        pairs = distinct[duplicates.near(prints.small[distinct], advance)]
    united = unite(records, prints.pixels, dataset.known_subjects)
    alike = duplicates.families(len(records), [*groups, *pairs.tolist()])
    found, errors = [], []
    for each in (protocol,) if protocol else splits.PROTOCOLS:
        repeats = config.split.repeats if protocol or each in splits.REDRAWN else 1
        try:
            found.append(_leaks(each, dataset, config, repeats, united, prints.pixels, alike))
        except UserError as error:
            found.append(Leaks(each, each in splits.LEAKY, refused=str(error)))
            errors += [error] if protocol or isinstance(error, LeakError) else []
    return Audit(
        source,
        images=len(records),
        subjects=len({record.subject for record in records} - {""}),
        exact=duplicates.describe(records, united, groups),
        near=duplicates.describe(records, united, pairs.tolist()),
        people=_people(dataset, prints.pixels, united),
        protocols=tuple(found),
        unreadable=prints.unreadable,
        error=errors[0] if errors else None,
    )


def show(found: Audit, out: Path | None = None) -> None:
    """Prints what was found, of long lists the first; writes all of it as JSON.

    Args:
        found: from `audit`.
        out: the JSON file; none for no file.

    Raises:
        WorkdirError: `out` cannot be written.
    """
    console = Console(width=None if sys.stdout.isatty() else 120, highlight=False)

    def say(line: str) -> None:
        console.print(line, markup=False)

    subjects = plural(found.subjects, "subject") if found.subjects else "no known subject: cell-level only"
    say(f"{plural(found.images, 'image')} of {subjects}")
    if bad := found.unreadable:
        listed = first_few(f"{path} ({why})" for path, why in bad.items())
        say(f"{plural(len(bad), 'image')} left out, cannot be read: {listed}")
    kinds = {"exact": found.exact, "near": found.near}
    heads = ("duplicates", "pairs", "two subjects", "two people", "two folds", "two parts", "two classes")
    say("")
    console.print(
        _table(heads, ((kind, c.pairs, c.subjects, c.people, c.folds, c.parts, c.classes) for kind, c in kinds.items()))
    )
    for kind, copies in kinds.items():
        for title, groups in (("", copies.groups), (" under two classes, one of them wrong", copies.contradictory)):
            if groups:
                say(f"{kind} duplicates{title}:")
                for line in _first(groups):
                    say(f"  {line}")
    for person in found.people:
        here = " and ".join(" = ".join(names) for names in person.found)
        why = [f"{here} share {plural(person.images, 'image')} here"] if here else ["no shared image here"]
        say(f"one person: {' = '.join(person.subjects)} ({'; '.join([*why, *(['known'] if person.known else [])])})")
    if drawn := [each for each in found.protocols if not each.refused]:
        say("\nTested cells with their person, their photograph, the same image, the same or nearly the same in train:")
        heads = ("protocol", "splits", "tested", "person", "photograph", "same", "nearly")
        counts = ((e.protocol, e.splits, e.test_cells, e.person, e.field, e.duplicate, e.near) for e in drawn)
        console.print(_table(heads, counts))
    if declared := [each.protocol for each in drawn if each.declared]:
        say(f"declared to leak: {', '.join(declared)}")
    for each in found.protocols:
        if each.refused and each.refused != str(found.error):
            say(f"{each.protocol} is not possible: {each.refused}")
    say("Near duplicates are only counted: no people are united by them.")
    if out:
        content = asdict(replace(found, error=None)) | {"error": str(found.error or "")}
        write_text(out, json.dumps(content, indent=1, ensure_ascii=False) + "\n")
        say(f"{out}: all of it")


def _table(heads: Sequence[str], rows: Iterable[tuple[str | int | None, ...]]) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False, collapse_padding=True)
    for number, head in enumerate(heads):
        table.add_column(head, justify="right" if number else "left")
    for name, *counts in rows:
        table.add_row(str(name), *("–" if count is None else f"{count:,}" for count in counts))
    return table


def _first(groups: Sequence[Sequence[str]]) -> list[str]:
    """Returns the first five groups, without the folders that all have in common, and how many more there are."""
    folders = [path.split("/")[:-1] for group in groups for path in group]
    depth = next(
        (n for n, names in enumerate(zip(*folders, strict=False)) if len({*names}) > 1), min(map(len, folders))
    )
    lines = [" = ".join("/".join(path.split("/")[depth:]) for path in group) for group in groups[:5]]
    return lines + ([f"and {len(groups) - 5:,} more"] if len(groups) > 5 else [])


def _config(source: str, protocol: str, overrides: Sequence[str]) -> ConfigDict:
    changes = {"data.source": source} | ({"split.protocol": protocol} if protocol else {})
    return configs.override(configs.vary(configs.default_config(), changes), overrides)


def _leaks(
    protocol: str,
    dataset: Dataset,
    config: ConfigDict,
    repeats: int,
    people: Sequence[str],
    pixels: Sequence[str],
    alike: Sequence[str],
) -> Leaks:
    how = config.split
    parts = ("train", how.test_subset) if protocol == "prelim" else (config.data.subset,)
    rows = [n for n, each in enumerate(dataset.records) if each.subset in parts and each.label != UNLABELED]
    records = check(replace(dataset, records=tuple(dataset.records[row] for row in rows)), config.data.source).records
    of_people, of_pixels, of_alike = ([kinds[row] for row in rows] for kinds in (people, pixels, alike))
    drawn = splits.make_splits(
        protocol,
        records,
        of_people,
        of_pixels,
        classes=dataset.classes,
        folds=how.folds,
        repeats=repeats,
        seed=config.seed,
        test_fraction=how.test_fraction,
        stratified=how.stratified,
        test_subset=how.test_subset,
        validation=how.validation,
    )
    counts = splits.leaks(drawn, records, of_people, of_pixels)
    return Leaks(
        protocol,
        protocol in splits.LEAKY,
        splits=len(drawn),
        test_cells=counts["test_images"],
        person=counts["subject"] if any(record.subject for record in records) else None,
        field=counts["field"] if any(record.field for record in records) else None,
        duplicate=counts["duplicate"],
        near=splits.leaks(drawn, records, of_people, of_alike)["duplicate"],
    )


def _people(dataset: Dataset, pixels: Sequence[str], united: Sequence[str]) -> tuple[Person, ...]:
    records = dataset.records
    found = _several(dataset, unite(records, pixels))
    known = _several(dataset, unite(records, (), dataset.known_subjects))
    owners = defaultdict[str, set[str]](set)
    for record, digest in zip(records, pixels, strict=True):
        owners[digest].add(record.subject)
    return tuple(
        Person(
            subjects,
            known=subjects in known,
            found=tuple(some_of_them for some_of_them in found if set(some_of_them) <= set(subjects)),
            images=sum(len(names.intersection(subjects)) > 1 for names in owners.values()),
        )
        for subjects in _several(dataset, united)
    )


def _several(dataset: Dataset, people: Sequence[str]) -> list[tuple[str, ...]]:
    """Returns the subjects of each person that has several."""
    names = defaultdict[str, set[str]](set)
    for record, person in zip(dataset.records, people, strict=True):
        if record.subject:
            names[person].add(record.subject)
    return [tuple(natural(names[person])) for person in natural(names) if len(names[person]) > 1]
