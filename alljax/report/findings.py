"""What the numbers of a study support, and what a reader must know before believing them."""

from collections.abc import Iterator

import numpy as np

from alljax.data import file_properties
from alljax.errors import first_few, plural
from alljax.evaluation.intervals import Jackknife
from alljax.evaluation.metrics import METRICS
from alljax.evaluation.power import FEW_SUBJECTS
from alljax.report.setting_names import setting_value
from alljax.report.tables import Value, difference_value, metric_value
from alljax.study.results import Study

BASELINES = {
    "majority": "majority class", "size_threshold": "cell size alone", "size_and_color": "cell size and mean color",
}  # fmt: skip
"""Display names of the baselines."""

DIFFERENCE = {"auc": "AUC", "macro_recall": "balanced accuracy", "accuracy": "accuracy in percentage points"}
"""Display names of differences."""


def headline(study: Study) -> dict[str, Value]:
    """Returns the main metrics of the best model by display name, for two classes with both recalls."""
    name, names = study.ranking.best, study.class_names
    result = study.metrics["trials"][name]
    if len(names) > 2:
        shown = {key: METRICS[key] for key in (study.ranking.metric, "accuracy", "macro_f1")}
        return {label: metric_value(key, result) for key, label in shown.items()}
    shown = {
        study.ranking.metric: METRICS[study.ranking.metric],
        "accuracy": METRICS["accuracy"],
        "recall_1": f"sensitivity: recall of {names[1]}",
        "recall_0": f"specificity: recall of {names[0]}",
    }
    recalls = {f"recall_{label}": of_class["recall"] for label, of_class in enumerate(result["per_class"])}
    return {label: metric_value(key, result | recalls) for key, label in shown.items()}


def findings(study: Study) -> Iterator[str]:
    """Yields what the numbers support: the best model compared with the other models and with the baselines."""
    ranking = study.ranking
    rivals = [name for name in ranking.order[1:] if name not in ranking.leaky]
    if rivals:
        second = ranking.differences[rivals[0]]
        below = sum(ranking.differences[name].below for name in rivals)
        interval = [-bound for bound in second.interval[::-1]] if second.interval else None
        lead = difference_value(ranking.metric, -second.value, interval)
        verdict = "significant" if second.below else "not significant" if interval else "tested on other images"
        yield (
            f"{DIFFERENCE[ranking.metric]} minus that of the next best model, {rivals[0]}: {lead}, {verdict}. "
            f"Significantly worse than the best model: {below} of {plural(len(rivals), 'other model')}."
        )
    result, baselines = study.metrics["trials"][ranking.best], study.split_of(ranking.best)["baselines"]
    majority, size = baselines["majority"], baselines.get("size_threshold")
    label = int(np.sum(majority["confusion"], axis=0).argmax())
    verdict = "" if result["accuracy"] > majority["accuracy"] else " The model is not better: see the recalls."
    accuracy = metric_value("accuracy", majority, interval=False)
    yield f"Always predicting {study.class_names[label]} gives an accuracy of {accuracy}.{verdict}"
    metric, improvement = ranking.metric, result["size_improvement"]
    differences = [
        f"{name} {difference_value(key, improvement[key]['value'], improvement[key]['interval'])}"
        for key, name in DIFFERENCE.items()
        if key in improvement
    ]
    shown = metric in improvement and improvement[metric]["interval"][0] > 0
    if size:
        yield (
            f"A threshold on the cell size alone reaches {METRICS[metric]} {metric_value(metric, size)}. The model "
            f"minus the size, within folds: {', '.join(differences) or 'no interval'}; "
            f"{'significant' if shown else 'not shown that the model uses more than size'}."
        )
    if rivals:
        yield (
            f"The best of {len(rivals) + 1} models was selected on the images that it is evaluated on, so its numbers "
            "are slightly optimistic; only new images can show by how much."
        )


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
    """Yields what a reader must know first: properties of files that give the class, missing models, leaks, notes."""
    yield from file_properties.warnings(study.metrics["dataset"]["file_properties"])
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
        for key, shared in (("subject", "the subject"), ("field", "the photograph"), ("duplicate", "the same image")):
            if leaks.get(key):
                yield (
                    f"Leak{where}: {shared} of {leaks[key]:,} of {leaks['test_images']:,} held-out images is also in "
                    "the training images."
                )
    if any(split["protocol"]["leaky"] for split in splits.values()):
        yield "Such a split rewards recognizing subjects; expect worse results on new subjects."
    if study.ranking.leaky:
        yield "Models tested on a leaky split are marked and ranked after all others, however high their numbers."
    if study.interval_unit == "images":
        yield (
            "The subjects of the images are unknown. Intervals are over images and too narrow if subjects have several "
            "images, and a subject can be on both sides of the split."
        )
    else:
        tested = Jackknife.of(study.predictions(study.ranking.best).held_out)
        for name, count, effective in zip(study.class_names, tested.subjects, tested.effective, strict=True):
            if count == 1:
                yield f"No intervals: one subject of class {name} was tested; at least two are needed."
            elif effective < FEW_SUBJECTS:
                yield (
                    f"Few subjects of class {name} were tested: {count}, which tell as much as {effective:.1f} with "
                    "equally many images. Its numbers are uncertain, and so are its intervals."
                )
    yield from study.metrics["dataset"]["notes"]
