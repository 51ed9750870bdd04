"""What the numbers of a study support, and what a reader must know before believing them."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from alljax.errors import first_few, plural
from alljax.evaluation.comparison import Difference
from alljax.evaluation.intervals import confidence_intervals
from alljax.evaluation.metrics import METRICS
from alljax.report.tables import (
    format_bounds,
    format_difference,
    format_difference_bounds,
    format_interval,
    format_value,
)
from alljax.study.results import Study

BASELINES = {"majority": "majority class", "size_threshold": "cell size alone"}
"""Display names of the baselines."""

FEW_SUBJECTS = 10
"""Below this number of subjects per class percentile intervals are visibly too narrow."""

PROTOCOLS = {
    "paper": "random {share} of the images, regardless of the subject, as in the paper",
    "subject_kfold": "{folds}-fold cross-validation over subjects",
    "subject_holdout": "about {share} of the images, held out by subject",
    "leave_one_subject_out": "leave one subject out, {folds} folds",
    "official_folds": "the {folds} official folds of the data set, with disjoint subjects",
    "official_folds_by_name": "the {folds} official folds by file name, in which a subject can be in several folds",
    "prelim": "the separate subset “{subset}”",
}


def title(study: Study) -> str:
    """Returns the page's title: the classes and the data set."""
    names = study.class_names
    return f"{' vs. '.join(names) if len(names) <= 4 else f'{len(names)} classes'} · {study.metrics['dataset']['name']}"


def headline(study: Study) -> list[tuple[str, str, str]]:
    """Returns (name, value, interval) of the main metrics of the best model."""
    name, names = study.ranking.best, study.class_names
    result = study.metrics["trials"][name]
    binary = len(names) == 2
    shown = ["auc", "accuracy"] if binary else ["auc", "accuracy", "macro_f1"]
    tiles = [(METRICS[key], format_value(key, result[key]), format_interval(key, result)) for key in shown]
    if binary:
        recalls = ["recall_0", "recall_1"]
        bounds = confidence_intervals(study.predictions(name).held_out, names=recalls, **study.bootstrap)
        for label, what in ((1, "sensitivity"), (0, "specificity")):
            interval = bounds.get(f"recall_{label}")
            value = format_value("accuracy", result["per_class"][label]["recall"])
            tiles.append(
                (f"{what}: recall of {names[label]}", value, format_bounds("accuracy", interval) if interval else "")
            )
    return tiles


def auc_meaning(study: Study) -> str:
    """Returns one sentence on what an AUC is."""
    names = study.class_names
    if len(names) == 2:
        pair = f"an image of {names[1]} gets a higher probability of that class than an image of {names[0]}"
    else:
        pair = "an image of a class gets a higher probability of it than an image of the other classes, averaged"
    return f"AUC: how often {pair}; 0.5 is guessing, 1 is perfect."


def findings(study: Study) -> list[str]:
    """Returns what the numbers support: the lead of the best model and its comparison with the baselines."""
    ranking = study.ranking
    others = [name for name in ranking.order[1:] if name not in ranking.leaky]
    lines = []
    if others:
        lines.append(lead(study, others[0]))
        lines += _number_below([ranking.differences[name] for name in others])
    lines += _baselines(study)
    if others:
        lines.append(
            f"The best of {len(others) + 1} models was selected on the images that it is evaluated on, so its numbers "
            "are slightly optimistic; only new images can show by how much."
        )
    return lines


def lead(study: Study, second: str) -> str:
    """Returns a sentence that compares the best model with the second best, on the same resamples of subjects."""
    ranking, difference = study.ranking, study.ranking.differences[second]
    if not difference.paired:
        return f"The next best model, {second}, was tested on other images and cannot be compared image by image."
    value = format_difference(ranking.metric, -difference.value, unit=True)
    text = f"{METRICS[ranking.metric]} minus that of the next best model, {second}: {value}"
    if difference.interval is None:
        return f"{text}; no interval could be computed."
    low, high = difference.interval
    verdict = "significant." if difference.below else "not significant."
    return f"{text} {format_difference_bounds(ranking.metric, (-high, -low))}, {verdict}"


def _number_below(differences: Sequence[Difference]) -> list[str]:
    paired = [difference for difference in differences if difference.interval is not None]
    if len(paired) < 2:
        return []
    below = sum(difference.below for difference in paired)
    tested = " tested on the same images" if len(paired) < len(differences) else ""
    return [
        f"Of {len(paired)} other models{tested}: {below} significantly worse than the best, {len(paired) - below} not "
        "distinguishable from it."
    ]


def _baselines(study: Study) -> Iterator[str]:
    best = study.ranking.best
    result, baselines = study.metrics["trials"][best], study.split_of(best)["baselines"]
    if majority := baselines.get("majority"):
        label = int(np.sum(majority["confusion"], axis=0).argmax())
        verdict = "" if result["accuracy"] > majority["accuracy"] else " The model is not better: see the recalls."
        accuracy = format_value("accuracy", majority["accuracy"])
        yield f"Always predicting {study.class_names[label]} gives an accuracy of {accuracy}.{verdict}"
    if size := baselines.get("size_threshold"):
        metric = "auc" if size["auc"] is not None else "accuracy"
        value = f"{format_value(metric, size[metric])} {format_interval(metric, size)}"
        improvement = compare_with_size(result["size_improvement"], len(size["thresholds"]))
        yield f"A threshold on the cell size alone reaches {METRICS[metric]} {value}. {improvement}"


def compare_with_size(improvement: Mapping[str, Mapping[str, Any]], folds: int) -> str:
    """Returns a sentence on whether the model uses more than the size, both on the same resamples of subjects.

    Args:
        improvement: ``size_improvement`` of a trial.
        folds: number of folds; the AUC of several is that within folds.
    """
    metric = "auc" if "auc" in improvement else "accuracy"
    if metric not in improvement:
        return "No interval of the difference could be computed: not shown that the model uses more than size."
    value, (low, high) = improvement[metric]["value"], improvement[metric]["interval"]
    what = METRICS[metric] + (" within folds" if metric == "auc" and folds > 1 else "")
    difference = f"{format_difference(metric, value, unit=True)} {format_difference_bounds(metric, (low, high))}"
    text = f"The model's {what} minus that of the size: {difference}"
    if high < 0:
        return f"{text}; the model is worse than the size."
    if low <= 0:
        return f"{text}; not shown that the model uses more than size."
    accuracy = improvement.get("accuracy", {}).get("value", 1.0)
    return f"{text}, significant" + ("; its accuracy is not higher." if accuracy <= 0 else ".")


def protocols(study: Study) -> list[tuple[str, str]]:
    """Returns the name of each split and how the models were tested in it."""
    described = []
    for name, split in study.metrics["splits"].items():
        trials, protocol = study.metrics["trials"], split["protocol"]
        settings = study.settings(
            next((trial for trial in trials if trials[trial]["split"] == name), next(iter(trials)))
        )
        how = PROTOCOLS[protocol["name"]].format(
            folds=protocol["folds"], share=f"{settings['split.test_fraction']:.0%}",
            subset=settings["split.test_subset"],
        )  # fmt: skip
        repeats = f", repeated {protocol['repeats']} times" if protocol["repeats"] > 1 else ""
        counts = [f"{_range(protocol[f'{side}_images'])} {side} images" for side in ("training", "test")]
        folds = " per fold" if len(protocol["test_images"]) > 1 else ""
        described.append((name, f"Test images: {how}{repeats}. {' and '.join(counts)}{folds}."))
    return described


def _range(counts: Sequence[int]) -> str:
    return " to ".join(f"{count:,}" for count in sorted({min(counts), max(counts)}))


def warnings(study: Study) -> list[str]:
    """Returns what a reader must know first: missing and failed models, leaks, unknown or few subjects, notes."""
    lines = [*_unfinished(study), *_leaks(study)]
    if study.metrics["trials"][study.ranking.best]["interval_unit"] == "images":
        lines.append(
            "The subjects of the images are unknown. Intervals are over images and too narrow if subjects have several "
            "images, and a subject can be on both sides of the split."
        )
    else:
        predictions = study.predictions(study.ranking.best)
        for label, name in enumerate(study.class_names):
            count = len(np.unique(predictions.subjects[predictions.labels == label]))
            if count < FEW_SUBJECTS:
                lines.append(f"Only {plural(count, 'subject')} of class {name} tested: its intervals are too narrow.")
    return lines + list(study.metrics["dataset"].get("notes", []))


def _unfinished(study: Study) -> Iterator[str]:
    failed = list(study.metrics.get("failed") or {})
    missing = [name for name in study.metrics.get("missing") or [] if name not in failed]
    total = len(study.metrics["trials"]) + len(missing) + len(failed)
    if missing:
        yield (
            f"This study is not finished; missing {len(missing)} of {total} models: {first_few(missing)}. Run the same "
            "`alljax study` command again to train them."
        )
    if failed:
        yield f"{len(failed)} of {total} models failed: {first_few(failed)}. The errors are listed below the results."


def _leaks(study: Study) -> Iterator[str]:
    several = len(study.metrics["splits"]) > 1
    for name, split in study.metrics["splits"].items():
        leaks = split["leaks"]
        for key, shared in (("subject", "the subject"), ("field", "the photograph"), ("duplicate", "the same image")):
            if leaks.get(key):
                where = f" in split {name}" if several else ""
                yield (
                    f"Leak{where}: {shared} of {leaks[key]:,} of {leaks['test_images']:,} held-out images is also in "
                    "the training images."
                )
    if any(split["protocol"]["leaky"] for split in study.metrics["splits"].values()):
        yield "Such a split rewards recognizing subjects; expect worse results on new subjects."
    if study.ranking.leaky:
        yield "Models tested on a leaky split are marked and ranked after all others, however high their numbers."
