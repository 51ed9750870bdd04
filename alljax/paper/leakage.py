"""The leakage gap: the same configurations tested on random images and on subjects that they were not trained on."""

import itertools
from collections.abc import Sequence

import numpy as np

from alljax.data.protocols import LEAKY
from alljax.evaluation.intervals import Jackknife
from alljax.report.tables import Section, Table, Value, number_value
from alljax.study.results import Study

METRICS = {"accuracy": "accuracy", "auc": "AUC within folds", "macro_f1": "macro F1"}
SPLIT = ("split.protocol", "split.folds", "split.test_fraction")  # may differ between the trials of a pair
SIDES = {"random images": "", "disjoint subjects": "", "difference": "+"}  # with the sign of displayed numbers

Pair = tuple[str, str]  # trials of the same configuration: with protocol ``paper``, and with disjoint subjects


def sections(study: Study) -> list[Section]:
    """Returns the section on the leakage gap, or nothing where no configuration has both kinds of split, finished."""
    if not (pairs := find_pairs(study)):
        return []
    jackknife = Jackknife.of(*(study.predictions(name).held_out for pair in pairs for name in pair))
    gaps = [gap(study, pair, jackknife) for pair in pairs]
    rows = [
        [Value(name), *(cell for metric in METRICS for cell in _cells(study, jackknife, metric, found[metric]))]
        for (name, _), found in zip(pairs, gaps, strict=True)
    ]
    columns = [f"{label}, {side}" for label in METRICS.values() for side in SIDES]
    protocols = dict.fromkeys(study.settings(other)["split.protocol"] for _, other in pairs)
    notes = [
        f"In brackets: {study.intervals}, each of which is left out of both tests at once.",
        "AUC within folds: only images scored by the same head are ranked; none where a fold has one class.",
        f"Protocols: paper and {', '.join(protocols)}; their numbers of training images are part of the difference.",
    ]
    if study.interval_unit == "images":
        notes.append("The subjects are unknown, so the second split is not subject-disjoint: this shows little.")
    title = "The same configurations under both splits"
    table = Table("leakage", title, ("model on random images", *columns), rows, notes=notes)
    return [Section("leakage", "Leakage gap", [summary(gaps, jackknife, study.level)], [table])]


def find_pairs(study: Study) -> list[Pair]:
    """Returns the configurations that are finished under both kinds of split."""
    settings = {name: study.settings(name) for name in study.metrics["trials"]}
    same = {name: [pair for pair in values.items() if pair[0] not in SPLIT] for name, values in settings.items()}
    kinds = {name: values["split.protocol"] for name, values in settings.items()}
    return [
        (name, other)
        for name, other in itertools.permutations(settings, 2)
        if kinds[name] == "paper" and kinds[other] not in LEAKY and same[name] == same[other]
    ]


def gap(study: Study, pair: Pair, jackknife: Jackknife) -> dict[str, np.ndarray]:
    """Returns each metric of both trials of a pair, and the difference: of all images, then without each subject.

    The two tests are of different images, so they cannot be paired image by image. Their subjects are the same, except
    those without an image in the random test set; each is left out of both tests at once.
    """
    first, second = (jackknife.values(study.predictions(name).held_out, list(METRICS)) for name in pair)
    return {metric: np.stack([first[metric], second[metric], first[metric] - second[metric]]) for metric in METRICS}


def summary(gaps: Sequence[dict[str, np.ndarray]], jackknife: Jackknife, level: float) -> str:
    """Returns the leakage gap in a sentence, averaged over the configurations."""
    texts = []
    for metric, name in (("accuracy", "percentage points of accuracy"), ("auc", "AUC within folds")):
        differences = np.mean([found[metric][2] for found in gaps], axis=0)
        if np.isfinite(differences[0]):
            bounds = jackknife.interval(differences, level, limits=None)
            significant = "" if bounds and bounds[0] * bounds[1] > 0 else " (not significant)"
            value = number_value(metric, differences[0], bounds, "+")
            texts.append(f"{value.text} {name} {value.note}{significant}")
    over = "" if len(gaps) == 1 else f", averaged over {len(gaps)} configurations"
    return f"Testing on random images instead of disjoint subjects gains {' and '.join(texts)}{over}."


def _cells(study: Study, jackknife: Jackknife, metric: str, sides: np.ndarray) -> list[Value]:
    cells = []
    for sign, values in zip(SIDES.values(), sides, strict=True):
        bounds = jackknife.interval(values, study.level, limits=None if sign else (0.0, 1.0))
        cells.append(number_value(metric, values[0] if np.isfinite(sides[:, 0]).all() else None, bounds, sign))
    return cells
