"""What features contain: nearest images, main directions, subjects, and how unlike the training images a new one is."""

from collections.abc import Mapping, Sequence

import numpy as np
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score
from sklearn.metrics.pairwise import euclidean_distances
from sklearn.model_selection import StratifiedGroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import normalize

NEIGHBORS = 5  # nearest images that `nearest` returns
FOLDS = 5  # of the cross-validation of the probe; a subject needs as many photographs
COMPONENTS, PERMUTATIONS = 50, 1000
MAX_IMAGES = 1000  # that `training_features` stores


def nearest(features: np.ndarray, queries: np.ndarray, excluded: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns rows and distances (Q, K) of the nearest of features (N, D) to (Q, D), without the excluded, (Q, N)."""
    distances = np.where(excluded, np.inf, euclidean_distances(queries, features))
    rows = distances.argsort(axis=1, kind="stable")[:, :NEIGHBORS]
    return rows, np.take_along_axis(distances, rows, axis=1)


def project(features: np.ndarray, queries: np.ndarray) -> np.ndarray:
    """Returns features (N, D), then (Q, D), on the first two principal components of the former, (N + Q, 2)."""
    components = PCA(2, random_state=0).fit(features)
    return np.concatenate([components.transform(features), components.transform(queries)])


def probe_subjects(features: np.ndarray, subjects: Sequence[str], photographs: Sequence[str]) -> dict[str, float]:
    """Predicts the subject of each image of one class from its features (N, D); returns the mean ``recall``.

    Images of a photograph stay together; subjects have at least `FOLDS`. ``upper``: the 95 % quantile by chance.
    """
    _, names = np.unique(subjects, return_inverse=True)
    _, fields = np.unique(photographs, return_inverse=True)
    rows = np.isin(names, [name for name in set(names) if len(set(fields[names == name])) >= FOLDS])
    names, fields = names[rows], fields[rows]
    if len(np.unique(names)) < 2:
        return {}
    components = PCA(min(COMPONENTS, len(names) // 2, features.shape[1]), whiten=True, random_state=0)
    model = make_pipeline(components, LogisticRegression(class_weight="balanced", max_iter=1000))
    folds = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=0)
    predicted = cross_val_predict(model, features[rows], names, groups=fields, cv=folds)
    rng = np.random.default_rng(0)
    by_chance = [balanced_accuracy_score(rng.permutation(names), predicted) for _ in range(PERMUTATIONS)]
    recall, number = float(balanced_accuracy_score(names, predicted)), len(np.unique(names))
    upper = float(np.quantile(by_chance, 0.95))
    return {"subjects": number, "images": len(names), "recall": recall, "chance": 1 / number, "upper": upper}


def training_features(features: np.ndarray, subjects: np.ndarray, rows: np.ndarray) -> dict[str, np.ndarray]:
    """Returns what `distances` needs of at most `MAX_IMAGES` of `rows`: unit ``features`` and ascending ``distances``.

    New images are of new subjects: distances are to other subjects (Y. Sun et al., Out-of-distribution detection with
    deep nearest neighbors, 2022).
    """
    chosen = np.sort(np.random.default_rng(0).permutation(rows)[:MAX_IMAGES])
    unit, of_chosen = normalize(features[chosen]), subjects[chosen]
    between = np.where(of_chosen[:, None] == of_chosen, np.inf, euclidean_distances(unit))
    return {"features": unit.astype(np.float16), "distances": np.sort(between.min(1))}


def distances(stored: Mapping[str, np.ndarray], features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns distances to the nearest training image, from 0 to 2, and their quantiles among those stored, (n,)."""
    nearest = euclidean_distances(normalize(features), stored["features"].astype(np.float32)).min(1)
    return nearest, np.searchsorted(stored["distances"], nearest) / len(stored["distances"])
