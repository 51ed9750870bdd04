"""The best of several models, chosen in each fold without its tested images."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from alljax.evaluation.intervals import HeldOut, summarize


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
        values = {name: summarize(test.take(rows), 0, [metric])[metric] or 0 for name, test in tuning.items()}
        chosen[fold] = max(values, key=values.__getitem__)
        probabilities[:, folds == fold] = tests[chosen[fold]].probabilities[:, folds == fold]
    found = summarize(replace(first, probabilities=probabilities), level)
    interval = found["intervals"].get(metric)
    return {"nested": found[metric], "interval": interval, "chosen": [*chosen.values()], "metrics": found}
