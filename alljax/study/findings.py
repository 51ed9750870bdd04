"""What may be said of a study's numbers, in sentences, with the doubts they deserve."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from alljax.evaluation import intervals
from alljax.study import finished
from alljax.study.finished import Predictions, Study

BASELINES = {"majority": "always the largest class", "size_threshold": "size of the cell alone"}
"""How the two rules are called in tables."""

FEW_PEOPLE = 10
"""With fewer people in a class percentile intervals come out visibly too narrow."""

PERCENT = ("accuracy",)
_NAMES = {"auc": "AUC", "accuracy": "accuracy"}


def shown(name: str, value: float | None) -> str:
    """Returns a metric as people read it: accuracy in percent, the others with three decimals."""
    if value is None:
        return "–"
    return f"{value:.1%}" if name in PERCENT else f"{value:.3f}"


def interval(name: str, result: Mapping[str, Any]) -> str:
    """Returns ``[low, high]`` of a metric, or nothing where it has no interval."""
    bounds = result.get("intervals", {}).get(name)
    if not bounds:
        return ""
    return "[" + ", ".join(shown(name, bound).rstrip("%") for bound in bounds) + "]"


def title(study: Study) -> str:
    """Returns the page's title: what was told apart, in what."""
    data = study.metrics["dataset"]
    question = " or ".join(study.classes) if len(study.classes) <= 4 else f"{len(study.classes)} classes"
    return f"{question} · {data['name']}"


def protocol(study: Study) -> str:
    """Returns how models were tested, in one or two sentences."""
    how = study.metrics["protocol"]
    repeats = how["repeats"]
    again = f" This was done {repeats} times with new draws." if repeats > 1 else ""
    share = f"{study.config['split.test_fraction']:.0%}"
    if how["name"] == "paper":
        return f"A random {share} of the cells was held out, whoever they came from, as the paper did.{again}"
    if how["name"] == "official_folds_by_name":
        return f"The cells were held out in the {how['folds']} published folds, where one person may stand in several."
    tested = f"in {how['folds']} parts, each"
    if how["name"] == "subject_holdout":
        tested = f"in one part, about {share} of them,"
    elif how["name"] == "prelim":
        tested = f"in one part, “{study.config['split.test_part']}”,"
    elif how["name"] == "leave_one_subject_out":
        tested = f"in {how['folds']} parts, one a person, each"
    elif how["name"] == "official_folds":
        tested = f"in the {how['folds']} published folds, each"
    kept = (
        "with people of its own: every held-out cell was tested by a model that had seen no cell of the same person."
        if _unit(study) == "people"
        else "with cells of its own; who they came from is not known."
    )
    return f"The cells were held out {tested} {kept}{again}"


def headline(study: Study, predictions: Predictions) -> dict[str, Any]:
    """Returns what the page opens with: the best model, its main metrics, and what the ranking metric means.

    Args:
        study: the study.
        predictions: of its best cell.
    """
    cells = study.metrics["cells"]
    name = finished.best(cells)
    result, by, unit = cells[name], finished.headline(cells), _unit(study)
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
        "of": f"Of {len(cells)} models" if len(cells) > 1 else "",
        "level": f"{study.config['evaluation.level']:.0%}",
        "unit": unit,
        "auc": (shown("auc", result["auc"]), interval("auc", result)),
        "accuracy": (shown("accuracy", result["accuracy"]), interval("accuracy", result)),
        "tiles": _tiles(study, result, predictions),
    }


def _tiles(study: Study, result: Mapping[str, Any], predictions: Predictions) -> list[tuple[str, str, str]]:
    """Returns (what, value, interval) of the metrics that open the page; recalls get their intervals here."""
    labels = {"auc": "AUC", "accuracy": "accuracy: cells called right", "macro_f1": "macro F1"}
    binary = len(study.classes) == 2
    tiles = [
        (label, shown(key, result[key]), interval(key, result))
        for key, label in labels.items()
        if not (binary and key == "macro_f1")
    ]
    if not binary:
        return tiles
    bounds = intervals.bootstrap(
        predictions.labels,
        predictions.probabilities,
        predictions.people.tolist(),
        names=["recall_0", "recall_1"],
        **_bootstrap(study),
    )
    for label, what in ((1, "sensitivity"), (0, "specificity")):
        share = result["per_class"][label]["recall"]
        name = f"{what}: “{study.classes[label]}” called so"
        ends = ", ".join(f"{100 * end:.1f}" for end in bounds.get(f"recall_{label}", ()))
        tiles.append((name, f"{share:.1%}", f"[{ends}]" if ends else ""))
    return tiles


def findings(study: Study, order: Sequence[str], predictions: Sequence[Predictions]) -> list[str]:
    """Returns what the numbers support, and what they do not.

    Args:
        study: the study.
        order: names of its cells, best first.
        predictions: of the best and, if there is one, the second.
    """
    lines = []
    if len(order) > 1:
        lines += [_next_best(study, order, predictions), _overlaps(study, order)]
    lines += _against_rules(study, order[0])
    if len(order) > 2:
        lines.append(
            f"The best of {len(order)} was picked on the very cells it is scored on, so its numbers flatter it "
            "a little; only cells that had no part in the choice can say how much."
        )
    return lines


def _next_best(study: Study, order: Sequence[str], predictions: Sequence[Predictions]) -> str:
    """Compares the two best models on the same cells, people drawn alike."""
    one, other = predictions[:2]
    cells, by = study.metrics["cells"], finished.headline(study.metrics["cells"])
    gap = cells[order[0]][by] - cells[order[1]][by]
    if not np.array_equal(one.places, other.places):
        return f"The next best, {order[1]}, was tested on other cells: the two cannot be compared cell by cell."
    low, high = intervals.difference(
        one.labels,
        one.probabilities,
        other.probabilities,
        one.people.tolist(),
        names=[by],
        **_bootstrap(study),
    )[by]
    unit = _unit(study)
    verdict = (
        f"more than the choice of {unit} explains."
        if low > 0
        else f"no more than the choice of {unit} explains. The data do not say which of the two is better."
    )
    return (
        f"It is ahead of the next best, {order[1]}, by {gap:.3f} [{low:.3f}, {high:.3f}] in {_NAMES[by]}, "
        f"both tried on the same {unit}: {verdict}"
    )


def _overlaps(study: Study, order: Sequence[str]) -> str:
    cells, by = study.metrics["cells"], finished.headline(study.metrics["cells"])
    own = cells[order[0]].get("intervals", {}).get(by)
    bounds = [cells[name].get("intervals", {}).get(by) for name in order[1:]]
    if not own or not all(bounds):
        return "Not every model has an interval, so how many differ beyond noise cannot be said."
    meeting = sum(low <= own[1] and own[0] <= high for low, high in bounds)
    if len(bounds) == 1:
        return f"The two models' own intervals {'overlap' if meeting else 'do not overlap'}."
    which = {0: "none of the", len(bounds): "all"}.get(meeting, f"{meeting} of the")
    return f"Its own interval overlaps with those of {which} {len(bounds)} other models."


def _against_rules(study: Study, best: str) -> list[str]:
    """Sets the best model beside the rules that see nothing, or only the size of the cell."""
    result, rules = study.metrics["cells"][best], study.metrics["baselines"]
    lines = []
    if rule := rules.get("majority"):
        always = study.classes[int(np.sum(rule["confusion"], axis=0).argmax())]
        line = f"Always answering “{always}” is right for {shown('accuracy', rule['accuracy'])} of the cells"
        beaten = result["accuracy"] > rule["accuracy"]
        lines.append(line + ("." if beaten else ", no less often than the model: look at the recall of each class."))
    if rule := rules.get("size_threshold"):
        by = finished.headline(study.metrics["cells"])
        by = by if rule.get(by) is not None else "accuracy"
        right = "" if by == "accuracy" else f" and is right for {shown('accuracy', rule['accuracy'])}"
        line = (
            f"The size of the cell alone, one threshold, reaches {_NAMES[by]} {shown(by, rule[by])} "
            f"{interval(by, rule)}{right}"
        )
        lines.append(f"{line}: {_verdict(result, rule, by)}.")
    return lines


def _verdict(result: Mapping[str, Any], rule: Mapping[str, Any], by: str) -> str:
    own, other = (one.get("intervals", {}).get(by) for one in (result, rule))
    if own and other and own[1] < other[0]:
        return "the model is clearly below and of no use"
    if own and other and own[0] > other[1]:
        less = by != "accuracy" and result["accuracy"] <= rule["accuracy"]
        return f"the model is clearly above in {_NAMES[by]}" + (", but not right more often" if less else "")
    return "the intervals overlap, so it is not shown that the model sees more than size"


def warnings(study: Study, predictions: Predictions) -> list[str]:
    """Returns what a reader must know before believing the numbers.

    Args:
        study: the study.
        predictions: of any of its cells.
    """
    data, how, leaks = (study.metrics[key] for key in ("dataset", "protocol", "leaks"))
    lines = []
    tested = leaks.get("test_cells", 0)
    for key, kin in (
        ("person", "a cell of the same person"),
        ("field", "a cell of the same photograph"),
        ("duplicate", "the same image"),
    ):
        if leaks.get(key):
            lines.append(f"Leak: {leaks[key]:,} of {tested:,} held-out cells have {kin} among the training cells.")
    if how.get("leaky"):
        lines.append("Such a split rewards recognising people; expect worse on people the model has never seen.")
    if _unit(study) == "cells":
        lines.append(
            "Who the cells came from is not known. Intervals are over cells, and too narrow if people gave several; "
            "a person may stand on both sides of the split."
        )
    else:
        lines += _few_people(study, predictions)
    return lines + list(data.get("notes", []))


def _few_people(study: Study, predictions: Predictions) -> list[str]:
    lines = []
    for label, name in enumerate(study.classes):
        count = len(set(predictions.people[predictions.labels == label].tolist()))
        if count < FEW_PEOPLE:
            people = "person" if count == 1 else "people"
            lines.append(f"Only {count} {people} with “{name}” cells were tested: take the intervals as too narrow.")
    return lines


def _bootstrap(study: Study) -> dict[str, Any]:
    """Returns how the study drew its intervals, so that those computed here are of the same draws."""
    return {
        "resamples": study.config["evaluation.resamples"],
        "level": study.config["evaluation.level"],
        "seed": study.config["seed"],
    }


def _unit(study: Study) -> str:
    return str(next(iter(study.metrics["cells"].values()))["interval_unit"])
