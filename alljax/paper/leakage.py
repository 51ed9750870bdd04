"""The leakage gap: the same configurations tested on random images and on subjects that they were not trained on."""

from collections.abc import Mapping, Sequence

import numpy as np

from alljax.data.protocols import LEAKY
from alljax.evaluation.intervals import Jackknife
from alljax.report.setting_names import describe, varied_settings
from alljax.report.tables import Section, Table, Value, difference_value, number_value
from alljax.study.results import Study

METRICS = {"accuracy": "accuracy", "auc": "AUC within folds", "macro_f1": "macro F1"}
SPLIT = ("split.protocol", "split.folds", "split.test_fraction")
"""Settings that may differ between the two trials of a pair."""
SIDES = ("random images", "disjoint subjects")

Pair = tuple[str, str]
"""Two trials of the same configuration: with protocol ``paper``, and with disjoint subjects."""


def sections(study: Study) -> list[Section]:
    """Returns the section on the leakage gap, or nothing where no configuration has both kinds of split, finished."""
    pairs = find_pairs(study)
    if not pairs:
        return []
    jackknife = Jackknife.of(*(study.predictions(name).held_out for pair in pairs for name in pair))
    gaps = [gap(study, pair, jackknife) for pair in pairs]
    text = summary(gaps, jackknife, study.level)
    return [Section("leakage", "Leakage gap", [text], [_table(study, pairs, gaps, jackknife)])]


def find_pairs(study: Study) -> dict[Pair, str]:
    """Returns the configurations that are finished under both kinds of split, and what distinguishes each."""
    settings = {name: study.settings(name) for name in study.metrics["trials"]}
    compared = {
        name: {key: value for key, value in values.items() if key not in SPLIT} for name, values in settings.items()
    }
    pairs = [
        (name, other)
        for name in settings
        if settings[name]["split.protocol"] == "paper"
        for other in settings
        if settings[other]["split.protocol"] not in LEAKY and compared[other] == compared[name]
    ]
    varied = varied_settings(study)
    if len({settings[other]["split.protocol"] for _, other in pairs}) == 1:
        varied = [setting for setting in varied if "split.protocol" not in setting.keys]
    return {(name, other): describe(varied, settings[other]) or name for name, other in pairs}


def gap(study: Study, pair: Pair, jackknife: Jackknife) -> dict[str, np.ndarray]:
    """Returns each metric defined for both trials of a pair, (2, 1 + K): of all images, then without each subject.

    The two tests are of different images, so they cannot be paired image by image. Their subjects are the same, except
    those without an image in the random test set; each is left out of both tests at once.
    """
    values = [jackknife.values(study.predictions(name).held_out, list(METRICS)) for name in pair]
    found = {metric: np.stack([of_test[metric] for of_test in values]) for metric in METRICS}
    return {metric: both for metric, both in found.items() if np.isfinite(both[:, 0]).all()}


def summary(gaps: Sequence[dict[str, np.ndarray]], jackknife: Jackknife, level: float) -> str:
    """Returns the leakage gap in a sentence, averaged over the configurations."""
    texts = []
    for metric, name in (("accuracy", "percentage points of accuracy"), ("auc", "AUC within folds")):
        if all(metric in found for found in gaps):
            first, second = np.mean([found[metric] for found in gaps], axis=0)
            bounds = jackknife.interval(first - second, level, limits=None)
            difference, (low, high) = difference_value(metric, first[0] - second[0], bounds), bounds or (0, 0)
            significant = "" if low > 0 or high < 0 else " (not significant)"
            texts.append(f"{difference.text} {name} {difference.note}{significant}")
    over = "" if len(gaps) == 1 else f", averaged over {len(gaps)} configurations"
    return f"Testing on random images instead of disjoint subjects gains {' and '.join(texts)}{over}."


def _table(
    study: Study, pairs: Mapping[Pair, str], gaps: Sequence[dict[str, np.ndarray]], jackknife: Jackknife
) -> Table:
    rows, level = [], study.level
    for label, found in zip(pairs.values(), gaps, strict=True):
        values = [Value(label)]
        for metric in METRICS:
            if metric not in found:
                values += [Value("–")] * 3
                continue
            first, second = found[metric]
            for sign, numbers in (("", first), ("", second), ("+", first - second)):
                bounds = jackknife.interval(numbers, level, limits=None if sign else (0.0, 1.0))
                values.append(number_value(metric, numbers[0], bounds, sign))
        rows.append(values)
    protocols = dict.fromkeys(study.settings(other)["split.protocol"] for _, other in pairs)
    columns = [f"{label}, {what}" for label in METRICS.values() for what in (*SIDES, "difference")]
    notes = [
        f"In brackets: {study.intervals}, each of which is left out of both tests at once.",
        "AUC within folds: only images scored by the same head are ranked, because scores of different heads differ in "
        "scale, which would look like a leak; there is none where a fold has one class.",
        f"Protocols: paper and {', '.join(protocols)}. The models of the two splits may have different numbers of "
        "training images; this is part of the difference.",
    ]
    if study.interval_unit == "images":
        notes.append("The subjects are unknown, so the second split is not subject-disjoint: this shows little.")
    return Table("leakage", "The same configurations under both splits", ("configuration", *columns), rows, notes=notes)
