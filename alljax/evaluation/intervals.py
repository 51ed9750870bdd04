"""How far to trust a metric: percentile bootstrap over people.

Images of one person resemble each other, so what was drawn from the world are people,
not images; resampling images gives intervals that are several times too narrow
(B. Efron and R. Tibshirani, An Introduction to the Bootstrap, 1993, chapter 8:
resample the units that are independent).

People are resampled within each class (a person belongs to the class of most of their
images).  Sets like C-NMC choose how many patients and how many controls they hold, so
that number is not part of the noise.  Where everyone has images of one class only, no
resample loses a class.  Where people have images of several, one can: what such a
resample leaves undefined (see `resampled`) is left out of the percentiles.
"""

from collections.abc import Iterator, Sequence

import numpy as np

from alljax.evaluation.metrics import METRICS, check, losses

CHUNK = 2_000_000
"""Weights held at once (images times resamples); bounds the memory to some 100 MB, changes no result."""

Interval = tuple[float, float]


def bootstrap(
    labels: np.ndarray,
    probabilities: np.ndarray,
    people: Sequence[str],
    *,
    names: Sequence[str] = METRICS,
    scores: np.ndarray | None = None,
    resamples: int = 2000,
    level: float = 0.95,
    seed: int = 0,
) -> dict[str, Interval]:
    """Returns an interval for the mean over seeds of every metric.

    Args:
        labels: int (N,), indices of the true classes.
        probabilities: (R, N, C) of R seeds; every seed meets the same resamples.
        people: N names of the units that are drawn.  Where people are unknown pass the images'
            paths: the interval is then over images, too narrow if people repeat, and must be called so.
        names: which metrics (see `resampled`).
        scores: (R, N, C) what ranks the images for the AUC; None for `probabilities`.
        resamples: how many times people are drawn.
        level: share of the resamples inside the interval.
        seed: draws the resamples; the same people, labels and seed give the same draws.

    Returns:
        ``{metric: (low, high)}``; a metric that is undefined in every resample is left out.

    Raises:
        ValueError: shapes that do not fit, or numbers that are not finite (see `metrics.evaluate`).
    """
    drawn = resampled(labels, probabilities, people, names=names, scores=scores, resamples=resamples, seed=seed)
    return _percentiles(drawn, level)


def difference(
    labels: np.ndarray,
    first: np.ndarray,
    second: np.ndarray,
    people: Sequence[str],
    *,
    names: Sequence[str] = METRICS,
    second_scores: np.ndarray | None = None,
    folds: np.ndarray | None = None,
    resamples: int = 2000,
    level: float = 0.95,
    seed: int = 0,
) -> dict[str, Interval]:
    """Returns an interval for ``first - second`` of each metric, both on the same people in every resample.

    Two models meet the same hard and easy people, so this interval is narrower than
    their own two suggest: it is the one that says whether they differ.

    Args:
        labels: int (N,).
        first: (R, N, C) probabilities of one model.
        second: (S, N, C) of the other, the same images in the same order.
        people: N names, as for `bootstrap`.
        names: which metrics.
        second_scores: (S, N, C) what ranks the images of the other for the AUC; None for `second`.
        folds: (N,) as for `resampled`.
        resamples: how many times people are drawn.
        level: share of the resamples inside the interval.
        seed: draws the resamples.
    """
    one = resampled(labels, first, people, names=names, folds=folds, resamples=resamples, seed=seed)
    other = resampled(
        labels, second, people, names=names, scores=second_scores, folds=folds, resamples=resamples, seed=seed
    )
    return _percentiles({name: one[name] - other[name] for name in one}, level)


def resampled(
    labels: np.ndarray,
    probabilities: np.ndarray,
    people: Sequence[str],
    *,
    names: Sequence[str] = METRICS,
    scores: np.ndarray | None = None,
    folds: np.ndarray | None = None,
    resamples: int = 2000,
    seed: int = 0,
) -> dict[str, np.ndarray]:
    """Returns the mean over seeds of each metric in every resample, (resamples,) each.

    A resample gives each person the number of times they were drawn as weight; no image is
    copied.  What a resample that lost a class leaves undefined is NaN: the AUC where no class can be
    ranked, the recall of the class, and the macro averages, which would count it as 0.  A class that
    not even the whole set has counts as 0 in the macro averages, as in `metrics.evaluate`.

    Args:
        labels: int (N,).
        probabilities: (R, N, C).
        people: N names.
        names: which of `METRICS`; also ``recall_0``, ``recall_1``, ... of single classes.
        scores: (R, N, C) or None.
        folds: (N,) the AUC is then that of `auc_within_folds`; None for that of all images together.
        resamples: how many.
        seed: draws them.
    """
    labels, probabilities = np.asarray(labels), np.asarray(probabilities, np.float64)
    scores = probabilities if scores is None else np.asarray(scores, np.float64)
    if probabilities.ndim != 3 or len(people) != len(labels) or scores.shape != probabilities.shape:
        raise ValueError(
            f"probabilities {probabilities.shape} (scores {scores.shape}) are not (R, N, C) "
            f"for {len(labels)} labels and {len(people)} people"
        )
    for one, score in zip(probabilities, scores, strict=True):
        check(labels, one, score)
    owners, person = np.unique(np.asarray(people), return_inverse=True)
    rankings = [_rankings(labels, score, folds) if "auc" in names else [] for score in scores]
    sums = [_sums(labels, one, person, len(owners)) for one in probabilities]
    present = np.isin(np.arange(probabilities.shape[2]), labels)
    done: dict[str, list[np.ndarray]] = {name: [] for name in names}
    for weights in _weights(labels, person, len(owners), resamples, seed, max(1, CHUNK // len(labels))):
        of_images = weights[person] if "auc" in names else weights
        per_seed = [
            _from_sums(sums[run] @ weights, present) | {"auc": _weighted_auc(rankings[run], of_images)}
            for run in range(len(probabilities))
        ]
        for name in names:
            done[name].append(np.mean([seed_metrics[name] for seed_metrics in per_seed], axis=0))
    return {name: np.concatenate(parts) for name, parts in done.items()}


def auc_within_folds(labels: np.ndarray, scores: np.ndarray, folds: np.ndarray | None) -> float | None:
    """Returns the share of pairs of images of one fold, one of each class, that stand in the right order.

    Each fold was scored by a head of its own, and their scales may differ: pooled, images would be ranked by their
    fold.  The mean over seeds, and over classes where there are more than two; with one fold the usual AUC.  None
    where a fold lacks a class: what is left of the pairs would stand for all.

    Args:
        labels: int (N,).
        scores: (R, N, C), larger for a likelier class.
        folds: (N,) names; None for one fold.
    """
    parts = [labels] if folds is None else [labels[folds == one] for one in np.unique(folds)]
    if any(len(np.unique(part)) < scores.shape[2] for part in parts):
        return None
    ones = np.ones((len(labels), 1))
    return float(np.mean([_weighted_auc(_rankings(labels, each, folds), ones)[0] for each in scores]))


def _weights(
    labels: np.ndarray, person: np.ndarray, people: int, resamples: int, seed: int, chunk: int
) -> Iterator[np.ndarray]:
    """Yields how often each person is drawn, (people, up to `chunk` resamples)."""
    images = np.zeros((people, labels.max() + 1))
    np.add.at(images, (person, labels), 1)
    main_class = images.argmax(1)
    strata = [np.flatnonzero(main_class == label) for label in np.unique(main_class)]
    # One generator a class, so that the draws do not depend on the size of a chunk.
    generators = [np.random.default_rng(child) for child in np.random.SeedSequence(seed).spawn(len(strata))]
    for start in range(0, resamples, chunk):
        size = min(chunk, resamples - start)
        weights = np.zeros((people, size))
        for members, generator in zip(strata, generators, strict=True):
            draws = generator.integers(len(members), size=(size, len(members)))
            draws += np.arange(size)[:, None] * len(members)
            counts = np.bincount(draws.ravel(), minlength=size * len(members))
            weights[members] = counts.reshape(size, len(members)).T
        yield weights


def _sums(labels: np.ndarray, probabilities: np.ndarray, person: np.ndarray, people: int) -> np.ndarray:
    """Returns each person's confusion matrix (flat) and summed loss, (C * C + 1, people)."""
    classes = probabilities.shape[1]
    entry = labels * classes + probabilities.argmax(1)
    sums = np.zeros((classes * classes + 1, people))
    np.add.at(sums, (entry, person), 1)
    np.add.at(sums[-1], person, losses(labels, probabilities))
    return sums


def _from_sums(sums: np.ndarray, present: np.ndarray) -> dict[str, np.ndarray]:
    """Returns the metrics that follow from confusion matrices and losses, sums (C * C + 1, B), as (B,).

    Args:
        sums: of each resample.
        present: bool (C,), which classes the whole set has.
    """
    classes = len(present)
    confusion = sums[:-1].reshape(classes, classes, -1)
    hits = np.einsum("iib->ib", confusion)
    true, predicted, total = confusion.sum(1), confusion.sum(0), sums[:-1].sum(0)
    precision, recall = _ratio(hits, predicted), _ratio(hits, true)
    f1 = _ratio(2 * hits, true + predicted)
    lost = true == 0
    loses = (lost & present[:, None]).any(0)
    return {
        "accuracy": hits.sum(0) / total,
        "macro_precision": np.where(loses, np.nan, precision.mean(0)),
        "macro_recall": np.where(loses, np.nan, recall.mean(0)),
        "macro_f1": np.where(loses, np.nan, f1.mean(0)),
        "weighted_f1": (f1 * true).sum(0) / total,
        "log_loss": sums[-1] / total,
        **{f"recall_{label}": of_class for label, of_class in enumerate(np.where(lost, np.nan, recall))},
    }


def _ratio(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    ratio: np.ndarray = np.divide(above, below, out=np.zeros_like(above), where=below > 0)
    return ratio


Ranking = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


def _rankings(labels: np.ndarray, scores: np.ndarray, folds: np.ndarray | None = None) -> list[list[Ranking]]:
    """Sorts the images once, per class that is ranked and fold: what `_weighted_auc` needs of them.

    For each: indices of the images of the class (P,); indices of the others by ascending score (Q,); and for
    each image of the class how many of the others score lower, and lower or equal, (P,) each.
    """
    parts = [np.arange(len(labels))] if folds is None else [np.flatnonzero(folds == one) for one in np.unique(folds)]
    return [
        [_ranking(rows, labels[rows] == label, scores[rows, label]) for rows in parts]
        for label in ([1] if scores.shape[1] == 2 else range(scores.shape[1]))
    ]


def _ranking(rows: np.ndarray, of_class: np.ndarray, scores: np.ndarray) -> Ranking:
    order = np.argsort(scores[~of_class], kind="stable")
    ladder, steps = scores[~of_class][order], scores[of_class]
    lower, up_to = np.searchsorted(ladder, steps, "left"), np.searchsorted(ladder, steps, "right")
    return rows[of_class], rows[~of_class][order], lower, up_to


def _weighted_auc(rankings: list[list[Ranking]], weights: np.ndarray) -> np.ndarray:
    """Returns the AUC (the mean over classes that can be ranked) under weights (N, B), as (B,).

    The AUC is the weighted share of pairs, one image of the class and one of another, both of one fold, that
    stand in the right order, ties counting half (Mann and Whitney's statistic).
    """
    total, ranked = np.zeros(weights.shape[1]), np.zeros(weights.shape[1])
    for of_class in rankings:
        right, pairs = np.zeros(weights.shape[1]), np.zeros(weights.shape[1])
        for positive, negative, lower, up_to in of_class:
            below = np.zeros((len(negative) + 1, weights.shape[1]))
            np.cumsum(weights[negative], axis=0, out=below[1:])
            own = weights[positive]
            pairs += own.sum(0) * below[-1]
            right += np.einsum("pb,pb->b", own, below[lower]) + np.einsum("pb,pb->b", own, below[up_to])
        total += _ratio(right / 2, pairs)
        ranked += pairs > 0
    return np.divide(total, ranked, out=np.full_like(total, np.nan), where=ranked > 0)


def _percentiles(drawn: dict[str, np.ndarray], level: float) -> dict[str, Interval]:
    tails = [(1 - level) / 2, (1 + level) / 2]
    intervals = {}
    for name, values in drawn.items():
        if (known := values[np.isfinite(values)]).size:
            low, high = np.quantile(known, tails)
            intervals[name] = (float(low), float(high))
    return intervals
