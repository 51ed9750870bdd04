"""Metrics in parts of the held-out images, and among images of cells of similar size."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from alljax.evaluation.intervals import HeldOut, Jackknife, summarize
from alljax.evaluation.metrics import (
    METRICS,
    count,
    folds_are_complete,
    from_counts,
    pairs_in_order,
    ranked_classes,
    ranking,
    ratio,
)

STRATA = 5
"""Strata of cell size within each fold, with equally many images each."""


def subgroups(test: HeldOut, groups: Mapping[str, np.ndarray], level: float) -> dict[str, list[dict[str, Any]]]:
    """Returns metrics in each part of the images, for several ways to divide them.

    Args:
        test: the predictions.
        groups: by title, the name of the part of each image, (N,).
        level: confidence level.

    Returns:
        By title, for each part: ``name``, ``images``, ``subjects``, ``accuracy``, the recall of each of its classes as
        ``recall_0``, … and, where it has all classes, ``macro_recall`` and ``auc``; and their ``intervals``.
    """
    found: dict[str, list[dict[str, Any]]] = {}
    for title, group in groups.items():
        found[title] = []
        for name in np.unique(group):
            part = test.take(group == name)
            present = np.unique(part.labels)
            names = ["accuracy", *(f"recall_{label}" for label in present)]
            names += ["macro_recall", "auc"] if len(present) == test.probabilities.shape[2] else []
            counts = {"images": len(part.labels), "subjects": len(np.unique(part.subjects))}
            found[title].append({"name": str(name)} | counts | summarize(part, level, names))
    return found


def beyond_size(test: HeldOut, areas: np.ndarray, level: float) -> dict[str, Any] | None:
    """Returns the AUC over pairs of images of cells of similar size: of the same fold and the same stratum of size.

    A model that knows only the size has an AUC near 0.5 there.

    Args:
        test: the predictions.
        areas: (N,), size of the cell in each image.
        level: confidence level.

    Returns:
        ``auc`` and its ``interval`` (or None); ``strata``, smallest cells first, each with its mean ``area``, number of
        ``images``, and ``auc`` (None without pairs). None where the AUC within folds is undefined.
    """
    if not folds_are_complete(test.labels, test.fold):
        return None
    stratum = np.zeros(len(areas), int)
    for fold in range(test.fold.max() + 1):
        rows = np.flatnonzero(test.fold == fold)
        stratum[rows] = np.argsort(np.argsort(areas[rows], kind="stable")) * STRATA // len(rows)

    jackknife, strata = Jackknife.of(test), test.fold * STRATA + stratum
    values, by_stratum = [], []
    for scores in test.ranking:
        undefined = {"auc": np.full(1 + len(jackknife.units), np.nan)}
        values.append((undefined | jackknife.ranking(replace(test, folds=strata), scores))["auc"])
        for label in ranked_classes(scores.shape[1]):
            positive = test.labels == label
            counts = pairs_in_order(positive, scores[:, label], strata)[:, positive]
            right, pairs = (np.bincount(stratum[positive], of_images, STRATA) for of_images in counts)
            by_stratum.append(ratio(right, pairs, np.nan))
    mean = np.mean(values, axis=0)
    return {
        "auc": float(mean[0]) if np.isfinite(mean[0]) else None,
        "interval": jackknife.interval(mean, level),
        "strata": [
            {
                "area": float(areas[stratum == place].mean()),
                "images": int(np.sum(stratum == place)),
                "auc": float(area) if np.isfinite(area) else None,
            }
            for place, area in enumerate(np.mean(by_stratum, axis=0))
            if np.any(stratum == place)
        ],
    }


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
