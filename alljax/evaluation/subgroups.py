"""Metrics in parts of the held-out images."""

import numpy as np

from alljax.evaluation.intervals import HeldOut
from alljax.evaluation.metrics import METRICS, count, from_counts, ranking


def spread(test: HeldOut, groups: np.ndarray) -> dict[str, float]:
    """Returns the sample standard deviation of each metric, averaged over seeds, over groups of images.

    Args:
        test: the predictions.
        groups: (N,), the fold or the repeat of each image.

    Returns:
        `METRICS` without those that are undefined in a group; empty for one group.
    """
    names, group = np.unique(groups, return_inverse=True)
    rows, per_seed = [np.flatnonzero(group == index) for index in range(len(names))], []
    for probabilities, scores in zip(np.asarray(test.probabilities, np.float64), test.ranking, strict=True):
        confusion, loss = count(test.labels, probabilities, group, len(names))
        per_seed.append(from_counts(confusion, loss.sum(1), np.unique(test.labels)))
        areas = [ranking(test.labels[part], scores[part], test.fold[part]) for part in rows]
        for name in ("auc", "pr_auc"):
            per_seed[-1][name] = np.array([of_group.get(name, np.nan) for of_group in areas])
    values = {name: np.mean([of_seed[name] for of_seed in per_seed], axis=0) for name in METRICS}
    return {
        name: float(np.std(of_groups, ddof=1))
        for name, of_groups in values.items()
        if len(names) > 1 and np.isfinite(of_groups).all()
    }
