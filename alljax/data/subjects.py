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
        known_subjects: sets of names that belong to one subject.

    Returns:
        N names: the merged names, sorted and joined by ``+``; the first of the paths where no name is known.
    """
    # A record without a name is a node of its own; the newline separates its path from subject names.
    owners = [record.subject or f"\n{record.path}" for record in records]
    nodes = {owner: number for number, owner in enumerate(dict.fromkeys(owners))}
    groups = [[nodes[name] for name in names if name in nodes] for names in known_subjects]
    by_digest: dict[str, list[int]] = defaultdict(list)
    for owner, digest in zip(owners, digests, strict=bool(digests)):
        by_digest[digest].append(nodes[owner])
    component = connected_groups(len(nodes), [*groups, *by_digest.values()])
    members: dict[int, list[str]] = defaultdict(list)
    for owner, number in nodes.items():
        members[component[number]].append(owner)
    names = {number: _name(owners) for number, owners in members.items()}
    return tuple(names[component[nodes[owner]]] for owner in owners)


def connected_groups(count: int, groups: Iterable[Sequence[int]]) -> list[int]:
    """Returns for each of `count` nodes a number that is equal for all nodes that the groups connect."""
    edges = np.array([(group[0], other) for group in groups for other in group[1:]], int).reshape(-1, 2)
    graph = coo_array((np.ones(len(edges)), (edges[:, 0], edges[:, 1])), shape=(count, count))
    return connected_components(graph, directed=False)[1].tolist()


def _name(owners: Sequence[str]) -> str:
    names = [owner for owner in owners if not owner.startswith("\n")]
    return "+".join(natural_sort(names)) if names else natural_sort(owners)[0].removeprefix("\n")
