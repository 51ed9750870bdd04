"""How unlike the training images a new image is: the distance of its features to the nearest training image.

Features are scaled to unit length (Y. Sun et al., Out-of-distribution detection with deep nearest neighbors, 2022).
New images are of new subjects: a distance is compared with those between training images of different subjects.
"""

from collections.abc import Mapping

import numpy as np
from sklearn.metrics.pairwise import euclidean_distances
from sklearn.preprocessing import normalize

MAX_IMAGES = 1000


def training_features(features: np.ndarray, subjects: np.ndarray, rows: np.ndarray) -> dict[str, np.ndarray]:
    """Returns what `distances` needs of at most `MAX_IMAGES` training images, chosen at random from `rows`.

    ``features`` of unit length, float16 (M, D), and ascending ``distances`` (M,) to the nearest of another subject.
    """
    chosen = np.sort(np.random.default_rng(0).permutation(rows)[:MAX_IMAGES])
    unit, of_chosen = normalize(features[chosen]), subjects[chosen]
    between = np.where(of_chosen[:, None] == of_chosen, np.inf, euclidean_distances(unit))
    return {"features": unit.astype(np.float16), "distances": np.sort(between.min(1))}


def distances(stored: Mapping[str, np.ndarray], features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns distances to the nearest training image, from 0 to 2, and their quantiles among those stored, (n,)."""
    nearest = euclidean_distances(normalize(features), stored["features"].astype(np.float32)).min(1)
    return nearest, np.searchsorted(stored["distances"], nearest) / len(stored["distances"])
