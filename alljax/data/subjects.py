"""Who the subjects of a set really are: names that share an image are one person."""

from collections import defaultdict
from collections.abc import Sequence
from collections.abc import Set as AbstractSet

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from alljax.data.archive import natural
from alljax.data.dataset import Record


def unite(
    records: Sequence[Record], digests: Sequence[str] = (), known_subjects: Sequence[AbstractSet[str]] = ()
) -> tuple[str, ...]:
    """Returns the person of each record.

    Subjects that share an image, or that are known to be one
    person, are united (connected components).  A record without a subject is a
    person of its own, unless another has the very same bytes.

    Args:
        records: N records.
        digests: one a record, equal where images are the same; empty to compare none.
        known_subjects: sets of subject names that are one person.

    Returns:
        N names: a person's subject names, sorted, joined by ``+``; the first of its paths where no
        subject is known.
    """
    # A nameless record is a node of its own; a newline keeps its path apart from subject names.
    owners = [record.subject or f"\n{record.path}" for record in records]
    nodes = {owner: number for number, owner in enumerate(dict.fromkeys(owners))}
    groups = [[nodes[name] for name in same if name in nodes] for same in known_subjects]
    by_digest: dict[str, list[int]] = defaultdict(list)
    for owner, digest in zip(owners, digests, strict=bool(digests)):
        by_digest[digest].append(nodes[owner])
    groups += by_digest.values()
    edges = np.array([(group[0], other) for group in groups for other in group[1:]], int).reshape(-1, 2)
    graph = coo_array((np.ones(len(edges)), (edges[:, 0], edges[:, 1])), shape=(len(nodes), len(nodes)))
    component = connected_components(graph, directed=False)[1]
    members: dict[int, list[str]] = defaultdict(list)
    for owner, number in nodes.items():
        members[component[number]].append(owner)
    names = {number: _person_name(united) for number, united in members.items()}
    return tuple(names[component[nodes[owner]]] for owner in owners)


def _person_name(owners: Sequence[str]) -> str:
    subjects = [owner for owner in owners if not owner.startswith("\n")]
    return "+".join(natural(subjects)) if subjects else natural(owners)[0].removeprefix("\n")
