"""The best of several models, chosen in each fold without its tested images."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from alljax.evaluation.intervals import HeldOut, summarize
from alljax.evaluation.metrics import ranking


def select(
    tests: Mapping[str, HeldOut],
    tuning: Mapping[str, HeldOut],
    members: Mapping[str, np.ndarray],
    metric: str,
    level: float,
) -> dict[str, Any]:
    """Evaluates the predictions of the model chosen in each fold as those of one model (nested validation).

    Args:
        tests: predictions of each model for the same rows.
        tuning: those by which models are chosen, the same rows for each model.
        members: the rows of `tuning` by which the model of a fold is chosen, bool, by the name of the fold.
        metric: ``auc`` or ``macro_recall``, which the chosen model has the highest value of.
        level: confidence level.

    Returns:
        ``nested``, the metric, with ``interval`` (None if there is none), ``chosen``, the name of a model per fold, and
        ``metrics``, see `summarize`.
    """
    chosen, first = {}, next(iter(tests.values()))
    probabilities, folds = np.array(first.probabilities), np.asarray(first.folds)
    for fold, rows in members.items():
        values = {name: _value(test, rows, metric) for name, test in tuning.items()}
        chosen[fold] = max(values, key=values.__getitem__)
        probabilities[:, folds == fold] = tests[chosen[fold]].probabilities[:, folds == fold]
    found = summarize(replace(first, probabilities=probabilities), level)
    interval = found["intervals"].get(metric)
    return {"nested": found[metric], "interval": interval, "chosen": [*chosen.values()], "metrics": found}


def _value(test: HeldOut, rows: np.ndarray, metric: str) -> float:
    """Returns a metric of some rows, averaged over seeds; an undefined AUC is 0."""
    from sklearn.metrics import balanced_accuracy_score

    labels, folds = test.labels[rows], np.asarray(test.folds)[rows]
    if metric == "auc":
        return float(np.mean([ranking(labels, of_seed[rows], folds).get("auc", 0) for of_seed in test.probabilities]))
    return float(np.mean([balanced_accuracy_score(labels, of_seed[rows].argmax(1)) for of_seed in test.probabilities]))
