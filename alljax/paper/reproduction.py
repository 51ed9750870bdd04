"""Tables 1 to 7 of the paper with our numbers beside the published ones."""

import csv
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from importlib import resources

import numpy as np

from alljax.evaluation.intervals import paired_difference, percentile_interval, resample
from alljax.evaluation.metrics import METRICS
from alljax.paper import matching, published, tolerance, training_curves
from alljax.paper.matching import Match
from alljax.paper.published import Key, Row
from alljax.paper.tolerance import published_value
from alljax.report.findings import BASELINES
from alljax.report.tables import Section, Table, Value, difference_value, metric_value
from alljax.study.results import Study

OTHER_DATA = (
    "These are not the 10,661 training images of C-NMC 2019, so agreement or disagreement with a published number "
    "means nothing. The tables only show the form of the comparison."
)
QUOTED: tuple[Row, ...] = (("A", "adam", 100), ("B", "rmsprop", 80))
"""The rows that the paper's conclusion and Table 7 quote."""


def sections(study: Study) -> list[Section]:
    """Returns the sections that compare a study with the paper (``study.compare=paper``).

    Args:
        study: unfinished trials leave entries that say so.

    Raises:
        WorkdirError: a history or predictions are missing or damaged.
    """
    match = matching.match(study)
    lines = [f"Published: {published.CITATION}."]
    lines += [] if matching.is_cnmc(study) else [OTHER_DATA]
    tables = [baselines_table(match), *(training_table(match, network) for network in match.networks)]
    tables += [*(metrics_table(match, key) for key in published.KEYS), *optimizer_table(match), table_7(match)]
    lines += [*matching.describe(match), tolerance.describe(match), *summary(match)]
    found = [Section("paper", "Against the paper", tuple(lines), tuple(tables))]
    if match.finished:
        text = "Figures 7 to 9 with our numbers, then what the paper does not show."
        found.append(Section("paper-figures", "The paper's figures", (text,), tuple(training_curves.parts(match))))
    text = "Each line follows from the published text and numbers; nothing of this study enters."
    return [*found, Section("inconsistencies", "Inconsistencies in the paper", (text,), (inconsistencies(),))]


def inconsistencies() -> Table:
    """Returns the statements of the paper that its own numbers contradict or do not support."""
    text = resources.files("alljax.paper").joinpath("inconsistencies.csv").read_text(encoding="utf-8")
    _, *rows = csv.reader(text.splitlines())
    columns = ("where", "the paper states", "its numbers give", "verdict")
    title = "Statements of the paper beside its own numbers"
    return Table("inconsistencies", title, columns, tuple(tuple(map(Value, row)) for row in rows))


def summary(match: Match) -> list[str]:
    """Returns how much agrees and what the cell size alone reaches; nothing for other data than the paper's."""
    if not matching.is_cnmc(match.study) or not match.finished:
        return []
    lines, frame = [], tolerance.comparisons(match)
    for metrics, what in (
        (["training_accuracy"], "training accuracies"),
        ([*published.METRICS.values()], "test recalls, precisions and F1"),
    ):
        entries = frame[frame.index.isin(metrics, level="metric")]
        if entries["tolerance"].notna().all():
            once, twice = (sum(tolerance.within(entry, times) for _, entry in entries.iterrows()) for times in (1, 2))
            lines.append(
                f"Of {len(entries)} published {what} {once} are within the tolerance and {twice} within twice the "
                "tolerance."
            )
    ranges = []
    for letter, name in published.NETWORKS.items():
        accuracies = [published.implied_ranges(row, match.stratified)[0] for row in published.ROWS if row[0] == letter]
        ranges.append(f"{100 * np.min(accuracies):.1f} to {np.max(accuracies):.1%} with {name}")
    rule = match.baselines["size_threshold"]
    lines.append(
        f"The published tables imply test accuracies of {' and '.join(ranges)}; one threshold on the cell size reaches "
        f"{metric_value('accuracy', rule)}."
    )
    return lines


def baselines_table(match: Match) -> Table:
    """Returns the metrics of the baselines."""
    metrics = ("accuracy", *published.METRICS.values(), "auc")
    rows = [
        (Value(BASELINES.get(name, name)), *(metric_value(metric, rule) for metric in metrics))
        for name, rule in match.baselines.items()
    ]
    columns = ("baseline", *(METRICS[metric] for metric in metrics))
    return Table(
        "baselines", "Baselines without a network", columns, tuple(rows), notes=(tolerance.interval_note(match),)
    )


def training_table(match: Match, network: str) -> Table:
    """Returns Table 1 (network ``A``) or 2 (``B``)."""
    number = published.TRAINING_TABLES[network]
    title = f"Table {number}. Training accuracy after the last epoch: {match.title(network)}"
    columns = {name: ((network, optimizer), "training_accuracy") for optimizer, name in published.OPTIMIZERS.items()}
    return _compared(match, f"table-{number}", title, columns)


def metrics_table(match: Match, key: Key) -> Table:
    """Returns the one of Tables 3 to 6 that is of this network and optimizer."""
    number, optimizer = published.TEST_TABLES[key], published.OPTIMIZERS[key[1]]
    title = f"Table {number}. Macro recall, precision and F1 on test images: {match.title(key[0])} with {optimizer}"
    table = _compared(
        match, f"table-{number}", title, {name: (key, metric) for name, metric in published.METRICS.items()}
    )
    return replace(table, footer=(_means(match, key),), notes=(tolerance.interval_note(match),))


def _compared(match: Match, name: str, title: str, columns: Mapping[str, tuple[Key, str]]) -> Table:
    """Returns a table with one row per number of epochs: ours, theirs and the difference of each of `columns`."""
    rows = []
    for epochs in match.epochs:
        triples = [tolerance.row_values(match, (*key, epochs), metric) for key, metric in columns.values()]
        rows.append((match.epochs_value(epochs), *(value for triple in triples for value in triple)))
    headings = [f"{column}, {what}" for column in columns for what in ("ours", "theirs", "difference")]
    return Table(name, title, ("epochs", *headings), tuple(rows))


def _means(match: Match, key: Key) -> tuple[Value, ...]:
    """Returns the row of column means; their intervals use the same resamples for all numbers of epochs."""
    rows = [row for row in match.finished if row[:2] == key]
    complete, result = len(rows) == len(published.EPOCHS), [Value("mean")]
    tests = [match.study.predictions(match.trials[row]).held_out for row in rows] if complete else []
    level = match.study.bootstrap.level
    resampled = resample(tests, match.study.bootstrap, list(published.METRICS.values())) if tests else []
    for metric, ours in published.METRICS.items():
        theirs = published.MEANS[key][metric]
        if complete:
            entry = tolerance.mean_comparison(match, rows, ours, theirs)
            if bounds := percentile_interval(np.mean([test[ours] for test in resampled], axis=0), level):
                entry |= {"low": bounds[0], "high": bounds[1]}
            result += tolerance.values(ours, entry)
        else:
            note = f"{len(rows)} of {len(published.EPOCHS)} trials"
            result += [Value("–", note=note), Value(f"{theirs:.2f}", theirs), Value("–")]
    return tuple(result)


def optimizer_table(match: Match) -> tuple[Table, ...]:
    """Returns Adam minus RMSprop per network and number of epochs; nothing where no network has both, finished."""
    metrics, rows, significant = ("accuracy", "macro_f1"), [], Counter[str]()
    for network, name in match.networks.items():
        for epochs in match.epochs:
            pair = [(network, optimizer, epochs) for optimizer in published.OPTIMIZERS]
            if not all(map(match.result, pair)):
                continue
            values = [Value(name), match.epochs_value(epochs)]
            adam, rmsprop = (match.study.predictions(match.trials[row]).held_out for row in pair)
            bounds = paired_difference(adam, rmsprop, match.study.bootstrap, metrics)
            results = [match.study.metrics["trials"][match.trials[row]] for row in pair]
            for metric in metrics:
                ours = results[0][metric] - results[1][metric]
                (first, half), (second, other) = (published_value(row, metric, match.stratified) for row in pair)
                theirs, reach = first - second, half + other
                values += [difference_value(metric, ours, bounds.get(metric)),
                           difference_value(metric, theirs, (theirs - reach, theirs + reach))]  # fmt: skip
            significant.update(metric for metric, (low, high) in bounds.items() if low > 0 or high < 0)
            rows.append(tuple(values))
    if not rows:
        return ()
    headings = [f"{METRICS[metric]}, {whose}" for metric in metrics for whose in ("ours", "theirs")]
    counts = " and ".join(f"{significant[metric]} of {len(rows)} in {METRICS[metric]}" for metric in metrics)
    level = match.study.bootstrap.level
    notes = (
        f"Intervals that exclude 0: {counts}. If all true differences are 0, about {(1 - level) * len(rows):.1f} are "
        "expected.",
        f"Ours: {level:.0%} intervals over {matching.unit(match.study)}, paired: the same images and seeds with both "
        "optimizers. Theirs: ends from rounding and the implied ranges. Accuracy in percentage points.",
    )
    title = "Adam − RMSprop on the same images"
    return (Table("optimizers", title, ("network", "epochs", *headings), tuple(rows), notes=notes),)


def table_7(match: Match) -> Table:
    """Returns Table 7 with our rows below those of the paper."""
    rows = [
        (Value(other.study), Value(other.model), Value(other.dataset), Value(f"{other.images:,}", other.images),
         Value(f"{other.accuracy:.2f}%", other.accuracy / 100), Value(""))
        for other in published.TABLE_7
    ]  # fmt: skip
    data = match.study.metrics["dataset"]
    for row in QUOTED:
        epochs = match.epochs.get(row[2], row[2])
        model = f"{match.networks[row[0]]}, {published.OPTIMIZERS[row[1]]}, {epochs} epochs"
        accuracy, difference = Value("–", note=match.missing(row)), Value("–")
        if match.result(row):
            entry, theirs = tolerance.comparisons(match).loc[(*row, "accuracy")], published.STATED[row] / 100
            entry = dict(entry) | {"theirs": theirs, "rounding": 5e-5, "difference": entry["ours"] - theirs}
            accuracy, _, difference = tolerance.values("accuracy", entry)
        images = Value(f"{data['images']:,}", data["images"])
        rows.append((Value("ours"), Value(model), Value(str(data["name"])), images, accuracy, difference))
    notes = (
        "Ours: the trainings that the paper's conclusion quotes, VGG16 with Adam and 100 epochs and ResNet50 with "
        "RMSprop and 80. Data sets and splits of the other studies differ, so their accuracies are hardly comparable.",
    )
    columns = ("study", "model", "data", "images", "accuracy", "difference to the paper's")
    title = "Table 7. Comparison with other studies"
    return Table("table-7", title, columns, tuple(rows), notes=(*notes, tolerance.interval_note(match)))
