"""Selection of features by the salp swarm algorithm (S. Mirjalili et al., 2017, 10.1016/j.advengsoft.2017.07.002)."""

import itertools
from collections.abc import Callable

import numpy as np
from ml_collections import ConfigDict

from alljax import interrupts
from alljax.data.protocols import balanced_folds
from alljax.errors import ConfigError

FOLDS = 5
"""Folds of training subjects that give the error of a selection; fewer if a class has fewer subjects."""


def select(
    features: np.ndarray, labels: np.ndarray, groups: np.ndarray, settings: ConfigDict, seed: int,
    show: Callable[[str], None],
) -> np.ndarray:  # fmt: skip
    """Returns the columns of the best selection that ``salps`` salps find in as many ``iterations``.

    A salp is a position in [0, 1]^D; it keeps the features above 1/2. The fitness, to be minimized, is 0.99 · error +
    0.01 · share of kept features (H. Faris et al., 2018, 10.1016/j.knosys.2018.05.009), with the error of a ridge
    classifier instead of nearest neighbors.
    """
    fewest = min(len(np.unique(groups[labels == label])) for label in np.unique(labels))
    if fewest < 2:
        raise ConfigError("features.select=salp_swarm needs two training subjects per class in each fold; use anova")
    error_of = ridge_error(features, labels, balanced_folds(labels, groups, min(FOLDS, fewest), seed))
    numbers = itertools.count(1)

    def fitness(kept: np.ndarray) -> float:
        interrupts.check(collective=True)
        show(f"salp swarm {next(numbers)} of {settings.salps * settings.iterations}")
        return 0.99 * error_of(kept) + 0.01 * float(kept.mean()) if kept.any() else np.inf

    columns = np.flatnonzero(swarm(fitness, features.shape[1], settings.salps, settings.iterations, seed))
    if not len(columns):
        raise ConfigError(f"the salp swarm kept no feature; set features.salps={settings.salps} to 10 or more")
    return columns


def swarm(fitness: Callable[[np.ndarray], float], size: int, salps: int, iterations: int, seed: int) -> np.ndarray:
    """Returns the best selection, bool (size,); the first iteration is that of the random positions at the start."""
    rng = np.random.default_rng(seed)
    positions, food, lowest = rng.random((salps, size)), np.zeros(size), np.inf
    for iteration in range(1, iterations + 1):
        if iteration > 1:
            steps = 2 * np.exp(-((4 * iteration / iterations) ** 2)) * rng.random(size)
            positions[0] = np.where(rng.random(size) >= 0.5, food + steps, food - steps)
            for predecessor, follower in itertools.pairwise(positions):
                follower[:] = (follower + predecessor) / 2
            positions = positions.clip(0, 1)
        for position in positions:
            if (found := fitness(position > 0.5)) < lowest:
                food, lowest = position.copy(), found
    return food > 0.5


def ridge_error(features: np.ndarray, labels: np.ndarray, folds: np.ndarray) -> Callable[[np.ndarray], float]:
    """Returns a function from kept features, bool (D,), to the error of scikit-learn's RidgeClassifier over folds.

    It solves rows and columns of Gram matrices (D, D) that are computed once, or in the dual where D > N.
    """
    from scipy.linalg import cho_factor, cho_solve

    sides = [(np.flatnonzero(folds != fold), np.flatnonzero(folds == fold)) for fold in range(folds.max() + 1)]
    targets, grams = np.eye(labels.max() + 1)[labels], []
    for train, test in sides if features.shape[1] <= len(features) else ():
        mean = features[train].mean(0, dtype=np.float64)
        centered = features[train] - mean
        grams.append((centered.T @ centered, centered.T @ targets[train], features[test] - mean))

    def error(kept: np.ndarray) -> float:
        wrong = 0
        if not grams:
            chosen = features[:, kept].astype(np.float64)
            kernel = chosen @ chosen.T
        for fold, (train, test) in enumerate(sides):
            offset = targets[train].mean(0)
            if grams:
                gram, right, tested = grams[fold]
                gram, right, tested = gram[np.ix_(kept, kept)], right[kept], tested[:, kept]
            else:
                mean, right = kernel[np.ix_(train, train)].mean(0), targets[train] - offset
                gram = kernel[np.ix_(train, train)] - mean - mean[:, None] + mean.mean()
                tested = kernel[np.ix_(test, train)] - mean
            gram.flat[:: len(gram) + 1] += 1
            weights = cho_solve(cho_factor(gram.T, overwrite_a=True, check_finite=False), right, check_finite=False)
            wrong += np.sum((tested @ weights + offset).argmax(1) != labels[test])
        return float(wrong / len(labels))

    return error
