"""The paper's tables with our numbers: 1 to 7, Figure 9 as one, and how often each class is called right."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from alljax.evaluation import intervals
from alljax.evaluation.intervals import HeldOut
from alljax.paper import matching, noise, published
from alljax.paper.matching import Place, Reproduction, Scenario
from alljax.paper.noise import Estimate
from alljax.report.findings import BASELINES
from alljax.report.tables import (
    Table,
    Value,
    format_bounds,
    format_difference,
    format_difference_bounds,
    format_interval,
    format_value,
)

LABELS = {"recall": "recall", "precision": "precision", "f1": "F1"}
RULES = {
    "accuracy": "accuracy",
    "macro_recall": "macro recall",
    "macro_precision": "macro precision",
    "macro_f1": "macro F1",
    "auc": "AUC",
}
PERCENT, SHARE = 5e-5, 5e-3
"""Half of the last digit printed: of 84.73 %, and of 0.76."""
CELL = ("network", "optimizer", "epochs")
"""The first columns of tables that have a row for every cell."""
QUOTED: tuple[tuple[str, Place], ...] = (("TL-VGG16", ("A", "adam", 100)), ("TL-ResNet50", ("B", "rmsprop", 80)))
"""The cells behind the paper's own rows of Table 7, as its conclusion names them."""


def baselines(found: Reproduction) -> Table:
    """Returns what rules score that see nothing, or only the size of the cell."""
    rows = []
    for name, rule in found.baselines().items():
        entries = [Value(format_value(key, rule.get(key)), rule.get(key), format_interval(key, rule)) for key in RULES]
        rows.append((Value(BASELINES.get(name, name)), *entries))
    drawing = found.study.bootstrap
    note = f"In brackets: {drawing['level']:.0%} intervals over {matching.unit(found.study)}."
    return Table("baselines", "Before any network: rules that see nothing, or only the size of the cell",
                 ("rule", *RULES.values()), tuple(rows), notes=(note,))  # fmt: skip


def training_table(found: Reproduction, scenario: Scenario) -> Table:
    """Returns Table 1 or 2."""
    level = found.study.bootstrap["level"]
    rows, runs = [], 1
    for budget in found.budgets:
        row = [_epochs(found, budget)]
        for optimizer in published.OPTIMIZERS:
            place = (scenario.letter, optimizer, budget)
            theirs = published.training_accuracy(*place[:2])[published.BUDGETS.index(budget)] / 100
            printed = Value(f"{theirs:.2%}", theirs)
            if (result := found.result(place)) is None:
                row += [Value("–", note=found.absent(place)), printed, Value("–")]
                continue
            how = found.study.split_of(found.names[place])["protocol"]
            runs = max(runs, len(result["seeds"]) * how["folds"] * how["repeats"])
            ours = _training(found, place, level)
            bounds = f"[{100 * ours.low:.2f}, {100 * ours.high:.2f}]"
            bounds += "" if math.isnan(ours.deviation) else f", s {100 * ours.deviation:.2f}"
            row.append(Value(f"{ours.value:.2%}", ours.value, bounds))
            gap = f"{100 * (ours.value - theirs):+.2f}".replace("-", "−")
            row += [printed, noise.difference(ours, theirs, PERCENT, gap)]
        rows.append(tuple(row))
    number = published.TRAINING_TABLES[scenario.letter]
    columns = [
        f"{name}, {what}" for name in published.OPTIMIZER_NAMES.values() for what in ("ours", "theirs", "difference")
    ]
    notes = noise.notes_of_training(level, runs)
    title = f"Table {number}. Training accuracy after the last epoch: {_named(scenario)}"
    return Table(f"table-{number}", title, ("epochs", *columns), tuple(rows), notes=notes)


def _training(found: Reproduction, place: Place, level: float) -> Estimate:
    study, name = found.study, found.names[place]
    trials = study.split_of(name)["protocol"]["training_images"]
    return noise.training(study.history(name), sum(trials) / len(trials), level)


def tested_table(found: Reproduction, scenario: Scenario, optimizer: str) -> Table:
    """Returns one of Tables 3 to 6."""
    key = (scenario.letter, optimizer)
    rows, printed = [], published.tested(*key)
    for budget in found.budgets:
        place = (*key, budget)
        row, result = [_epochs(found, budget)], found.result(place)
        for metric, own in published.METRICS.items():
            theirs = printed[metric][published.BUDGETS.index(budget)]
            if result is None:
                row += [Value("–", note=found.absent(place)), Value(f"{theirs:.2f}", theirs), Value("–")]
            else:
                row += _entries(own, noise.tested(result, own), theirs)
        rows.append(tuple(row))
    columns = [f"{label}, {what}" for label in LABELS.values() for what in ("ours", "theirs", "difference")]
    number = published.TESTED_TABLES[key]
    title = f"Table {number}. Macro recall, precision and F1 on held-out cells: {_named(scenario)} with "
    return Table(
        f"table-{number}", title + published.OPTIMIZER_NAMES[optimizer], ("epochs", *columns), tuple(rows),
        (_means(found, key),), _notes(found),
    )  # fmt: skip


def _means(found: Reproduction, key: tuple[str, str]) -> tuple[Value, ...]:
    """Returns the row of column means; its intervals are of means on the same draws of people for all budgets."""
    places = [(*key, budget) for budget in found.budgets]
    printed, row = published.PRINTED_MEANS[key], [Value("mean")]
    results = [result for place in places if (result := found.result(place))]
    whole = len(results) == len(places) == len(published.BUDGETS)
    bounds = _mean_bounds(found, places) if whole else {}
    for metric, own in published.METRICS.items():
        theirs = printed[metric]
        if not whole:
            lost = f"{len(results)} of {len(published.BUDGETS)} cells"
            row += [Value("–", note=lost), Value(f"{theirs:.2f}", theirs), Value("–")]
            continue
        low, high = bounds.get(own) or (math.nan, math.nan)
        mean = float(np.mean([result[own] for result in results]))
        row += _entries(own, Estimate(mean, low, high), theirs)
    return tuple(row)


def _mean_bounds(found: Reproduction, places: Sequence[Place]) -> dict[str, intervals.Interval | None]:
    read = [found.predictions(place) for place in places]
    if any(not np.array_equal(one.keys, read[0].keys) for one in read):
        return {}
    drawing = found.study.bootstrap
    tests = [HeldOut(one.labels, one.probabilities, one.subjects) for one in read]
    names = tuple(published.METRICS.values())
    drawn = intervals.resample(tests, names=names, resamples=drawing["resamples"], seed=drawing["seed"])
    means = {name: np.mean([one[name] for one in drawn], 0) for name in names}
    return {name: intervals.percentile_interval(mean, drawing["level"]) for name, mean in means.items()}


def _entries(metric: str, ours: Estimate, theirs: float) -> list[Value]:
    gap = format_difference(metric, ours.value - theirs)
    return [_entry(metric, ours), Value(f"{theirs:.2f}", theirs), noise.difference(ours, theirs, SHARE, gap)]


def _entry(metric: str, ours: Estimate) -> Value:
    notes = [] if math.isnan(ours.low) else [format_bounds(metric, (ours.low, ours.high))]
    notes += [] if math.isnan(ours.deviation) else [f"s {format_value(metric, ours.deviation)}"]
    return Value(format_value(metric, ours.value), ours.value, ", ".join(notes))


def table_7(found: Reproduction) -> Table:
    """Returns Table 7 with rows of ours below its own."""
    rows = [
        (Value(one.study), Value(one.model), Value(one.dataset), Value(f"{one.images:,}", one.images),
         Value(f"{one.accuracy:.2f}%", one.accuracy / 100), Value(""))
        for one in published.TABLE_7
    ]  # fmt: skip
    data = found.study.metrics["dataset"]
    for scenario, (quoted, place) in zip(found.scenarios, QUOTED, strict=False):
        result = found.result(place)
        epochs = found.budgets.get(place[2], place[2])
        model = f"{scenario.network}, {published.OPTIMIZER_NAMES[place[1]]}, {epochs} epochs"
        if result is None:
            accuracy, gap = Value("–", note=found.absent(place)), Value("–")
        else:
            theirs = (
                next(one.accuracy for one in published.TABLE_7 if (one.study, one.model) == ("Proposed", quoted)) / 100
            )
            text = format_difference("accuracy", result["accuracy"] - theirs)
            gap = noise.difference(noise.tested(result, "accuracy"), theirs, PERCENT, text)
            accuracy = Value(f"{result['accuracy']:.2%}", result["accuracy"], format_interval("accuracy", result))
        rows.append(
            (
                Value("ours"),
                Value(model),
                Value(str(data["name"])),
                Value(f"{data['images']:,}", data["images"]),
                accuracy,
                gap,
            )
        )
    notes = (
        "Ours: the cells that the paper's conclusion quotes, VGG16 with Adam at 100 epochs and ResNet50 with RMSprop "
        "at 80, with intervals, and what they differ by from the paper's own rows, in percentage points; the others "
        "are printed without. Data sets and splits differ: the column compares little.",
    )
    columns = ("study", "model", "data", "images", "accuracy", "difference to the paper's")
    return Table("table-7", "Table 7. Comparison with other studies", columns, tuple(rows), notes=notes)


def accuracies(found: Reproduction) -> Table:
    """Returns Figure 9 in numbers: test accuracy, ours and what the published rows imply."""
    rows = []
    for place in found.names:
        low, high = published.implied(*place).accuracy
        theirs = (low + high) / 2
        row = _cell(found, place)
        printed = Value(f"{theirs:.1%}", theirs, f"{100 * low:.1f} to {100 * high:.1f}")
        if (result := found.result(place)) is None:
            row += [Value("–", note=found.absent(place)), printed, Value("–"), Value("–")]
        else:
            ours = noise.tested(result, "accuracy")
            row += [_entry("accuracy", ours), printed]
            row.append(
                noise.difference(ours, theirs, (high - low) / 2, format_difference("accuracy", ours.value - theirs))
            )
            row.append(_size_improvement(result))
        rows.append(tuple(row))
    notes = (
        "The paper prints no test accuracy a cell. Theirs: the middle and the ends of what Tables 3 to 6 leave, if the "
        f"test set was stratified (1,455 ALL and 678 HEM){_without_f1(found)}.",
        "Over size: what the model gets right beyond one threshold on the size of the cell, in percentage points, both "
        "tried on the same cells.",
        *_notes(found),
    )
    columns = (*CELL, "ours", "theirs", "difference", "ours over size")
    return Table("test-accuracy", "Figure 9 in numbers: test accuracy", columns, tuple(rows), notes=notes)


def _size_improvement(result: Mapping[str, Any]) -> Value:
    if not (found := result["size_improvement"].get("accuracy")):
        return Value("–")
    return Value(
        format_difference("accuracy", found["value"]),
        found["value"],
        format_difference_bounds("accuracy", found["interval"]),
    )


def _without_f1(found: Reproduction) -> str:
    """Says for how many rows the implied range is that of recall and precision alone."""
    count = sum(not published.implied(*place).exact for place in found.names)
    return f", in {count} rows without the printed F1, which no confusion matrix has" if count else ""


def confusion_table(found: Reproduction) -> Table:
    """Returns how often each class is called right, cell by cell, beside what the published rows imply."""
    study = found.study
    rows = []
    for place in found.names:
        result, row = found.result(place), _cell(found, place)
        if result is None:
            row += [Value("–", note=found.absent(place) if number == 0 else "") for number in range(len(study.classes))]
        else:
            for label, counts in enumerate(result["confusion"]):
                share = result["per_class"][label]["recall"]
                row.append(Value(f"{share:.1%}", share, f"{counts[label]:,.0f} of {sum(counts):,.0f}"))
        low, high = published.implied(*place).hem_recall
        row.append(Value(f"{100 * low:.0f} to {100 * high:.0f}%", (low + high) / 2))
        rows.append(tuple(row))
    columns = (*CELL, *(f"{name} called so, ours" for name in study.classes))
    notes = (
        "Theirs: what the printed recall, precision and F1 leave for the normal cells (HEM), if the test set was "
        f"stratified: 1,455 ALL and 678 HEM{_without_f1(found)}.",
    )
    return Table("confusions", "How many cells of each class are called right",
                 (*columns, "HEM called so, theirs"), tuple(rows), notes=notes)  # fmt: skip


def _notes(found: Reproduction) -> tuple[str, ...]:
    results = [result for place in found.names if (result := found.result(place))]
    seeds = max((len(result["seeds"]) for result in results), default=0)
    return noise.notes_of_test(matching.unit(found.study), found.study.bootstrap["level"], seeds)


def _cell(found: Reproduction, place: Place) -> list[Value]:
    """Returns the entries below `CELL`."""
    scenario = next(one for one in found.scenarios if one.letter == place[0])
    return [Value(scenario.network), Value(published.OPTIMIZER_NAMES[place[1]]), _epochs(found, place[2])]


def _epochs(found: Reproduction, budget: int) -> Value:
    own = found.budgets[budget]
    return Value(str(own), own, "" if own == budget else f"for {budget}")


def _named(scenario: Scenario) -> str:
    return f"{scenario.network} for {scenario.plays}" if scenario.stands_in else scenario.plays
