"""Main effects of the factors of an orthogonal array (G. Taguchi, Introduction to Quality Engineering, 1986)."""

from dataclasses import replace
from typing import NamedTuple

import numpy as np

from alljax.evaluation.intervals import HeldOut, Jackknife
from alljax.evaluation.metrics import folds_are_complete


class MainEffects(NamedTuple):
    """What the signal-to-noise ratios η of an array say about its factors."""

    effects: list[np.ndarray]  # of each factor: mean η of the trials with a level minus the mean of all, (L, 1 + K)
    shares: list[float]  # of each factor: Σ n effect² / Σ (η − mean)², its share in the analysis of variance
    best: tuple[int, ...]  # the level of each factor with the largest effect
    predicted: np.ndarray  # mean η plus the effects of the best levels, (1 + K,)


def signal_to_noise(test: HeldOut, metric: str) -> np.ndarray:
    """Returns η = −10 log₁₀(mean(1/y²)) in decibels, larger is better: of all images, then without each of K subjects.

    y is the metric per seed and fold; per seed where folds lack a class.
    """
    jackknife, inverse = Jackknife.of(test), []
    folds = test.fold if folds_are_complete(test.labels, test.fold) else np.zeros_like(test.fold)
    for part in (test.take(folds == fold) for fold in np.unique(folds)):
        for probabilities in part.probabilities:
            of_seed = replace(part, probabilities=probabilities[None], scores=None)
            inverse.append(jackknife.values(of_seed, [metric])[metric] ** -2)
    return np.asarray(-10 * np.log10(np.mean(inverse, axis=0)))


def main_effects(levels: np.ndarray, ratios: np.ndarray) -> MainEffects:
    """Returns the main effects of F factors from their levels in T trials, int (T, F), and η, (T, 1 + K)."""
    mean = ratios.mean(0)
    columns = [[ratios[column == level].mean(0) - mean for level in range(column.max() + 1)] for column in levels.T]
    effects = [np.stack(of_factor) for of_factor in columns]
    total = np.square(ratios[:, 0] - mean[0]).sum() or 1.0
    squares = [np.bincount(column) @ effect[:, 0] ** 2 for column, effect in zip(levels.T, effects, strict=True)]
    best = tuple(int(effect[:, 0].argmax()) for effect in effects)
    gains = [effect[level] for effect, level in zip(effects, best, strict=True)]
    return MainEffects(effects, [float(square / total) for square in squares], best, mean + np.sum(gains, axis=0))
