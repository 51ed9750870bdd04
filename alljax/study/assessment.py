"""Evaluates the finished trials of a study from their stored predictions, for evaluation.json; imports no JAX."""

from pathlib import Path
from typing import Any

from alljax.evaluation import metrics
from alljax.evaluation.intervals import by_subject, confidence_intervals
from alljax.study import results, workdir
from alljax.study.results import Study


def evaluate_study(folder: Path) -> Study:
    """Writes evaluation.json of a study with at least one finished trial; returns the study."""
    study = results.read_study(folder)
    workdir.write_study(folder, {workdir.EVALUATION: assess(study)})
    return study


def assess(study: Study) -> dict[str, Any]:
    """Returns the content of evaluation.json: ``trials``, what is known of each finished trial beyond its metrics."""
    return {"trials": {name: _assess_trial(study, name) for name in study.metrics["trials"]}}


def _assess_trial(study: Study, name: str) -> dict[str, Any]:
    return {"subjects": _subjects(study, name)} if study.interval_unit == "subjects" else {}


def _subjects(study: Study, name: str) -> dict[str, Any]:
    """Returns the metrics over subjects, means over seeds, with their intervals."""
    test = by_subject(study.predictions(name).held_out)
    per_seed = [
        metrics.evaluate(test.labels, probabilities, scores, test.folds)
        for probabilities, scores in zip(test.probabilities, test.ranking, strict=True)
    ]
    found = metrics.average_over_seeds(per_seed, range(len(per_seed)))
    intervals = confidence_intervals(test, study.bootstrap.level)
    kept = {key: found[key] for key in (*metrics.METRICS, "mcc", "confusion", "per_class")}
    return kept | {"intervals": {key: list(interval) for key, interval in intervals.items()}}
