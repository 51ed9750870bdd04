"""Tables 1 to 7 and Figures 7 to 9 of the paper with our numbers beside the published ones, and their summary."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from alljax.paper import leakage, matching, published
from alljax.paper.matching import Match
from alljax.paper.published import KEYS, NETWORKS, OPTIMIZERS, Key, Row
from alljax.report import plots
from alljax.report.curves import Curves, curve_figure, learning_curves
from alljax.report.model_tables import BASELINES
from alljax.report.setting_names import setting_value
from alljax.report.tables import Figure, Section, Table, Value, count_value, metric_value
from alljax.study.results import Study

OTHER_DATA = (
    "These are not the 10,661 training images of C-NMC 2019: agreement with a published number means nothing here."
)
TOLERANCE = (
    "Tolerance, after ±: √2 times the standard deviation of our number over runs (repeats of the split × seeds): about "
    "68% of differences by split, seed and rounding alone are within it, 95% within twice the tolerance. With one run "
    "there is none: set split.repeats or study.seeds to 2 or more."
)
QUOTED: tuple[Row, ...] = (("A", "adam", 100), ("B", "rmsprop", 80))  # in the paper's conclusion and Table 7

HELD_OUT = {"accuracy": "accuracy, subjects held out", "auc": "AUC within folds, subjects held out"}
SUMMARY = ("training accuracy", "test accuracy", "mean F1 over epochs")


def sections(study: Study) -> list[Section]:
    """Returns the sections that compare a study with the paper (``study.compare=paper``)."""
    match = matching.match(study)
    protocol = setting_value("split.protocol", match.split["split.protocol"])
    stratified = "stratified" if match.split["split.stratified"] else "not stratified"
    split = f"Split: {protocol}, {stratified}; the paper's: random images, the rest is not stated."
    agreed = agreement(match) if matching.is_cnmc(study) else [OTHER_DATA]
    lines = [f"Published: {published.CITATION}.", split, TOLERANCE, *agreed]
    tables = []
    for number, network in enumerate(match.networks, start=1):
        columns = {name: ((network, optimizer), "training_accuracy") for optimizer, name in OPTIMIZERS.items()}
        title = f"Table {number}. Training accuracy after the last epoch: {match.title(network)}"
        tables.append(comparison_table(match, f"table-{number}", title, columns))
    for number, key in enumerate(KEYS, start=3):
        if key[0] in match.networks:
            tables.append(metrics_table(match, number, key))
    found = [Section("paper", "Against the paper", lines, [*tables, table_7(match)])]
    if match.trials:
        text = "Figures 7 to 9 with our numbers. Tables 3 to 6 have the numbers of Figure 9."
        figures: list[Table | Figure] = []
        for number, network in enumerate(match.networks, start=7):
            figures += training_curves(match, number, network)
        found.append(Section("paper-figures", "The paper's figures", [text], [*figures, accuracies(match)]))
    text = "Each line follows from the published text and numbers; nothing of this study enters."
    rows = published.read_rows("inconsistencies.csv")
    entries = [[*map(Value, row.values())] for row in rows]
    table = Table("inconsistencies", "The paper beside its own numbers", [*rows[0]], entries)
    return [*found, Section("inconsistencies", "Inconsistencies in the paper", [text], [table])]


def agreement(match: Match) -> list[str]:
    """Returns how many numbers agree; nothing without a tolerance."""
    metrics = ("training_accuracy", *published.METRICS.values())
    found = [matching.compare(match, metric, row) for row in match.trials for metric in metrics]
    if not found or np.isnan([comparison.tolerance for comparison in found]).any():
        return []
    once, twice = (sum(comparison.within(times) for comparison in found) for times in (1, 2))
    numbers = f"{once} of {len(found)} published training accuracies and test recalls, precisions and F1"
    return [f"{numbers} are within the tolerance, {twice} within twice that."]


def comparison_table(match: Match, name: str, title: str, columns: Mapping[str, tuple[Key, str]]) -> Table:
    """Returns ours, theirs and the difference of `columns`, by heading, per number of epochs."""
    rows = []
    for epochs in match.epochs:
        found = [matching.compare(match, metric, (*key, epochs)) for key, metric in columns.values()]
        rows.append((count_value(epochs), *(value for comparison in found for value in comparison.values)))
    headings = [f"{column}, {what}" for column in columns for what in ("ours", "theirs", "difference")]
    return Table(name, title, ("epochs", *headings), rows)


def metrics_table(match: Match, number: int, key: Key) -> Table:
    """Returns one of Tables 3 to 6 with the means over epochs, and the accuracy, which the paper shows in Figure 9."""
    title = f"Table {number}. Metrics on test images: {match.title(key[0])} with {OPTIMIZERS[key[1]]}"
    metrics = published.METRICS | {"accuracy": "accuracy"}
    rows = [(*key, epochs) for epochs in published.EPOCHS]
    means = [value for metric in metrics.values() for value in matching.compare(match, metric, *rows).values]
    table = comparison_table(match, f"table-{number}", title, {name: (key, of) for name, of in metrics.items()})
    first, last = match.test_sizes[0], match.test_sizes[-1]
    notes = [
        f"In brackets: {match.study.intervals}. Recall, precision and F1 are means over both classes.",
        f"Their accuracies: the ranges that the other columns imply with {first:,} to {last:,} ALL test images.",
    ]
    return replace(table, footer=[[Value("mean"), *means]], notes=notes)


def table_7(match: Match) -> Table:
    """Returns Table 7 with our rows below those of the paper."""
    rows = [
        (*map(Value, texts), count_value(images), Value(f"{accuracy:.2f}%", accuracy / 100), Value(""))
        for *texts, images, accuracy in published.TABLE_7
    ]
    data = match.study.metrics["dataset"]
    for row in QUOTED:
        found = replace(matching.compare(match, "accuracy", row), theirs=published.STATED[row] / 100, rounding=5e-5)
        accuracy, _, difference = found.values
        network = match.networks.get(row[0], NETWORKS[row[0]])
        texts = ("ours", f"{network}, {OPTIMIZERS[row[1]]}, {row[2]} epochs", str(data["name"]))
        rows.append((*map(Value, texts), count_value(data["images"]), accuracy, difference))
    notes = (
        "Ours: the trainings that the paper's conclusion quotes. Data sets and splits of the other studies differ, so "
        f"their accuracies are hardly comparable. In brackets: {match.study.intervals}.",
    )
    columns = ("study", "model", "data", "images", "accuracy", "difference to the paper's")
    return Table("table-7", "Table 7. Comparison with other studies", columns, rows, notes=notes)


def accuracies(match: Match) -> Figure:
    """Returns Figure 9: test accuracy with intervals, and the range that the paper's tables imply."""
    panels: dict[str, dict[str, np.ndarray]] = {}
    for network in match.networks:
        series = panels[match.title(network)] = {}
        for optimizer, name in OPTIMIZERS.items():
            found = [matching.compare(match, "accuracy", (network, optimizer, epochs)) for epochs in match.epochs]
            series[f"{name}, ours"] = np.array([(entry.ours, *(entry.interval or (np.nan, np.nan))) for entry in found])
            theirs, half = np.array([(entry.theirs, entry.rounding) for entry in found]).T
            series[f"{name}, implied by the paper"] = np.stack([theirs, theirs - half, theirs + half], axis=1)
        baselines = match.study.split_of(next(iter(match.trials.values())))["baselines"]
        series |= {BASELINES[name]: np.full((len(found), 3), rule["accuracy"]) for name, rule in baselines.items()}
    caption = "Figure 9: test accuracy with intervals. The paper prints no numbers; its tables imply ranges."
    rows = [f"{epochs} epochs" for epochs in match.epochs]
    return plots.interval_figure("figure-9", caption, rows, panels, "test accuracy")


def training_curves(match: Match, number: int, network: str) -> list[Figure]:
    """Returns Figure 7 or 8: accuracy and loss per epoch of a network, a panel per number of epochs."""
    caption = f"Figure {number}: {match.networks[network]}; means over folds and seeds, bands one standard deviation."
    if match.split["split.validation"]:
        caption += " The held-out images are the validation images; none of them is tested."
    figures = []
    for quantity in ("accuracy", "loss"):
        panels: dict[str, Curves] = {f"{epochs} epochs": {} for epochs in match.epochs}
        for (of, optimizer, epochs), name in match.trials.items():
            if of == network:
                for images, curve in learning_curves(match.study.history(name), quantity).items():
                    panels[f"{epochs} epochs"][f"{OPTIMIZERS[optimizer]}, {images}"] = curve
        figures.append(curve_figure(f"figure-{number}-{quantity}", caption, panels, ("epoch", quantity)))
    return figures


def summary(study: Study, lines: Sequence[str]) -> Section:
    """Returns the section of summary.md: versions, weights and data, `lines`, and a row per network and optimizer."""
    match, partners, trials = matching.match(study), dict(leakage.find_pairs(study)), study.metrics["trials"]
    rows, footer, shown = [], [], HELD_OUT if partners else {}
    for key in KEYS:
        if epochs := [row[2] for row in match.trials if row[:2] == key]:
            last = (*key, max(epochs))
            compared = [matching.compare(match, metric, last) for metric in ("training_accuracy", "accuracy")]
            compared.append(matching.compare(match, "macro_f1", *((*key, count) for count in published.EPOCHS)))
            honest = trials.get(partners.get(match.trials[last], ""), {})
            values = [value for comparison in compared for value in comparison.values[:2]]
            name = Value(f"{match.title(key[0])}, {OPTIMIZERS[key[1]]}, {last[2]} epochs")
            rows.append((name, *values, *(metric_value(metric, honest) for metric in shown)))
    for partner in [*partners.values()][:1]:
        for name, rule in study.split_of(partner)["baselines"].items():
            footer.append((Value(BASELINES[name]), *[Value("")] * 6, *(metric_value(metric, rule) for metric in shown)))
    headings = [f"{column}, {whose}" for column in SUMMARY for whose in ("ours", "theirs")]
    notes = [f"In brackets: {study.intervals}. Best model: {study.ranking.best}."]
    title = "Random images, as in the paper; of their test accuracies the range that their tables imply"
    table = Table("summary", title, ("model", *headings, *shown.values()), rows, footer, notes)
    used, data, weights = study.environment, study.metrics["dataset"], [one["weights"] for one in trials.values()]
    names = sorted({f"{of['name'] or of['backbone']} (SHA-256 {of['sha256'][:16]})" for of in weights})
    versions = ", ".join(f"{name} {version}" for name, version in used["packages"].items())
    about = (
        f"alljax {used['alljax']} {used['git_revision']}, {versions}, Python {used['python']}, {used['devices'][0]}. "
        f"Weights: {', '.join(names)}. Data: {data['name']}, {data['images']:,} images of {data['subjects']} subjects "
        f"(SHA-256 {data['sha256'][:16]})."
    )
    return Section("summary", "Summary of the reproduction", [about, *lines], [table])
