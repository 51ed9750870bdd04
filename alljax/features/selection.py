"""Selection of features: the steps of ``features.select``, fitted on training images."""

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from alljax import interrupts
from alljax.data.protocols import balanced_folds
from alljax.errors import ConfigError, DataError

BLOCK = 1024  # features whose correlations with others are computed at once
FOLDS = 5  # of training subjects, for the salp swarm; fewer if a class has fewer subjects

OPERATIONS: dict[str, Callable[..., Any]] = {
    "columns": lambda features, columns: features[:, columns],
    "mean": lambda features, mean: features - mean[None],
    "scale": lambda features, scale: features / scale[None],
    "components": lambda features, components: features @ components.T,
}


@dataclass(frozen=True)
class Selection:
    """Fitted steps: arrays whose names, in order, end in the operation that uses them."""

    arrays: Mapping[str, np.ndarray]

    def transform(self, features: np.ndarray) -> np.ndarray:
        """Returns float32 (m, d) from features (m, D)."""
        return np.asarray(self.apply(features), np.float32)

    def apply(self, features: Any) -> Any:
        """Returns what `transform` does, of an array of NumPy or JAX."""
        for name in sorted(self.arrays):
            features = OPERATIONS[name.rpartition(".")[2]](features, self.arrays[name])
        return features


def fit(
    features: np.ndarray, labels: np.ndarray, groups: np.ndarray, settings: ConfigDict, seed: int,
    show: Callable[[str], None] = lambda note: None,
) -> Selection:  # fmt: skip
    """Fits the steps in order, each on the result of those before it.

    ``anova`` keeps the features with the largest F statistic; ``correlation``, from the largest F, each feature whose
    correlations with those kept so far are at most ``max_correlation`` in magnitude; ``pca`` the fewest components
    with more than the share ``variance``. Features are float32 (N, D), labels and subjects (groups) int (N,).
    """
    from sklearn.decomposition import PCA
    from sklearn.preprocessing import StandardScaler

    arrays: dict[str, np.ndarray] = {}
    for step, name in enumerate(settings.select):
        interrupts.check(collective=True)
        if not np.ptp(features, axis=0).any():
            error = f"features.select: before {name} all features of the training images are constant"
            raise DataError(f"{error}; choose another features.extractor or model.stage")
        if name == "pca":
            components = PCA(settings.variance, svd_solver="full").fit(features)
            fitted = {"0.mean": components.mean_, "1.components": components.components_}
        elif name == "random":
            columns = np.random.default_rng(seed).permutation(features.shape[1])[: settings.keep]
            fitted = {"0.columns": np.sort(columns)}
        else:
            scaler = StandardScaler().fit(features)
            fitted = {"0.mean": scaler.mean_.astype(np.float32), "1.scale": scaler.scale_.astype(np.float32)}
        if name in ("anova", "correlation", "salp_swarm"):
            standardized = Selection(fitted).transform(features)
            if name == "salp_swarm":
                columns = _salp_swarm(standardized, labels, groups, settings, seed, show)
            elif name == "anova":
                columns = _by_variance_ratio(standardized, labels)[: settings.keep]
            else:
                columns = _by_variance_ratio(standardized, labels)
                columns = columns[_uncorrelated(standardized.T[columns], settings.max_correlation)]
            fitted = {"0.columns": np.sort(columns)}
        arrays |= {f"{step}.{kind}": array for kind, array in fitted.items()}
        features = Selection(fitted).transform(features)
    return Selection(arrays)


def _by_variance_ratio(standardized: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Returns the features from the largest F statistic, which grows with the share of variance between classes."""
    members = np.eye(labels.max() + 1, dtype=np.float32)[labels].T
    between = ((members @ standardized) ** 2 / members.sum(1, keepdims=True)).sum(0)
    return np.argsort(-between, kind="stable")


def _uncorrelated(standardized: np.ndarray, limit: float) -> np.ndarray:
    """Returns whether each of the features (D, N) is kept, bool (D,); the best come first."""
    size, images = standardized.shape
    kept = np.zeros(size, bool)
    for first in range(0, size, BLOCK):
        interrupts.check(collective=True)
        near = np.abs(standardized[first : first + BLOCK] @ standardized[: first + BLOCK].T) > limit * images
        for row, of_row in enumerate(near, first):
            kept[row] = not (of_row & kept[: len(of_row)]).any()
    return kept


def _salp_swarm(
    features: np.ndarray, labels: np.ndarray, groups: np.ndarray, settings: ConfigDict, seed: int,
    show: Callable[[str], None],
) -> np.ndarray:  # fmt: skip
    """Returns the columns of the best selection that a salp swarm finds (Mirjalili et al. 2017).

    A salp is a position in [0, 1]^D; it keeps the features above 1/2 (S. Mirjalili, 10.1016/j.advengsoft.2017.07.002).
    The fitness, to be minimized, is 0.99 · error + 0.01 · share of kept features (H. Faris et al., 2018,
    10.1016/j.knosys.2018.05.009), with the error of a ridge classifier instead of nearest neighbors.
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
    """Returns the error over folds of scikit-learn's RidgeClassifier as a function of kept features, bool (D,)."""
    from scipy.linalg import cho_factor, cho_solve

    # Gram matrices (D, D) are computed once; where D > N, each call solves in the dual.
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
