"""scikit-learn's classifiers on features: fitting, calibrated probabilities, and storage without pickle."""

import re
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from absl import logging
from ml_collections import ConfigDict

from alljax.errors import ConfigError, WorkdirError
from alljax.files import atomic_write

SLOPE = 0.01  # smallest of the calibration of two classes

TRUSTED = [
    f"sklearn.{name}"
    for name in ("metrics._dist_metrics.EuclideanDistance64", "neighbors._kd_tree.KDTree", "tree._tree.Tree")
]
"""Compiled types inside fitted estimators; skops itself trusts Python's containers, NumPy and scikit-learn only."""


def fit(config: ConfigDict, features: np.ndarray, labels: np.ndarray, seed: int) -> Any:
    """Returns the estimator ``classifier.name``, fitted on float32 (N, D) with every class in labels."""
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.svm import SVC

    settings = config.classifier
    kinds = {"logistic": LogisticRegression, "svm": SVC, "knn": KNeighborsClassifier}
    kind = kinds.get(settings.name, RandomForestClassifier)
    if kind is KNeighborsClassifier and settings.n_neighbors > len(labels):
        fix = f"but a fold has {len(labels)} training images; set it to this or less"
        raise ConfigError(f"classifier.n_neighbors={settings.n_neighbors}, {fix}")
    weights = None if config.train.class_weights == "none" else "balanced"
    parameters = dict(**config.classifier, random_state=seed, class_weight=weights)
    parameters["C"] = settings.C or features.shape[1] * len(np.unique(labels)) / 100
    if kind is SVC:
        parameters |= {"gamma": settings.gamma or "scale", "max_iter": -1}
    known = kind().get_params()
    estimator = kind(**{name: value for name, value in parameters.items() if name in known}).fit(features, labels)
    if kind is LogisticRegression and estimator.n_iter_.max() >= settings.max_iter:
        fix = "raise it, or set features.select=standardize"
        logging.log_first_n(logging.INFO, f"logistic: classifier.max_iter={settings.max_iter} is too few; {fix}", 1)
    return estimator


def scores(estimator: Any, features: np.ndarray) -> np.ndarray:
    """Returns `predict_proba`, (m, C), or decision values (SVM): (−d/2, d/2) for the only one, d, of two classes."""
    if hasattr(estimator, "predict_proba"):
        return np.maximum(estimator.predict_proba(features), np.finfo(np.float32).tiny)
    values = estimator.decision_function(features)
    return values if values.ndim == 2 else np.stack([-values / 2, values / 2], axis=1)


def calibrate(scores: np.ndarray, labels: np.ndarray) -> Any:
    """Returns a logistic regression without regularization from scores (m, C) of the inner folds to labels (m,).

    Its targets are those of J. C. Platt (Probabilistic Outputs for Support Vector Machines, 1999): (n + 1) / (n + C)
    for the true class, which has n images, and 1 / (n + C) for others, so that it is finite for separable classes.
    The slope of two classes is at least `SLOPE`: inner folds of few subjects must not reverse the order of the scores.
    """
    from sklearn.linear_model import LogisticRegression

    count, classes = scores.shape
    images = np.bincount(labels, minlength=classes)[labels][:, None]
    targets = (images * np.eye(classes)[labels] + 1) / (images + classes)
    rows = np.repeat(scores[:, 1:] - scores[:, :1], classes, axis=0)  # each image once per class, weighted
    regression = LogisticRegression(C=np.inf, tol=1e-8, max_iter=10_000)
    regression.fit(rows, np.tile(np.arange(classes), count), sample_weight=targets.ravel())
    if classes == 2 and regression.coef_ < SLOPE:
        regression.coef_ = np.array([[SLOPE]])
        regression.intercept_ = np.log([targets[:, 1].mean() / targets[:, 0].mean()]) - SLOPE * rows.mean()
    return regression


@dataclass(frozen=True)
class Classifier:
    """A fitted estimator with what makes its scores probabilities; None where it has `predict_proba`."""

    estimator: Any
    calibration: Any = None

    def probabilities(self, features: np.ndarray) -> np.ndarray:
        """Returns the probability of each class, float32 (m, C)."""
        return to_probabilities(scores(self.estimator, features), self.calibration)


def to_probabilities(scores: np.ndarray, calibration: Any = None) -> np.ndarray:
    """Returns the probabilities float32 (m, C) of scores, which are probabilities where there is no calibration."""
    found = scores if calibration is None else calibration.predict_proba(scores[:, 1:] - scores[:, :1])
    return np.asarray(found, np.float32)


def save(path: Path, classifiers: Sequence[Classifier]) -> None:
    """Writes classifiers, in a format of skops: a zip of JSON and arrays."""
    import skops.io

    with atomic_write(path) as file:
        skops.io.dump([(each.estimator, each.calibration) for each in classifiers], file)


def load(path: Path) -> list[Classifier]:
    """Returns what `save` wrote; `WorkdirError`: damage, foreign types, or another scikit-learn, which may differ."""
    import sklearn
    import skops.io
    from skops.io.exceptions import UntrustedTypesFoundException

    remedy = f"remove {path.parents[1]} and run the study again"
    try:
        with zipfile.ZipFile(path) as archive:
            schema = archive.read("schema.json").decode()
        versions = set(re.findall(r'"_sklearn_version": \{[^}]*"content": "\\"([^"\\]*)', schema))
        if different := versions - {sklearn.__version__}:
            fix = f"pip install scikit-learn=={min(different)}, or {remedy}"
            raise WorkdirError(f"{path} is of scikit-learn {min(different)}, not {sklearn.__version__}; {fix}")
        return [Classifier(*pair) for pair in skops.io.load(path, trusted=TRUSTED)]
    except UntrustedTypesFoundException as error:
        raise WorkdirError(f"{path} is not from alljax: {' '.join(str(error).split())}; {remedy}") from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError, EOFError, zipfile.BadZipFile) as error:
        raise WorkdirError(f"{path} is damaged; {remedy}") from error
