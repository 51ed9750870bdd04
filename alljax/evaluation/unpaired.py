"""Two tests of the same people on different images, with the people drawn once for both."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from alljax.evaluation import intervals
from alljax.evaluation.metrics import METRICS


@dataclass(frozen=True)
class HeldOut:
    """What one model was tested on.

    Attributes:
        labels: int (N,).
        probabilities: (R, N, C) of R seeds.
        people: (N,) names.
        folds: (N,) names of the heads that scored each image; the AUC compares no scores of different ones,
            whose scales may differ.  None for one head.
    """

    labels: np.ndarray
    probabilities: np.ndarray
    people: np.ndarray
    folds: np.ndarray | None = None


def resampled(
    tests: Sequence[HeldOut], *, names: Sequence[str] = METRICS, resamples: int = 2000, seed: int = 0
) -> list[dict[str, np.ndarray]]:
    """Returns the mean over seeds of each metric in every resample, for each test: {name: (resamples,)}.

    Where two models were tested on different images, as under two ways to split a set, images cannot
    be paired; people can.  They are drawn once, from everybody who stands in any of the tests, so that hard
    people are hard for all in the same resample, and a difference of two entries is a difference on the same draw.
    Somebody without images in a test adds nothing to it.  With one test of one fold this is `intervals.resampled`.

    Args:
        tests: at least one, all with the same classes.
        names: which of `METRICS`.
        resamples: how many times people are drawn.
        seed: draws them.
    """
    owners, person = np.unique(np.concatenate([test.people for test in tests]), return_inverse=True)
    labels = np.concatenate([test.labels for test in tests])
    own = np.split(person, np.cumsum([len(test.labels) for test in tests])[:-1])
    sums = [
        [intervals._sums(test.labels, one, who, len(owners)) for one in np.asarray(test.probabilities, np.float64)]
        for test, who in zip(tests, own, strict=True)
    ]
    ranked = "auc" in names
    rankings: list[list[list[list[intervals.Ranking]]]] = [
        _rankings(test) if ranked else [[] for _ in test.probabilities] for test in tests
    ]
    present = [np.isin(np.arange(test.probabilities.shape[2]), test.labels) for test in tests]
    done: list[dict[str, list[np.ndarray]]] = [{name: [] for name in names} for _ in tests]
    chunk = max(1, intervals.CHUNK // len(labels))
    for weights in intervals._weights(labels, person, len(owners), resamples, seed, chunk):
        for drawn, of_seeds, orders, who, classes in zip(done, sums, rankings, own, present, strict=True):
            of_images = weights[who] if ranked else weights
            with np.errstate(invalid="ignore"):  # nobody of a small test was drawn
                each = [
                    intervals._from_sums(one @ weights, classes) | {"auc": intervals._weighted_auc(order, of_images)}
                    for one, order in zip(of_seeds, orders, strict=True)
                ]
            for name in names:
                drawn[name].append(np.mean([metrics[name] for metrics in each], axis=0))
    return [{name: np.concatenate(parts) for name, parts in drawn.items()} for drawn in done]


def _rankings(test: HeldOut) -> list[list[list[intervals.Ranking]]]:
    return [intervals._rankings(test.labels, one, test.folds) for one in np.asarray(test.probabilities, np.float64)]


def interval(draws: np.ndarray, level: float = 0.95) -> intervals.Interval | None:
    """Returns the percentile interval of resampled numbers, or None where none of them is defined.

    Args:
        draws: (resamples,).
        level: share of the resamples inside.
    """
    return intervals._percentiles({"": draws}, level).get("")
