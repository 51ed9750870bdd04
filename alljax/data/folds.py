"""Folds and held-out sides of whole people with even classes."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.int64]


def fold_of_person(labels: Numbers, persons: Numbers, folds: int, seed: int) -> Numbers:
    """Gives each person a fold: large ones first, each to the fold that its cells leave the most even.

    This is scikit-learn's StratifiedGroupKFold with one thing added: the order of the people is
    loosened by chance.  Theirs is by size with ties shuffled, which makes nearly the same folds for
    every seed where people differ in size (on C-NMC 6 different divisions from 12 seeds), and before
    release 1.8 theirs did not stratify when it shuffled.  Loosening by 30 % makes the seeds as good as
    independent there and leaves the classes even to 1 %.

    Where everybody has cells of one class only, two folds differ in a class by no more cells than its
    largest person has (each person goes where the class has least).

    Args:
        labels: (N,).
        persons: (N,), numbers from 0 without gaps.
        folds: K.
        seed: of the chance.

    Returns:
        The fold of each person, (P,).
    """
    rng = np.random.default_rng(seed)
    shares = _shares(labels, persons)
    sizes = shares.max(axis=1) * np.exp(0.3 * rng.standard_normal(len(shares)))
    held = np.zeros((folds, shares.shape[1]))
    fold_of_person = np.zeros(len(shares), np.int64)
    for person in np.argsort(-sizes, kind="stable"):
        # options[k] is what the folds would hold if the person went to fold k
        options = held + np.eye(folds)[:, :, None] * shares[person]
        unevenness = options.std(axis=1).sum(axis=1)
        best = np.flatnonzero(unevenness <= unevenness.min() + 1e-12)
        fold_of_person[person] = rng.choice(best)
        held = options[fold_of_person[person]]
    return fold_of_person


def held_out(labels: Numbers, persons: Numbers, fraction: float, seed: int | Sequence[int]) -> NDArray[np.bool_]:
    """Sets people aside until they hold about `fraction` of each class.

    In an order of chance, everybody is taken whose cells bring the shares of the classes nearer to
    `fraction`.  Of twenty orders the first is kept that comes within 1 % of each class, else the nearest.
    Where that leaves a class on one side only, its smallest person changes sides; people that both
    sides need stay with the rest, which therefore always has every class.

    Where everybody has cells of one class only, the share taken of a class differs from `fraction` by
    no more than half of what its largest person has, or all that its smallest has.

    Args:
        labels: (N,), every class present.
        persons: (N,), numbers from 0 without gaps.
        fraction: between 0 and 1.
        seed: of the chance.

    Returns:
        Who is set aside, (P,).
    """
    rng = np.random.default_rng(seed)
    shares = _shares(labels, persons)
    taken, nearest = np.zeros(len(shares), np.bool_), np.inf
    for _ in range(20):
        order = rng.permutation(len(shares))
        chosen, missing = _taken_in_order(shares, order, fraction)
        if np.abs(missing).max() < nearest:
            taken, nearest = chosen, np.abs(missing).max()
        if nearest <= 0.01:
            break
    for side in (True, False):
        for own in shares.T:
            if not own[taken == side].any():
                there = order[own[order] > 0]
                taken[there[own[there].argmin()]] = side
    return taken


def nested_order(labels: Numbers, persons: Numbers, seed: int | Sequence[int]) -> Numbers:
    """Puts people in an order of chance of which every beginning is a small copy of the whole.

    The first people bring every class; after them comes each time somebody of the class that is
    furthest below its share of the people.  A person's class is the one most of its cells have.

    Args:
        labels: (N,), every class present.
        persons: (N,), numbers from 0 without gaps.
        seed: of the chance.

    Returns:
        The people, (P,).
    """
    counts = np.zeros((persons.max() + 1, labels.max() + 1), np.int64)
    np.add.at(counts, (persons, labels), 1)
    own, by_chance = counts.argmax(axis=1), np.random.default_rng(seed).permutation(len(counts))
    order: list[int] = []
    for label in range(counts.shape[1]):
        if not any(counts[person, label] for person in order):
            order.append(next(int(person) for person in by_chance if counts[person, label]))
    waiting = [[int(person) for person in by_chance if own[person] == label and person not in order]
               for label in range(counts.shape[1])]  # fmt: skip
    shares = np.bincount(own, minlength=len(waiting)) / len(own)
    while len(order) < len(own):
        missing = shares * (len(order) + 1) - np.bincount(own[order], minlength=len(waiting))
        label = max((label for label, people in enumerate(waiting) if people), key=missing.__getitem__)
        order.append(waiting[label].pop(0))
    return np.array(order, np.int64)


def _taken_in_order(
    shares: NDArray[np.float64], order: Numbers, fraction: float
) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """Returns who is taken, (P,), and what of each class then still misses, (C,)."""
    taken = np.zeros(len(shares), np.bool_)
    missing = np.full(shares.shape[1], fraction)
    for person in order:
        left = missing - shares[person]
        if np.abs(left).sum() < np.abs(missing).sum():
            taken[person], missing = True, left
    return taken, missing


def _shares(labels: Numbers, persons: Numbers) -> NDArray[np.float64]:
    """Returns what each person has of each class, (P, C); the classes weigh alike, 1 each."""
    counts = np.zeros((persons.max() + 1, labels.max() + 1))
    np.add.at(counts, (persons, labels), 1)
    return counts / counts.sum(axis=0)
