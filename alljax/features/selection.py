"""Selection of features: the steps of ``features.select``, fitted on training images."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from alljax import interrupts
from alljax.errors import DataError
from alljax.features import salp_swarm

BLOCK = 1024
"""Features whose correlations with others are computed at once."""

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

    ``standardize``: zero mean, unit variance. ``anova``: the ``keep`` features with the largest F statistic, or all.
    ``correlation``: from the largest F, each feature whose correlations with those kept so far are at most
    ``max_correlation`` in magnitude. ``pca``: the fewest components with more than the share ``variance`` of the
    variance. ``random``: ``keep`` features at random. ``salp_swarm``: see `salp_swarm.select`, with its progress in
    `show`. Features are float32 (N, D), labels and subjects (groups) int (N,).
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
                columns = salp_swarm.select(standardized, labels, groups, settings, seed, show)
            else:
                columns = _by_variance_ratio(standardized, labels)
            if name == "anova":
                columns = columns[: settings.keep]
            elif name == "correlation":
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
