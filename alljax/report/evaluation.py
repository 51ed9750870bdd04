"""Metrics with intervals of predictions from anywhere, as numbers and as a table."""

import io
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas

from alljax.errors import ConfigError, DataError, first_few, plural
from alljax.evaluation.intervals import HeldOut, Interval, describe
from alljax.evaluation.metrics import METRICS
from alljax.report import tables
from alljax.report.tables import Table, Value
from alljax.settings import SETTINGS

LEVEL: Any = SETTINGS["evaluation.level"].default
TOLERANCE = 0.01  # of the sum of the probabilities of an image, which may be rounded or bfloat16


class Evaluation(dict[str, Any]):
    """What `evaluate` returns: a dictionary of metrics, printed, and shown in notebooks, as a table."""

    def __init__(self, metrics: Mapping[str, Any], intervals: Mapping[str, Interval], table: Table) -> None:
        super().__init__(metrics)
        self.intervals = intervals
        """(low, high) by metric; those of class 0 are ``recall_0``, ``precision_0``, …"""
        self.table = table

    def to_pandas(self) -> pandas.DataFrame:
        """Returns ``value``, ``low`` and ``high`` (NaN where undefined) by metric, those of class 0 as ``recall_0``."""
        values = {name: value for name, value in self.items() if not isinstance(value, list)}
        for label, of_class in enumerate(self["per_class"]):
            values |= {f"{name}_{label}": value for name, value in of_class.items()}
        rows = [(value, *self.intervals.get(name, (None, None))) for name, value in values.items()]
        return pandas.DataFrame(rows, [*values], ["value", "low", "high"], dtype=float).rename_axis("metric")

    def __repr__(self) -> str:
        tables.print_table(self.table, file=(text := io.StringIO()))
        return text.getvalue()

    def _repr_html_(self) -> str:
        return tables.to_html(self.table)


def evaluate(
    labels: Any, probabilities: Any, groups: Any = None, folds: Any = None, level: float = LEVEL, classes: Any = None
) -> Evaluation:
    """Returns the metrics of held-out predictions with confidence intervals, as a study computes them.

    The predicted class has the largest probability, and is the first one if several are equal. Precision, recall and F1
    that are 0/0 count as 0, also in means over classes. Metrics of R seeds are averaged.

    Args:
        labels: True classes (N,): numbers of columns of `probabilities`, from 0, or names, see `classes`.
        probabilities: (N, C); (N,), those of the second of two classes; or (R, N, C) of R seeds.
        groups: Names (N,) of the independent units, usually subjects, over which intervals are computed, by leaving out
            each in turn; None: the images, as if they were independent.
        folds: Names (N,), for predictions of several heads: the AUC compares images of the same fold; None: one head.
        level: Confidence level of the intervals, at least 0.5.
        classes: Names of the columns (C,), such as `HeadClassifier.classes_`; None: the sorted names in `labels`.

    Returns:
        A dictionary: ``accuracy``; ``macro_precision``, ``macro_recall`` (the balanced accuracy) and ``macro_f1``,
        means over classes, also ``weighted_…`` by images; ``mcc`` (Matthews); ``auc`` and ``pr_auc`` (average
        precision) of the second of two classes, else means over classes against all others, also ``macro_…`` and
        ``weighted_…``; ``pooled_auc``, as if all images were of one fold; ``log_loss`` (nats); ``brier``, half of the
        squared error summed over classes; ``brier_scaled``, 1 − Brier score / that of the class shares; ``confusion``
        (rows true, columns predicted); ``per_class``, a list of ``precision``, ``recall``, ``f1``, ``auc``, ``pr_auc``
        and ``count``. Undefined numbers are None. Its attribute `intervals` has (low, high) by metric.

    Raises:
        DataError: Labels that are no class, probabilities whose sum is not 1, or lengths that differ.

    >>> subjects = np.repeat(np.arange(12), 10)
    >>> labels = np.where(subjects < 6, "blast", "normal")
    >>> means = np.where(labels == "normal", 0.6, 0.4)
    >>> probabilities = np.random.default_rng(0).normal(means, 0.2).clip(0, 1)
    >>> result = alljax.evaluate(labels, probabilities, groups=subjects)
    >>> round(result["auc"], 3), [round(bound, 3) for bound in result.intervals["auc"]]
    (0.768, [0.62, 0.87])
    >>> print(result)
    120 images
    ...
    AUC   0.768 [0.620, 0.870]
    ...
    95% intervals over 12 groups
    """
    scores = _probabilities(np.asarray(probabilities, np.float64))
    count = scores.shape[1]
    for name, values in {"labels": labels, "groups": groups, "folds": folds}.items():
        if values is not None and len(values) != count:
            raise DataError(f"{name} has the length {len(values)}; expected {count}, one per image of probabilities")
        if values is not None and (missing := np.flatnonzero(pandas.isna(values))).size:
            raise DataError(f"{name}: that of image {missing[0]} is missing; give it, or leave the image out")
    if problem := SETTINGS["evaluation.level"].problem(level):
        raise ConfigError(f"level={level!r} {problem}")
    index, names = _numbers(np.asarray(labels), scores.shape[2], classes)
    units = np.arange(count) if groups is None else np.asarray(groups).astype(str)
    found = describe(HeldOut(index, scores, units, None if folds is None else np.asarray(folds).astype(str)), level)
    note = f"{level:.0%} intervals over {plural(len(np.unique(units)), 'group')}"
    if groups is None:
        note = f"{level:.0%} intervals over images, as if they were independent; give groups if subjects have several"
    if not found["intervals"]:
        note = "no intervals: a class has a single group"
    titles = METRICS | {f"recall_{label}": f"recall of {name}" for label, name in enumerate(names)}
    rows = [(Value(title), tables.metric_value(name, found)) for name, title in titles.items()]
    table = Table("evaluation", plural(count, "image"), ("metric", "value"), rows, notes=(note,))
    intervals = {name: (low, high) for name, (low, high) in found.pop("intervals").items()}
    return Evaluation(found, intervals, table)


def _probabilities(values: np.ndarray) -> np.ndarray:
    """Returns probabilities as (R, N, C)."""
    if values.ndim == 1:
        values = np.stack([1 - values, values], -1)
    values = values.reshape(-1, *values.shape[-2:])
    valid = (values >= 0).all(2) & (np.abs(values.sum(2) - 1) <= TOLERANCE)
    for seed, row in np.argwhere(~valid)[:1]:
        found = ", ".join(f"{number:.4g}" for number in values[seed, row])
        raise DataError(f"the probabilities of image {row} are {found}; expected numbers from 0 to 1 whose sum is 1")
    return values


def _numbers(labels: np.ndarray, columns: int, classes: Any) -> tuple[np.ndarray, list[Any]]:
    """Returns the column of each label, int (N,), and the names of the columns."""
    integers = labels.dtype.kind in "biu"
    found = range(columns) if integers else np.unique(labels)
    names = [*(found if classes is None else classes)]
    if len(names) != columns:
        fix = f"but the classes are {first_few(map(str, names))}; give those of all columns"
        raise DataError(f"probabilities have {columns} columns, {fix}")
    known = range(columns) if integers and isinstance(names[0], str) else names
    column = {name: number for number, name in enumerate(known)}
    if unknown := {*labels.tolist()} - column.keys():
        raise DataError(f"labels contain {min(map(str, unknown))}; expected {first_few(map(str, known))}")
    return np.array([column[label] for label in labels.tolist()]), names
