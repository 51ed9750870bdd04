"""Tables 1 to 7 of the paper with our numbers beside the published ones."""

import csv
import itertools
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from importlib import resources

import numpy as np

from alljax.evaluation.intervals import confidence_intervals
from alljax.evaluation.metrics import METRICS
from alljax.paper import matching, published, training_curves
from alljax.paper.matching import Match
from alljax.paper.published import KEYS, NETWORKS, OPTIMIZERS, Key, Row
from alljax.report.tables import Section, Table, Value, difference_value
from alljax.study.results import Study

OTHER_DATA = (
    "These are not the 10,661 training images of C-NMC 2019, so agreement or disagreement with a published number "
    "means nothing. The tables only show the form of the comparison."
)
QUOTED: tuple[Row, ...] = (("A", "adam", 100), ("B", "rmsprop", 80))
"""The rows that the paper's conclusion and Table 7 quote."""


def sections(study: Study) -> list[Section]:
    """Returns the sections that compare a study with the paper (``study.compare=paper``)."""
    match = matching.match(study)
    lines = [f"Published: {published.CITATION}."]
    lines += [] if matching.is_cnmc(study) else [OTHER_DATA]
    tables = []
    for number, network in enumerate(match.networks, start=1):
        columns = {name: ((network, optimizer), "training_accuracy") for optimizer, name in OPTIMIZERS.items()}
        title = f"Training accuracy after the last epoch: {match.title(network)}"
        tables.append(comparison_table(match, number, title, columns))
    for number, (network, optimizer) in enumerate(KEYS, start=3):
        if network in match.networks:
            tables.append(metrics_table(match, number, (network, optimizer)))
    tables += [table for table in (optimizer_table(match), table_7(match)) if table.rows]
    lines += [*matching.describe(match), *summary(match)]
    found = [Section("paper", "Against the paper", lines, tables)]
    if match.trials:
        text = "Figures 7 to 9 with our numbers, then what the paper does not show."
        found.append(Section("paper-figures", "The paper's figures", [text], training_curves.parts(match)))
    text = "Each line follows from the published text and numbers; nothing of this study enters."
    return [*found, Section("inconsistencies", "Inconsistencies in the paper", [text], [inconsistencies()])]


def inconsistencies() -> Table:
    """Returns the statements of the paper that its own numbers contradict or do not support."""
    text = resources.files("alljax.paper").joinpath("inconsistencies.csv").read_text(encoding="utf-8")
    _, *rows = csv.reader(text.splitlines())
    columns = ("where", "the paper states", "its numbers give", "verdict")
    title = "Statements of the paper beside its own numbers"
    return Table("inconsistencies", title, columns, [[Value(text) for text in row] for row in rows])


def summary(match: Match) -> list[str]:
    """Returns how many numbers agree; nothing for other data than the paper's, or without a tolerance."""
    if not matching.is_cnmc(match.study) or not match.trials:
        return []
    lines = []
    for metrics, what in (
        (["training_accuracy"], "training accuracies"),
        ([*published.METRICS.values()], "test recalls, precisions and F1"),
    ):
        found = [matching.compare(match, row, metric) for row in match.trials for metric in metrics]
        if not np.isnan([comparison.tolerance for comparison in found]).any():
            once, twice = (sum(comparison.within(times) for comparison in found) for times in (1, 2))
            lines.append(
                f"{once} of {len(found)} published {what} are within the tolerance, {twice} within twice that."
            )
    return lines


def comparison_table(match: Match, number: int, title: str, columns: Mapping[str, tuple[Key, str]]) -> Table:
    """Returns one of Tables 1 to 6: per number of epochs ours, theirs and the difference of `columns`, by heading."""
    rows = []
    for epochs in match.epochs:
        found = [matching.compare(match, (*key, epochs), metric) for key, metric in columns.values()]
        rows.append((Value(str(epochs), epochs), *(value for comparison in found for value in comparison.values)))
    headings = [f"{column}, {what}" for column in columns for what in ("ours", "theirs", "difference")]
    return Table(f"table-{number}", f"Table {number}. {title}", ("epochs", *headings), rows)


def metrics_table(match: Match, number: int, key: Key) -> Table:
    """Returns one of Tables 3 to 6, with the means over epochs."""
    title = f"Macro recall, precision and F1 on test images: {match.title(key[0])} with {OPTIMIZERS[key[1]]}"
    columns = {name: (key, metric) for name, metric in published.METRICS.items()}
    means = [value for mean in matching.compare_means(match, key) for value in mean.values]
    table = comparison_table(match, number, title, columns)
    return replace(table, footer=[[Value("mean"), *means]], notes=[f"In brackets: {match.study.intervals}."])


def optimizer_table(match: Match) -> Table:
    """Returns Adam minus RMSprop per network and number of epochs, where both are finished."""
    metrics, rows, significant, study = ("accuracy", "macro_f1"), [], Counter[str](), match.study
    for network, epochs in itertools.product(match.networks, match.epochs):
        pair = [(network, optimizer, epochs) for optimizer in OPTIMIZERS]
        if not {*pair} <= match.trials.keys():
            continue
        values = [Value(match.networks[network]), Value(str(epochs), epochs)]
        adam, rmsprop = (study.predictions(match.trials[row]).held_out for row in pair)
        bounds = confidence_intervals(adam, study.bootstrap.level, metrics, minus=rmsprop)
        for metric in metrics:
            first, second = (matching.compare(match, row, metric) for row in pair)
            theirs, reach = first.theirs - second.theirs, first.rounding + second.rounding
            values += [difference_value(metric, first.ours - second.ours, bounds.get(metric)),
                       difference_value(metric, theirs, (theirs - reach, theirs + reach))]  # fmt: skip
        significant.update(metric for metric, (low, high) in bounds.items() if low > 0 or high < 0)
        rows.append(values)
    headings = [f"{METRICS[metric]}, {whose}" for metric in metrics for whose in ("ours", "theirs")]
    counts = " and ".join(f"{significant[metric]} of {len(rows)} in {METRICS[metric]}" for metric in metrics)
    expected = f"{(1 - study.bootstrap.level) * len(rows):.1f}"
    notes = (
        f"Intervals that exclude 0: {counts}. If all true differences are 0, about {expected} are expected.",
        f"Ours: {study.intervals} on the same images and seeds. Theirs: ends from rounding and the implied ranges. "
        "Accuracy in percentage points.",
    )
    title = "Adam − RMSprop on the same images"
    return Table("optimizers", title, ("network", "epochs", *headings), rows, notes=notes)


def table_7(match: Match) -> Table:
    """Returns Table 7 with our rows below those of the paper."""
    rows = [
        (*map(Value, texts), Value(f"{images:,}", images), Value(f"{accuracy:.2f}%", accuracy / 100), Value(""))
        for *texts, images, accuracy in published.TABLE_7
    ]
    data = match.study.metrics["dataset"]
    for row in QUOTED:
        found = replace(matching.compare(match, row, "accuracy"), theirs=published.STATED[row] / 100, rounding=5e-5)
        accuracy, _, difference = found.values
        network = match.networks.get(row[0], NETWORKS[row[0]])
        texts = ("ours", f"{network}, {OPTIMIZERS[row[1]]}, {row[2]} epochs", str(data["name"]))
        rows.append((*map(Value, texts), Value(f"{data['images']:,}", data["images"]), accuracy, difference))
    notes = (
        "Ours: the trainings that the paper's conclusion quotes, VGG16 with Adam and 100 epochs and ResNet50 with "
        "RMSprop and 80. Data sets and splits of the other studies differ, so their accuracies are hardly comparable.",
        f"In brackets: {match.study.intervals}.",
    )
    columns = ("study", "model", "data", "images", "accuracy", "difference to the paper's")
    return Table("table-7", "Table 7. Comparison with other studies", columns, rows, notes=notes)
