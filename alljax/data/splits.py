"""Subjects; training, validation and test rows by protocol, and the leakage between them."""

import hashlib
import itertools
from collections import defaultdict
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from ml_collections import ConfigDict
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from alljax.data import protocols
from alljax.data.archive import natural_sort
from alljax.data.dataset import Dataset, Record
from alljax.data.protocols import LEAKY, OF_SOURCES, PROTOCOLS, RANDOM, Rows, Table, home_folds, make_table
from alljax.errors import ConfigError, DataError, LeakError, first_few, plural


@dataclass(frozen=True, eq=False)
class Fold:
    """Record indices, ascending, of fold `fold` of random division `repeat`, both from 0; often without validation."""

    repeat: int
    fold: int
    train: Rows
    test: Rows
    validation: Rows = field(default_factory=lambda: np.empty(0, np.int64))

    @property
    def sides(self) -> tuple[tuple[str, Rows], ...]:
        """Names and rows of the three sides."""
        return ("train", self.train), ("validation", self.validation), ("test", self.test)


def merge_subjects(
    records: Sequence[Record], digests: Sequence[str] = (), known_subjects: Sequence[set[str]] = ()
) -> tuple[str, ...]:
    """Returns the subject of each of N records: names that share an image or are known to be one, joined by ``+``."""
    known = {name: number for number, names in enumerate(known_subjects) for name in names}
    groups: dict[object, list[int]] = defaultdict(list)
    for row, record in enumerate(records):
        if record.subject:
            groups[known.get(record.subject, record.subject)].append(row)
    for row, digest in enumerate(digests):
        groups["digest", digest].append(row)
    component = connected_groups(len(records), groups.values())
    names, paths = defaultdict(set), defaultdict(set)
    for number, record in zip(component, records, strict=True):
        names[number].add(record.subject)
        paths[number].add(record.path)
    merged = {n: "+".join(natural_sort(names[n] - {""})) or natural_sort(paths[n])[0] for n in paths}
    return tuple(merged[number] for number in component)


def connected_groups(count: int, groups: Iterable[Sequence[int]]) -> list[int]:
    """Returns for each of `count` nodes a number that is equal for all nodes that the groups connect."""
    edges = np.array([(group[0], other) for group in groups for other in group[1:]], int).reshape(-1, 2)
    graph = coo_array((np.ones(len(edges)), (edges[:, 0], edges[:, 1])), shape=(count, count))
    return connected_components(graph, directed=False)[1].tolist()


def make_folds(
    dataset: Dataset, subjects: Sequence[str], digests: Sequence[str], config: ConfigDict
) -> tuple[Fold, ...]:
    """Divides the labeled of N records, see `cross_validation.make_splits`; repeat r uses the seed ``seed + r``.

    The order of the records has no influence; images of equal `digests` (if given) must not be on two sides.
    """
    settings, seed, protocol = config.split, config.seed, config.split.protocol
    if settings.repeats > 1 and protocol not in RANDOM:
        raise ConfigError(
            f"split.repeats={settings.repeats}, but protocol {protocol} has one division only; set split.repeats=1 "
            "(study.seeds trains with several seeds)"
        )
    if protocol in OF_SOURCES and dataset.name != "sources":
        raise ConfigError(f"protocol {protocol} needs several sources; list them in data.sources")
    subsets = ("train", settings.test_subset) if protocol == "prelim" else (config.data.subset,)
    table = make_table(dataset, subjects, subsets)
    # The leaky protocol divides images for validation too, so that both curves answer the same question.
    groups = np.arange(len(table.rows)) if protocol == "paper" else table.groups
    folds = []
    for repeat in range(settings.repeats):
        for number, rows in enumerate(PROTOCOLS[protocol](table, settings, seed + repeat)):
            tested, trained = (
                rows if isinstance(rows, tuple) else (rows, np.setdiff1d(np.arange(len(table.rows)), rows))
            )
            fold = Fold(repeat, number, trained, tested)
            lost = set(range(len(table.classes))).difference(table.labels[fold.train].tolist())
            if lost or not len(fold.test):
                problem = f"would train without class {table.classes[min(lost)]!r}" if lost else "has nothing to test"
                raise DataError(
                    f"fold {number} of repeat {repeat} of protocol {protocol} {problem}; add images, or set fewer "
                    "folds (split.folds), another seed or another protocol"
                )
            if settings.validation:
                fold = _hold_out_validation(fold, table.labels, groups, settings.validation, seed)
            if settings.train_subjects:
                fold = _reduce_training(fold, table, settings.train_subjects, seed)
            if settings.train_images:
                fold = _draw_images(fold, table, settings.train_images, seed)
            folds.append(Fold(repeat, number, **{side: np.sort(table.rows[rows]) for side, rows in fold.sides}))
    if protocol not in LEAKY:
        check_leaks(folds, subjects, digests, protocol)
    return tuple(folds)


def reassigned(dataset: Dataset, subjects: Sequence[str], subset: str) -> str:
    """Returns a message about the images that ``official_folds`` moves to another fold; empty if there are none."""
    table = make_table(dataset, subjects, (subset,))
    homes = zip(table.records, table.subjects, home_folds(table), strict=True)
    moved = [subject for record, subject, home in homes if record.fold != home]
    what = f"{plural(len(moved), 'image')} moved to the official fold with most images of the same subject"
    return f"{what}: {first_few(natural_sort(set(moved)))}" if moved else ""


def count_leaks(
    folds: Sequence[Fold], records: Sequence[Record], subjects: Sequence[str], images: Sequence[Hashable]
) -> dict[str, int]:
    """Counts ``test_images``, and those with a subject, photograph (``field``) or element of `images` in training."""
    # Records without a field get a field of their own.
    fields = [(record.subject, record.field) if record.field else (record.path, "") for record in records]
    counts = {"test_images": sum(len(fold.test) for fold in folds)}
    for name, keys in (("subject", subjects), ("field", fields), ("duplicate", images)):
        counts[name] = sum(len(_common_rows(keys, [*fold.train, *fold.validation], fold.test)) for fold in folds)
    return counts


def check_leaks(folds: Sequence[Fold], subjects: Sequence[str], digests: Sequence[str], protocol: str) -> None:
    """Raises LeakError, which names the subjects, where a subject or an image is on two sides of a fold."""
    for keys, shared in ((subjects, "images of the same subject"), (digests, "the same image")):
        for fold in folds if keys else ():
            for (one, left), (other, right) in itertools.combinations(fold.sides, 2):
                if rows := _common_rows(keys, left, right):
                    names = natural_sort({subjects[row] for row in rows})
                    raise LeakError(
                        f"protocol {protocol} leaks in fold {fold.fold} of repeat {fold.repeat}: {len(rows):,} of "
                        f"{len(right):,} {other} images have {shared} on the {one} side "
                        f"({plural(len(names), 'subject')}: {first_few(names)}); "
                        "remove their images from one of the subsets, or set split.protocol=subject_kfold"
                    )


def fingerprint(folds: Sequence[Fold], records: Sequence[Record]) -> str:
    """Returns the SHA-256 of the sorted lines ``repeat TAB fold TAB side TAB path``; independent of their order."""
    sides = [(f"{fold.repeat}\t{fold.fold}\t{side}", rows) for fold in folds for side, rows in fold.sides]
    lines = sorted(f"{side}\t{records[row].path}\n" for side, rows in sides for row in rows)
    return hashlib.sha256("".join(lines).encode(errors="surrogateescape")).hexdigest()


def _hold_out_validation(fold: Fold, labels: Rows, groups: Rows, fraction: float, seed: int) -> Fold:
    seeds = (seed + fold.repeat, fold.fold, 1)
    held_out = protocols.group_holdout(labels[fold.train], groups[fold.train], fraction, seeds)
    if not held_out.any():
        raise DataError(
            f"fold {fold.fold} of repeat {fold.repeat} has no class with two subjects to train on, so none can be held "
            "out for validation; set split.validation=0 or add subjects"
        )
    return replace(fold, train=fold.train[~held_out], validation=fold.train[held_out])


def _reduce_training(fold: Fold, table: Table, count: int, seed: int) -> Fold:
    """Keeps `count` subjects of the training side (images where no subject is known); smaller sets are nested."""
    labels = table.labels[fold.train]
    rank = protocols.nested_groups(labels, table.groups[fold.train], (seed + fold.repeat, fold.fold, 2))
    kept = rank < count
    if count > rank.max() + 1 or {*labels[kept].tolist()} != {*labels.tolist()}:
        raise ConfigError(
            f"split.train_subjects={count}, but fold {fold.fold} of repeat {fold.repeat} has {rank.max() + 1:,} "
            "subjects (or images without one) to train on; set at most this, at least one per class, or 0 for all"
        )
    return replace(fold, train=fold.train[kept])


def _draw_images(fold: Fold, table: Table, count: int, seed: int) -> Fold:
    """Keeps `count` training images per class, from as many subjects as possible; smaller sets are nested."""
    generator = np.random.default_rng((seed + fold.repeat, fold.fold, 3))
    rows, place, kept = generator.permutation(fold.train), generator.permutation(table.groups.max() + 1), []
    for label, name in enumerate(table.classes):
        of_class = rows[table.labels[rows] == label]
        if count > len(of_class):
            raise ConfigError(
                f"split.train_images={count}, but fold {fold.fold} of repeat {fold.repeat} has "
                f"{plural(len(of_class), 'training image')} of class {name!r}; set at most this, or 0 for all"
            )
        turns, groups = defaultdict[int, Iterator[int]](itertools.count), table.groups[of_class]
        turn = [next(turns[group]) for group in groups]  # images of a subject are in different turns
        kept.append(of_class[np.lexsort((place[groups], turn))[:count]])
    return replace(fold, train=np.concatenate(kept))


def _common_rows(keys: Sequence[Hashable], left: Iterable[int], right: Iterable[int]) -> list[int]:
    """Returns the rows of `right` whose key also occurs in rows of `left`."""
    found = {keys[row] for row in left}
    return [row for row in right if keys[row] in found]
