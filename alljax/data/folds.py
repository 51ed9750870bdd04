"""Folds and held-out sets of whole groups (subjects) with balanced classes.

In all functions `labels` are the classes of N images, numbers from 0, every one present, and `groups` their groups.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.int64]


def group_folds(labels: Numbers, groups: Numbers, folds: int, seed: int) -> Numbers:
    """Returns the fold of each image: large groups are placed first, where they leave the classes most balanced.

    This is scikit-learn's StratifiedGroupKFold with a randomized order of the groups.  In scikit-learn the order is by
    size and the seed breaks ties only, so that groups of different sizes get nearly the same folds for every seed (6
    different divisions of C-NMC from 12 seeds).  Multiplying sizes by log-normal noise (sigma 0.3) makes seeds
    practically independent there and keeps class fractions within 1 %.
    """
    rng = np.random.default_rng(seed)
    numbers, counts = _class_counts(labels, groups)
    shares = counts / counts.sum(axis=0)
    sizes = shares.max(axis=1) * np.exp(0.3 * rng.standard_normal(len(shares)))
    filled = np.zeros((folds, shares.shape[1]))
    fold_of_group = np.zeros(len(shares), np.int64)
    for group in np.argsort(-sizes, kind="stable"):
        # options[k] is the content of the folds if the group goes to fold k
        options = filled + np.eye(folds)[:, :, None] * shares[group]
        imbalance = options.std(axis=1).sum(axis=1)
        best = np.flatnonzero(imbalance <= imbalance.min() + 1e-12)
        fold_of_group[group] = rng.choice(best)
        filled = options[fold_of_group[group]]
    return fold_of_group[numbers]


def group_holdout(labels: Numbers, groups: Numbers, fraction: float, seed: int | Sequence[int]) -> NDArray[np.bool_]:
    """Returns whether each image is held out: groups that contain about `fraction` of each class.

    Groups are visited in random order and held out if that brings the class fractions closer to `fraction`.  Up to
    twenty orders are tried until every class is within 1 %; otherwise the closest is used.  If a class is on one side
    only, its smallest group changes sides; groups that both sides need stay in the rest, which therefore has every
    class.
    """
    rng = np.random.default_rng(seed)
    numbers, counts = _class_counts(labels, groups)
    shares = counts / counts.sum(axis=0)
    closest = np.inf
    for _ in range(20):
        order, chosen = rng.permutation(len(shares)), np.zeros(len(shares), np.bool_)
        missing = np.full(shares.shape[1], fraction)
        for group in order:
            rest = missing - shares[group]
            if np.abs(rest).sum() < np.abs(missing).sum():
                chosen[group], missing = True, rest
        if np.abs(missing).max() < closest:
            held_out, closest = chosen, np.abs(missing).max()
        if closest <= 0.01:
            break
    for side in (True, False):
        for of_class in shares.T:
            if not of_class[held_out == side].any():
                candidates = order[of_class[order] > 0]
                held_out[candidates[of_class[candidates].argmin()]] = side
    return held_out[numbers]


def nested_groups(labels: Numbers, groups: Numbers, seed: int | Sequence[int]) -> Numbers:
    """Returns the rank of each image's group in a random order whose beginnings have about the class fractions of all.

    The first groups cover every class; each further group is of the class that is furthest below its fraction of the
    groups.  The class of a group is its most frequent label.
    """
    numbers, counts = _class_counts(labels, groups)
    class_of, shuffled = counts.argmax(axis=1), np.random.default_rng(seed).permutation(len(counts))
    order: list[int] = []
    for label in range(counts.shape[1]):
        if not any(counts[group, label] for group in order):
            order.append(next(group for group in shuffled if counts[group, label]))
    rest = shuffled[~np.isin(shuffled, order)]
    remaining = [list(rest[class_of[rest] == label]) for label in range(counts.shape[1])]
    fractions = np.bincount(class_of, minlength=len(remaining)) / len(class_of)
    while len(order) < len(class_of):
        missing = fractions * (len(order) + 1) - np.bincount(class_of[order], minlength=len(remaining))
        label = max((label for label, of_class in enumerate(remaining) if of_class), key=missing.__getitem__)
        order.append(remaining[label].pop(0))
    return np.argsort(order)[numbers]


def _class_counts(labels: Numbers, groups: Numbers) -> tuple[Numbers, Numbers]:
    """Returns the number of each image's group, from 0, and how many images of each class each group has, (G, C)."""
    names, numbers = np.unique(groups, return_inverse=True)
    counts = np.zeros((len(names), labels.max() + 1), np.int64)
    np.add.at(counts, (numbers, labels), 1)
    return numbers, counts
