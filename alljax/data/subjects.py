"""Subjects: names that share an identical image are one subject."""

from collections import defaultdict
from collections.abc import Iterable, Sequence

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from alljax.data.archive import natural_sort
from alljax.data.dataset import Record


def merge_subjects(
    records: Sequence[Record], digests: Sequence[str] = (), known_subjects: Sequence[set[str]] = ()
) -> tuple[str, ...]:
    """Returns the subject of each record.

    Subject names that share an image (an equal digest; without `digests`, none do), or that are in one of the disjoint
    sets `known_subjects`, are one subject.  A record without a subject name is a subject of its own, unless another
    record has the same image.

    Returns:
        N names: the merged names, sorted and joined by ``+``; the first of the paths where no name is known.
    """
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
