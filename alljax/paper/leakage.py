"""The leakage gap: the same configurations tested on random images and on subjects that they were not trained on."""

import json
import math
from collections.abc import Sequence

import numpy as np

from alljax.data.protocols import LEAKY
from alljax.evaluation.intervals import Jackknife
from alljax.report.tables import Section, Table, Value, number_value
from alljax.study.results import Study

METRICS = {"accuracy": "accuracy", "auc": "AUC within folds", "macro_f1": "macro F1"}
SIGNS = {"random images": "", "disjoint subjects": "", "difference": "+"}
SPLIT = ("split.protocol", "split.folds", "split.test_fraction")  # may differ between the trials of a configuration


def sections(study: Study) -> list[Section]:
    """Returns the section on the leakage gap, or nothing where no configuration has both kinds of split, finished."""
    if not (pairs := find_pairs(study)):
        return []
    jackknife = Jackknife.of(*(study.predictions(name).held_out for pair in pairs for name in pair))
    gaps, rows = [gap(study, pair, jackknife) for pair in pairs], []
    for (name, _), found in zip(pairs, gaps, strict=True):
        cells = [Value(name)]
        for metric in METRICS:
            for sign, values in zip(SIGNS.values(), found[metric], strict=True):
                bounds = jackknife.interval(values, study.level, limits=None if sign else (0.0, 1.0))
                cells.append(number_value(metric, None if math.isnan(values[0]) else values[0], bounds, sign))
        rows.append(cells)
    columns = [f"{label}, {side}" for label in METRICS.values() for side in SIGNS]
    protocols = dict.fromkeys(study.settings(name)["split.protocol"] for pair in pairs for name in pair)
    notes = [
        f"In brackets: {study.intervals}, each of which is left out of both tests at once.",
        "AUC within folds: only images scored by the same head are ranked; none where a fold has one class.",
        f"Protocols: {', '.join(protocols)}; their numbers of training images are part of the difference.",
    ]
    if study.interval_unit == "images":
        notes.append("The subjects are unknown, so the second split is not subject-disjoint: this shows little.")
    title = "The same configurations under both splits"
    table = Table("leakage", title, ("model on random images", *columns), rows, notes=notes)
    return [Section("leakage", "Leakage gap", [summary(gaps, jackknife, study.level)], [table])]


def configurations(study: Study) -> list[dict[bool, str]]:
    """Returns the finished trials, those that differ in the split only together: whether it is leaky → the first."""
    found: dict[str, dict[bool, str]] = {}
    for name in study.metrics["trials"]:
        settings = study.settings(name)
        others = json.dumps({key: value for key, value in settings.items() if key not in SPLIT})
        found.setdefault(others, {}).setdefault(settings["split.protocol"] in LEAKY, name)
    return list(found.values())


def find_pairs(study: Study) -> list[tuple[str, str]]:
    """Returns the leaky and the disjoint trial of configurations with both, unless they select on tested images."""
    pairs = [(trials[True], trials[False]) for trials in configurations(study) if len(trials) == 2]
    return [pair for pair in pairs if study.settings(pair[1]).get("features.select_scope") != "all"]


def gap(study: Study, pair: tuple[str, str], jackknife: Jackknife) -> dict[str, np.ndarray]:
    """Returns each metric of both trials of a pair, and the difference: of all images, then without each subject."""
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
    over = f", averaged over {len(gaps)} configurations" if len(gaps) > 1 else ""
    return f"Testing on random images instead of disjoint subjects gains {' and '.join(texts)}{over}."
