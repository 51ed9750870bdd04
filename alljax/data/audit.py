"""Duplicates and related subjects in a data set, and what each split protocol would leak."""

import json
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
from alljax.data.archive import natural_sort
from alljax.data.dataset import UNLABELED, Dataset, check
from alljax.data.leaks import count_leaks
from alljax.data.protocols import LEAKY, PROTOCOLS, RANDOM
from alljax.data.readers import open_all
from alljax.data.subjects import connected_groups, merge_subjects
from alljax.errors import LeakError, UserError, first_few, plural
from alljax.files import write_text
from alljax.progress import bar


@dataclass(frozen=True)
class MergedSubject:
    """Subject names that belong to one subject.

    Attributes:
        names: the names in the source.
        known: whether the data set is known to use these names for one subject.
        sharing: groups of these names that share images in the files at hand.
        images: number of distinct images that they share.
    """

    names: tuple[str, ...]
    known: bool
    sharing: tuple[tuple[str, ...], ...]
    images: int


@dataclass(frozen=True)
class ProtocolLeaks:
    """Leakage of a protocol: test images, summed over its folds, of which related images are in the training data.

    Attributes:
        protocol: its name.
        declared: whether it is declared leaky.
        folds: number of folds.
        test_images: number of test images.
        subject: images of the same subject; None where no subject is known.
        field: cells of the same photograph; None where no field is known.
        duplicate: the same image.
        near: the same or a similar image.
        refused: why the protocol is impossible; empty where it is possible.
    """

    protocol: str
    declared: bool
    folds: int = 0
    test_images: int = 0
    subject: int | None = None
    field: int | None = None
    duplicate: int | None = None
    near: int | None = None
    refused: str = ""


@dataclass(frozen=True)
class Audit:
    """Result of `audit`.

    Attributes:
        source: as given by the user.
        images: number of images compared.
        subject_names: number of subject names.
        exact: images with equal pixels.
        near: near duplicates, see `alljax.data.duplicates`.
        merged: subjects with several names.
        protocols: leakage of each protocol.
        unreadable: path → why an image was skipped.
        error: the error to report after printing, if any.
    """

    source: str
    images: int
    subject_names: int
    exact: duplicates.Duplicates
    near: duplicates.Duplicates
    merged: tuple[MergedSubject, ...]
    protocols: tuple[ProtocolLeaks, ...]
    unreadable: Mapping[str, str]
    error: UserError | None


def audit(source: str, protocol: str = "", overrides: Sequence[str] = ()) -> Audit:
    """Compares all images of all subsets of a source, labeled or not, and counts what leaks.

    Subject names that share an image, or are known to belong to one subject, are merged.  Near duplicates are reported
    and do not merge subjects.

    Args:
        source: as ``data.source``.
        protocol: a name in `PROTOCOLS`; empty for all, those without randomness with one repeat.
        overrides: words of the command line, for example ``["--config.split.folds=3"]``.

    Returns:
        The findings.  `Audit.error` is a `LeakError` where a protocol leaks without being declared leaky, or the reason
        why the given protocol is impossible.

    Raises:
        DataError: the source cannot be opened or has no images.
        ConfigError: an unknown protocol, or an override that its setting does not allow.
    """
    changes = {"data.source": source} | ({"split.protocol": protocol} if protocol else {})
    config = configs.check(configs.vary(configs.load(overrides=overrides), changes))
    dataset = open_all(source, config.data.classes, config.data.name_pattern)
    if not dataset.records:
        check(dataset, source)
    with bar("read images", len(dataset.records), "images") as update:
        prints = duplicates.compute_fingerprints(dataset, update)
    dataset = replace(dataset, records=tuple(r for r in dataset.records if r.path not in prints.unreadable))
    records, groups = dataset.records, duplicates.exact_groups(prints.pixels)
    distinct = np.setdiff1d(np.arange(len(records)), [row for group in groups for row in group[1:]])
    with bar("compare images", len(distinct), "images") as update:
        pairs = distinct[duplicates.near_pairs(prints.small[distinct], update)].tolist()
    subjects = merge_subjects(records, prints.pixels, dataset.known_subjects)
    similar = connected_groups(len(records), [*groups, *pairs])
    found, errors = [], []
    for name in (protocol,) if protocol else PROTOCOLS:
        settings = configs.vary(config, {"split.protocol": name})
        if not protocol and name not in RANDOM:
            settings = configs.vary(settings, {"split.repeats": 1})
        try:
            found.append(_leaks(settings, dataset, subjects, prints.pixels, similar))
        except UserError as error:
            found.append(ProtocolLeaks(name, name in LEAKY, refused=str(error)))
            errors += [error] if protocol or isinstance(error, LeakError) else []
    return Audit(
        source,
        images=len(records),
        subject_names=len({record.subject for record in records} - {""}),
        exact=duplicates.summarize(records, subjects, groups),
        near=duplicates.summarize(records, subjects, pairs),
        merged=_merged(dataset, prints.pixels, subjects),
        protocols=tuple(found),
        unreadable=prints.unreadable,
        error=errors[0] if errors else None,
    )


def print_audit(found: Audit, out: Path | None = None) -> None:
    """Prints the findings, of long lists the beginning, and writes all of them as JSON.

    Args:
        found: from `audit`.
        out: the JSON file; None for no file.

    Raises:
        WorkdirError: `out` cannot be written.
    """
    console = Console(highlight=False, markup=False, soft_wrap=True)
    names = plural(found.subject_names, "subject name") if found.subject_names else "no known subject"
    console.print(f"{plural(found.images, 'image')}, {names}")
    if bad := found.unreadable:
        listed = first_few(f"{path} ({why})" for path, why in bad.items())
        console.print(f"{plural(len(bad), 'image')} skipped, cannot be read: {listed}")
    kinds = {"exact": found.exact, "near": found.near}
    header = ("duplicates", "pairs", "two names", "two subjects", "two folds", "two subsets", "two classes")
    counts = [(kind, c.pairs, c.subject_names, c.subjects, c.folds, c.subsets, c.classes) for kind, c in kinds.items()]
    console.print()
    console.print(_table(header, counts))
    for kind, copies in kinds.items():
        for title, groups in (("", copies.groups), (" with several classes", copies.contradictory)):
            if groups:
                console.print(f"{kind} duplicates{title}:", *(f"\n  {line}" for line in _shortened(groups)), sep="")
    for subject in found.merged:
        sharing = " and ".join(" = ".join(names) for names in subject.sharing)
        why = [f"{sharing} share {plural(subject.images, 'image')}" if sharing else "no shared image in this copy"]
        console.print(
            f"one subject: {' = '.join(subject.names)} ({'; '.join([*why, *(['known'] if subject.known else [])])})"
        )
    if drawn := [each for each in found.protocols if not each.refused]:
        console.print("\nTest images whose subject, photograph, image or a similar image is in the training data:")
        columns = ("protocol", "folds", "tested", "subject", "photograph", "image", "similar")
        rows = [(p.protocol, p.folds, p.test_images, p.subject, p.field, p.duplicate, p.near) for p in drawn]
        console.print(_table(columns, rows))
    if declared := [each.protocol for each in drawn if each.declared]:
        console.print(f"declared leaky: {', '.join(declared)}")
    for each in found.protocols:
        if each.refused and each.refused != str(found.error):
            console.print(f"{each.protocol} is impossible: {each.refused}")
    console.print("Near duplicates do not merge subjects.")
    if out:
        content = asdict(replace(found, error=None)) | {"error": str(found.error or "")}
        write_text(out, json.dumps(content, indent=1, ensure_ascii=False) + "\n")
        console.print(f"{out}: all findings")


def _table(header: Sequence[str], rows: Iterable[tuple[str | int | None, ...]]) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False, collapse_padding=True)
    for number, name in enumerate(header):
        table.add_column(name, justify="right" if number else "left", no_wrap=not number)
    for row in rows:
        table.add_row(*("–" if entry is None else entry if isinstance(entry, str) else f"{entry:,}" for entry in row))
    return table


def _shortened(groups: Sequence[Sequence[str]]) -> list[str]:
    """Returns the first five groups without their common folders, and the number of further groups."""
    folders = [path.split("/")[:-1] for group in groups for path in group]
    differing = (n for n, names in enumerate(zip(*folders, strict=False)) if len({*names}) > 1)
    depth = next(differing, min(map(len, folders)))
    lines = [" = ".join("/".join(path.split("/")[depth:]) for path in group) for group in groups[:5]]
    return lines + ([f"and {len(groups) - 5:,} more"] if len(groups) > 5 else [])


def _leaks(
    config: ConfigDict, dataset: Dataset, subjects: Sequence[str], pixels: Sequence[str], similar: Sequence[int]
) -> ProtocolLeaks:
    subsets = ("train", config.split.test_subset) if config.split.protocol == "prelim" else (config.data.subset,)
    used = [each for each in dataset.records if each.subset in subsets and each.label != UNLABELED]
    check(replace(dataset, records=tuple(used)), config.data.source)
    folds = splits.make_splits(dataset, subjects, config.split, config.seed, pixels, config.data.subset)
    counts = count_leaks(folds, dataset.records, subjects, pixels)
    return ProtocolLeaks(
        config.split.protocol,
        config.split.protocol in LEAKY,
        folds=len(folds),
        test_images=counts["test_images"],
        subject=counts["subject"] if any(record.subject for record in used) else None,
        field=counts["field"] if any(record.field for record in used) else None,
        duplicate=counts["duplicate"],
        near=count_leaks(folds, dataset.records, subjects, list(map(str, similar)))["duplicate"],
    )


def _merged(dataset: Dataset, pixels: Sequence[str], subjects: Sequence[str]) -> tuple[MergedSubject, ...]:
    records = dataset.records
    sharing = _with_several_names(dataset, merge_subjects(records, pixels))
    known = _with_several_names(dataset, merge_subjects(records, (), dataset.known_subjects))
    names_of_image = defaultdict[str, set[str]](set)
    for record, digest in zip(records, pixels, strict=True):
        names_of_image[digest].add(record.subject)
    return tuple(
        MergedSubject(
            names,
            known=names in known,
            sharing=tuple(group for group in sharing if set(group) <= set(names)),
            images=sum(len(those.intersection(names)) > 1 for those in names_of_image.values()),
        )
        for names in _with_several_names(dataset, subjects)
    )


def _with_several_names(dataset: Dataset, subjects: Sequence[str]) -> list[tuple[str, ...]]:
    names = defaultdict[str, set[str]](set)
    for record, subject in zip(dataset.records, subjects, strict=True):
        if record.subject:
            names[subject].add(record.subject)
    return [tuple(natural_sort(names[subject])) for subject in natural_sort(names) if len(names[subject]) > 1]
