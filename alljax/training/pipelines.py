"""What a frozen trial fits to the training rows of a fold besides heads: a selection, estimators of scikit-learn."""

from collections.abc import Callable, Sequence

import numpy as np
from ml_collections import ConfigDict

from alljax import interrupts
from alljax.data.splits import Fold
from alljax.features import selection
from alljax.features.selection import Selection
from alljax.training import classifiers
from alljax.training.head_training import FoldOutcome
from alljax.training.sampling import FoldRows


def select(
    config: ConfigDict, features: np.ndarray, labels: np.ndarray, subjects: np.ndarray, fold: FoldRows,
    show: Callable[[str], None] = lambda note: None,
) -> tuple[Selection, np.ndarray]:  # fmt: skip
    """Returns the selection fitted to a fold, and the selected features (N, d) of its rows; other rows are 0.

    From features (N, D), and labels and subjects (N,), int; `show` gets the progress of a long one. With
    ``features.select_scope=all``, a leak, the selection is fitted to the test rows, too.
    """
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
        fitted.append(classifiers.fit(config, features[train], labels[train], seed))
        interrupts.check()
    scores, times = [classifiers.scores(one, tested) for one in fitted], seeds // different
    return FoldOutcome({}, None, np.repeat(scores, times, axis=0), fitted * times)


def calibrate(
    outcomes: Sequence[FoldOutcome], inner: Sequence[np.ndarray], divided: Sequence[Sequence[Fold]], labels: np.ndarray
) -> tuple[list[FoldOutcome], list[np.ndarray]]:
    """Returns outcomes, and predictions of inner folds, with probabilities (calibrated by the latter) for scores."""
    calibrated, parts, left = [], list[np.ndarray](), iter(inner)
    for outcome, of_fold in zip(outcomes, divided, strict=True):
        scores = [next(left) for _ in of_fold]
        calibration = None
        if not hasattr(outcome.estimators[0], "predict_proba"):
            rows = np.concatenate([part.test for part in of_fold])
            calibration = classifiers.calibrate(np.concatenate(scores), labels[rows])
        parts += [classifiers.to_probabilities(of_part, calibration) for of_part in scores]
        probabilities = np.stack([classifiers.to_probabilities(one, calibration) for one in outcome.probabilities])
        pairs = [classifiers.Classifier(estimator, calibration) for estimator in outcome.estimators]
        calibrated.append(outcome._replace(probabilities=probabilities, estimators=pairs))
    return calibrated, parts
