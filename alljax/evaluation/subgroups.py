"""Metrics in parts of the held-out images, and among images of cells of similar size."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from alljax.evaluation import metrics
from alljax.evaluation.intervals import HeldOut, Jackknife, deviations, summarize
from alljax.evaluation.metrics import METRICS, folds_are_complete

STRATA = 5  # of cell size within each fold, with equally many images each


def subgroups(test: HeldOut, groups: Mapping[str, np.ndarray], level: float) -> dict[str, list[dict[str, Any]]]:
    """Returns metrics in each part of the images; `groups` has, by title, the name of the part of each image, (N,).

    A part has the recall of each of its classes as ``recall_0``, … and, where it has all, ``macro_recall``, ``auc``.
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

    A model that knows only the size, areas (N,), has an AUC near 0.5 there. ``strata``: smallest cells first, ``auc``
    None without pairs. None where the AUC within folds is undefined.
    """
    if not folds_are_complete(test.labels, test.fold):
        return None
    stratum = np.zeros(len(areas), int)
    for fold in range(test.fold.max() + 1):
        rows = np.flatnonzero(test.fold == fold)
        stratum[rows] = np.argsort(np.argsort(areas[rows], kind="stable")) * STRATA // len(rows)

    jackknife, strata = Jackknife.of(test), replace(test, folds=test.fold * STRATA + stratum)
    values = _auc(jackknife, strata)
    return {
        "auc": float(values[0]) if np.isfinite(values[0]) else None,
        "interval": jackknife.interval(values, level),
        "strata": [
            {
                "area": float(areas[rows].mean()),
                "images": int(rows.sum()),
                "auc": float(area) if np.isfinite(area := _auc(jackknife, strata.take(rows))[0]) else None,
            }
            for rows in (stratum == place for place in np.unique(stratum))
        ],
    }


def _auc(jackknife: Jackknife, test: HeldOut) -> np.ndarray:
    """Returns the AUC within folds, which may lack a class: of all images, then without each unit, (1 + K,)."""
    unit, units = np.searchsorted(jackknife.units, test.subjects), len(jackknife.units)
    per_seed = [metrics.areas(test.labels, scores, test.fold, unit, units) for scores in test.ranking]
    return np.mean([of_seed.get("auc", np.full(1 + units, np.nan)) for of_seed in per_seed], axis=0)


def spread(test: HeldOut, groups: np.ndarray) -> dict[str, float]:
    """Returns the `deviations` over groups of images, (N,) names, of metrics averaged over seeds."""
    return deviations([summarize(test.take(groups == name), 0, [*METRICS]) for name in np.unique(groups)])
