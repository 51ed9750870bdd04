"""How unlike the training images a new image is: the distance of its features to the nearest training image.

Features are scaled to unit length (Y. Sun et al., Out-of-distribution detection with deep nearest neighbors, 2022).
New images are of new subjects: a distance is compared with those between training images of different subjects.
"""

from collections.abc import Mapping

import numpy as np

MAX_IMAGES = 1000


def training_features(features: np.ndarray, subjects: np.ndarray, rows: np.ndarray) -> dict[str, np.ndarray]:
    """Returns what `distances` needs of the training images: at most `MAX_IMAGES` of them, chosen at random.

    Args:
        features: float32 (N, D) of all images, possibly memory-mapped.
        subjects: (N,).
        rows: those of the training images.

    Returns:
        ``features`` of unit length, float16 (M, D), and the ``distances`` of each to the nearest of another subject,
        ascending, float32 (M,).
    """
    chosen = np.sort(np.random.default_rng(0).permutation(rows)[:MAX_IMAGES])
    unit, of_chosen = _unit_length(features[chosen]), subjects[chosen]
    between = np.where(of_chosen[:, None] == of_chosen, np.inf, _distances(unit, unit))
    return {"features": unit.astype(np.float16), "distances": np.sort(between.min(1))}


def distances(stored: Mapping[str, np.ndarray], features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns distances to the nearest training image, from 0 to 2, and their quantiles among those stored, (n,)."""
    nearest = _distances(_unit_length(features), stored["features"].astype(np.float32)).min(1)
    return nearest, np.searchsorted(stored["distances"], nearest) / len(stored["distances"])


def _unit_length(features: np.ndarray) -> np.ndarray:
    return features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), np.finfo(np.float32).tiny)


def _distances(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    return np.sqrt(np.maximum(2 - 2 * first @ second.T, 0))
