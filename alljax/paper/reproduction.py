"""Tables 1 to 7 and Figures 7 to 9 of the paper with our numbers beside the published ones."""

import csv
from collections.abc import Mapping
from dataclasses import replace
from importlib import resources
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator
from pandas import DataFrame

from alljax.paper import matching, published
from alljax.paper.matching import Match
from alljax.paper.published import KEYS, NETWORKS, OPTIMIZERS, Key, Row
from alljax.report import plots
from alljax.report.model_tables import BASELINES
from alljax.report.plots import BLUE, DASHES, VERMILION
from alljax.report.tables import Figure, Section, Table, Value
from alljax.study.results import Study

OTHER_DATA = (
    "These are not the 10,661 training images of C-NMC 2019, so agreement or disagreement with a published number "
    "means nothing. The tables only show the form of the comparison."
)
QUOTED: tuple[Row, ...] = (("A", "adam", 100), ("B", "rmsprop", 80))
"""The rows that the paper's conclusion and Table 7 quote."""

COLORS = {"adam": BLUE, "rmsprop": VERMILION}
CURVES: dict[str, tuple[str, Any]] = {"train": ("training images", DASHES[1]), "val": ("held-out images", DASHES[0])}


def sections(study: Study) -> list[Section]:
    """Returns the sections that compare a study with the paper (``study.compare=paper``)."""
    match = matching.match(study)
    lines = [f"Published: {published.CITATION}."]
    lines += [] if matching.is_cnmc(study) else [OTHER_DATA]
    tables = []
    for number, network in enumerate(match.networks, start=1):
        columns = {name: ((network, optimizer), "training_accuracy") for optimizer, name in OPTIMIZERS.items()}
        title = f"Table {number}. Training accuracy after the last epoch: {match.title(network)}"
        tables.append(comparison_table(match, f"table-{number}", title, columns))
    for number, (network, optimizer) in enumerate(KEYS, start=3):
        if network in match.networks:
            tables.append(metrics_table(match, number, (network, optimizer)))
    tables.append(table_7(match))
    lines += [*matching.describe(match), *summary(match)]
    found = [Section("paper", "Against the paper", lines, tables)]
    if match.trials:
        text = "Figures 7 to 9 with our numbers."
        parts: list[Table | Figure] = [*training_curves(match), accuracies(match), *accuracy_tables(match)]
        found.append(Section("paper-figures", "The paper's figures", [text], parts))
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


def comparison_table(match: Match, name: str, title: str, columns: Mapping[str, tuple[Key, str]]) -> Table:
    """Returns ours, theirs and the difference of `columns`, by heading, per number of epochs."""
    rows = []
    for epochs in match.epochs:
        found = [matching.compare(match, (*key, epochs), metric) for key, metric in columns.values()]
        rows.append((Value(str(epochs), epochs), *(value for comparison in found for value in comparison.values)))
    headings = [f"{column}, {what}" for column in columns for what in ("ours", "theirs", "difference")]
    return Table(name, title, ("epochs", *headings), rows)


def metrics_table(match: Match, number: int, key: Key) -> Table:
    """Returns one of Tables 3 to 6, with the means over epochs."""
    about = f"{match.title(key[0])} with {OPTIMIZERS[key[1]]}"
    title = f"Table {number}. Macro recall, precision and F1 on test images: {about}"
    columns = {name: (key, metric) for name, metric in published.METRICS.items()}
    means = [value for mean in matching.compare_means(match, key) for value in mean.values]
    table = comparison_table(match, f"table-{number}", title, columns)
    return replace(table, footer=[[Value("mean"), *means]], notes=[f"In brackets: {match.study.intervals}."])


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


def accuracy_tables(match: Match) -> list[Table]:
    """Returns Figure 9 in numbers: test accuracy per network."""
    first, *_, last = match.test_sizes[0], match.test_sizes[-1]
    sizes = f"{first:,}" if first == last else f"{first:,} to {last:,}"
    notes = [
        f"Theirs: the ranges that Tables 3 to 6 imply with {sizes} ALL images in the test set.",
        f"In brackets: {match.study.intervals}.",
    ]
    tables = []
    for network in match.networks:
        columns = {name: ((network, optimizer), "accuracy") for optimizer, name in OPTIMIZERS.items()}
        title = f"Figure 9 in numbers. Test accuracy: {match.title(network)}"
        tables.append(replace(comparison_table(match, f"test-accuracy-{network}", title, columns), notes=notes))
    return tables


def accuracies(match: Match) -> Figure:
    """Returns Figure 9: test accuracy with intervals, and the range that the paper's tables imply."""
    panels: dict[str, dict[str, np.ndarray]] = {}
    for network in match.networks:
        series = panels[match.title(network)] = {}
        for optimizer, name in OPTIMIZERS.items():
            found = [matching.compare(match, (network, optimizer, epochs), "accuracy") for epochs in match.epochs]
            series[f"{name}, ours"] = np.array([(entry.ours, *(entry.interval or (np.nan, np.nan))) for entry in found])
            theirs, half = np.array([(entry.theirs, entry.rounding) for entry in found]).T
            series[f"{name}, implied by the paper"] = np.stack([theirs, theirs - half, theirs + half], axis=1)
        baselines = match.study.split_of(next(iter(match.trials.values())))["baselines"]
        series |= {BASELINES[name]: np.full((len(found), 3), rule["accuracy"]) for name, rule in baselines.items()}
    caption = "Figure 9: test accuracy with intervals. The paper prints no numbers; its tables imply ranges."
    rows = [f"{epochs} epochs" for epochs in match.epochs]
    return plots.interval_figure("figure-9", caption, rows, panels, "test accuracy")


def training_curves(match: Match) -> list[Figure]:
    """Returns Figures 7 and 8: accuracy and loss per epoch, averaged over folds and seeds, of each network."""
    figures = []
    for number, network in enumerate(match.networks, start=7):
        panels: dict[int, dict[str, DataFrame]] = {}
        for (of, optimizer, epochs), name in sorted(match.trials.items(), key=lambda item: item[0][2]):
            if of == network:
                panels.setdefault(epochs, {})[optimizer] = match.study.history(name).groupby("epoch").mean()
        if panels:
            caption = f"Figure {number}: {match.networks[network]}; means over folds and seeds."
            if match.split["split.validation"]:
                caption += " The held-out images are the validation images; none of them is tested."
            figures.append(_draw_panels(f"figure-{number}", caption, panels))
    return figures


def _draw_panels(name: str, caption: str, panels: Mapping[int, Mapping[str, DataFrame]]) -> Figure:
    """Draws accuracy above loss per number of epochs; `panels` has the history of each optimizer."""
    across = min(4, len(panels))
    blocks = -(-len(panels) // across)
    with plots.subplots(2 * blocks, across, (max(2.65 * across, 6.4), 4.0 * blocks + 0.6)) as (figure, grid):
        for axes in grid.flat:
            axes.set_visible(False)
        for index, (epochs, histories) in enumerate(panels.items()):
            above, column = 2 * (index // across), index % across
            grid[above, column].set_title(f"{epochs} epochs", fontsize=10.5)
            for side, quantity in enumerate(("accuracy", "loss")):
                axes = grid[above + side, column]
                axes.set_visible(True)
                axes.sharey(grid[side, 0])
                _draw(axes, histories, quantity)
                axes.tick_params(labelsize=8.5, labelleft=column == 0)
                axes.set_ylabel(quantity if column == 0 else "")
        figure.supxlabel("epoch", fontsize=10.5)
        legends = [axes.get_legend_handles_labels() for axes in grid.flat]
        labels = {label: handle for found in legends for handle, label in zip(*found, strict=True)}
        figure.legend([*labels.values()], [*labels], loc="outside upper center", ncols=min(4, 2 * across), fontsize=9)
        return plots.save(name, caption, figure)


def _draw(axes: Axes, histories: Mapping[str, DataFrame], quantity: str) -> None:
    for optimizer, means in histories.items():
        for side, (label, dashes) in CURVES.items():
            line = {"color": COLORS[optimizer], "linestyle": dashes, "linewidth": 1.5}
            axes.plot(means[f"{side}_{quantity}"], label=f"{OPTIMIZERS[optimizer]}, {label}", **line)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=5, steps=[1, 2, 5, 10]))
    axes.grid(axis="y")
