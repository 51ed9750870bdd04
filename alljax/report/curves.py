"""Figures of curves with bands: training, ROC, calibration, predictive values, robustness."""

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas
from matplotlib.ticker import MaxNLocator
from sklearn.metrics import precision_recall_curve, roc_curve

from alljax.evaluation.intervals import HeldOut
from alljax.report.plots import DASHES, PALETTE, add_legend, panels_of, save, shorten
from alljax.report.tables import Figure

GRID = np.linspace(0, 1, 201)
IDENTITY = np.tile(GRID, (4, 1))
Curves = dict[str, np.ndarray]  # by label: x, y, and the lower and upper end of the band, (4, N)


def curve_figure(name: str, caption: str, panels: Mapping[str, Curves], quantities: tuple[str, str]) -> Figure:
    """Returns a figure of curves, in panels by title, at most four in a row; `quantities` are those of x and y."""
    across = min(4, len(panels))
    size = max(5.6, 1.4 + 2.6 * across), 1.1 + (2.8 if across == 1 else 2.5) * -(-len(panels) // across)
    with panels_of(panels, across, size) as (figure, drawn):
        for axes, curves in drawn:
            styles = zip(curves.items(), itertools.cycle(PALETTE), itertools.cycle(DASHES), strict=False)
            for (label, (at, values, low, high)), color, dashes in styles:
                marker = "o" if len(at) <= 10 else ""
                axes.plot(at, values, label=label, color=color, linestyle=dashes, marker=marker, markersize=4)
                axes.fill_between(at, low, high, color=color, alpha=0.14, linewidth=0)
                axes.xaxis.set_major_locator(MaxNLocator(5, integer=not np.any(at % 1), min_n_ticks=1))
            axes.grid(axis="y")
        figure.supxlabel(quantities[0], fontsize=10.5)
        figure.supylabel(quantities[1], fontsize=10.5)
        add_legend(figure)
        return save(name, caption, figure)


def learning_curves(history: pandas.DataFrame, quantity: str, tested: str = "held-out images") -> Curves:
    """Returns means over folds and seeds against the epoch, with a band of one standard deviation to either side."""
    curves = {}
    for column, label in ((f"train_{quantity}", "training images"), (f"val_{quantity}", tested)):
        values = history.groupby("epoch")[column]
        mean, spread = values.agg(lambda of_epoch: of_epoch.mean(skipna=False)), values.std(ddof=0)
        curves[label] = np.stack([mean.index, mean, mean - spread, mean + spread])
    return curves


def class_curves(test: HeldOut, class_names: Sequence[str]) -> Iterator[Figure]:
    """Yields ROC curves, whose area is the AUC within folds, and precision-recall curves (see `_of_classes`)."""
    curves = _of_classes(test, class_names, _true_positive_rates) | {"guessing": IDENTITY}
    quantities = "false positive rate (1 − specificity)", "true positive rate (sensitivity)"
    yield curve_figure("roc", "ROC curve", {"": curves}, quantities)
    curves = _of_classes(test, class_names, _precisions)
    quantities = "recall (sensitivity)", "precision (positive predictive value)"
    yield curve_figure("precision-recall", "Precision-recall curve", {"": curves}, quantities)


def _true_positive_rates(positive: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, float]:
    """Returns the rates at the false positive rates `GRID`, and the number of pairs of images, the weight of a fold."""
    false, true, _ = roc_curve(positive, scores)
    rates = np.interp(GRID, false, true)
    rates[0] = 0
    return rates, positive.sum() * (~positive).sum()


def _precisions(positive: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, float]:
    """Returns the precision of the highest threshold with at least each recall of `GRID`, and the positive images."""
    precision, recall, _ = precision_recall_curve(positive, scores, drop_intermediate=True)
    return precision[len(recall) - 1 - np.searchsorted(recall[::-1], GRID)], positive.sum()


def _of_classes(
    test: HeldOut, class_names: Sequence[str], curve: Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, float]]
) -> Curves:
    """Returns curves of class 1 or of each class; `curve` returns values over `GRID` and the weight of a fold."""
    folds, curves = [np.flatnonzero(test.fold == index) for index in np.unique(test.fold)], {}
    for label in range(1 if len(class_names) == 2 else 0, len(class_names)):
        positive, values = test.labels == label, []
        if not all(0 < positive[rows].sum() < len(rows) for rows in folds):
            continue
        for scores in test.ranking[:, :, label]:
            found, weights = zip(*(curve(positive[rows], scores[rows]) for rows in folds), strict=True)
            values.append(np.average(found, axis=0, weights=weights))
        mean, low, high = (of(values, axis=0) for of in (np.mean, np.min, np.max))
        curves[shorten(class_names[label])] = np.stack([GRID, mean, low, high])
    return curves


def reliability_diagram(calibrations: Mapping[str, Mapping[str, Any]], probability: str) -> Figure:
    """Returns the observed share over the predicted probability, of numbers as in ``calibration`` by label."""
    curves, sizes = {}, set[int]()
    for label, found in calibrations.items():
        at, observed, counts = ([one[key] for one in found["bins"]] for key in ("mean", "observed", "count"))
        curves[label] = np.array([at, observed, observed, observed])
        sizes |= {*map(round, counts)}
    curves["ideal"] = IDENTITY
    caption = f"Reliability diagram; each point is the mean of about {min(sizes):,} images"
    return curve_figure("calibration", caption, {"": curves}, (probability, "observed share"))


def predictive_values(points: Mapping[str, Mapping[str, Any]], positive: str) -> Figure:
    """Returns PPV and NPV over the prevalence of the positive class; `points` are ``ppv_npv`` by operating point."""
    panels: dict[str, Curves] = {"PPV": {}, "NPV": {}}
    for (title, curves), (label, found) in itertools.product(panels.items(), points.items()):
        bounds = [pair or (np.nan, np.nan) for pair in found["intervals"][title.lower()]]
        curves[label] = np.array([found["prevalence"], found[title.lower()], *zip(*bounds, strict=True)], float)
    caption = "Predictive values with intervals over the prevalence, by operating point"
    return curve_figure("predictive-values", caption, panels, (f"prevalence of {positive}", ""))


def robustness_curves(rows: Sequence[Mapping[str, Any]], metrics: Mapping[str, str]) -> Figure:
    """Returns the ``differences`` of robustness.json over the strength of each perturbation, with their intervals."""
    panels: dict[str, Curves] = {}
    for row, (metric, label) in itertools.product(rows[1:], metrics.items()):
        value, intervals = row["differences"][metric], row["differences"]["intervals"]
        point = np.array([[row["strength"], value, *intervals.get(metric, (value, value))]]).T
        curves = panels.setdefault(f"{row['perturbation']} ({row['unit']})", {})
        curves[label] = np.append(curves.get(label, np.empty((4, 0))), point, axis=1)
    caption = "Metrics minus those of the same images unperturbed, over the strength of the perturbation"
    return curve_figure("robustness", caption, panels, ("strength", "difference"))
