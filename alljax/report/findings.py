"""What may be said of a study's numbers, in sentences, with the doubts they deserve."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from alljax.evaluation import intervals
from alljax.evaluation.comparison import Difference
from alljax.evaluation.metrics import METRICS
from alljax.report.tables import format_difference, format_difference_bounds, format_interval, format_value
from alljax.study.results import Predictions, Study

BASELINES = {"majority": "always the largest class", "size_threshold": "size of the cell alone"}
"""How the two rules are called in tables."""


def distance(metric: str, value: float) -> str:
    """Returns a difference without its sign, with its unit."""
    return format_difference(metric, abs(value), unit=True).lstrip("+")


def ahead(metric: str, behind: tuple[float, float]) -> str:
    """Returns the interval of how far the best is ahead, from that of how far another is behind (a negative number)."""
    return format_difference_bounds(metric, (-behind[1], -behind[0])).replace("+", "")


def title(study: Study) -> str:
    """Returns the page's title: what was told apart, in what."""
    data = study.metrics["dataset"]
    question = " or ".join(study.classes) if len(study.classes) <= 4 else f"{len(study.classes)} classes"
    return f"{question} · {data['name']}"


def headline(study: Study, order: Sequence[str], predictions: Predictions) -> dict[str, Any]:
    """Returns what the page opens with: the best model, its main metrics, and what the ranking metric means.

    Args:
        study: the study.
        order: names of its cells, best first.
        predictions: of the best.
    """
    trials, name = study.metrics["trials"], order[0]
    result, by, unit = trials[name], study.ranking.metric, _unit(study)
    honest = len(trials) - len(study.ranking.leaky)
    if len(study.classes) == 2:
        negative, positive = (f"“{label}”" for label in study.classes)
        task = f"tells {positive} from {negative}"
        meaning = (
            f"AUC: of one {positive} and one {negative} cell, the chance that the {positive} cell gets the "
            f"higher probability of being {positive}. 0.5 is guessing, 1 is perfect."
        )
    else:
        task = f"tells the {len(study.classes)} classes apart"
        meaning = (
            "AUC: of a cell of one class and a cell of another, the chance that the first gets the higher "
            "probability of its class; the mean over classes. 0.5 is guessing, 1 is perfect."
        )
    return {
        "model": name,
        "task": task,
        "by": by,
        "meaning": meaning,
        "of": "" if len(trials) == 1 else f"Of {_models(honest)}{' whose test does not leak' * (honest < len(trials))}",
        "level": f"{study.config['evaluation.level']:.0%}",
        "unit": unit,
        "auc": (format_value("auc", result["auc"]), format_interval("auc", result)),
        "accuracy": (format_value("accuracy", result["accuracy"]), format_interval("accuracy", result)),
        "tiles": _tiles(study, result, predictions),
    }


def _tiles(study: Study, result: Mapping[str, Any], predictions: Predictions) -> list[tuple[str, str, str]]:
    """Returns (what, value, interval) of the metrics that open the page; recalls get their intervals here."""
    labels = {"auc": "AUC", "accuracy": "accuracy: cells called right", "macro_f1": "macro F1"}
    binary = len(study.classes) == 2
    tiles = [
        (label, format_value(key, result[key]), format_interval(key, result))
        for key, label in labels.items()
        if not (binary and key == "macro_f1")
    ]
    if not binary:
        return tiles
    bounds = intervals.confidence_intervals(predictions.held_out, names=["recall_0", "recall_1"], **study.bootstrap)
    for label, what in ((1, "sensitivity"), (0, "specificity")):
        share = result["per_class"][label]["recall"]
        name = f"{what}: “{study.classes[label]}” called so"
        ends = ", ".join(f"{100 * end:.1f}" for end in bounds.get(f"recall_{label}", ()))
        tiles.append((name, f"{share:.1%}", f"[{ends}]" if ends else ""))
    return tiles


def findings(study: Study, order: Sequence[str]) -> list[str]:
    """Returns what the numbers support, and what they do not.

    Args:
        study: the study; the predictions of its cells are read.
        order: names of its cells, best first.
    """
    leaky, lines = study.ranking.leaky, []
    order = [name for name in order if name not in leaky]
    if len(order) > 1:
        gaps = [study.ranking.differences[name] for name in order[1:]]
        lines += [_next_best(study, order[1], gaps[0]), *_told_apart(gaps)]
    lines += _against_rules(study, order[0])
    if len(order) > 1:
        lines.append(
            f"The best of {len(order)} was picked on the very cells it is scored on, so its numbers flatter it "
            "a little; only cells that had no part in the choice can say how much."
        )
    return lines


def _next_best(study: Study, name: str, gap: Difference) -> str:
    """Compares the two best models on the same cells, people drawn alike."""
    by, unit = study.ranking.metric, _unit(study)
    if not gap.paired:
        return f"The next best, {name}, was tested on other cells: the two cannot be compared cell by cell."
    if gap.interval is None:
        lead = distance(by, gap.value)
        return f"It is ahead of the next best, {name}, by {lead}; no interval could be drawn for that."
    verdict = (
        f"more than the choice of {unit} explains."
        if gap.below
        else f"no more than the choice of {unit} explains. The data do not say which of the two is better."
    )
    return (
        f"It is ahead of the next best, {name}, by {distance(by, gap.value)} {ahead(by, gap.interval)} in "
        f"{METRICS[by]}, both tried on the same {unit}: {verdict}"
    )


def _told_apart(gaps: Sequence[Difference]) -> list[str]:
    """Counts the models that are really below the best one, where several are compared with it at once."""
    paired = [gap for gap in gaps if gap.interval is not None]
    if len(paired) < 2:
        return []
    others = f"{len(paired)} other models" + (" tried on the same cells" if len(paired) < len(gaps) else "")
    below = sum(gap.below for gap in paired)
    even = len(paired) - below
    if below == 0:
        return [f"None of the {others} is distinguishable from it."]
    if even == 0:
        return [f"All {others} are clearly below it."]
    return [
        f"Of the {others} {even} {'is' if even == 1 else 'are'} not distinguishable from it, "
        f"{below} {'is' if below == 1 else 'are'} clearly below."
    ]


def _against_rules(study: Study, best: str) -> list[str]:
    """Sets the best model beside the rules that see nothing, or only the size of the cell."""
    result, rules = study.metrics["trials"][best], study.split_of(best)["baselines"]
    lines = []
    if rule := rules.get("majority"):
        always = study.classes[int(np.sum(rule["confusion"], axis=0).argmax())]
        line = f"Always answering “{always}” is right for {format_value('accuracy', rule['accuracy'])} of the cells"
        beaten = result["accuracy"] > rule["accuracy"]
        lines.append(line + ("." if beaten else ", no less often than the model: look at the recall of each class."))
    if rule := rules.get("size_threshold"):
        by = "auc" if rule["auc"] is not None else "accuracy"
        right = "" if by == "accuracy" else f" and is right for {format_value('accuracy', rule['accuracy'])}"
        line = (
            f"The size of the cell alone, one threshold, reaches {METRICS[by]} {format_value(by, rule[by])} "
            f"{format_interval(by, rule)}{right}"
        )
        folds = len(rule["thresholds"])
        lines.append(f"{line}: {_size_improvement(result['size_improvement'], folds, _unit(study))}.")
    return lines


def _size_improvement(found: Mapping[str, Mapping[str, Any]], folds: int, unit: str) -> str:
    """Says whether a model sees more than size: both tried on the same images, people drawn alike."""
    by = "auc" if "auc" in found else "accuracy"
    if by not in found:
        return "no interval could be drawn for the difference, so it is not shown that the model sees more"
    gap, (low, high) = found[by]["value"], found[by]["interval"]
    what = "percentage points of accuracy" if by == "accuracy" else "AUC" + (" within folds" if folds > 1 else "")
    told = f"{format_difference(by, gap)} {format_difference_bounds(by, (low, high))} {what}, on the same {unit}"
    if high < 0:
        return f"the model is below it, {told}, and of no use"
    if low <= 0:
        return f"the model differs from it by {told}, so it is not shown that the model sees more than size"
    less = by != "accuracy" and "accuracy" in found and found["accuracy"]["value"] <= 0
    return f"the model is above it, {told}" + (", but not right more often" if less else "")


def _unit(study: Study) -> str:
    return str(next(iter(study.metrics["trials"].values()))["interval_unit"])


def _models(count: int) -> str:
    return f"{count} model" if count == 1 else f"{count} models"
