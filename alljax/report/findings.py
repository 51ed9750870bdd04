"""What the numbers of a study support, and what a reader must know before believing them."""

from collections.abc import Iterator

import numpy as np

from alljax.data.inspection import property_warnings
from alljax.errors import first_few, plural
from alljax.evaluation.intervals import Jackknife
from alljax.evaluation.metrics import METRICS
from alljax.evaluation.power import FEW_SUBJECTS
from alljax.report.setting_names import setting_value
from alljax.report.sharing import display_note
from alljax.report.tables import Value, difference_value, metric_value, number_value
from alljax.study.results import Study

BASELINES = {
    "majority": "majority class", "size_threshold": "cell size alone", "size_and_color": "cell size and mean color",
}  # fmt: skip
"""Display names of the baselines."""

DIFFERENCE = {"auc": "AUC", "macro_recall": "balanced accuracy", "accuracy": "accuracy in percentage points"}
"""Display names of differences."""

LEAKS = {"subject": "the subject", "field": "the photograph", "duplicate": "the same image", "near": "a near duplicate"}
"""What held-out images share with training images."""


def headline(study: Study) -> dict[str, dict[str, Value]]:
    """Returns the main metrics of the best model over images, and over subjects where they are known, by display name.

    The accuracy is not among them: that of always predicting the larger class can be higher.
    """
    name, names = study.ranking.best, study.class_names
    results = {"images": study.metrics["trials"][name]}
    if subjects := study.evaluation["trials"][name].get("subjects"):
        results["subjects"] = subjects
    shown = {key: METRICS[key] for key in ("auc", "macro_recall", *(["macro_f1"] if len(names) > 2 else []))}
    if len(names) == 2:
        shown |= {"recall_1": f"sensitivity: recall of {names[1]}", "recall_0": f"specificity: recall of {names[0]}"}
    found = {}
    for unit, result in results.items():
        recalls = {f"recall_{label}": of_class["recall"] for label, of_class in enumerate(result["per_class"])}
        values = result | recalls
        found[unit] = {shown[key]: metric_value(key, values) for key in shown if values[key] is not None}
    return found


def findings(study: Study) -> list[str]:
    """Returns what the numbers support: the best model compared with the other models and with the baselines."""
    ranking = study.ranking
    rivals = [name for name in ranking.order[1:] if name not in ranking.marks]
    if not rivals:
        return [line for line, good in _judgements(study) if good]
    second = ranking.differences[rivals[0]]
    below = sum(ranking.differences[name].below for name in rivals)
    interval = [-bound for bound in second.interval[::-1]] if second.interval else None
    lead = difference_value(ranking.metric, -second.value, interval)
    verdict = "significant" if second.below else "not significant" if interval else "tested on other images"
    comparison = f"{DIFFERENCE[ranking.metric]} minus that of the next best model, {rivals[0]}: {lead}, {verdict}"
    if not lead.text.strip("+−0."):
        comparison = f"The next best model, {rivals[0]}, is as good: {DIFFERENCE[ranking.metric]} difference {lead}"
    return [
        f"{comparison}. Significantly worse than the best model: {below} of {plural(len(rivals), 'other model')}.",
        *(line for line, good in _judgements(study) if good),
        f"The best of {len(rivals) + 1} models was selected on the images that it is evaluated on, which is optimistic"
        f"{_nested(study)}.",
    ]


def _nested(study: Study) -> str:
    """Returns by how much the best model is optimistic: what it is worth if it is chosen without the tested images."""
    if not (found := study.evaluation["selection"]):
        return "; only new images can show by how much"
    key = found["metric"]
    nested, value = number_value(key, found["nested"], found["interval"]), number_value(key, found["value"])
    return f". Selected for each fold on {found['by']}: {METRICS[key]} {nested} instead of {value}"


def _judgements(study: Study) -> Iterator[tuple[str, bool]]:
    """Yields how the best model compares with the baselines, and whether its probabilities are too extreme.

    The second value says whether the judgement is in favor of the model.
    """
    name, metric = study.ranking.best, study.ranking.metric
    result, baselines = study.metrics["trials"][name], study.split_of(name)["baselines"]
    majority, improvement = baselines["majority"], result["size_improvement"]
    label = study.class_names[int(np.sum(majority["confusion"], axis=0).argmax())]
    if result["auc"] is None:
        yield "The AUC over images is undefined: there are folds without images of a class.", False
    good = result["accuracy"] > majority["accuracy"]
    ours, always = (metric_value("accuracy", one, interval=False) for one in (result, majority))
    comparison = "higher than" if good else "not higher than"
    yield f"The accuracy of the best model, {ours}, is {comparison} that of always predicting {label}, {always}.", good
    if found := improvement.get(metric):
        good, difference = found["interval"][0] > 0, difference_value(metric, found["value"], found["interval"])
        shown = "significantly" if good else "not shown to be"
        yield (
            f"The best model is {shown} better than a threshold on the cell size: {DIFFERENCE[metric]} minus that of "
            f"the size {difference}.",
            good,
        )
    calibration = study.evaluation["trials"][name].get("calibration") or {}
    bounds = calibration.get("intervals", {}).get("slope")
    if bounds and bounds[1] < 1:
        slope = number_value("slope", calibration["slope"], bounds)
        yield f"The model is overconfident: its probabilities are too extreme (calibration slope {slope}).", False


def protocols(study: Study) -> dict[str, str]:
    """Returns for each split how the models were tested in it."""
    described = {}
    for name, split in study.metrics["splits"].items():
        protocol = split["protocol"]
        images = []
        for side in ("training", "test"):
            counts = protocol[f"{side}_images"]
            images.append(f"{' to '.join(f'{n:,}' for n in sorted({min(counts), max(counts)}))} {side} images")
        repeats = f" × {protocol['repeats']} repeats" if protocol["repeats"] > 1 else ""
        folds = f"{plural(protocol['folds'], 'fold')}{repeats}, " if len(protocol["test_images"]) > 1 else ""
        how = setting_value("split.protocol", protocol["name"])
        described[name] = f"Test: {how}; {folds}{' and '.join(images)}{' per fold' if folds else ''}."
    return described


def warnings(study: Study) -> Iterator[str]:
    """Yields what a reader must know first: judgements against the model, few subjects, leaks, notes on the data."""
    yield from (line for line, good in _judgements(study) if not good)
    yield from _warnings_of_subjects(study)
    yield from property_warnings(study.metrics["dataset"]["file_properties"])
    missing, failed, total = study.metrics["missing"], list(study.metrics["failed"]), len(study.trials)
    if missing:
        yield (
            f"This study is not finished; missing {len(missing)} of {total} models: {first_few(missing)}. Run the same "
            "`alljax study` command again to train them."
        )
    if failed:
        yield f"{len(failed)} of {total} models failed: {first_few(failed)}. The errors are listed below the results."
    splits = study.metrics["splits"]
    for name, split in splits.items():
        leaks, where = split["leaks"], f" in split {name}" if len(splits) > 1 else ""
        for key, shared in LEAKS.items():
            if leaks.get(key) and not (key == "near" and leaks["near"] == leaks["duplicate"]):
                yield (
                    f"Leak{where}: {shared} of {leaks[key]:,} of {leaks['test_images']:,} held-out images is also in "
                    "the training images."
                )
    if any(split["protocol"]["leaky"] for split in splits.values()):
        yield "Such a split rewards recognizing subjects; expect worse results on new subjects."
    if study.ranking.leaky:
        yield "Models tested on a leaky split are marked and ranked after all others, however high their numbers."
    yield from (display_note(study, note) for note in study.metrics["dataset"]["notes"])


def _warnings_of_subjects(study: Study) -> Iterator[str]:
    if study.interval_unit == "images":
        yield (
            "The subjects of the images are unknown. Intervals are over images and too narrow if subjects have several "
            "images, and a subject can be on both sides of the split."
        )
    else:
        tested = Jackknife.of(study.predictions(study.ranking.best).held_out)
        few = []
        for name, count, effective in zip(study.class_names, tested.subjects, tested.effective, strict=True):
            if count == 1:
                yield f"No intervals: one subject of class {name} was tested; at least two are needed."
            elif effective < FEW_SUBJECTS:
                few.append(f"{subject_count(count, effective)} of {name}")
        if few:
            yield (
                f"Few subjects were tested: {' and '.join(few)}. As subjects differ in their number of images, they "
                "tell less than their number; the metrics are uncertain, and so are their intervals."
            )


def subject_count(count: int, effective: float) -> str:
    """Returns a number of subjects with their effective number."""
    return f"{count:,} (effectively {effective:.1f})"
