"""What a frozen trial fits to a fold besides heads: a selection, scikit-learn's classifiers and their calibration."""

import re
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from absl import logging
from ml_collections import ConfigDict

from alljax import interrupts
from alljax.data.splits import Fold
from alljax.errors import ConfigError, WorkdirError
from alljax.features import selection
from alljax.features.selection import Selection
from alljax.files import atomic_write
from alljax.training.head_training import FoldOutcome
from alljax.training.sampling import FoldRows

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


def fit_calibration(scores: np.ndarray, labels: np.ndarray) -> Any:
    """Returns a logistic regression without regularization from scores (m, C) of the inner folds to labels (m,).

    Its targets are those of J. C. Platt (Probabilistic Outputs for Support Vector Machines, 1999): (n + 1) / (n + C)
    for the true class, which has n images, and 1 / (n + C) for others. The slope of two classes is at least `SLOPE`:
    inner folds of few subjects must not reverse the order of the scores.
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


def select(
    config: ConfigDict, features: np.ndarray, labels: np.ndarray, subjects: np.ndarray, fold: FoldRows,
    show: Callable[[str], None] = lambda note: None,
) -> tuple[Selection, np.ndarray]:  # fmt: skip
    """Returns the selection fitted to a fold, and the selected features (N, d) of its rows; other rows are 0."""
    train = np.sort(fold.train[: fold.train_count])
    others = fold.test[: fold.test_count], fold.validation[: fold.validation_count]
    rows = np.unique(np.concatenate([train, *others]))
    used = rows if config.features.select_scope == "all" else train
    fitted = selection.fit(features[used], labels[used], subjects[used], config.features, config.seed, show)
    of_rows = fitted.transform(features[rows])
    selected = np.zeros((len(features), of_rows.shape[1]), np.float32)
    selected[rows] = of_rows
    return fitted, selected


def fit_estimators(
    config: ConfigDict, features: np.ndarray, labels: np.ndarray, fold: FoldRows, seeds: int
) -> FoldOutcome:
    """Fits an estimator per seed to the training rows of features (N, D); its ``probabilities`` are scores."""
    train, tested = fold.train[: fold.train_count], features[fold.test[: fold.test_count]]
    different = seeds if config.classifier.name == "random_forest" else 1  # others do not depend on the seed
    fitted = []
    for seed in range(config.seed, config.seed + different):
        fitted.append(fit(config, features[train], labels[train], seed))
        interrupts.check()
    found, times = [scores(one, tested) for one in fitted], seeds // different
    return FoldOutcome({}, None, np.repeat(found, times, axis=0), fitted * times)


def calibrate(
    outcomes: Sequence[FoldOutcome], inner: Sequence[np.ndarray], divided: Sequence[Sequence[Fold]], labels: np.ndarray
) -> tuple[list[FoldOutcome], list[np.ndarray]]:
    """Returns outcomes, and predictions of inner folds, with probabilities (calibrated by the latter) for scores."""
    calibrated, parts, left = [], list[np.ndarray](), iter(inner)
    for outcome, of_fold in zip(outcomes, divided, strict=True):
        of_inner = [next(left) for _ in of_fold]
        calibration = None
        if not hasattr(outcome.estimators[0], "predict_proba"):
            rows = np.concatenate([part.test for part in of_fold])
            calibration = fit_calibration(np.concatenate(of_inner), labels[rows])
        parts += [to_probabilities(of_part, calibration) for of_part in of_inner]
        probabilities = np.stack([to_probabilities(one, calibration) for one in outcome.probabilities])
        pairs = [Classifier(estimator, calibration) for estimator in outcome.estimators]
        calibrated.append(outcome._replace(probabilities=probabilities, estimators=pairs))
    return calibrated, parts


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
