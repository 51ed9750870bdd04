"""Subjects: names that share an identical image are one subject."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from collections.abc import Set as AbstractSet

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from alljax.data.archive import natural_sort
from alljax.data.dataset import Record


def merge_subjects(
    records: Sequence[Record], digests: Sequence[str] = (), known_subjects: Sequence[AbstractSet[str]] = ()
) -> tuple[str, ...]:
    """Returns the subject of each record.

    Subject names that share an image, or that are known to belong to one subject, are merged (connected components).  A
    record without a subject name is a subject of its own, unless another record has the same image.

    Args:
        records: N records.
        digests: one per record, equal for equal images; empty to compare none.
        known_subjects: disjoint sets of names that belong to one subject.

    Returns:
        N names: the merged names, sorted and joined by ``+``; the first of the paths where no name is known.
    """
    known = {name: names for names in known_subjects for name in names}
    rows: dict[object, list[int]] = defaultdict(list)
    for row, record in enumerate(records):
        if record.subject:
            rows[known.get(record.subject, record.subject)].append(row)
    for row, digest in enumerate(digests):
        rows["digest", digest].append(row)
    component = connected_groups(len(records), rows.values())
    members: dict[int, list[Record]] = defaultdict(list)
    for number, record in zip(component, records, strict=True):
        members[number].append(record)
    subjects = {}
    for number, same in members.items():
        names = {record.subject for record in same} - {""}
        subjects[number] = "+".join(natural_sort(names)) or natural_sort(record.path for record in same)[0]
    return tuple(subjects[number] for number in component)


def connected_groups(count: int, groups: Iterable[Sequence[int]]) -> list[int]:
    """Returns for each of `count` nodes a number that is equal for all nodes that the groups connect."""
    edges = np.array([(group[0], other) for group in groups for other in group[1:]], int).reshape(-1, 2)
    graph = coo_array((np.ones(len(edges)), (edges[:, 0], edges[:, 1])), shape=(count, count))
    return connected_components(graph, directed=False)[1].tolist()
