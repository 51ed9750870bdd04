"""Evaluates the finished trials of a study from their stored predictions, for evaluation.json; imports no JAX."""

from pathlib import Path
from typing import Any

from alljax.evaluation import metrics
from alljax.evaluation.calibration import calibration
from alljax.evaluation.intervals import HeldOut, summarize
from alljax.evaluation.subjects import by_subject, ensemble, training_shares
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
    predictions, level = study.predictions(name), study.bootstrap.level
    test, joint = predictions.held_out, ensemble(predictions.held_out, predictions.paths)
    found = {"ensemble": _describe(joint, level), "calibration": calibration(test, level)}
    if study.interval_unit == "subjects":
        by_image = [key for key in test.metric_names if "auc" not in key]
        found["subjects"] = _describe(by_subject(joint, training_shares(joint)), level)
        found["subjects"]["weighted"] = summarize(test, level, by_image, equal=True)
    return found


def _describe(test: HeldOut, level: float) -> dict[str, Any]:
    """Returns all metrics of predictions of one seed."""
    found = metrics.evaluate(test.labels, test.probabilities[0], test.ranking[0], test.folds)
    return found | summarize(test, level) | {"count": [of_class["count"] for of_class in found["per_class"]]}
