"""What the numbers of a study support, and what a reader must know before believing them."""

from collections import Counter
from collections.abc import Iterator

import numpy as np

from alljax.data.inspection import property_warnings
from alljax.errors import first_few, plural
from alljax.evaluation.metrics import METRICS
from alljax.evaluation.power import FEW_SUBJECTS
from alljax.report.model_tables import metric_names
from alljax.report.setting_names import display_note
from alljax.report.tables import Value, metric_value, number_value
from alljax.study.results import Study

LEAKS = {"subject": "the subject", "field": "the photograph", "duplicate": "a copy", "near": "a near duplicate"}


def headline(study: Study) -> dict[str, dict[str, Value]]:
    """Returns the main metrics of the best model over images and over subjects, where known, by display name."""
    best, names = study.ranking.best, metric_names(study)
    del names["accuracy"]  # that of always predicting the larger class can be higher
    found = {"images": study.metrics["trials"][best], "subjects": study.evaluation["trials"][best].get("subjects")}
    return {unit: {names[key]: metric_value(key, of) for key in names} for unit, of in found.items() if of}


def findings(study: Study) -> list[str]:
    """Returns what the numbers support: the best model compared with the other models and with the baselines."""
    ranking, favorable = study.ranking, [line for line, good in _judgements(study) if good]
    rivals = [name for name in ranking.order[1:] if name not in ranking.marks]
    if not rivals:
        return favorable
    below = sum(ranking.differences[name].below for name in rivals)
    lead = ranking.differences[rivals[0]]
    bounds = [-bound for bound in lead.interval[::-1]] if lead.interval else None
    selected = "; only new images can show by how much"
    if found := study.evaluation["selection"]:
        key = found["metric"]
        nested, value = number_value(key, found["nested"], found["interval"]), number_value(key, found["value"])
        chosen = ", ".join(f"{trial} in {plural(count, 'fold')}" for trial, count in Counter(found["chosen"]).items())
        selected = f". Selected for each fold on {found['by']}: {METRICS[key]} {nested} instead of {value} ({chosen})"
    return [
        f"{METRICS[ranking.metric]} minus that of the next best model, {rivals[0]}: "
        f"{number_value(ranking.metric, -lead.value, bounds, '+')}. Significantly worse than the best model: {below} "
        f"of {plural(len(rivals), 'other model')}.",
        *favorable,
        f"The best of {len(rivals) + 1} models was selected on the images that it is evaluated on, which is optimistic"
        f"{selected}.",
    ]


def _judgements(study: Study) -> Iterator[tuple[str, bool]]:
    """Yields sentences on the best model beside baselines and on its probabilities, and whether they are favorable."""
    name, metric = study.ranking.best, study.ranking.metric
    result, majority = study.metrics["trials"][name], study.split_of(name)["baselines"]["majority"]
    label = study.class_names[int(np.sum(majority["confusion"], axis=0).argmax())]
    if result["auc"] is None:
        yield "The AUC over images is undefined: there are folds without images of a class.", False
    good = result["accuracy"] > majority["accuracy"]
    ours, always = (number_value("accuracy", one["accuracy"]) for one in (result, majority))
    comparison = "higher than" if good else "not higher than"
    yield f"The accuracy of the best model, {ours}, is {comparison} that of always predicting {label}, {always}.", good
    if found := result["size_improvement"].get(metric):
        good, difference = found["interval"][0] > 0, number_value(metric, found["value"], found["interval"], "+")
        verdict = f"{'significantly' if good else 'not shown to be'} better than a threshold on the cell size"
        yield f"The best model is {verdict}: {METRICS[metric]} minus that of the size {difference}.", good
    calibration = study.evaluation["trials"][name].get("calibration") or {}
    bounds = calibration.get("intervals", {}).get("slope")
    if bounds and bounds[1] < 1:
        slope = number_value("slope", calibration["slope"], bounds)
        yield f"The model is overconfident: its probabilities are too extreme (calibration slope {slope}).", False


def warnings(study: Study) -> Iterator[str]:
    """Yields what a reader must know first: judgements against the model, few subjects, leaks, notes on the data."""
    yield from (line for line, good in _judgements(study) if not good)
    if study.interval_unit == "images":
        yield (
            "The subjects of the images are unknown. Intervals are over images and too narrow if subjects have several "
            "images, and a subject can be on both sides of the split."
        )
    few = []
    for name, tested in zip(study.class_names, study.metrics["trials"][study.ranking.best]["per_class"], strict=True):
        count, effective = tested["subjects"], tested["effective_subjects"]
        if count == 1:
            yield f"No intervals: class {name} was tested on one of the {study.interval_unit}; at least two are needed."
        elif effective < FEW_SUBJECTS:
            few.append(f"{count:,} (effectively {effective:.1f}) of {name}")
    if few:
        yield f"Few {study.interval_unit} were tested: {' and '.join(few)}. Metrics and intervals are uncertain."
    data, splits, total = study.metrics["dataset"], study.metrics["splits"], len(study.trials)
    yield from property_warnings(data["file_properties"])
    if missing := study.metrics["missing"]:
        names = f"missing {len(missing)} of {total} models: {first_few(missing)}"
        yield f"Not finished: {names}. Repeat the `alljax study` command."
    if failed := study.metrics["failed"]:
        yield f"{len(failed)} of {total} models failed: {first_few(failed)}. The errors are listed below the results."
    for name, split in splits.items():
        leaks = split["leaks"]
        if shared := ", ".join(f"{what} of {leaks[key]:,}" for key, what in LEAKS.items() if leaks.get(key)):
            count = f"{leaks['test_images']:,} held-out images"
            yield f"Leak in split {name}: the training images have {shared} of {count}."
        if split["protocol"].get("selection_leaks"):
            yield f"Leak in split {name}: the selection of features was fitted to the held-out images, too."
    if any(split["protocol"]["leaky"] for split in splits.values()):
        yield "A leaky split rewards recognizing subjects: models with one are ranked after those without a leak."
    yield from (display_note(study, note) for note in data["notes"])
