"""The study beside the published tables: ours, theirs, the difference, and whether it lies within the noise."""

import math
from collections.abc import Sequence

import numpy as np

from alljax.evaluation import intervals, unpaired
from alljax.study import finished, paper, ranking
from alljax.study.finished import Study
from alljax.study.page.findings import BASELINES, interval, shown
from alljax.study.page.sections import Picture, Section, Table, Value
from alljax.study.published import claims, leak, noise, optimizers, scenarios, training_figures
from alljax.study.published.noise import Estimate
from alljax.study.published.optimizers import points
from alljax.study.published.scenarios import Place, Reproduction, Scenario

COLUMNS = {"recall": "macro_recall", "precision": "macro_precision", "f1": "macro_f1"}
"""The columns of Tables 3-6 and what we call them."""
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
QUOTED: tuple[tuple[str, Place], ...] = (("TL-VGG16", ("A", "adam", 100)), ("TL-ResNet50", ("B", "rmsprop", 80)))
"""The cells behind the paper's own rows of Table 7, as its conclusion names them."""

MEANINGLESS = (
    "These are not the 10,661 cells of C-NMC 2019: that a number of ours agrees or disagrees with a published one "
    "means nothing. What follows shows what the comparison will look like."
)


def sections(study: Study) -> list[Section]:
    """Returns the parts of the report that set a study beside the paper (``study.compare=paper``).

    Cells that are not there yet leave entries that say so.

    Args:
        study: the study, from `finished.read_study`.

    Raises:
        WorkdirError: a history or predictions that are missing, cut off or not the study's.
    """
    found = scenarios.match(study)
    caveat = () if scenarios.real(study) else (MEANINGLESS,)
    training = [_training_table(found, scenario) for scenario in found.scenarios]
    tested = [_tested_table(found, scenario, one) for scenario in found.scenarios for one in paper.OPTIMIZERS]
    gaps = optimizers.table(found)
    tables = [_baselines(found), *training, *tested, *([gaps] if gaps else []), _table_7(found)]
    lines = (*_who_plays_whom(found), *_summary(found, training, tested))
    pictures: list[Table | Picture] = [*training_figures.all_pictures(found)]
    parts = [Section("paper", "Against the paper", (*caveat, *lines), tuple(tables))]
    if pictures:
        text = "Figures 7 to 9 with our numbers, then what the paper leaves out."
        parts.append(Section("paper-figures", "The paper's figures", (text,), (*pictures, _confusion_table(found))))
    parts.append(_inconsistencies())
    return [*parts, *leak.sections(study)]


def _who_plays_whom(found: Reproduction) -> tuple[str, ...]:
    lines = [f"Published: {paper.CITATION}."]
    lines += [
        f"{one.network} stands in for {one.plays} (scenario {one.letter})." for one in found.scenarios if one.stands_in
    ]
    lost = [f"{plays} (scenario {letter})" for letter, plays in paper.SCENARIOS.items()][len(found.scenarios) :]
    if lost:
        lines.append(f"This study has no network for {' and '.join(lost)}.")
    if other := [f"{own} for {budget}" for budget, own in found.budgets.items() if own != budget]:
        lines.append(f"None of its budgets is the paper's; they stand in by their order: {', '.join(other)} epochs.")
    if found.protocol != "paper":
        lines.append(f"The cells were split by {found.protocol}, not at random over cells as the paper did.")
    if found.passed_over:
        lines.append(f"{found.passed_over} cells of this study have no place of their own in the paper's tables.")
    if missing := [found.names[place] for place in found.names if not found.result(place)]:
        lines.append(f"{len(missing)} of {len(found.names)} cells are not there: {', '.join(missing[:4])}"
                     f"{', …' if len(missing) > 4 else ''}.")  # fmt: skip
    return tuple(lines)


def _summary(found: Reproduction, training: Sequence[Table], tested: Sequence[Table]) -> tuple[str, ...]:
    """Returns how much agrees, and what the size of the cell alone does."""
    lines = []
    counts = [noise.tally([entry for table in tables for row in table.rows for entry in row])
              for tables in (training, tested)]  # fmt: skip
    if sum(total for _, total in counts):
        (trained, of_trained), (held, of_held) = counts
        lines.append(
            f"Within the noise of ours lie {trained} of {of_trained} published training accuracies and {held} of "
            f"{of_held} published recalls, precisions and F1."
        )
    rule = found.baselines().get("size_threshold")
    if rule and scenarios.real(found.study):
        ranges = []
        for letter, name in paper.SCENARIOS.items():
            ends = [end for one in paper.OPTIMIZERS for budget in paper.BUDGETS
                    for end in paper.implied(letter, one, budget).accuracy]  # fmt: skip
            ranges.append(f"{100 * min(ends):.1f} to {max(ends):.1%} with {name}")
        lines.append(
            f"The published tables imply test accuracies of {' and '.join(ranges)}; the size of the cell alone, one "
            f"threshold, is right for {shown('accuracy', rule['accuracy'])} {interval('accuracy', rule)}."
        )
    return tuple(lines)


def _baselines(found: Reproduction) -> Table:
    rows = []
    for name, rule in found.baselines().items():
        entries = [Value(shown(key, rule.get(key)), rule.get(key), interval(key, rule)) for key in RULES]
        rows.append((Value(BASELINES.get(name, name)), *entries))
    drawing = scenarios.drawing(found.study)
    note = f"In brackets: {drawing['level']:.0%} intervals over {scenarios.unit(found.study)}."
    return Table("baselines", "Before any network: rules that see nothing, or only the size of the cell",
                 ("rule", *RULES.values()), tuple(rows), notes=(note,))  # fmt: skip


def _training_table(found: Reproduction, scenario: Scenario) -> Table:
    """Returns Table 1 or 2."""
    level = scenarios.drawing(found.study)["level"]
    rows, runs = [], 1
    for budget in found.budgets:
        row = [_epochs(found, budget)]
        for optimizer in paper.OPTIMIZERS:
            place = (scenario.letter, optimizer, budget)
            theirs = paper.training_accuracy(*place[:2])[paper.BUDGETS.index(budget)] / 100
            printed = Value(f"{theirs:.2%}", theirs)
            if (result := found.result(place)) is None:
                row += [Value("–", note=found.absent(place)), printed, Value("–")]
                continue
            how = ranking.of_split(found.study.metrics, found.names[place])["protocol"]
            runs = max(runs, len(result["seeds"]) * how["folds"] * how["repeats"])
            ours = _training(found, place, level)
            row.append(Value(f"{ours.value:.2%}", ours.value, f"[{100 * ours.low:.2f}, {100 * ours.high:.2f}]"))
            gap = f"{100 * (ours.value - theirs):+.2f}".replace("-", "−")
            row += [printed, noise.difference(ours, theirs, PERCENT, gap)]
        rows.append(tuple(row))
    number = paper.TRAINING_TABLES[scenario.letter]
    columns = [
        f"{name}, {what}" for name in paper.OPTIMIZER_NAMES.values() for what in ("ours", "theirs", "difference")
    ]
    notes = noise.notes(scenarios.unit(found.study), level, runs, of_training=True)
    title = f"Table {number}. Training accuracy after the last epoch: {_named(scenario)}"
    return Table(f"table-{number}", title, ("epochs", *columns), tuple(rows), notes=notes)


def _training(found: Reproduction, place: Place, level: float) -> Estimate:
    study, name = found.study, found.names[place]
    cells = noise.training_cells(
        found.predictions(place), study.metrics["dataset"]["images"], study.settings(name)["split.validation"]
    )
    return noise.training(finished.read_history(study, name), cells, level)


def _tested_table(found: Reproduction, scenario: Scenario, optimizer: str) -> Table:
    """Returns one of Tables 3 to 6."""
    key = (scenario.letter, optimizer)
    rows, printed = [], paper.tested(*key)
    for budget in found.budgets:
        place = (*key, budget)
        row, result = [_epochs(found, budget)], found.result(place)
        for metric, own in COLUMNS.items():
            theirs = printed[metric][paper.BUDGETS.index(budget)]
            if result is None:
                row += [Value("–", note=found.absent(place)), Value(f"{theirs:.2f}", theirs), Value("–")]
            else:
                row += _entries(own, noise.tested(result, own), theirs)
        rows.append(tuple(row))
    columns = [f"{label}, {what}" for label in LABELS.values() for what in ("ours", "theirs", "difference")]
    number = paper.TESTED_TABLES[key]
    title = f"Table {number}. Macro recall, precision and F1 on held-out cells: {_named(scenario)} with "
    drawing = scenarios.drawing(found.study)
    return Table(
        f"table-{number}", title + paper.OPTIMIZER_NAMES[optimizer], ("epochs", *columns), tuple(rows),
        (_means(found, key),), noise.notes(scenarios.unit(found.study), drawing["level"], 0, of_training=False),
    )  # fmt: skip


def _means(found: Reproduction, key: tuple[str, str]) -> tuple[Value, ...]:
    """Returns the row of column means; its intervals are of means on the same draws of people for all budgets."""
    places = [(*key, budget) for budget in found.budgets]
    printed, row = paper.PRINTED_MEANS[key], [Value("mean")]
    results = [result for place in places if (result := found.result(place))]
    whole = len(results) == len(places) == len(paper.BUDGETS)
    bounds = _mean_bounds(found, places) if whole else {}
    for metric, own in COLUMNS.items():
        theirs = printed[metric]
        if not whole:
            lost = f"{len(results)} of {len(paper.BUDGETS)} cells"
            row += [Value("–", note=lost), Value(f"{theirs:.2f}", theirs), Value("–")]
            continue
        low, high = bounds.get(own) or (math.nan, math.nan)
        mean = float(np.mean([result[own] for result in results]))
        row += _entries(own, Estimate(mean, low, high), theirs)
    return tuple(row)


def _mean_bounds(found: Reproduction, places: Sequence[Place]) -> dict[str, intervals.Interval | None]:
    read = [found.predictions(place) for place in places]
    if any(not np.array_equal(one.places, read[0].places) for one in read):
        return {}
    drawing = scenarios.drawing(found.study)
    tests = [unpaired.HeldOut(one.labels, one.probabilities, one.people) for one in read]
    names = tuple(COLUMNS.values())
    drawn = unpaired.resampled(tests, names=names, resamples=drawing["resamples"], seed=drawing["seed"])
    return {name: unpaired.interval(np.mean([one[name] for one in drawn], 0), drawing["level"]) for name in names}


def _entries(metric: str, ours: Estimate, theirs: float) -> list[Value]:
    bounds = "" if math.isnan(ours.low) else f"[{shown(metric, ours.low)}, {shown(metric, ours.high)}]"
    gap = points(metric, ours.value - theirs)
    return [
        Value(shown(metric, ours.value), ours.value, bounds),
        Value(f"{theirs:.2f}", theirs),
        noise.difference(ours, theirs, SHARE, gap),
    ]


def _table_7(found: Reproduction) -> Table:
    rows = [
        (Value(one.study), Value(one.model), Value(one.dataset), Value(f"{one.images:,}", one.images),
         Value(f"{one.accuracy:.2f}%", one.accuracy / 100), Value(""))
        for one in paper.TABLE_7
    ]  # fmt: skip
    data = found.study.metrics["dataset"]
    for scenario, (quoted, place) in zip(found.scenarios, QUOTED, strict=False):
        result = found.result(place)
        epochs = found.budgets.get(place[2], place[2])
        model = f"{scenario.network}, {paper.OPTIMIZER_NAMES[place[1]]}, {epochs} epochs"
        if result is None:
            accuracy, gap = Value("–", note=found.absent(place)), Value("–")
        else:
            theirs = next(one.accuracy for one in paper.TABLE_7 if (one.study, one.model) == ("Proposed", quoted)) / 100
            text = points("accuracy", result["accuracy"] - theirs)
            gap = noise.difference(noise.tested(result, "accuracy"), theirs, PERCENT, text)
            accuracy = Value(f"{result['accuracy']:.2%}", result["accuracy"], interval("accuracy", result))
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


def _confusion_table(found: Reproduction) -> Table:
    """Returns how often each class is called right, cell by cell, beside what the published rows imply."""
    study = found.study
    rows = []
    for place in found.names:
        result, scenario = found.result(place), next(one for one in found.scenarios if one.letter == place[0])
        row = [Value(scenario.network), Value(paper.OPTIMIZER_NAMES[place[1]]), _epochs(found, place[2])]
        if result is None:
            row += [Value("–", note=found.absent(place) if number == 0 else "") for number in range(len(study.classes))]
        else:
            for label, counts in enumerate(result["confusion"]):
                share = result["per_class"][label]["recall"]
                row.append(Value(f"{share:.1%}", share, f"{counts[label]:,.0f} of {sum(counts):,.0f}"))
        low, high = paper.implied(*place).hem_recall
        row.append(Value(f"{100 * low:.0f} to {100 * high:.0f}%", (low + high) / 2))
        rows.append(tuple(row))
    columns = ("network", "optimizer", "epochs", *(f"{name} called so, ours" for name in study.classes))
    notes = (
        "Theirs: what the printed recall, precision and F1 leave for the normal cells (HEM), if the test set was "
        "stratified: 1,455 ALL and 678 HEM.",
    )
    return Table("confusions", "How many cells of each class are called right",
                 (*columns, "HEM called so, theirs"), tuple(rows), notes=notes)  # fmt: skip


def _inconsistencies() -> Section:
    rows = [tuple(Value(text) for text in (one.where, one.says, one.tables, one.computed))
            for one in claims.inconsistencies()]  # fmt: skip
    columns = ("where", "the paper says", "its tables say", "how that was computed")
    table = Table("inconsistencies", "Where the paper disagrees with itself", columns, tuple(rows))
    text = "Each line is computed from the published numbers alone; nothing of this study enters."
    return Section("inconsistencies", "What the paper's own numbers contradict", (text,), (table,))


def _epochs(found: Reproduction, budget: int) -> Value:
    own = found.budgets[budget]
    return Value(str(own), own, "" if own == budget else f"for {budget}")


def _named(scenario: Scenario) -> str:
    return f"{scenario.network} for {scenario.plays}" if scenario.stands_in else scenario.plays
