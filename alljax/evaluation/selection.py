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

    A model is chosen by the highest `metric` (``auc`` or ``macro_recall``) of the rows `members` of a fold, bool, among
    the predictions `tuning` of each model. The metric is returned as ``nested``, all of them in ``metrics``.
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
